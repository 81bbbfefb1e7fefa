"""Every item is expired at its deadline and not before, and none is kept for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch import deadline
from switch.clock import SystemClock
from switch.deadline import DeadlineHeap
from tests.simulation.model_ledger import FakeClock, until

MILLISECOND_NS = 1_000_000


class Item:
    """What waits for an answer; remembers when it was expired."""

    def __init__(self, deadline_ns: int, clock: FakeClock | SystemClock) -> None:
        self.deadline_ns = deadline_ns
        self.settled = False
        self.expired_ns: list[int] = []
        self.clock = clock
        self.expired = anyio.Event()

    def expire(self) -> None:
        self.settled = True
        self.expired_ns.append(self.clock.monotonic_ns())
        self.expired.set()


@pytest.fixture
def few() -> Iterator[int]:
    """Looks for settled items from a few on."""
    before, deadline.CLEAR_FROM = deadline.CLEAR_FROM, 8
    yield 8
    deadline.CLEAR_FROM = before


async def test_what_is_due_is_expired_in_the_order_of_the_deadlines() -> None:
    clock = FakeClock()
    heap = DeadlineHeap(clock)
    order: list[int] = []
    for after_ns in (30, 10, 20, 10):
        item = Item(clock.ns + after_ns, clock)
        item.expire = lambda after_ns=after_ns: order.append(after_ns)  # type: ignore[method-assign]
        heap.watch(item)
    assert heap.expire_due() == clock.ns + 10
    clock.ns += 20
    assert heap.expire_due() == clock.ns + 10
    assert order == [10, 10, 20]
    clock.ns += 10
    assert heap.expire_due() is None
    assert order == [10, 10, 20, 30]
    assert len(heap) == 0


async def test_a_deadline_is_due_at_its_very_nanosecond() -> None:
    clock = FakeClock()
    heap = DeadlineHeap(clock)
    item = Item(clock.ns + 5, clock)
    heap.watch(item)
    clock.ns += 4
    heap.expire_due()
    assert item.expired_ns == []
    clock.ns += 1
    heap.expire_due()
    assert item.expired_ns == [clock.ns]


async def test_what_is_settled_is_never_expired() -> None:
    clock = FakeClock()
    heap = DeadlineHeap(clock)
    item = Item(clock.ns + 5, clock)
    heap.watch(item)
    item.settled = True
    clock.ns += 10
    assert heap.expire_due() is None
    assert item.expired_ns == []


async def test_an_item_that_expires_may_watch_another() -> None:
    clock = FakeClock()
    heap = DeadlineHeap(clock)
    second = Item(clock.ns + 2, clock)
    first = Item(clock.ns + 1, clock)
    first.expire = lambda: heap.watch(second)  # type: ignore[method-assign]
    heap.watch(first)
    clock.ns += 5
    heap.expire_due()
    assert second.expired_ns == [clock.ns]


async def test_settled_items_with_far_deadlines_do_not_pile_up(few: int) -> None:
    clock = FakeClock()
    heap = DeadlineHeap(clock)
    waiting = [Item(clock.ns + 10**9 + n, clock) for n in range(5)]
    for item in waiting:
        heap.watch(item)
    for n in range(1_000):
        item = Item(clock.ns + 10**12 + n, clock)
        heap.watch(item)
        item.settled = True
        assert len(heap) <= 2 * (len(waiting) + 1) + few
    clock.ns += 10**9 + 10
    heap.expire_due()
    assert all(item.expired_ns for item in waiting)


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans(), st.integers(0, 10)), max_size=60))
def test_any_course_expires_each_item_once_and_in_time(steps: list[tuple[int, bool, int]]) -> None:
    clock = FakeClock()

    async def course() -> None:
        heap = DeadlineHeap(clock)
        items: list[Item] = []
        for after_ns, settle, pass_ns in steps:
            items.append(Item(clock.ns + after_ns, clock))
            heap.watch(items[-1])
            if settle:
                items[len(items) // 2].settled = True
            clock.ns += pass_ns
            next_ns = heap.expire_due()
            waiting = [item.deadline_ns for item in items if not item.settled]
            assert next_ns == (min(waiting) if waiting else None)
            assert all(due_ns > clock.ns for due_ns in waiting)
        for item in items:
            assert len(item.expired_ns) <= 1
            assert all(at_ns >= item.deadline_ns for at_ns in item.expired_ns)

    anyio.run(course)


async def test_the_running_task_keeps_deadlines_that_come_later_and_sooner() -> None:
    clock = SystemClock()
    heap = DeadlineHeap(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heap.run)
        await until(lambda: heap._wakes_at_ns == 1 << 62)  # asleep with nothing to do
        now_ns = clock.monotonic_ns()
        far = Item(now_ns + 3_600_000 * MILLISECOND_NS, clock)
        heap.watch(far)
        await until(lambda: heap._wakes_at_ns == far.deadline_ns)
        later = Item(now_ns + 60 * MILLISECOND_NS, clock)
        sooner = Item(now_ns + 30 * MILLISECOND_NS, clock)
        heap.watch(later)
        heap.watch(sooner)
        with anyio.fail_after(10):
            await sooner.expired.wait()
            await later.expired.wait()
        assert far.expired_ns == []
        for item in (sooner, later):
            (at_ns,) = item.expired_ns
            assert item.deadline_ns <= at_ns < item.deadline_ns + 5_000 * MILLISECOND_NS
        assert sooner.expired_ns <= later.expired_ns
        tasks.cancel_scope.cancel()


async def test_a_deadline_that_has_passed_when_it_is_watched_is_kept_at_once() -> None:
    clock = SystemClock()
    heap = DeadlineHeap(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(heap.run)
        await until(lambda: heap._wakes_at_ns == 1 << 62)
        item = Item(clock.monotonic_ns() - MILLISECOND_NS, clock)
        heap.watch(item)
        with anyio.fail_after(10):
            await item.expired.wait()
        tasks.cancel_scope.cancel()
