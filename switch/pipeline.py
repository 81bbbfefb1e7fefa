"""The one way through: a request is admitted, directed to its lane and answered exactly once.

Nothing here waits. `submit` returns at once; the answer comes through `respond`, from a
lane after the commit, from the deadline heap, or from `submit` itself when it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from protocols.card_number import CardNumber
from protocols.message import Outcome, Reply, Request
from switch.admission import Flight, Respond, Ticket, refuse_at_lane
from switch.posting import Directed

if TYPE_CHECKING:
    from switch.clock import Clock
    from switch.deadline import DeadlineHeap
    from switch.ledger.directory import Directory, Place
    from switch.ledger.lanes import Lane
    from switch.metrics import Metrics

IDLE_CHECK_SECONDS = 0.02


class Pipeline:
    """Admission, directory and lanes of one process."""

    def __init__(
        self,
        *,
        lanes: Sequence[Lane],
        directory: Directory,
        deadlines: DeadlineHeap,
        medium_of: Callable[[CardNumber], bytes],
        in_flight_max: int,
        lane_queue_max: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._lanes = lanes
        self._directory = directory
        self._deadlines = deadlines
        self._medium_of = medium_of
        self._flight = Flight(in_flight_max)
        self._lane_queue_max = lane_queue_max
        self._clock = clock
        self._metrics = metrics

    @property
    def in_flight(self) -> int:
        """Requests without a final answer."""
        return self._flight.count

    def submit(self, request: Request, respond: Respond) -> None:
        """Take one request; `respond` is called exactly once, by its deadline at the latest."""
        ticket = Ticket(request, respond, self._leave)
        now_ns = self._clock.monotonic_ns()
        if now_ns >= request.deadline_ns:
            self._refuse(ticket, Outcome.NO_BUDGET)
            return
        refusal = self._flight.admit(ticket)
        if refusal is Outcome.KEY_REUSED:
            self._metrics.duplicates("key_reused")
            ticket.answer(Reply(refusal))
            return
        if refusal is not None:
            self._refuse(ticket, refusal)
            return
        self._metrics.in_flight(self._flight.count)
        self._deadlines.watch(ticket)
        if self._flight.is_repeat(ticket):
            self._metrics.duplicates("in_flight")
            return
        self._direct(ticket)

    async def run(self, *, started: Callable[[], None]) -> None:
        """Run lanes, directory and deadlines until cancelled; `started` once all are set going."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._deadlines.run)
            tasks.start_soon(self._directory.run)
            for lane in self._lanes:
                tasks.start_soon(lane.run)
            started()

    async def finish(self, seconds: float) -> int:
        """Wait for what is in flight, for at most so long; what is left then."""
        with anyio.move_on_after(seconds):
            # Looked at rather than signalled: it happens once, at the end of a process.
            while self._flight.count or any(lane.unfinished for lane in self._lanes):  # noqa: ASYNC110
                await anyio.sleep(IDLE_CHECK_SECONDS)
        return self._flight.count + sum(lane.unfinished for lane in self._lanes)

    def _direct(self, ticket: Ticket) -> None:
        card = ticket.request.card
        assert card is not None, "a dialect gives every authorization its card"
        medium = self._medium_of(card)
        place = self._directory.cached(medium)
        if place is not None:
            self._enter(ticket, medium, place)
            return
        asked_ns = self._clock.monotonic_ns()

        def found(place: Place | None) -> None:
            self._metrics.stage("directory", (self._clock.monotonic_ns() - asked_ns) / 1e9)
            self._enter(ticket, medium, place)

        def unreachable() -> None:
            ticket.finish(Reply(Outcome.LEDGER_DOWN))

        self._directory.ask(medium, found, unreachable)

    def _enter(self, ticket: Ticket, medium: bytes, place: Place | None) -> None:
        """Into the lane of its shard; an unknown card is recorded in the shard of its key."""
        request = ticket.request
        if place is None:
            shard = int.from_bytes(hashlib.blake2b(request.key, digest_size=2).digest())
            directed = Directed(request, shard % len(self._lanes), 0, 0, medium)
        else:
            directed = Directed(request, place.shard, place.account_id, place.card_id, medium)
        ticket.directed = directed
        lane = self._lanes[directed.shard]
        refusal = (
            Outcome.LEDGER_DOWN
            if lane.down
            else refuse_at_lane(
                request,
                lane.waiting,
                self._lane_queue_max,
                lane.wait_ns,
                self._clock.monotonic_ns(),
            )
        )
        if refusal is not None:
            self._metrics.shed(request.segment, refusal)
            ticket.finish(Reply(refusal))
            return
        lane.put(ticket)

    def _refuse(self, ticket: Ticket, outcome: Outcome) -> None:
        self._metrics.shed(ticket.request.segment, outcome)
        ticket.answer(Reply(outcome))

    def _leave(self, ticket: Ticket) -> None:
        self._flight.leave(ticket)
        self._metrics.in_flight(self._flight.count)
