"""Sales in one step for venues without a terminal of their own, such as e-tickets of a cinema.

The caller's idempotency key is the ledger's: a repeat finds the stored answer there, and the
same key with another content is refused there, so nothing else has to remember anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from protocols.bills.api import Problem, RefundAsked, SaleAsked, SaleView
from protocols.card_number import CardNumber
from protocols.message import Kind, OriginalReference, Reply, Request, Segment
from protocols.money import Money
from switch.clock import Clock
from switch.net.http.caller import RESERVE_NS, Caller
from switch.net.http.postings import (
    Posts,
    content_hash,
    medium_said,
    named_by_medium,
    sale_key,
)
from switch.net.http.problems import Fault, declined, problem
from switch.venues import VenueTable

FLOWS = frozenset({"sale", "ticket"})
"""Venues that are paid in one step; the others have their own way."""


class SaleDesk:
    """Sales and refunds of one process. `acquirers` are those that the ledger has accounts of."""

    def __init__(
        self,
        posts: Posts,
        venues: VenueTable,
        *,
        currency: str,
        acquirers: Collection[str],
        medium_of: Callable[[CardNumber], bytes],
        local_at: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._posts = posts
        self._venues = {venue.code: venue for venue in venues.venues if venue.flow in FLOWS}
        self._currency = currency
        self._acquirers = acquirers
        self._medium_of = medium_of
        self._local_at = local_at
        self._clock = clock

    async def sell(
        self, caller: Caller, asked: SaleAsked, idempotency_key: str
    ) -> SaleView | Problem:
        """Take the money of a sale, once."""
        venue = self._venues.get(asked.venue)
        if venue is None:
            names = ", ".join(self._venues)
            return problem(Fault.FIELD, f"give a venue that sells in one step: {names}", "/venue")
        request = self._request(
            caller,
            Kind.PURCHASE,
            sale_key(caller.acquirer, "sales", idempotency_key),
            asked.amount_minor,
            asked.card,
            named_by_medium(asked, self._medium_of),
        )
        request = msgspec.structs.replace(
            request,
            segment=venue.segment,
            terminal=asked.terminal,
            merchant=asked.merchant,
            mcc=venue.mccs[0],
            venue=venue.code,
            rrn=asked.reference,
        )
        return await self._posted(caller, request)

    async def refund(
        self, caller: Caller, sale_id: str, asked: RefundAsked, idempotency_key: str
    ) -> SaleView | Problem:
        """Give all or a part of a sale back to the card that paid, once."""
        request = self._request(
            caller,
            Kind.REFUND,
            sale_key(caller.acquirer, f"sales/{sale_id}/refunds", idempotency_key),
            asked.amount_minor,
            asked.card,
            named_by_medium(asked, self._medium_of),
        )
        original = OriginalReference(key=bytes.fromhex(sale_id))
        return await self._posted(caller, msgspec.structs.replace(request, original=original))

    def _request(
        self, caller: Caller, kind: Kind, key: bytes, amount_minor: int, card: str, content: bytes
    ) -> Request:
        return Request(
            kind=kind,
            segment=Segment.RETAIL,
            acquirer=caller.acquirer,
            link=caller.api,
            message_class="02",
            card=None,
            amount=Money(amount_minor, self._currency),
            terminal=caller.acquirer[-8:],
            merchant="",
            mcc="",
            stan=f"{int.from_bytes(key[-4:], 'big') % 1_000_000:06}",
            local_at=self._local_at(),
            rrn="",
            entry_mode="",
            expiry="",
            key=key,
            payload_hash=content_hash(content, 8),
            received_ns=caller.received_ns,
            deadline_ns=caller.deadline_ns - RESERVE_NS,
            medium=medium_said(card, self._medium_of),
        )

    async def _posted(self, caller: Caller, request: Request) -> SaleView | Problem:
        if caller.acquirer not in self._acquirers:
            words = "this acquirer has no account yet; the operator restarts the switch"
            return problem(Fault.FORBIDDEN, words)
        reply: Reply = await self._posts.post(request)
        if not reply.outcome.approved:
            return declined(reply)
        return SaleView(
            request.key.hex(), reply.approved_minor, reply.auth_code, reply.rrn, reply.replayed
        )
