"""Who is on the readers' hotlist: cards are put on it, taken off it, and listed.

A card on it is declined online from that moment on, whatever version the readers have.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection

LISTED_MAX = 1_000
REASON_CHARACTERS_MAX = 120

_QUERIES = sql.queries("hotlist.sql")


class EntryView(msgspec.Struct, frozen=True):
    """A card on the list. `version` is the first that has it, 0 before it is published."""

    card_id: int
    last4: str
    reason: str
    author: str
    added_at: datetime
    expires_at: datetime | None
    version: int


class HotlistCounts(msgspec.Struct, frozen=True):
    """How many mediums stand on the list, and how many the next version adds and removes."""

    standing: int
    to_add: int
    to_remove: int


class AcknowledgementView(msgspec.Struct, frozen=True):
    """The newest version that an acquirer's readers have, and how many came after it."""

    acquirer: str
    version: int
    acknowledged_at: datetime
    behind: int


async def add(
    connection: Connection,
    card_ids: Sequence[int],
    *,
    reason: str,
    author: str,
    expires_at: datetime | None = None,
) -> list[int]:
    """Put cards on the list with all their mediums; the cards that were not on it.

    Decisions in flight see it: each account gets another version in the same transaction.
    """
    rows = await connection.fetch(_QUERIES["add"], list(card_ids), reason, author, expires_at)
    return sorted(row["added_card_id"] for row in rows)


async def remove(
    connection: Connection, card_ids: Sequence[int], *, reason: str, author: str
) -> list[int]:
    """Take cards off the list; those that were on it. Readers keep them to the next version."""
    rows = await connection.fetch(_QUERIES["remove"], list(card_ids), reason, author)
    return sorted(row["removed_card_id"] for row in rows)


async def standing(connection: Connection, limit: int = LISTED_MAX) -> list[EntryView]:
    """The entries that stand, newest first."""
    rows = await connection.fetch(_QUERIES["standing"], limit)
    return [EntryView(**dict(row)) for row in rows]


async def counts(connection: Connection) -> HotlistCounts:
    row = await connection.fetchrow(_QUERIES["counts"])
    assert row is not None
    return HotlistCounts(**dict(row))


async def acknowledgements(connection: Connection) -> list[AcknowledgementView]:
    """What each acquirer's readers have, by acquirer."""
    rows = await connection.fetch(_QUERIES["acknowledgements"])
    return [AcknowledgementView(**dict(row)) for row in rows]
