"""What time makes due at the desk: reversals, requests without an end, gauges, old rows.

Called by the task of the book, a few times a second, with the book's own connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from protocols.message import Outcome, Reply
from switch.admission import Ticket
from switch.ledger.forwarding import ForwardLedger, ForwardState, Orphan
from switch.ledger.sealed_request import NotOurs, RequestSealer
from switch.logs import get as get_log
from switch.posting import Forwarded

if TYPE_CHECKING:
    from switch.clock import Clock
    from switch.metrics import Metrics
    from switch.net.upstream.host import Host

NANOSECONDS = 1_000_000_000
ORPHAN_GRACE_SECONDS = 5.0
"""How long after its budget a row without an end is still its own process's to end."""
ORPHAN_LEASE_US = 30_000_000
ORPHANS_AT_ONCE = 64
ORPHAN_LOOK_SECONDS = 1.0
UNHURRIED_NS = 60 * NANOSECONDS
FORGET_SECONDS = 600
KEPT_DAYS = 40
"""Longer than anything is reversed late or repeated; a retry interval is minutes."""
FORGOTTEN_AT_ONCE = 10_000

_log = get_log("upstream")


class Keeper:
    """Looks after the book of one process. `post` hands a ticket to its lane, in a shard."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        *,
        sealer: RequestSealer,
        post: Callable[[Ticket, Forwarded, int], None],
        turn: Callable[[int, bytes, ForwardState], None],
        transmitted_at: Callable[[], str],
        clock: Clock,
        metrics: Metrics,
        orphan_grace_seconds: float,
    ) -> None:
        self._hosts = hosts
        self._sealer = sealer
        self._post = post
        self._turn = turn
        self._transmitted_at = transmitted_at
        self._clock = clock
        self._metrics = metrics
        self._orphan_grace_us = int(orphan_grace_seconds * 1_000_000)
        self._orphans_at_ns = 0
        self._forget_at_ns = clock.monotonic_ns() + FORGET_SECONDS * NANOSECONDS

    async def tend(self, ledger: ForwardLedger) -> None:
        """Send due reversals, take up orphans, tell the metrics, forget what is long over."""
        transmitted_at = self._transmitted_at()
        for host in self._hosts.values():
            await host.reversals.tend(ledger, transmitted_at)
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._orphans_at_ns:
            self._orphans_at_ns = now_ns + int(ORPHAN_LOOK_SECONDS * NANOSECONDS)
            names = list(self._hosts)
            for orphan in await ledger.orphans(
                names, self._orphan_grace_us, ORPHAN_LEASE_US, ORPHANS_AT_ONCE
            ):
                self._take_up(orphan)
            queues = {queue.upstream: queue for queue in await ledger.queues()}
            for name in names:
                queue = queues.get(name)
                depth, oldest = (queue.depth, queue.oldest_seconds) if queue else (0, 0.0)
                self._metrics.forward_queue(name, depth, oldest)
        if now_ns >= self._forget_at_ns:
            self._forget_at_ns = now_ns + FORGET_SECONDS * NANOSECONDS
            await ledger.forget(KEPT_DAYS, FORGOTTEN_AT_ONCE)

    def _take_up(self, orphan: Orphan) -> None:
        """End what its own process did not: its approval stands, or it is declined and reversed.

        The decline is posted under its key, so that no posting of it can still come.
        """

        def turn(state: ForwardState) -> None:
            self._turn(orphan.shard, orphan.key, state)

        def resolved(reply: Reply) -> None:
            if reply.outcome in (Outcome.LEDGER_DOWN, Outcome.FAULT, Outcome.NO_BUDGET):
                return  # taken up again when its lease is over
            stands = reply.outcome.approved
            turn(ForwardState.APPROVED if stands else ForwardState.REVERSING)

        _log.warning("a request without an end is taken up", upstream=orphan.upstream)
        if orphan.stands:
            turn(ForwardState.APPROVED)
            return
        try:
            request = self._sealer.open(orphan.request)
        except NotOurs as fault:
            _log.error("a request without an end cannot be ended", reason=str(fault))
            return
        if request.advice:
            turn(ForwardState.REVERSING)
            return
        now_ns = self._clock.monotonic_ns()
        request = msgspec.structs.replace(
            request, received_ns=now_ns, deadline_ns=now_ns + UNHURRIED_NS
        )
        ticket = Ticket(request, resolved, _in_no_flight)
        declined = Forwarded(orphan.upstream, Outcome.DESTINATION_DOWN, 0)
        self._post(ticket, declined, orphan.shard)


def _in_no_flight(_ticket: Ticket) -> None:
    """A posting of the switch's own is in no flight."""
