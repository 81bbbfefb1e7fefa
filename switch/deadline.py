"""One deadline heap per process: every waiting request is answered by its deadline, or before.

A heap and one sleeping task replace a timer or a cancel scope per message, which would
cost more than the rest of the message (design §5).
"""

from __future__ import annotations

import heapq
import itertools
from typing import Protocol

import anyio

from switch.clock import Clock

NANOSECONDS = 1_000_000_000
CLEAR_FROM = 4_096
"""Items from which the settled ones are looked for: fewer are not worth the look."""


class Deadlined(Protocol):
    """Something that must be settled by an absolute monotonic deadline."""

    @property
    def deadline_ns(self) -> int: ...

    @property
    def settled(self) -> bool:
        """Whether it needs its deadline no more."""
        ...

    def expire(self) -> None:
        """Called once, at the deadline, when not settled."""
        ...


class DeadlineHeap:
    """Absolute deadlines of one process. `watch` is cheap; `run` is the task that keeps them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Deadlined]] = []
        self._order = itertools.count()
        self._sooner = anyio.Event()
        self._wakes_at_ns = 0
        self._clear_at = CLEAR_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def watch(self, item: Deadlined) -> None:
        """Keep the item's deadline; it is let go of some time after it is settled."""
        if len(self._heap) >= self._clear_at:
            self._clear()
        heapq.heappush(self._heap, (item.deadline_ns, next(self._order), item))
        if item.deadline_ns < self._wakes_at_ns:
            self._sooner.set()

    def _clear(self) -> None:
        """Let go of what is settled, so that long budgets keep no more than twice the waiting."""
        self._heap = [entry for entry in self._heap if not entry[2].settled]
        heapq.heapify(self._heap)
        self._clear_at = max(CLEAR_FROM, 2 * len(self._heap))

    def expire_due(self) -> int | None:
        """Expire what is due; the next deadline in monotonic ns, or None when nothing waits."""
        now_ns = self._clock.monotonic_ns()
        while self._heap:
            deadline_ns, _, item = self._heap[0]
            if item.settled:
                heapq.heappop(self._heap)
            elif deadline_ns <= now_ns:
                heapq.heappop(self._heap)
                item.expire()
            else:
                return deadline_ns
        return None

    async def run(self) -> None:
        """Expire items at their deadlines until cancelled."""
        while True:
            next_ns = self.expire_due()
            self._sooner = anyio.Event()
            if next_ns is None:
                # Far enough that any new deadline is sooner and wakes this task.
                self._wakes_at_ns = 1 << 62
                await self._sooner.wait()
                continue
            self._wakes_at_ns = next_ns
            delay_ns = next_ns - self._clock.monotonic_ns()
            with anyio.move_on_after(max(delay_ns, 0) / NANOSECONDS):
                await self._sooner.wait()
