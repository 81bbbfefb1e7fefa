"""A bill, from inquiry to paid: what a client of the API asks for, and what it is told.

What is done about it is in steps.py, the states and their theory in switch/ledger/bills.py.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.bills.api import (
    BillAsked,
    InquiryView,
    PaidView,
    PaymentAsked,
    PaymentView,
    Problem,
    TokenView,
)
from protocols.bills.biller import TokenAnswer
from protocols.card_number import CardNumber
from protocols.message import Kind, Outcome, Reply
from switch.clock import Clock
from switch.ledger.bills import BillLedger, BillRow, BillState, Change, Inquired, NewBill
from switch.net.billers.client import BillerAnswer, Billers
from switch.net.http.caller import Caller
from switch.net.http.postings import Posts, content_hash, medium_said, named_by_medium
from switch.net.http.problems import Fault, declined, problem
from switch.net.http.steps import CANCELLED, FOR_NOW, GRACE_MS, REVERSAL_REFUSED, BillSteps
from switch.net.http.views import (
    away,
    confirmed,
    no_such_biller,
    no_such_payment,
    stands_otherwise,
    view,
)


class BillDesk:
    """Bills of one process. `entropy` gives random bytes, `medium_of` hashes a card number."""

    def __init__(
        self,
        ledger: BillLedger,
        hosts: Billers,
        posts: Posts,
        steps: BillSteps,
        *,
        currency: str,
        medium_of: Callable[[CardNumber], bytes],
        clock: Clock,
        entropy: Callable[[int], bytes],
    ) -> None:
        self.billers = steps.billers
        self._ledger = ledger
        self._hosts = hosts
        self._posts = posts
        self._steps = steps
        self._currency = currency
        self._medium_of = medium_of
        self._clock = clock
        self._entropy = entropy

    async def inquire(self, caller: Caller, asked: BillAsked) -> InquiryView | Problem:
        """Ask the biller what there is to pay. The card is asked first: rules count inquiries,
        so that nobody tries bill numbers."""
        biller = self.billers.get(asked.biller)
        if biller is None:
            return no_such_biller()
        inquiry_id = self._serial()
        medium = medium_said(asked.card, self._medium_of)
        asking = self._posts.inquiry(biller, inquiry_id, caller, medium, self._currency)
        reply = await self._posts.post(asking)
        if not reply.outcome.approved:
            return declined(reply)
        bill = await self._hosts.inquire(biller.name, asked.bill_no, caller.deadline_ns)
        if isinstance(bill, BillerAnswer):
            if bill is BillerAnswer.UNKNOWN:
                words = "the biller has no such bill; check its number"
                return problem(Fault.NOT_FOUND, words, "/bill_no")
            return away()
        amount_minor = bill.total_minor
        inquired = Inquired(biller.name, asked.bill_no, amount_minor, bill.payable, True)
        seconds = biller.inquiry_seconds
        await self._ledger.note_inquiry(inquiry_id, caller.acquirer, inquired, seconds)
        return InquiryView(
            inquiry_id.hex(),
            biller.name,
            bill.bill_no,
            bill.name_masked,
            bill.period,
            amount_minor,
            bill.late_fee_minor,
            bill.due,
            bill.payable,
            seconds,
        )

    async def pay(
        self, caller: Caller, asked: PaymentAsked, idempotency_key: str
    ) -> PaymentView | Problem:
        """Lock the bill and set its money aside; a repeat is told how its payment stands."""
        named = content_hash(idempotency_key.encode("ascii"))
        content = content_hash(named_by_medium(asked, self._medium_of))
        bill = await self._ledger.same(caller.acquirer, named)
        if bill is None:
            opened = await self._open(caller, asked, named, content)
            if isinstance(opened, Problem):
                return opened
            bill = opened
        if bill.content_hash != content:
            return declined(Reply(Outcome.KEY_REUSED))
        return await self._hold(caller, bill)

    async def confirm(self, caller: Caller, serial: bytes) -> PaidView | Problem:
        """Have the biller post it. Where it does not answer the payment is in doubt, and looked
        after; the client asks for its state."""
        bill = await self._mine(caller, serial)
        if bill is None:
            return no_such_payment()
        token = ""
        if bill.state is BillState.HELD:
            patience_ms = self._steps.left_ms(caller) + GRACE_MS
            confirming = await self._ledger.turn(
                serial, BillState.CONFIRMING, Change(patience_ms=patience_ms)
            )
            if confirming is not None:
                bill, token = await self._steps.tell_biller(confirming, caller)
                if bill.state is BillState.HELD:
                    return away(bill)
            else:
                bill = await self._steps.current(bill)
        return confirmed(bill, token)

    async def cancel(self, caller: Caller, serial: bytes) -> PaymentView | Problem:
        """Free the money; until it is confirmed."""
        bill = await self._mine(caller, serial)
        if bill is None:
            return no_such_payment()
        if bill.state is BillState.HELD:
            bill = await self._steps.release(bill, CANCELLED, caller)
        if bill.state in (BillState.RELEASING, BillState.RELEASED, BillState.REFUSED):
            return view(bill)
        return stands_otherwise(bill, "only what is held can be cancelled; look at its state")

    async def reverse(self, caller: Caller, serial: bytes) -> PaymentView | Problem:
        """Have the biller give a postpaid bill back, until its cut-off."""
        bill = await self._mine(caller, serial)
        if bill is None:
            return no_such_payment()
        if bill.state is BillState.PAID:
            if not bill.once:
                words = "a token of a prepaid meter is never taken back"
                return stands_otherwise(bill, words)
            if bill.cut_passed:
                words = "the biller's cut-off has passed; ask the biller to give it back"
                return stands_otherwise(bill, words)
            bill = await self._steps.take_back(bill, caller)
            if bill.state is BillState.PAID:
                if bill.reason == REVERSAL_REFUSED:
                    words = "the biller does not give it back; the payment stands"
                    return problem(Fault.BILL_REFUSED, words, payment_id=serial.hex())
                return away(bill)
        if bill.state in (BillState.REVERSING, BillState.REVERSED):
            return view(bill)
        return stands_otherwise(bill, "only what is paid can be reversed; look at its state")

    async def look(self, caller: Caller, serial: bytes) -> PaymentView | Problem:
        """How a payment stands."""
        bill = await self._mine(caller, serial)
        return view(bill) if bill is not None else no_such_payment()

    async def token(self, caller: Caller, serial: bytes) -> TokenView | Problem:
        """The token of a prepaid payment, asked of the biller once more; it is never kept."""
        bill = await self._mine(caller, serial)
        if bill is None:
            return no_such_payment()
        if bill.once or bill.state is not BillState.PAID:
            return stands_otherwise(bill, "only a paid prepaid bill has a token")
        answer = await self._hosts.token(bill.biller, serial.hex(), caller.deadline_ns)
        if isinstance(answer, TokenAnswer):
            return TokenView(serial.hex(), answer.token)
        return away(bill)

    async def _open(
        self, caller: Caller, asked: PaymentAsked, named: bytes, content: bytes
    ) -> BillRow | Problem:
        inquired = await self._ledger.inquiry(bytes.fromhex(asked.inquiry_id), caller.acquirer)
        biller = self.billers.get(inquired.biller) if inquired is not None else None
        if inquired is None or biller is None:
            words = "there is no such inquiry; ask for the bill first"
            return problem(Fault.NOT_FOUND, words, "/inquiry_id")
        if not inquired.holds_good:
            words = "what the biller answered is too old; ask for the bill again"
            return problem(Fault.INQUIRY_ENDED, words, "/inquiry_id")
        if not inquired.payable:
            return declined(Reply(Outcome.BILL_PAID))
        once = biller.kind == "postpaid"
        if once and asked.amount_minor != inquired.amount_minor:
            words = "pay what the inquiry told, or ask for the bill again"
            return problem(Fault.AMOUNT_CHANGED, words, "/amount_minor")
        opened = await self._ledger.open(
            NewBill(
                serial=self._serial(),
                acquirer=caller.acquirer,
                api=caller.api,
                idempotency_hash=named,
                content_hash=content,
                biller=biller.name,
                bill_no=inquired.bill_no,
                once=once,
                medium=medium_said(asked.card, self._medium_of),
                amount_minor=asked.amount_minor,
                currency=self._currency,
                patience_ms=self._steps.left_ms(caller) + GRACE_MS,
                cut_at_us=self._steps.next_cut_us(biller),
            )
        )
        if isinstance(opened, BillRow):
            return opened
        paid = opened is BillState.PAID
        return declined(Reply(Outcome.BILL_PAID if paid else Outcome.BILL_BUSY))

    async def _hold(self, caller: Caller, bill: BillRow) -> PaymentView | Problem:
        if bill.state is BillState.REFUSED:
            return declined(Reply(Outcome(bill.reason)), payment_id=bill.serial.hex())
        if bill.state is not BillState.OPENED:
            return view(bill)
        biller = self.billers[bill.biller]
        request = self._posts.of_bill(Kind.PREAUTHORIZATION, bill, biller, caller)
        reply = await self._posts.post(request)
        if reply.outcome.approved:
            held = Change(
                hold_id=reply.authorization_id,
                auth_code=reply.auth_code,
                rrn=reply.rrn,
                patience_ms=biller.inquiry_seconds * 1_000,
            )
            turned = await self._ledger.turn(bill.serial, BillState.HELD, held)
            return view(turned or await self._steps.current(bill))
        if reply.outcome not in FOR_NOW:
            reason = Change(reason=reply.outcome.value)
            await self._ledger.turn(bill.serial, BillState.REFUSED, reason)
        return declined(reply, payment_id=bill.serial.hex())

    async def _mine(self, caller: Caller, serial: bytes) -> BillRow | None:
        bill = await self._ledger.bill(serial)
        return bill if bill is not None and bill.acquirer == caller.acquirer else None

    def _serial(self) -> bytes:
        """16 bytes, the first six of them the time in milliseconds: rows of an hour are kept
        together, and the keys made of it begin with the right local time."""
        return (self._clock.now_us() // 1_000).to_bytes(6, "big") + self._entropy(10)
