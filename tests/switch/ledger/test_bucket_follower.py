"""Two workers that follow the buckets of one ledger, on both backends and a real PostgreSQL."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from protocols.message import Outcome
from risk.assess import CompiledRuleset
from risk.buckets import Addition, minute_of, series_of
from risk.deployment import Deployment, InForce
from risk.features import Aggregate, Basis, CalendarDay, Feature, Key, Trailing
from risk.moments import Settings
from switch.clock import SystemClock
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.bucket_follower import BucketFollower, reaches
from switch.ledger.failures import LedgerLost
from tests.simulation.model_ledger import NOON_US

WRONG = Feature(
    id="wrong", key=Key.TERMINAL, aggregate=Aggregate.COUNT, basis=Basis.DECLINED,
    codes=(Outcome.PIN_WRONG,), window=Trailing(600),
)  # fmt: skip
TAKEN = Feature(
    id="taken", key=Key.MERCHANT, aggregate=Aggregate.SUM, basis=Basis.APPROVED,
    window=CalendarDay(),
)  # fmt: skip
SERIES = series_of(WRONG)
NOON = minute_of(NOON_US)
KNOWN_SECONDS = 20


class Clock(SystemClock):
    """This machine's clocks on the ledger's day; both can be moved.

    The monotonic one is a hundred times slower, so that on a busy machine nothing grows stale.
    """

    def __init__(self) -> None:
        self.ahead_ns = 0
        self._offset_us = NOON_US - SystemClock().now_us()

    def now_us(self) -> int:
        return super().now_us() + self._offset_us + self.ahead_ns // 1000

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() // 100 + self.ahead_ns


def deployment(*features: Feature, shadows: tuple[Feature, ...] = ()) -> Deployment:
    compiled = CompiledRuleset("3f" * 32, {})
    conduct = Settings("Asia/Shanghai", "04:00", "156")
    drafts = (InForce(compiled, conduct, shadows),) if shadows else ()
    return Deployment(InForce(compiled, conduct, features), shadows=drafts)


class Town:
    """A ledger, and followers on it by what `follower` makes."""

    def __init__(self, books: Any, database: str) -> None:
        self.books = books
        self.clock = Clock()
        self.opened = 0
        self.away = False
        self._database = database

    def follower(self, **terms: Any) -> BucketFollower:
        return BucketFollower(self._open, self.clock, interval_seconds=0.0002, **terms)

    async def _open(self) -> bridge.Connection:
        self.opened += 1
        if self.away:
            raise LedgerLost("away")
        return await bridge.connect(self._database, settings={"application_name": "follower"})

    async def posts(self, slot: int, *amounts: tuple[str, int], series: bytes = SERIES) -> None:
        added = [(series, key, self.minute, amount) for key, amount in amounts]
        await self.books.posted(self.books.decline(None, 1, additions=added), slot=slot)

    @property
    def minute(self) -> int:
        return minute_of(self.clock.now_us())

    async def since_us(self) -> dict[bytes, int]:
        rows = await self.books.connection.fetch("select * from ledger.bucket_series")
        return {row["series"]: row["since_us"] for row in rows}


@pytest.fixture
async def town(books: Any, database: str) -> AsyncIterator[Town]:
    yield Town(books, database)
    report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []


@asynccontextmanager
async def running(*followers: BucketFollower) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for follower in followers:
            tasks.start_soon(follower.run)
        yield
        tasks.cancel_scope.cancel()


async def comes(true: Callable[[], bool]) -> None:
    with anyio.fail_after(KNOWN_SECONDS):
        while not true():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.005)


async def test_what_one_worker_posts_the_other_comes_to_know(town: Town) -> None:
    """A fresh ledger is complete from its beginning, in both of them."""
    one, other = town.follower(), town.follower()
    assert one.read(SERIES, "shops/T1", NOON) is None
    for follower in (one, other):
        await follower.follow(deployment(WRONG))
        assert follower.read(SERIES, "shops/T1", town.minute - 9) == 0
    assert await town.since_us() == {SERIES: 0}
    async with running(one, other):
        await town.posts(0, ("shops/T1", 1), ("shops/T2", 5))
        one.posted([Addition(SERIES, "shops/T1", town.minute, 1)])
        value = one.read(SERIES, "shops/T1", town.minute - 9)
        assert value in (1, 2), "at once, and twice at most until it is read"
        await town.posts(1, ("shops/T1", 2))
        for follower in (one, other):
            knows = functools.partial(follower.read, SERIES, "shops/T1", town.minute - 9)
            await comes(lambda knows=knows: knows() == 3)  # type: ignore[misc]
            assert follower.read(SERIES, "shops/T2", town.minute - 9) == 5
            assert follower.age_seconds < KNOWN_SECONDS


async def test_a_new_worker_reads_the_whole_window_before_it_decides(town: Town) -> None:
    first = town.follower()
    await first.follow(deployment(WRONG, TAKEN))
    day = series_of(TAKEN)
    now = town.minute
    old = [(day, "shops/M1", now - back, 7) for back in (23 * 60, 300, 61, 2, 0)]
    await town.books.posted(town.books.decline(None, 1, additions=old))
    successor = town.follower()
    await successor.follow(deployment(WRONG, TAKEN))
    assert successor.complete
    assert successor.read(day, "shops/M1", now - 24 * 60) == 35
    assert successor.read(day, "shops/M1", now - 61) == 21
    assert successor.read(day, "shops/M1", now - 26 * 60) is None
    assert successor.cells == 5
    assert reaches(deployment(WRONG, shadows=(TAKEN,))) == {SERIES: 11, day: 25 * 60}


async def test_a_series_that_begins_later_is_unknown_until_its_window_is_whole(town: Town) -> None:
    await town.posts(0, ("shops/T1", 1))
    follower = town.follower()
    await follower.follow(deployment(WRONG))
    (since_us,) = (await town.since_us()).values()
    assert since_us > town.clock.now_us(), "other workers may still have to hear of it"
    assert follower.read(SERIES, "shops/T1", town.minute - 9) is None
    async with running(follower):
        town.clock.ahead_ns += 12 * 60 * 1_000_000_000
        await comes(lambda: follower.read(SERIES, "shops/T1", town.minute - 9) == 0)
        assert follower.read(SERIES, "shops/T1", town.minute - 13) is None


async def test_a_series_that_nobody_counts_begins_anew(town: Town) -> None:
    one, other = town.follower(), town.follower()
    for follower in (one, other):
        await follower.follow(deployment(WRONG))
    async with running(other):
        await one.follow(deployment(TAKEN))
        assert SERIES not in await town.since_us()
        await comes(lambda: other.read(SERIES, "shops/T1", town.minute) is None)
        await one.follow(deployment(TAKEN, shadows=(WRONG,)))
        assert (await town.since_us())[SERIES] > town.clock.now_us() - KNOWN_SECONDS * 1_000_000
        await one.follow(deployment())
    assert await town.since_us() == {}
    assert one.age_seconds == 0


async def test_nothing_is_known_while_nothing_can_be_read(town: Town) -> None:
    follower = town.follower()
    await follower.follow(deployment(WRONG))
    await town.posts(0, ("shops/T1", 4))
    async with running(follower):
        await comes(lambda: follower.read(SERIES, "shops/T1", town.minute - 9) == 4)
        town.away = True
        connections = town.opened
        await town.books.connection.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname ="
            " current_database() and application_name = 'follower'"
        )
        await comes(lambda: town.opened > connections)
        town.clock.ahead_ns += 10 * 60 * 1_000_000_000
        assert follower.read(SERIES, "shops/T1", town.minute - 10) is None
        assert follower.age_seconds > 3
        # Written ten minutes ago by its clock, when it did not read.
        added = [(SERIES, "shops/T1", town.minute - 6, 2)]
        await town.books.posted(town.books.decline(None, 1, additions=added))
        town.away = False
        await comes(lambda: follower.read(SERIES, "shops/T1", town.minute - 9) == 2)


async def test_a_worker_starts_while_the_ledger_is_away(town: Town) -> None:
    follower = town.follower()
    town.away = True
    await follower.follow(deployment(WRONG))
    assert not follower.complete
    assert follower.age_seconds == float("inf")
    async with running(follower):
        town.away = False
        await comes(lambda: follower.read(SERIES, "shops/T1", town.minute - 9) == 0)


async def test_a_series_that_is_too_large_is_unknown_and_said_so(town: Town) -> None:
    follower = town.follower(cells_max=3)
    await follower.follow(deployment(WRONG, TAKEN))
    async with running(follower):
        await town.posts(0, *((f"shops/T{n}", 1) for n in range(9)))
        await town.posts(0, ("shops/M1", 3), series=series_of(TAKEN))
        await comes(lambda: follower.given_up == 1)
        assert follower.read(SERIES, "shops/T1", town.minute) is None
        await comes(lambda: follower.read(series_of(TAKEN), "shops/M1", town.minute - 1) == 3)
