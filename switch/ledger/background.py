"""Background work (uploads, debit files): a burst at a time, in one lane, and then a rest.

A request of a person must never find all lanes busy with it. So one lane at most has any, no
more than fits a small batch, and where others were served meanwhile the next burst is half as
large and comes after a rest of twice the time that this one took: at most a third of the
ledger's time is its own. A quiet switch gives it all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from switch.ledger.lanes import BACKGROUND_BATCH_MAX, NANOSECONDS
from switch.ledger.settling import directed_of

if TYPE_CHECKING:
    from switch.admission import Ticket
    from switch.clock import Clock
    from switch.ledger.lanes import Lane

BURST_SECONDS_MAX = 5.0
"""A burst that takes longer (an account that others use all the time) holds up no other."""
REST_SECONDS_MAX = 0.25
REST_PARTS = 2
BURST_BESIDE_OTHERS = BACKGROUND_BATCH_MAX // 2


class Background:
    """The background requests of a process, by lane. `on_down` takes what no lane can have."""

    def __init__(
        self, lanes: Sequence[Lane], clock: Clock, on_down: Callable[[Ticket, bytes], None]
    ) -> None:
        self._lanes = lanes
        self._clock = clock
        self._on_down = on_down
        self._queues: list[deque[Ticket]] = [deque() for _ in lanes]
        self._under_way: set[Ticket] = set()
        self._arrived = anyio.Event()
        self._ended = anyio.Event()
        self._others = 0
        self._burst_max = BACKGROUND_BATCH_MAX
        self._turn = 0

    def put(self, ticket: Ticket) -> None:
        """Queue a directed ticket; who puts it bounds how many there are."""
        self._queues[directed_of(ticket).shard].append(ticket)
        self._arrived.set()

    def saw_another(self) -> None:
        """A request that is no background work went to a lane."""
        self._others += 1

    def left(self, ticket: Ticket) -> None:
        """A ticket has settled."""
        self._under_way.discard(ticket)
        if not self._under_way:
            self._ended.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            if not any(self._queues):
                self._arrived = anyio.Event()
                await self._arrived.wait()
            await self._burst()

    async def _burst(self) -> None:
        others, began_ns = self._others, self._clock.monotonic_ns()
        lane, burst = self._next()
        if lane.down or not burst:
            for ticket in burst:
                self._on_down(ticket, directed_of(ticket).medium)
            await anyio.lowlevel.checkpoint()
            return
        self._ended = anyio.Event()
        self._under_way.update(burst)
        for ticket in burst:
            lane.put_background(ticket)
        with anyio.move_on_after(BURST_SECONDS_MAX):
            await self._ended.wait()
        # What is left (one that stays owed, say) is its lane's matter, and no later burst's.
        self._under_way.clear()
        if self._others == others:
            self._burst_max = BACKGROUND_BATCH_MAX
            return
        self._burst_max = BURST_BESIDE_OTHERS
        took_seconds = (self._clock.monotonic_ns() - began_ns) / NANOSECONDS
        await anyio.sleep(min(REST_PARTS * took_seconds, REST_SECONDS_MAX))

    def _next(self) -> tuple[Lane, list[Ticket]]:
        """The next lane in turn that has any, and its burst."""
        while not self._queues[self._turn]:
            self._turn = (self._turn + 1) % len(self._queues)
        index, queue = self._turn, self._queues[self._turn]
        self._turn = (self._turn + 1) % len(self._queues)
        burst = [queue.popleft() for _ in range(min(len(queue), self._burst_max))]
        # Who was answered already (its deadline) and settled is in no lane and would not end.
        return self._lanes[index], [ticket for ticket in burst if not ticket.done]
