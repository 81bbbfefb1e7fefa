"""Lanes that connect together: one knocks, all use what it gets, and each moves out in time."""

from __future__ import annotations

from datetime import date
from typing import Any

import anyio
import pytest

from switch.ledger.doorstep import SHARED_NS, Doorstep, LaneLedger, TimeToMove
from switch.ledger.failures import LedgerLost
from switch.posting import Loaded
from tests.simulation.model_ledger import FakeClock

TODAY = date(2026, 3, 31)


class Connection:
    """A connection that notes whose calls came, and how many at once."""

    def __init__(self) -> None:
        self.shards: list[int] = []
        self.at_once = self.at_once_max = 0
        self.terminated = self.lost = False

    async def load(self, shard: int, *_: Any) -> list[Loaded]:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        await anyio.lowlevel.checkpoint()
        self.at_once -= 1
        self.shards.append(shard)
        if self.terminated or self.lost:
            raise LedgerLost("lost")
        return []

    async def post(self, shard: int, *_: Any) -> list[Any]:
        await self.load(shard)
        return []

    def terminate(self) -> None:
        self.terminated = True


class House:
    """A doorstep, and what was opened at it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.doorstep = Doorstep(self.clock)
        self.opened: list[Connection] = []
        self.refusal: Exception | None = None

    async def open(self) -> LaneLedger:
        await anyio.lowlevel.checkpoint()
        if self.refusal is not None:
            raise self.refusal
        self.opened.append(Connection())
        return self.opened[-1]

    async def enter(self) -> LaneLedger:
        async with self.doorstep.turn:
            return await self.doorstep.enter(self.open)

    def time_to_move(self) -> None:
        self.clock.advance(SHARED_NS / 1e9)


async def load(ledger: LaneLedger, shard: int) -> None:
    await ledger.load(shard, TODAY, 0, [])


async def post(ledger: LaneLedger, shard: int) -> None:
    await ledger.post(shard, 0, TODAY, {}, [], [], "hash")


async def test_lanes_that_come_together_use_one_connection_one_call_at_a_time() -> None:
    house = House()
    ledgers = [await house.enter() for _ in range(4)]
    async with anyio.create_task_group() as tasks:
        for shard, ledger in enumerate(ledgers):
            tasks.start_soon(load, ledger, shard)
            tasks.start_soon(post, ledger, shard)
    (connection,) = house.opened
    assert sorted(connection.shards) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert connection.at_once_max == 1


async def test_in_time_each_is_told_to_move_and_gets_its_own() -> None:
    house = House()
    ledgers = [await house.enter() for _ in range(3)]
    for _ in range(2):
        house.time_to_move()
        for shard, ledger in enumerate(ledgers):
            try:
                await load(ledger, shard)
            except TimeToMove:
                ledger.terminate()
                ledgers[shard] = await house.enter()
                await load(ledgers[shard], shard)
    house.time_to_move()
    for shard, ledger in enumerate(ledgers):
        await post(ledger, shard)
    assert [connection.shards for connection in house.opened] == [[0, 0, 0], [1, 2, 1, 1], [2, 2]]
    ledgers[1].terminate()
    assert [connection.terminated for connection in house.opened] == [False, True, False]


async def test_nobody_moves_between_loading_and_posting() -> None:
    house = House()
    await house.enter()
    guest = await house.enter()
    await load(guest, 1)
    house.time_to_move()
    await post(guest, 1)
    with pytest.raises(TimeToMove):
        await load(guest, 1)
    assert len(house.opened) == 1


async def test_who_comes_later_opens_a_connection_of_its_own() -> None:
    house = House()
    await house.enter()
    house.time_to_move()
    await load(await house.enter(), 1)
    assert [connection.shards for connection in house.opened] == [[], [1]]


async def test_a_guest_that_leaves_does_not_cut_its_host_off() -> None:
    house = House()
    first, guest = await house.enter(), await house.enter()
    guest.terminate()
    await load(first, 0)
    assert not house.opened[0].terminated


async def test_a_connection_that_a_guest_found_lost_is_given_to_nobody_else() -> None:
    house = House()
    _, guest, other = [await house.enter() for _ in range(3)]
    house.opened[0].lost = True
    with pytest.raises(LedgerLost):
        await post(guest, 1)
    with pytest.raises(LedgerLost):
        await load(other, 1)
    await load(await house.enter(), 2)
    assert [connection.shards for connection in house.opened] == [[1], [2]]


async def test_a_connection_that_its_lane_dropped_is_given_to_nobody_else() -> None:
    house = House()
    (await house.enter()).terminate()
    await load(await house.enter(), 2)
    assert [connection.shards for connection in house.opened] == [[], [2]]


async def test_a_guest_between_its_calls_is_told_that_its_host_dropped_the_connection() -> None:
    house = House()
    first, guest = await house.enter(), await house.enter()
    await load(guest, 1)
    first.terminate()
    with pytest.raises(LedgerLost):
        await post(guest, 1)
    assert [connection.shards for connection in house.opened] == [[1]]


async def test_after_a_refusal_the_next_one_asks_again() -> None:
    house = House()
    house.refusal = LedgerLost("away")
    with pytest.raises(LedgerLost):
        await house.enter()
    house.refusal = None
    await load(await house.enter(), 1)
    assert len(house.opened) == 1
