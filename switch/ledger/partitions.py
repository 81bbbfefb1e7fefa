"""The business days of the two daily tables: made ahead, and put away when they are old.

A day is missing at most because nobody made it in time, so every worker makes days ahead;
they take turns. A detached day moves to the schema `ledger_archive`, where the audit still
counts it; it is never dropped here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta

import anyio
import asyncpg
import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.migrate import transaction

DAYS_AHEAD_MAX = 366
DAYS_KEPT = 2
"""Today and yesterday stay: yesterday is looked up for duplicates, reversals and history."""

LOCK_SECONDS_MAX = 10
"""How long a detaching waits for whoever reads the tables before it gives up."""

ARCHIVE_LOCK = "archive"
"""Advisory lock: held alone while days move to the archive, shared by an audit."""

_MAKE_LOCK = "partitions"
_QUERIES = sql.queries()


class DaysNotDetached(Exception):
    """Days stay where they are; the text is one sentence that says why and what to do."""


class DayInUse(DaysNotDetached):
    """A day was to be detached that may still be written or looked up."""


class PartitionsBusy(DaysNotDetached):
    """Somebody else holds the partitions."""


class Partition(msgspec.Struct, frozen=True):
    """One attached table of a business day; the rows are the planner's estimate."""

    business_date: date
    table_name: str
    row_estimate: int
    bytes: int


async def make_ahead(
    connection: Connection, today: date, days_ahead: int, days_behind: int = 1
) -> list[date]:
    """Make what is missing from `days_behind` before today to `days_ahead` after; return it.

    Any number of workers may call it at once: they take turns, and one of them makes each
    day. Others read and write the ledger meanwhile.
    """
    if not 0 <= days_ahead <= DAYS_AHEAD_MAX or not 0 <= days_behind <= DAYS_AHEAD_MAX:
        raise ValueError(f"days are made 0 to {DAYS_AHEAD_MAX} ahead and behind; ask for fewer")
    async with transaction(connection):
        await connection.fetch(_QUERIES["lock_until_commit"], _MAKE_LOCK)
        rows = await connection.fetch(
            _QUERIES["make_partitions"],
            today - timedelta(days=days_behind),
            today + timedelta(days=days_ahead),
        )
    return [row["business_date"] for row in rows]


async def list_days(connection: Connection) -> list[date]:
    """The business days that have attached tables, oldest first."""
    return sorted({table.business_date for table in await list_tables(connection)})


async def list_tables(connection: Connection) -> list[Partition]:
    """The attached tables, oldest day first."""
    rows = await connection.fetch(_QUERIES["list_partitions"])
    return [Partition(**dict(row)) for row in rows]


async def detach_before(
    connection: Connection, day: date, *, today: date | None = None
) -> list[str]:
    """Move the days before `day` to the archive and return the names of their tables.

    Nobody waits for it: each table is detached concurrently and then moved. One that was
    interrupted is finished by the next. `today` is the business day by the ledger's own
    time zone and cut-off on the server's clock, unless given. Raises DayInUse for a day
    that is needed, and PartitionsBusy when an audit, another detaching or a long query
    doesn't end in time.
    """
    if today is None:
        today = await connection.fetchval(_QUERIES["business_date"])
    first_kept = today - timedelta(days=DAYS_KEPT - 1)
    if day > first_kept:
        raise DayInUse(
            f"the business days from {first_kept} on are in use; detach only days before that"
        )
    archived: list[str] = []
    try:
        async with _archive_alone(connection):
            archived += await _archive_loose(connection)
            for row in await connection.fetch(_QUERIES["detach_statements"], day):
                await connection.execute(row["statement"])
                archived += await _archive_loose(connection)
    except (asyncpg.LockNotAvailableError, asyncpg.ObjectInUseError) as busy:
        raise PartitionsBusy(
            f"an audit or a long query has held the partitions for {LOCK_SECONDS_MAX} s "
            f"({len(archived)} tables were put away before); try again when it has ended"
        ) from busy
    return archived


async def _archive_loose(connection: Connection) -> list[str]:
    names = [row["table_name"] for row in await connection.fetch(_QUERIES["loose_partitions"])]
    for name in names:
        await connection.fetch(_QUERIES["archive_partition"], name)
    return names


@asynccontextmanager
async def _archive_alone(connection: Connection) -> AsyncIterator[None]:
    await connection.fetch(_QUERIES["set_lock_timeout"], f"{LOCK_SECONDS_MAX}s")
    await connection.fetch(_QUERIES["lock_exclusive"], ARCHIVE_LOCK)
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            if not connection.closed:
                await connection.fetch(_QUERIES["unlock_exclusive"], ARCHIVE_LOCK)
                await connection.fetch(_QUERIES["set_lock_timeout"], "0")
