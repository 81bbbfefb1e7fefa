"""History out of the ledger: day by day, in the order of posting, read-only.

Each day is one cursor on the server. Between two days the order is kept too: what of a day was
posted after the next one had begun waits for that one's rows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import date, timedelta
from typing import Any

import anyio

from protocols.message import TAP_KINDS, Kind, Outcome, Segment
from risk.backtest import HistoryRow
from risk.backtest_places import PlaceHistory, PlaceQuery
from risk.buckets import PlaceEvent
from risk.past_events import EVENT_KINDS, GIVING_BACK_KINDS
from switch.backtest.failures import HistoryUnreadable
from switch.ledger import bridge, sql
from switch.ledger.partitions import ARCHIVE_LOCK

ROWS_HELD_MAX = 200_000
"""Rows of one day that were posted in the next: minutes of traffic, not hours."""

_QUERIES = sql.queries("backtest.sql")
_EVENTS = sorted(kind.value for kind in EVENT_KINDS)
_GIVERS = sorted(kind.value for kind in GIVING_BACK_KINDS)
_COUNTED = _EVENTS + _GIVERS
_POSTED = HistoryRow._fields.index("posted_at_us")
_ID = HistoryRow._fields.index("authorization_id")


@asynccontextmanager
async def reading(connection: bridge.Connection, timeout_seconds: float) -> AsyncIterator[None]:
    """A transaction that may only read, as the role that may only read where there is one."""
    await connection.execute(_QUERIES["begin"])
    try:
        if await connection.fetchval(_QUERIES["may_be_reader"]):
            await connection.execute(_QUERIES["be_reader"])
        await connection.fetch(_QUERIES["statement_timeout"], f"{int(timeout_seconds * 1000)}ms")
        yield
    finally:
        # Nothing was written, so however it ends is well.
        with anyio.CancelScope(shield=True), anyio.move_on_after(5):
            if not connection.closed:
                await connection.execute(_QUERIES["commit"])


class HistoryReader:
    """Reads some shards of a ledger up to an instant, which pins what a backtest sees.

    `places` are fed the events of all shards that its query asks for, a day before its rows.
    """

    def __init__(
        self,
        connection: bridge.Connection,
        *,
        shards: Sequence[int],
        until_us: int,
        timeout_seconds: float,
        places: tuple[PlaceHistory, PlaceQuery] | None = None,
    ) -> None:
        self._connection = connection
        self._shards = list(shards)
        self._until_us = until_us
        self._timeout_seconds = timeout_seconds
        self._places = places

    async def days(
        self, warm_up_from: date, from_date: date, to_date: date
    ) -> AsyncIterator[Sequence[Sequence[Any]]]:
        """Chunks of rows in the order of posting; before `from_date` only what is counted.

        Raises HistoryUnreadable where a day's rows lie too far in the next one, and where a day
        is in neither the ledger nor its archive.
        """
        held: list[Sequence[Any]] = []
        day = warm_up_from
        await self._feed_places(day)
        while day <= to_date:
            following = day + timedelta(days=1)
            if following <= to_date:
                # Where clocks differ, its first events are posted before the last rows of this.
                await self._feed_places(following)
            begins_us = await self._first_posted(following) if following <= to_date else None
            async for chunk in self._day(day, assessed=day >= from_date):
                rows: Sequence[Sequence[Any]] = chunk
                if held:
                    rows, held = _merged(held, chunk)
                if begins_us is not None and rows and rows[-1][_POSTED] >= begins_us:
                    late = next(n for n, row in enumerate(rows) if row[_POSTED] >= begins_us)
                    held = sorted([*held, *rows[late:]], key=_order)
                    rows = rows[:late]
                    if len(held) > ROWS_HELD_MAX:
                        raise HistoryUnreadable(
                            f"more than {ROWS_HELD_MAX:,} rows of {day} were posted on the next "
                            "day; the clocks of the workers differ too much for an exact replay"
                        )
                if rows:
                    yield rows
            day = following
        if held:
            yield held

    async def _first_posted(self, day: date) -> int | None:
        async with reading(self._connection, self._timeout_seconds):
            found: int | None = await self._connection.fetchval(
                _QUERIES["first_posted"], day, self._shards
            )
        return found

    async def _day(self, day: date, *, assessed: bool) -> AsyncIterator[Sequence[Any]]:
        arguments = day, self._shards, self._until_us, assessed, _COUNTED
        async with self._reading(day), aclosing(self._chunks("day", *arguments)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _feed_places(self, day: date) -> None:
        """The day's events of places, of every shard."""
        if self._places is None:
            return
        places, query = self._places
        outcomes = None if query.outcomes is None else list(query.outcomes)
        async with self._reading(day):
            arguments = day, outcomes, _EVENTS, self._until_us
            async with aclosing(self._chunks("places", *arguments)) as chunks:
                async for chunk in chunks:
                    for row in chunk:
                        places.happened(_place_event(row), row[0])
            if query.restores:
                given_back = await self._connection.fetch(
                    _QUERIES["place_events_given_back"], day, _GIVERS, _EVENTS
                )
                for row in given_back:
                    places.gave_back(_place_event(row), row[0])

    @asynccontextmanager
    async def _reading(self, day: date) -> AsyncIterator[None]:
        """Read a day, which does not go to the archive meanwhile."""
        async with reading(self._connection, self._timeout_seconds):
            await self._connection.fetch(_QUERIES["lock_archive"], ARCHIVE_LOCK)
            if await self._connection.fetchval(_QUERIES["half_archived"], day):
                raise HistoryUnreadable(
                    f"{day} is on its way to the archive; run citycard partitions detach once "
                    "more to finish it, then try again"
                )
            yield

    async def _chunks(self, cursor: str, *arguments: object) -> AsyncGenerator[Sequence[Any]]:
        """Rows of a cursor; each has a name of its own, for its columns are remembered by it."""
        await self._connection.fetch(_QUERIES[f"declare_{cursor}"], *arguments)
        chunk = await self._connection.fetch(_QUERIES[f"fetch_{cursor}"])
        while chunk:
            yield chunk
            chunk = await self._connection.fetch(_QUERIES[f"fetch_{cursor}"])
        await self._connection.execute(_QUERIES[f"close_{cursor}"])


def _order(row: Sequence[Any]) -> tuple[int, int]:
    return row[_POSTED], row[_ID]


def _merged(
    held: list[Sequence[Any]], chunk: Sequence[Sequence[Any]]
) -> tuple[list[Sequence[Any]], list[Sequence[Any]]]:
    """The chunk with what was held and was posted before its end, and what is still held."""
    last = _order(chunk[-1])
    due = [row for row in held if _order(row) < last]
    return sorted([*due, *chunk], key=_order), held[len(due) :]


def _place_event(row: Any) -> PlaceEvent:
    kind = Kind(row[6])
    charged = kind in TAP_KINDS and row[9] == Outcome.APPROVED.value
    return PlaceEvent(
        row[1],
        row[2],
        row[3],
        row[4],
        row[5],
        kind,
        row[8] if charged else row[7],
        Outcome(row[9]),
        Segment(row[10]),
        row[11],
        row[12],
        row[13],
        row[14],
    )
