"""Requests that the API makes of what it was asked, and the answer of the pipeline awaited.

Each posting of a bill payment has its idempotency key from the payment's serial and the step,
so whoever does a step again, in this process or the next, does it once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import anyio
import msgspec

from protocols.bills.api import PaymentAsked, RefundAsked, SaleAsked
from protocols.card_number import CardNumber
from protocols.message import Kind, OriginalReference, Reply, Request, Segment
from protocols.money import Money
from switch.admission import Respond
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config_city import Biller
from switch.ledger.bills import BillRow
from switch.metrics import Metrics
from switch.net.http.caller import MILLISECOND_NS, RESERVE_NS, Caller

Submit = Callable[[Request, Respond], None]

ADVICE_NS_MIN = 500 * MILLISECOND_NS
"""What has to be posted is waited for even where the budget is used up: better late than in
doubt."""
NOT_OF_TIME = b"\xff\xff\xff\xff"
"""In front of keys made of a caller's own idempotency key: a repeat must find the same one
whatever the time is, so they stand together at the end of the index."""


class Posts:
    """Hands requests to the pipeline and waits for their answers, which come by the deadline."""

    def __init__(
        self, submit: Submit, calendar: BusinessCalendar, clock: Clock, metrics: Metrics
    ) -> None:
        self._submit = submit
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics

    async def post(self, request: Request) -> Reply:
        """The answer to a request."""
        told = anyio.Event()
        answers: list[Reply] = []

        def respond(reply: Reply) -> None:
            answers.append(reply)
            told.set()

        self._submit(request, respond)
        await told.wait()
        reply = answers[0]
        seconds = (self._clock.monotonic_ns() - request.received_ns) / 1e9
        self._metrics.answered(request.segment, request.kind, reply.outcome, seconds)
        if request.venue:
            self._metrics.at_venue(request.venue, seconds)
        return reply

    def local_at(self, serial: bytes) -> str:
        """MMDDhhmmss of the instant that a serial begins with."""
        at_us = int.from_bytes(serial[:6], "big") * 1_000
        return f"{self._calendar.local(at_us):%m%d%H%M%S}"

    def of_bill(
        self,
        kind: Kind,
        bill: BillRow,
        biller: Biller,
        caller: Caller,
        *,
        about: Kind | None = None,
    ) -> Request:
        """A step of a payment; `about` is the step of the same payment that it is about."""
        original = None
        if about is not None:
            key = self._step_key(bill.serial, about)
            original = OriginalReference(key)
            if about is Kind.PREAUTHORIZATION:
                mmdd = self.local_at(bill.serial)[:4]
                original = OriginalReference(key, bill.rrn, bill.auth_code, mmdd)
        amount = Money(bill.amount_minor, bill.currency)
        request = self._request(kind, biller, bill.serial, caller, bill.medium, amount)
        if kind is Kind.PREAUTHORIZATION:
            return request
        # What the biller has been told, or will never be told, is posted however late.
        deadline_ns = max(request.deadline_ns, self._clock.monotonic_ns() + ADVICE_NS_MIN)
        return msgspec.structs.replace(
            request, original=original, advice=True, deadline_ns=deadline_ns
        )

    def inquiry(
        self, biller: Biller, serial: bytes, caller: Caller, medium: bytes, currency: str
    ) -> Request:
        """The record that a card asked for a bill, which rules count."""
        nothing = Money(0, currency)
        return self._request(Kind.BILL_INQUIRY, biller, serial, caller, medium, nothing)

    def _request(
        self,
        kind: Kind,
        biller: Biller,
        serial: bytes,
        caller: Caller,
        medium: bytes,
        amount: Money,
    ) -> Request:
        return Request(
            kind=kind,
            segment=Segment.UTILITY,
            acquirer=biller.acquirer,
            link=caller.api,
            message_class=_MESSAGE_CLASS.get(kind, "02"),
            card=None,
            amount=amount,
            # Whose counter it was: the last eight digits of the acquirer who asked.
            terminal=caller.acquirer[-8:],
            merchant=biller.name[:15],
            mcc=biller.mcc,
            stan=f"{int.from_bytes(serial[-4:], 'big') % 1_000_000:06}",
            local_at=self.local_at(serial),
            rrn="",
            entry_mode="",
            expiry="",
            key=self._step_key(serial, kind),
            payload_hash=_hashed(kind, serial, medium, amount),
            received_ns=caller.received_ns,
            deadline_ns=caller.deadline_ns - RESERVE_NS,
            venue=biller.venue,
            medium=medium,
        )

    def _step_key(self, serial: bytes, kind: Kind) -> bytes:
        step = hashlib.blake2b(
            serial + kind.value.encode("ascii"), digest_size=12, person=b"citycard-bill"
        )
        return int(self.local_at(serial)).to_bytes(4, "big") + step.digest()


def sale_key(acquirer: str, path: str, idempotency_key: str) -> bytes:
    """The ledger's key of a sale or refund that a caller named by a key of its own."""
    said = "\x1f".join((acquirer, path, idempotency_key)).encode("ascii", "replace")
    return NOT_OF_TIME + hashlib.blake2b(said, digest_size=12, person=b"citycard-sale").digest()


def content_hash(body: bytes, digest_size: int = 16) -> bytes:
    """What tells a repeat from another request under the same idempotency key."""
    return hashlib.blake2b(body, digest_size=digest_size, person=b"citycard-body").digest()


def medium_said(card: str, medium_of: Callable[[CardNumber], bytes]) -> bytes:
    """The medium of a card named by its number or by the medium itself, in hex."""
    return bytes.fromhex(card) if len(card) == 32 else medium_of(CardNumber(card))


def named_by_medium(
    asked: PaymentAsked | SaleAsked | RefundAsked, medium_of: Callable[[CardNumber], bytes]
) -> bytes:
    """What was asked for, to be hashed: a hash without a key would tell a card number to whoever
    tries them all, and a card is the same one by its number and by its medium."""
    medium = medium_said(asked.card, medium_of)
    return msgspec.json.encode(msgspec.structs.replace(asked, card=medium.hex()))


_MESSAGE_CLASS = {
    Kind.PREAUTHORIZATION: "01",
    Kind.PREAUTHORIZATION_CANCEL: "01",
    Kind.REVERSAL: "04",
}


def _hashed(kind: Kind, serial: bytes, medium: bytes, amount: Money) -> bytes:
    parts = b"\x1f".join(
        (
            kind.value.encode(),
            serial,
            medium,
            str(amount.amount_minor).encode(),
            amount.currency.encode(),
        )
    )
    return hashlib.blake2b(parts, digest_size=8).digest()
