"""Authorizations that a rule put before a person, and what that person found.

A verdict is the label that precision and recall are counted from, so it is given once, by
name, and stays.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal, get_args

import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.list_acts import (
    AUTHOR_CHARACTERS_MAX,
    ActRejected,
    noted,
    words,
)
from switch.ledger.migrate import transaction
from switch.ledger.rules_trail import Rows

REVIEWS_AT_ONCE_MAX = 100
NOTE_CHARACTERS_MAX = 500
Verdict = Literal["fraud", "genuine", "unclear"]
VERDICTS: tuple[str, ...] = get_args(Verdict)

_QUERIES = sql.queries("reviews.sql")


class ReviewView(msgspec.Struct, frozen=True):
    """A review with what it is about. `at_us` is when that was decided (epoch microseconds)."""

    authorization_id: int
    queue: str
    rule_id: str
    card_id: int
    last4: str
    at_us: int
    business_date: date
    verdict: str
    closed_by: str
    closed_at: datetime | None
    note: str
    kind: str = ""
    outcome: str = ""
    amount_minor: int = 0
    explanation: str = ""


class ReviewVerdict(msgspec.Struct, frozen=True):
    """One queue's review of an authorization; `verdict` is empty while it is open."""

    queue: str
    rule_id: str
    verdict: str
    closed_by: str
    closed_at: datetime | None
    note: str


class QueueView(msgspec.Struct, frozen=True):
    """How much waits in a queue, and since when."""

    queue: str
    open_count: int
    oldest_us: int


async def queues(rows: Rows) -> list[QueueView]:
    """The queues in which anything waits."""
    return [QueueView(**dict(row)) for row in await rows.fetch(_QUERIES["review_queues"])]


async def open_reviews(
    rows: Rows,
    queue: str = "",
    *,
    after_us: int | None = None,
    count_max: int = REVIEWS_AT_ONCE_MAX,
) -> list[ReviewView]:
    """What waits in a queue ('': in any), oldest first, from after an instant on."""
    found = await rows.fetch(_QUERIES["open_reviews"], queue, after_us, count_max)
    return [ReviewView(**dict(row)) for row in found]


async def of_authorization(rows: Rows, authorization_id: int) -> list[ReviewVerdict]:
    """The reviews of an authorization by queue, open and closed."""
    found = await rows.fetch(_QUERIES["reviews_of"], authorization_id)
    return [ReviewVerdict(**dict(row)) for row in found]


async def close(
    connection: Connection,
    authorization_id: int,
    *,
    verdict: str,
    note: str,
    closed_by: str,
    queue: str = "",
) -> list[str]:
    """Give the verdict on an authorization in one queue, or in all it waits in; their names.

    Raises ActRejected where none is open: a verdict stays as it was given.
    """
    if verdict not in VERDICTS:
        raise ActRejected(f"the verdict is one of {', '.join(VERDICTS)}")
    by = words(closed_by, "author", AUTHOR_CHARACTERS_MAX)
    said = words(note, "note", NOTE_CHARACTERS_MAX) if note else ""
    async with transaction(connection):
        closed = await connection.fetch(
            _QUERIES["close_reviews"], authorization_id, queue, verdict, by, said
        )
        if not closed:
            raise ActRejected(await _why_none(connection, authorization_id, queue))
        names = sorted(row["queue"] for row in closed)
        await noted(
            connection,
            actor=by,
            act="review_close",
            subject=f"authorization {authorization_id}",
            reason=said,
            detail={"verdict": verdict, "queues": names},
        )
    return names


async def _why_none(rows: Rows, authorization_id: int, queue: str) -> str:
    for known in await of_authorization(rows, authorization_id):
        if queue in ("", known.queue):
            return f"this review was closed as {known.verdict} before; a verdict stays"
    return "no such review waits; look at the list of open reviews"
