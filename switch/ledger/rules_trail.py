"""The audit trail of all that is done about rules, and the lock that puts acts in one order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

import asyncpg
import msgspec

from protocols.card_number import mask_digit_runs
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.migrate import transaction

SWITCH = "switch"
"""The actor of what the switch does by itself."""
INIT = "init"
"""The actor of what a ledger begins with."""
EVENTS_AT_ONCE_MAX = 1_000
REASON_CHARACTERS_MAX = 400
DETAIL_BYTES_MAX = 65_536
LOCK_WAIT = "10s"
"""An act takes milliseconds; one that waits longer meets a transaction that somebody forgot."""

_QUERIES = sql.queries("rulesets.sql")


class Rows(Protocol):
    """A connection, or another way to one."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]: ...


class Refusal(StrEnum):
    """Why an act was refused; nothing was changed."""

    NO_SUCH_ACT = "no_such_act"
    NOT_FROM_HERE = "not_from_here"
    BY_ANOTHER_ACT = "by_another_act"
    WORDS = "words"
    REASON_MISSING = "reason_missing"
    OWN_WORK = "own_work"
    PERCENT = "percent"
    CANARY_TAKEN = "canary_taken"
    NEVER_LIVE = "never_live"
    NONE_BEFORE = "none_before"
    NOT_IN_FORCE = "not_in_force"
    PAUSED_ALREADY = "paused_already"
    NOT_PAUSED = "not_paused"
    SHADOWS_FULL = "shadows_full"
    DECLINES_MUCH = "declines_much"
    BUSY = "busy"


class ActRefused(Exception):
    """An act that cannot be done now; the text is one sentence with what to do."""

    def __init__(self, refusal: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.refusal = refusal


class RulesBusy(ActRefused):
    """Somebody else's act does not end."""

    def __init__(self) -> None:
        super().__init__(
            Refusal.BUSY,
            "another act about rules has not ended; nothing was changed, try again in a minute",
        )


class EventView(msgspec.Struct, frozen=True):
    """One line of the trail; see ledger.rules_event."""

    event_id: int
    at: datetime
    actor: str
    act: str
    subject: str
    from_state: str
    to_state: str
    reason: str
    detail: dict[str, Any]
    revision: int


async def trail(
    rows: Rows, *, subject: str = "", before: int | None = None, count_max: int = 100
) -> list[EventView]:
    """The newest events, newest first: about one subject, or all; older than event `before`."""
    bounded = max(1, min(count_max, EVENTS_AT_ONCE_MAX))
    found = await rows.fetch(_QUERIES["trail"], subject, before, bounded)
    return [
        EventView(**{**dict(row), "detail": msgspec.json.decode(row["detail"])}) for row in found
    ]


async def write_event(
    rows: Rows,
    *,
    actor: str,
    act: str,
    subject: str,
    revision: int,
    from_state: str = "",
    to_state: str = "",
    reason: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write one event, in the transaction of what it tells of."""
    told = msgspec.json.encode(detail or {}).decode()
    await rows.fetch(
        _QUERIES["add_event"], actor, act, subject, from_state, to_state, reason, told, revision
    )


async def changed(rows: Rows) -> int:
    """Raise the revision and wake the workers at the end of the transaction."""
    (row,) = await rows.fetch(_QUERIES["rules_changed"])
    revision: int = row["revision"]
    return revision


@asynccontextmanager
async def one_act(connection: Connection) -> AsyncIterator[int]:
    """A transaction in which nobody else changes rules; gives the revision it began at.

    Raises RulesBusy where another one does not end.
    """
    try:
        async with transaction(connection):
            await connection.fetch(_QUERIES["wait_at_most"], LOCK_WAIT)
            (row,) = await connection.fetch(_QUERIES["lock_rules"])
            yield row["revision"]
    except asyncpg.LockNotAvailableError:
        raise RulesBusy from None


def words_fault(what: str, text: str, characters_max: int = REASON_CHARACTERS_MAX) -> str | None:
    """What keeps a text from being written down, as a sentence; None if it is fit."""
    if len(text) > characters_max or not text.isprintable():
        return f"the {what} is not one line of at most {characters_max} characters; shorten it"
    if mask_digit_runs(text) != text:
        return f"the {what} has a long number in it; leave it out"
    return None
