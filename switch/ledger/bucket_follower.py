"""What terminals, merchants and acquirers come to, as every worker knows it within a second.

A worker adds what it posts at once, reads what all of them wrote twice a second, and reads the
older minutes again and again in small pieces. While it cannot, or of what nobody counted from
the beginning of a window on, it says that it does not know:

    follow ──▶ declared ──▶ all minutes read ──▶ known ──┬─ nothing read for 3 s ──▶ unknown
                                 ▲                       └─ a minute was missed ───┐
                                 └─────────────────────────────────────────────────┘

A series that a deployment no longer counts is forgotten in the ledger too: it has a gap, and
begins anew when another deployment counts it. So whoever follows a deployment must be sure to
decide by it next.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import assert_never

import anyio

from risk.buckets import BUCKET_SECONDS, Addition, minute_of, series_of
from risk.deployment import Deployment
from risk.features import (
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Lifetime,
    Trailing,
)
from switch.clock import Clock
from switch.decide.place_events import KEPT_MINUTES
from switch.ledger import bridge, sql
from switch.ledger.bucket_window import CELLS_MAX, BucketWindow, Read
from switch.ledger.failures import LedgerLost, LedgerRefused, fetched, guarded
from switch.logs import get as get_log

INTERVAL_SECONDS = 0.4
"""Between two reads: with what a read takes, everybody knows within a second."""
HOT_MINUTES = 3
"""The minutes that each read has: what is posted belongs to a moment ago, rarely to more."""
STALE_NS = 3_000_000_000
"""After so long without a read nobody can say what the others posted."""
CALL_SECONDS_MAX = 2.0
PAGE_ROWS = 2_000
"""Rows of one read of older minutes, about: more would hold the requests up for too long."""
PAGE_MINUTES_MAX = 240
BACK_OFF_SECONDS_MAX = 2.0
FOLLOW_SECONDS_MAX = 10.0
DECLARED_AHEAD_US = 5_000_000
"""A new series is complete from then on: all workers count it by then (they have 2 s)."""

OpenLedger = Callable[[], Awaitable[bridge.Connection]]
_QUERIES = sql.queries("buckets.sql")
_log = get_log("buckets")


class BucketFollower:
    """The buckets of one worker's deployment; `read` is what the deployment reads them by.

    `open_ledger` makes a connection of its own. `follow` and `run` may be called side by side.
    """

    def __init__(
        self,
        open_ledger: OpenLedger,
        clock: Clock,
        *,
        interval_seconds: float = INTERVAL_SECONDS,
        cells_max: int = CELLS_MAX,
    ) -> None:
        self._open_ledger = open_ledger
        self._clock = clock
        self._interval_seconds = interval_seconds
        self._window = BucketWindow(cells_max)
        self._reach: dict[bytes, int] = {}
        self._undeclared = False
        self._turn = anyio.Lock()
        self._ledger: _Ledger | None = None
        self._read_ns: int | None = None
        self._read_minute = 0
        self._due_ns = 0
        self._next_minute = 0
        self._page_minutes = HOT_MINUTES
        self._given_up: set[bytes] = set()

    @property
    def age_seconds(self) -> float:
        """How long ago the last read was; infinite before the first, 0 with nothing to follow."""
        if not self._reach:
            return 0.0
        if self._read_ns is None:
            return float("inf")
        return (self._clock.monotonic_ns() - self._read_ns) / 1e9

    @property
    def cells(self) -> int:
        """Buckets in memory."""
        return self._window.cells

    @property
    def given_up(self) -> int:
        """Series that are unknown because they were too large to be followed."""
        return len(self._window.given_up)

    @property
    def complete(self) -> bool:
        """Whether everything that is followed was read."""
        if not self._reach:
            return not self._undeclared
        return not self._undeclared and self._read_ns is not None and not self._window.partial

    def read(self, series: bytes, key: str, first_minute: int) -> int | None:
        """What a key's buckets come to from that minute on; None where nobody can vouch for it."""
        read_ns = self._read_ns
        if read_ns is None or self._clock.monotonic_ns() - read_ns > STALE_NS:
            return None
        return self._window.value(series, key, first_minute)

    def posted(self, additions: Iterable[Addition]) -> None:
        """What this worker has just posted; call it for each posting that is in the ledger."""
        self._window.posted(additions)

    async def follow(self, deployment: Deployment) -> None:
        """Count and read what this deployment asks for; call it just before it decides.

        Declares what is new, forgets what is no longer counted, and reads what there is. What
        the deployment before asked for is known until the next call. Where the ledger is away
        it returns all the same, and `run` goes on with it: until then it is unknown.
        """
        reach = reaches(deployment)
        if reach == self._reach and self.complete:
            return
        self._window.follow(self._reach | reach)
        self._reach, self._undeclared = reach, True
        try:
            with anyio.move_on_after(FOLLOW_SECONDS_MAX) as scope:
                while not self.complete:
                    await self._step()
            if scope.cancelled_caught:
                raise LedgerLost(f"not read within {FOLLOW_SECONDS_MAX:g} s")
        except (LedgerLost, LedgerRefused) as error:
            self._away(error)

    async def run(self) -> None:
        """Read until cancelled, reconnecting where needed."""
        back_off_seconds = self._interval_seconds
        try:
            while True:
                try:
                    await self._step()
                    back_off_seconds = self._interval_seconds
                    await anyio.sleep(self._interval_seconds if self.complete else 0)
                except (LedgerLost, LedgerRefused) as error:
                    self._away(error)
                    await anyio.sleep(back_off_seconds)
                    back_off_seconds = min(2 * back_off_seconds, BACK_OFF_SECONDS_MAX)
        finally:
            self._drop()

    def _away(self, error: Exception) -> None:
        _log.warning("buckets cannot be followed", reason=str(error))

    async def _step(self) -> None:
        """Declare what is new, read the newest minutes where that is due, then some older ones.

        Raises LedgerLost and LedgerRefused; a connection that was left in a call is not used again.
        """
        async with self._turn:
            if not self._reach and not self._undeclared:
                return
            try:
                if self._ledger is None:
                    self._ledger = await _Ledger.open(self._open_ledger)
                    self._due_ns = 0
                if self._undeclared:
                    await self._declare(self._ledger)
                if self._clock.monotonic_ns() >= self._due_ns:
                    await self._read_newest(self._ledger)
                await self._read_earlier(self._ledger)
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        self._window.not_read()
        if self._ledger is not None:
            self._ledger.terminate()
            self._ledger = None

    async def _declare(self, ledger: _Ledger) -> None:
        wanted = list(self._reach)
        await ledger.declare(wanted, self._clock.now_us() + DECLARED_AHEAD_US)
        if wanted == list(self._reach):
            self._undeclared = False
            self._due_ns = self._next_minute = 0

    async def _read_newest(self, ledger: _Ledger) -> None:
        asked_ns = self._clock.monotonic_ns()
        now = minute_of(self._clock.now_us())
        hot_from = now - HOT_MINUTES + 1
        names = self._window.series
        self._window.asked()
        rows, since_us = await ledger.newest(hot_from, names)
        if self._read_ns is not None and hot_from > self._read_minute:
            # So long without a read that some minute was never read when it was over.
            self._window.distrust()
            self._next_minute = 0
        self._window.settle(hot_from)
        self._window.replaced(names, hot_from, None, rows)
        self._window.declared(since_us)
        self._read_ns, self._read_minute = asked_ns, now
        self._due_ns = asked_ns + int(self._interval_seconds * 1e9)
        self._tell_given_up()

    async def _read_earlier(self, ledger: _Ledger) -> None:
        """The next few settled minutes: of what was not read yet, else of everything, in a ring."""
        partial = self._window.partial
        names = partial or self._window.series
        hot_from = self._read_minute - HOT_MINUTES + 1
        oldest = hot_from - self._window.reach_minutes(names)
        first = max(self._next_minute, oldest)
        until = min(first + self._page_minutes, hot_from)
        if names and first < until:
            self._window.asked()
            rows = await ledger.earlier(first, until, names)
            self._window.replaced(names, first, until, rows)
            self._fit_page(len(rows))
        self._next_minute = until
        if until >= hot_from:
            self._next_minute = 0
            if not self._undeclared:
                # Else something else is followed by now, and must be read from its beginning.
                self._window.read_whole(partial)
        self._tell_given_up()

    def _fit_page(self, rows: int) -> None:
        if rows > PAGE_ROWS:
            self._page_minutes = max(1, self._page_minutes // 2)
        elif rows < PAGE_ROWS // 4:
            self._page_minutes = min(2 * self._page_minutes, PAGE_MINUTES_MAX)

    def _tell_given_up(self) -> None:
        new = self._window.given_up - self._given_up
        self._given_up = set(self._window.given_up)
        for series in new:
            _log.error(
                "a counter of places has too many keys to be followed and is unknown; "
                "narrow its condition or shorten its window",
                series=series.hex(),
            )


def reaches(deployment: Deployment) -> dict[bytes, int]:
    """How many minutes back each series of a deployment is looked at, by series."""
    rulesets = [deployment.live, *deployment.shadows]
    if deployment.canary is not None:
        rulesets.append(deployment.canary)
    reach: dict[bytes, int] = {}
    for each in rulesets:
        for feature in each.places:
            series = series_of(feature)
            reach[series] = max(reach.get(series, 0), _reach_minutes(feature))
    return reach


def _reach_minutes(feature: Feature) -> int:
    match feature.window:
        case Trailing(seconds=seconds):
            return -(-seconds // BUCKET_SECONDS) + 1
        case CalendarDay():
            return KEPT_MINUTES
        case CalendarWeek() | CalendarMonth() | Lifetime():
            raise AssertionError("buckets are kept for a day; the checks refuse longer windows")
        case _:
            assert_never(feature.window)


async def drop_old_buckets(connection: bridge.Connection, now_us: int) -> int:
    """Delete what no window reaches any more, half an hour of it a call; how many there were.

    Call it until it is 0. Raises what the driver raises.
    """
    dropped: int = await connection.fetchval(
        _QUERIES["drop_buckets"], minute_of(now_us) - KEPT_MINUTES
    )
    return dropped


class _Ledger:
    """One connection with its prepared reads."""

    def __init__(
        self, connection: bridge.Connection, newest: bridge.Prepared, earlier: bridge.Prepared
    ) -> None:
        self._connection = connection
        self._newest = newest
        self._earlier = earlier

    @classmethod
    async def open(cls, open_ledger: OpenLedger) -> _Ledger:
        connection = await guarded(open_ledger, seconds=CALL_SECONDS_MAX)
        try:
            newest, earlier = [
                await guarded(connection.prepare, _QUERIES[name], seconds=CALL_SECONDS_MAX)
                for name in ("recent_buckets", "earlier_buckets")
            ]
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, newest, earlier)

    async def declare(self, series: list[bytes], since_us: int) -> None:
        """Say that these are counted from now on, and no others."""
        for query, arguments in (("forget_series", ()), ("declare_series", (since_us,))):
            await guarded(
                self._connection.fetch,
                _QUERIES[query],
                series,
                *arguments,
                seconds=CALL_SECONDS_MAX,
            )

    async def newest(self, first: int, series: list[bytes]) -> tuple[list[Read], dict[bytes, int]]:
        """The buckets from that minute on, and from when on each series is complete."""
        rows = await fetched(self._newest, first, series, seconds=CALL_SECONDS_MAX)
        since_us = {row[1]: row[3] for row in rows if row[0] is None}
        return [Read(*row) for row in rows if row[0] is not None], since_us

    async def earlier(self, first: int, until: int, series: list[bytes]) -> list[Read]:
        """The buckets of the minutes in between."""
        rows = await fetched(self._earlier, first, until, series, seconds=CALL_SECONDS_MAX)
        return [Read(*row) for row in rows]

    def terminate(self) -> None:
        self._connection.terminate()
