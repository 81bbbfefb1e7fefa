"""The one way through: a request is admitted, directed to its lane and answered exactly once.

Nothing here waits. `submit` returns at once; the answer comes through `respond`, from a
lane after the commit, from the deadline heap, or from `submit` itself when it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import anyio

from protocols.card_number import CardNumber
from protocols.message import Outcome, Reply, Request, Segment
from switch.admission import Flight, Respond, Ticket, overload, refuse_at_lane
from switch.ledger.background import Background
from switch.ledger.failures import LedgerLost
from switch.posting import Directed, Forwarded

if TYPE_CHECKING:
    from switch.clock import Clock
    from switch.deadline import DeadlineHeap
    from switch.ledger.directory import Directory, Place
    from switch.ledger.lanes import Lane
    from switch.metrics import Metrics

IDLE_CHECK_SECONDS = 0.02
BUSY_WAIT_NS = 20_000_000
"""What a lane makes a new request wait when it is busy; after a lull a burst is below it."""


class StandinDesk(Protocol):
    """Who may answer while the ledger is away; see switch/standin."""

    def owes(self, medium: bytes) -> bool:
        """Whether advices of this card are still to be posted: then it is the desk's."""
        ...

    def offer(self, ticket: Ticket, medium: bytes) -> None:
        """Take a ticket that the ledger cannot have; the desk answers and finishes it."""
        ...

    def seen(self, ticket: Ticket, medium: bytes) -> None:
        """A request of a known card has left with an answer that was not the desk's."""
        ...


class IssuerRoutes(Protocol):
    """The hosts of other issuers; see switch/net/upstream."""

    def route_of(self, card: CardNumber) -> str:
        """The route that takes cards of this number's bin; empty: the card is ours."""
        ...

    def forward(self, ticket: Ticket, route: str) -> None:
        """Take a ticket; it comes back by `Pipeline.post_forwarded`, or is finished."""
        ...


class Pipeline:
    """Admission, directory and lanes of one process.

    `standin` and `routes` are set before it runs, where there are any.
    """

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
        self._background = Background(lanes, clock, self._ledger_down)
        self.standin: StandinDesk | None = None
        self.routes: IssuerRoutes | None = None
        for lane in lanes:
            lane.on_down = self._ledger_down

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
            tasks.start_soon(self._background.run)
            started()

    async def finish(self, seconds: float) -> int:
        """Wait for what is in flight, for at most so long; what is left then."""
        with anyio.move_on_after(seconds):
            # Looked at rather than signalled: it happens once, at the end of a process.
            while self._flight.count or any(lane.unfinished for lane in self._lanes):  # noqa: ASYNC110
                await anyio.sleep(IDLE_CHECK_SECONDS)
        return self._flight.count + sum(lane.unfinished for lane in self._lanes)

    def _direct(self, ticket: Ticket) -> None:
        request = ticket.request
        card, medium = request.card, request.medium
        if not medium:
            assert card is not None, "a dialect gives every authorization its card"
            if self.routes is not None and (route := self.routes.route_of(card)):
                self.routes.forward(ticket, route)
                return
            medium = self._medium_of(card)
        if self.standin is not None and self.standin.owes(medium):
            self.standin.offer(ticket, medium)
            return
        place = self._directory.cached(medium)
        if place is not None:
            self._enter(ticket, medium, place)
            return
        asked_ns = self._clock.monotonic_ns()

        def found(place: Place | None) -> None:
            self._metrics.stage("directory", (self._clock.monotonic_ns() - asked_ns) / 1e9)
            self._enter(ticket, medium, place)

        def unreachable() -> None:
            self._ledger_down(ticket, medium)

        self._directory.ask(medium, found, unreachable)

    def _enter(self, ticket: Ticket, medium: bytes, place: Place | None) -> None:
        """Into the lane of its shard; an unknown card is recorded in the shard of its key."""
        request = ticket.request
        if ticket.answered is not None and not request.must_post:
            # Its budget ended while the directory was asked; nothing of it is in the ledger.
            ticket.finish(Reply(ticket.answered))
            return
        if place is None:
            directed = Directed(request, self.shard_of_key(request.key), 0, 0, medium)
        else:
            directed = Directed(request, place.shard, place.account_id, place.card_id, medium)
        ticket.directed = directed
        lane = self._lanes[directed.shard]
        if lane.down:
            self._ledger_down(ticket, medium)
            return
        refusal = refuse_at_lane(
            request,
            lane.waiting,
            self._lane_queue_max,
            lane.wait_ns,
            self._clock.monotonic_ns(),
            standing=lane.standing,
        )
        if refusal is not None:
            self._metrics.shed(request.segment, refusal)
            ticket.finish(Reply(refusal))
            return
        if request.background:
            self._background.put(ticket)
        else:
            self._background.saw_another()
            lane.put(ticket)

    def post_forwarded(
        self, ticket: Ticket, forwarded: Forwarded, shard: int | None = None
    ) -> None:
        """Post what another issuer's host said; in the shard of the key, like any stranger.

        What is about another message is posted where that one is, which the caller knows.
        """
        request = ticket.request
        if shard is None:
            shard = self.shard_of_key(request.key)
        ticket.directed = Directed(request, shard, 0, 0, b"", forwarded)
        lane = self._lanes[shard]
        if lane.down and not request.must_post:
            self._ledger_down(ticket, b"")
            return
        lane.put(ticket)

    def post_own(self, ticket: Ticket, directed: Directed) -> bool:
        """Put a posting of the switch's own into its lane; False while the lane is down."""
        ticket.directed = directed
        lane = self._lanes[directed.shard]
        if lane.down:
            return False
        lane.put(ticket)
        return True

    async def find(self, medium: bytes) -> Place | None:
        """Where a card's account is. Raises LedgerLost while the directory cannot tell."""
        place = self._directory.cached(medium)
        if place is not None:
            return place
        told = anyio.Event()
        answer: list[Place | None] = []

        def found(place: Place | None) -> None:
            answer.append(place)
            told.set()

        self._directory.ask(medium, found, told.set)
        await told.wait()
        if not answer:
            raise LedgerLost("the directory cannot be asked")
        return answer[0]

    def sheds(self, segment: Segment, budget_ns: int, behind: bool) -> Outcome | None:
        """How a plain request is refused for load now, whatever its card; None if it is not.

        Where every lane would refuse it: cards are spread over them evenly. And where more
        has come than could be read while all lanes are busy: what waits unread waits in
        silence, and refusing it costs a tenth of posting it.
        """
        if behind and all(lane.wait_ns > BUSY_WAIT_NS and not lane.down for lane in self._lanes):
            return Outcome.OVERLOADED
        for lane in self._lanes:
            outcome = overload(
                segment,
                budget_ns,
                lane.waiting,
                self._lane_queue_max,
                lane.wait_ns,
                standing=lane.standing,
            )
            if lane.down or outcome is None:
                return None
        return outcome

    @property
    def ledger_is_up(self) -> bool:
        """Whether every lane has its connection."""
        return not any(lane.down for lane in self._lanes)

    def shard_of_key(self, key: bytes) -> int:
        """The shard in which a message is written whose card leads to no account."""
        shard = int.from_bytes(hashlib.blake2b(key, digest_size=2).digest())
        return shard % len(self._lanes)

    def _ledger_down(self, ticket: Ticket, medium: bytes) -> None:
        """Nothing of this ticket is in the ledger, and the ledger cannot be reached."""
        if ticket.done:
            return
        forwarded = ticket.directed is not None and ticket.directed.forwarded is not None
        # What stand-in itself posts stays in its spool: offered there it would find itself.
        own = ticket.request.standin_at_us != 0
        offered = bool(medium) and not forwarded and not own and ticket.answered is None
        if self.standin is not None and offered:
            self.standin.offer(ticket, medium)
            return
        if ticket.answered is None:
            self._metrics.shed(ticket.request.segment, Outcome.LEDGER_DOWN)
        ticket.finish(Reply(Outcome.LEDGER_DOWN))

    def _refuse(self, ticket: Ticket, outcome: Outcome) -> None:
        self._metrics.shed(ticket.request.segment, outcome)
        ticket.answer(Reply(outcome))

    def _leave(self, ticket: Ticket) -> None:
        self._flight.leave(ticket)
        if ticket.request.background:
            self._background.left(ticket)
        self._metrics.in_flight(self._flight.count)
        directed = ticket.directed
        if self.standin is not None and directed is not None and directed.account_id:
            self.standin.seen(ticket, directed.medium)
