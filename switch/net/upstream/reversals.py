"""Store and forward of reversals: what a host must hear, it hears until it has answered.

The book keeps them; one connection of all workers sends those of a destination (an advisory
lock says which), and passes that on when its host link or its process is gone. They leave
oldest first, a window of them at once: reversals of different requests do not depend on each
other, and one that a host never answers must not hold up the rest. The first try is 0400, the
later ones say with the repeat bit (0401) that it may have come before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocols.errors import EncodeError
from protocols.message import Outcome
from switch.ledger.forwarding import DueReversal, ForwardLedger, ForwardState, Turn
from switch.ledger.sealed_request import NotOurs, RequestSealer
from switch.logs import get as get_log

if TYPE_CHECKING:
    from switch.deadline import DeadlineHeap
    from switch.net.upstream.host import Host
    from switch.net.upstream.matching import MatchKey
    from switch.net.upstream.wire import HostAnswer

WINDOW = 32
"""Reversals of one destination under way at once."""
NANOSECONDS = 1_000_000_000
TRY_AGAIN_CODES = frozenset({"91", "96"})
"""The host could not take it now (domain §4.1); every other answer ends a reversal."""
NOTHING_LEFT = (Outcome.APPROVED, Outcome.ORIGINAL_NOT_FOUND)

_log = get_log("upstream")


class ReversalSender:
    """Sends the due reversals of one destination, while its connection leads."""

    def __init__(
        self,
        host: Host,
        sealer: RequestSealer,
        deadlines: DeadlineHeap,
        *,
        turn: Callable[[Turn], None],
        look_around: Callable[[], None],
        now_ns: Callable[[], int],
    ) -> None:
        self._host = host
        self._sealer = sealer
        self._deadlines = deadlines
        self._turn = turn
        self._look_around = look_around
        self._now_ns = now_ns
        self._leads_on: ForwardLedger | None = None
        self._under_way = 0

    async def tend(self, ledger: ForwardLedger, transmitted_at: str) -> None:
        """Send what is due. Raises LedgerLost and LedgerRefused; then it leads no more."""
        upstream = self._host.upstream
        leads = self._leads_on is ledger
        if not self._host.link.up:
            self._leads_on = None
            if leads:
                await ledger.stop_leading(upstream.name)
            return
        if not leads and not await ledger.lead(upstream.name):
            return
        self._leads_on = ledger
        room = WINDOW - self._under_way
        if room <= 0:
            return
        due = await ledger.due(
            upstream.name,
            room,
            upstream.reversal_retry_seconds,
            upstream.reversal_retry_seconds_max,
            transmitted_at,
        )
        for one in due:
            self._send(one)

    def _send(self, due: DueReversal) -> None:
        host = self._host
        try:
            match, octets = host.wire.reversal(
                self._sealer.open(due.request),
                stan=due.reversal_stan,
                transmitted_at=due.reversal_transmitted_at,
                original_stan=due.stan,
                original_transmitted_at=due.transmitted_at,
                repeat=due.tries > 1,
            )
        except (NotOurs, EncodeError, ValueError) as fault:
            _log.error(
                "a reversal cannot be said to its host; do it by hand",
                upstream=host.upstream.name,
                stan=due.stan,
                fault=type(fault).__name__,
            )
            self._turn(Turn(due.shard, due.key, ForwardState.GIVEN_UP))
            return
        timeout_ns = host.upstream.timeout_ms * 1_000_000
        awaited = AwaitedReversal(self, due, match, self._now_ns() + timeout_ns)
        # A host that still has time for the try before is not asked twice at once.
        if host.link.up and host.in_flight.add(match, awaited):
            self._under_way += 1
            self._deadlines.watch(awaited)
            host.link.send(octets)

    def ended(self, awaited: AwaitedReversal) -> None:
        """One under way is answered, or will be tried again."""
        self._host.in_flight.end(awaited.match)
        if self._under_way == WINDOW:
            self._look_around()
        self._under_way -= 1

    def conclude(self, due: DueReversal, answer: HostAnswer) -> None:
        """What a host's answer to a reversal means."""
        if answer.code in TRY_AGAIN_CODES:
            return
        state = ForwardState.REVERSED
        if answer.outcome not in NOTHING_LEFT:
            state = ForwardState.GIVEN_UP
            _log.error(
                "a host refused a reversal; reconcile it by hand",
                upstream=self._host.upstream.name,
                stan=due.stan,
                transmitted_at=due.transmitted_at,
                code=answer.code,
            )
        self._turn(Turn(due.shard, due.key, state))


class AwaitedReversal:
    """One reversal under way."""

    __slots__ = ("_due", "_sender", "deadline_ns", "match", "settled")

    def __init__(
        self, sender: ReversalSender, due: DueReversal, match: MatchKey, deadline_ns: int
    ) -> None:
        self._sender = sender
        self._due = due
        self.match = match
        self.deadline_ns = deadline_ns
        self.settled = False

    def expire(self) -> None:
        """No answer: the book knows when to try again."""
        self.settled = True
        self._sender.ended(self)

    lost = expire

    def answered(self, answer: HostAnswer) -> None:
        """The answer."""
        self.expire()
        self._sender.conclude(self._due, answer)

    def answered_late(self, answer: HostAnswer) -> None:
        """An answer between two tries counts as well."""
        self._sender.conclude(self._due, answer)
