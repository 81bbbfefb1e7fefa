"""The desk for cards of other issuers: each request is written down, sent, and brought to an end.

Written down first (forwarding.py), because what has left cannot be called back: a process that
dies leaves a row, and whoever finds it reverses what it asked for. An acquirer's own reversal
is written down, posted and answered at once; the host hears of it by store-and-forward.

Nothing here waits for a message: answers, deadlines and the book call back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

import anyio

from protocols.card_number import CardNumber
from protocols.errors import EncodeError
from protocols.message import Kind, Outcome, Reply, Request
from switch.admission import Ticket
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config_trouble import Upstream
from switch.deadline import DeadlineHeap
from switch.ledger.forward_book import Asked, ForwardBook, ReversalAsked
from switch.ledger.forwarding import (
    ForwardState,
    Intent,
    Opening,
    ReversalIntent,
    Turn,
)
from switch.ledger.sealed_request import RequestSealer
from switch.logs import Throttle
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.upstream.exchange import Exchange
from switch.net.upstream.host import Host
from switch.net.upstream.host_link import Connect, HostLink
from switch.net.upstream.keeping import ORPHAN_GRACE_SECONDS, Keeper
from switch.net.upstream.reversals import ReversalSender
from switch.net.upstream.route_table import RouteTable
from switch.net.upstream.wire import HostAnswer, HostWire
from switch.posting import Forwarded

if TYPE_CHECKING:
    from switch.net.guard import LinkGuard

FORWARDED_KINDS = frozenset(
    {
        Kind.PURCHASE,
        Kind.VOID,
        Kind.REFUND,
        Kind.PREAUTHORIZATION,
        Kind.PREAUTHORIZATION_CANCEL,
        Kind.COMPLETION,
        Kind.OFFLINE_SALE,
    }
)
"""What is asked of another issuer; a reversal is told to it. Loads, balances and adjustments are
about its purses, of which it tells us nothing."""
POST_RESERVE_NS = 30_000_000
"""What is left of a budget for the ledger after the host answered, at most a fifth of it."""
STAN_DRAWS_MAX = 16
LOOK_AGAIN_NS = 25_000_000
"""A request that another worker has under way is looked for again after so long."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_log = get_log("upstream")


class Ledgered(Protocol):
    """What the desk asks of the pipeline."""

    def shard_of_key(self, key: bytes) -> int: ...

    def post_forwarded(
        self, ticket: Ticket, forwarded: Forwarded, shard: int | None = None
    ) -> None: ...


class Upstreams:
    """The hosts of other issuers, of one process: `IssuerRoutes` of its pipeline.

    `connectors` make the connections to hosts, `guards` guard those with a MAC; both by name.
    """

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        *,
        pipeline: Ledgered,
        book: ForwardBook,
        sealer: RequestSealer,
        connectors: Mapping[str, Connect],
        frame_bytes_max: int,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        guards: Mapping[str, LinkGuard] | None = None,
        orphan_grace_seconds: float = ORPHAN_GRACE_SECONDS,
    ) -> None:
        self._pipeline = pipeline
        self._book = book
        self._sealer = sealer
        self._clock = clock
        self._metrics = metrics
        self._deadlines = DeadlineHeap(clock)
        self._throttle = Throttle()
        self._table = RouteTable({bin: each.name for each in upstreams for bin in each.bins})
        self.hosts = {
            each.name: self._host(
                each,
                (guards or {}).get(each.name),
                connectors[each.name],
                frame_bytes_max,
                calendar,
            )
            for each in upstreams
        }
        keeper = Keeper(
            self.hosts,
            sealer=sealer,
            post=pipeline.post_forwarded,
            turn=self._turn,
            transmitted_at=self._transmitted_at,
            clock=clock,
            metrics=metrics,
            orphan_grace_seconds=orphan_grace_seconds,
        )
        book.tend = keeper.tend

    def _host(
        self,
        upstream: Upstream,
        guard: LinkGuard | None,
        connect: Connect,
        frame_bytes_max: int,
        calendar: BusinessCalendar,
    ) -> Host:
        host = Host(upstream, HostWire(upstream, frame_bytes_max, guard))
        host.link = HostLink(
            upstream,
            host.wire,
            connect,
            answered=lambda answer: self._answered(host, answer),
            lost=lambda: _lose_all(host),
            calendar=calendar,
            clock=self._clock,
            metrics=self._metrics,
            guard=guard,
        )
        host.reversals = ReversalSender(
            host,
            self._sealer,
            self._deadlines,
            turn=self._book.turn,
            look_around=self._book.look_around,
            now_ns=self._clock.monotonic_ns,
        )
        return host

    def route_of(self, card: CardNumber) -> str:
        """The host that takes cards of this number's BIN; empty: the card is ours."""
        return self._table.route_of(card)

    async def run(self) -> None:
        """Keep book, deadlines and host links going until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._book.run)
            tasks.start_soon(self._deadlines.run)
            for host in self.hosts.values():
                tasks.start_soon(host.link.run)

    def sign_off(self) -> None:
        """Tell the hosts that this process asks nothing more."""
        for host in self.hosts.values():
            host.link.sign_off()

    @property
    def unwritten(self) -> int:
        """Changes of state that are not in the book yet."""
        return self._book.unwritten

    # --- requests

    def forward(self, ticket: Ticket, route: str) -> None:
        """Take a ticket; it comes back by `post_forwarded`, or is finished."""
        host, request = self.hosts[route], ticket.request
        if request.kind is Kind.REVERSAL:
            self._reverse(ticket, host)
        elif request.kind not in FORWARDED_KINDS:
            ticket.finish(Reply(Outcome.UNSUPPORTED))
        else:
            self._ask(ticket, host)

    def _ask(self, ticket: Ticket, host: Host) -> None:
        """Have it written down; what the book says decides whether it leaves."""
        sealed = self._sealer.seal(ticket.request)

        def prepare(draw: Callable[[], str]) -> Intent:
            return self._intent(ticket, host, sealed, draw)

        def opened(opening: Opening, intent: Intent) -> None:
            self._opened(ticket, host, opening, intent)

        def unreachable() -> None:
            self._refuse(ticket, Outcome.LEDGER_DOWN)

        if not self._book.connected:
            unreachable()
        elif not self._book.ask(Asked(prepare, opened, unreachable)):
            self._refuse(ticket, Outcome.OVERLOADED)

    def _intent(self, ticket: Ticket, host: Host, sealed: bytes, draw: Callable[[], str]) -> Intent:
        request = ticket.request
        transmitted_at = self._transmitted_at()
        stan = draw()
        for _ in range(STAN_DRAWS_MAX):
            if host.wire.key_of(request, stan, transmitted_at) not in host.in_flight:
                break
            stan = draw()
        original_key = request.original.key if request.original is not None else b""
        left_ns = request.deadline_ns - self._clock.monotonic_ns()
        if request.must_post:
            left_ns = max(left_ns, host.upstream.timeout_ms * 1_000_000)
        return Intent(
            shard=self._pipeline.shard_of_key(original_key or request.key),
            key=request.key,
            upstream=host.upstream.name,
            payload_hash=request.payload_hash,
            stan=stan,
            transmitted_at=transmitted_at,
            amount_minor=request.amount.amount_minor,
            request=sealed,
            remaining_us=max(left_ns, 0) // 1_000,
            sendable=self._hindrance(ticket, host) is None,
            again=request.advice,
            original_key=original_key,
        )

    def _hindrance(self, ticket: Ticket, host: Host) -> Outcome | None:
        """Why a request cannot leave now."""
        if not host.link.up:
            return Outcome.DESTINATION_DOWN
        if host.in_flight.full:
            return Outcome.OVERLOADED
        if ticket.request.must_post:
            return None
        now_ns = self._clock.monotonic_ns()
        if ticket.answered is not None or now_ns >= _answer_by_ns(ticket.request):
            return Outcome.NO_BUDGET
        return None

    def _opened(self, ticket: Ticket, host: Host, opening: Opening, intent: Intent) -> None:
        """The book's answer to an intent."""
        if opening.written:
            self._send(ticket, host, opening, intent)
        elif opening.state is None:
            hindrance = self._hindrance(ticket, host)
            if hindrance is None:
                self._look_again(ticket, host)
            else:
                self._refuse(ticket, hindrance)
        elif not opening.same:
            self._metrics.duplicates("key_reused")
            ticket.finish(Reply(Outcome.KEY_REUSED))
        elif opening.state is ForwardState.SENT:
            self._look_again(ticket, host)
        elif ticket.request.advice and opening.state in _BEING_REVERSED:
            ticket.finish(Reply(Outcome.DESTINATION_DOWN))
        else:
            # The ledger holds its answer; where it does not, a decline is what it gets.
            self._post_decline(ticket, host.upstream.name, opening.shard)

    def _send(self, ticket: Ticket, host: Host, opening: Opening, intent: Intent) -> None:
        hindrance = self._hindrance(ticket, host)

        def post(ticket: Ticket, forwarded: Forwarded) -> None:
            self._pipeline.post_forwarded(ticket, forwarded, opening.shard)

        def ended(state: ForwardState) -> None:
            self._turn(opening.shard, intent.key, state)

        if hindrance is None:
            original = (opening.original_stan, opening.original_transmitted_at)
            try:
                match, octets = host.wire.request(
                    ticket.request,
                    intent.stan,
                    intent.transmitted_at,
                    original if opening.original_stan else None,
                )
            except (EncodeError, ValueError) as fault:
                _log.error("a request cannot be said to its host", fault=type(fault).__name__)
                hindrance = Outcome.FAULT
        if hindrance is None:
            now_ns = self._clock.monotonic_ns()
            exchange = Exchange(
                ticket,
                host.upstream.name,
                match,
                now_ns,
                self._deadline_ns(ticket.request, host, now_ns),
                post=post,
                ended=ended,
                forget=host.in_flight.end,
                now_ns=self._clock.monotonic_ns,
                metrics=self._metrics,
            )
            if host.in_flight.add(match, exchange):
                self._deadlines.watch(exchange)
                host.link.send(octets)
                return
            hindrance = Outcome.OVERLOADED
        ended(ForwardState.DECLINED)
        self._refuse(ticket, hindrance)

    def _deadline_ns(self, request: Request, host: Host, now_ns: int) -> int:
        timeout_ns = now_ns + host.upstream.timeout_ms * 1_000_000
        return timeout_ns if request.must_post else min(timeout_ns, _answer_by_ns(request))

    def _look_again(self, ticket: Ticket, host: Host) -> None:
        """Another worker has it under way: its answer is this one's too, if it comes in time."""
        due_ns = self._clock.monotonic_ns() + LOOK_AGAIN_NS
        if ticket.answered is not None or due_ns >= ticket.deadline_ns:
            ticket.finish(Reply(Outcome.DESTINATION_DOWN))
            return
        self._deadlines.watch(_Later(due_ns, lambda: self._ask(ticket, host)))

    def _answered(self, host: Host, answer: HostAnswer) -> None:
        awaited = host.in_flight.end(answer.key)
        if awaited is not None:
            awaited.answered(answer)
            return
        ended = host.in_flight.ended(answer.key)
        if ended is not None:
            ended.answered_late(answer)
            return
        name = host.upstream.name
        self._metrics.upstream_answered(name, Outcome.ORIGINAL_NOT_FOUND, None)
        suppressed = self._throttle.admit(name, self._clock.monotonic_ns())
        if suppressed is not None:
            _log.warning("a host answered what nobody asked", upstream=name, suppressed=suppressed)

    def _turn(self, shard: int, key: bytes, state: ForwardState) -> None:
        self._book.turn(Turn(shard, key, state))
        if state is ForwardState.REVERSING:
            self._book.look_around()

    def _post_decline(self, ticket: Ticket, upstream: str, shard: int) -> None:
        declined = Forwarded(upstream, Outcome.DESTINATION_DOWN, 0)
        self._pipeline.post_forwarded(ticket, declined, shard)

    def _refuse(self, ticket: Ticket, outcome: Outcome) -> None:
        if ticket.answered is None:
            self._metrics.shed(ticket.request.segment, outcome)
        ticket.finish(Reply(outcome))

    # --- reversals that acquirers ask for

    def _reverse(self, ticket: Ticket, host: Host) -> None:
        """Written down and posted, then answered; the host hears of it afterwards."""
        request, name = ticket.request, host.upstream.name
        original_key = request.original.key if request.original is not None else b""
        at = request.local_at if len(request.local_at) == len("MMDDhhmmss") else ""
        intent = ReversalIntent(
            shard=self._pipeline.shard_of_key(original_key or request.key),
            key=request.key,
            upstream=name,
            payload_hash=request.payload_hash,
            stan=request.stan,
            transmitted_at=at or self._transmitted_at(),
            amount_minor=request.amount.amount_minor,
            request=self._sealer.seal(request),
            original_key=original_key,
            partial=request.replacement_minor > 0,
        )

        settled = ticket.on_settled

        def marked_again(done: Ticket) -> None:
            settled(done)
            # The original may have come into the book after the first look, and been taken
            # back in the ledger since: marking it is the same however often it is done.
            if not self._book.reverse(ReversalAsked(intent, _leave_it, _leave_it_away)):
                _log.error("a reversal was not marked again", upstream=name, stan=request.stan)

        def written(shard: int) -> None:
            ticket.on_settled = marked_again
            approved_minor = request.amount.amount_minor
            taken = Forwarded(name, Outcome.APPROVED, approved_minor, "", request.rrn)
            self._pipeline.post_forwarded(ticket, taken, shard)

        def unreachable() -> None:
            self._refuse(ticket, Outcome.LEDGER_DOWN)

        if not self._book.connected:
            unreachable()
        elif not self._book.reverse(ReversalAsked(intent, written, unreachable)):
            self._refuse(ticket, Outcome.OVERLOADED)

    def _transmitted_at(self) -> str:
        """DE7: MMDDhhmmss in UTC (ISO 8583:1987)."""
        return f"{_EPOCH + timedelta(microseconds=self._clock.now_us()):%m%d%H%M%S}"


def _leave_it(_shard: int) -> None:
    """Marked."""


def _leave_it_away() -> None:
    """The ledger is away: the acquirer's repeat, or its reconciliation, comes to it."""


_BEING_REVERSED = (ForwardState.REVERSING, ForwardState.REVERSED)


class _Later:
    """Something to do at a moment, by the deadline heap."""

    __slots__ = ("_do", "deadline_ns", "settled")

    def __init__(self, deadline_ns: int, do: Callable[[], None]) -> None:
        self.deadline_ns = deadline_ns
        self.settled = False
        self._do = do

    def expire(self) -> None:
        self.settled = True
        self._do()


def _answer_by_ns(request: Request) -> int:
    """When a host must have answered, so that the ledger still has time."""
    budget_ns = request.deadline_ns - request.received_ns
    return request.deadline_ns - min(POST_RESERVE_NS, budget_ns // 5)


def _lose_all(host: Host) -> None:
    for awaited in host.in_flight.all():
        host.in_flight.end(awaited.match)
        awaited.lost()
