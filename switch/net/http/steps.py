"""The steps of a bill payment after its money was set aside, and doing them again.

The states and their theory are in switch/ledger/bills.py. Each step here is: commit the state
that announces it, do it, commit what came of it. Where the last of these does not happen, the
keeper finds the row and does the step again, under the same key or serial.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from protocols.bills.biller import PaymentAnswer, PaymentState, RefusalReason
from protocols.message import Kind, Outcome
from switch.calendar import BusinessCalendar, epoch_us
from switch.clock import Clock
from switch.config_city import Biller
from switch.ledger.bills import BillLedger, BillRow, BillState, Change
from switch.logs import get as get_log
from switch.net.billers.client import BillerAnswer, Billers
from switch.net.http.caller import MILLISECOND_NS, Caller
from switch.net.http.postings import Posts

STEP_NS = 10_000 * MILLISECOND_NS
"""How long the keeper gives one step."""
GRACE_MS = 2_000
"""How long after its budget a step is still its own process's to end."""

NOT_CONFIRMED = "not_confirmed"
CANCELLED = "cancelled"
LEFT_BEHIND = "left_behind"
NOT_AT_BILLER = "not_at_biller"
BILLER_SILENT = "biller_silent"
REVERSAL_REFUSED = "reversal_refused"

_NOTHING_HELD = frozenset({Outcome.ORIGINAL_NOT_FOUND, Outcome.ORIGINAL_RESOLVED})
FOR_NOW = frozenset(
    {
        Outcome.OVERLOADED,
        Outcome.NO_BUDGET,
        Outcome.LEDGER_DOWN,
        Outcome.DESTINATION_DOWN,
        Outcome.OUTCOME_UNKNOWN,
        Outcome.ANSWERED_LATE,
        Outcome.FAULT,
    }
)
"""Outcomes after which the same request may be sent again, and must be to learn of it."""

_log = get_log("bills")


class BillSteps:
    """What is done about a payment, by whoever does it: the API first, else the keeper."""

    def __init__(
        self,
        ledger: BillLedger,
        hosts: Billers,
        posts: Posts,
        billers: Mapping[str, Biller],
        calendar: BusinessCalendar,
        clock: Clock,
    ) -> None:
        self.billers = billers
        self._ledger = ledger
        self._hosts = hosts
        self._posts = posts
        self._calendar = calendar
        self._clock = clock

    async def take_up(self, bill: BillRow) -> None:
        """Go on with a payment that nobody looks after any more."""
        if bill.biller not in self.billers:
            _log.error("a payment cannot go on: its biller is not configured", biller=bill.biller)
            return
        now_ns = self._clock.monotonic_ns()
        caller = Caller(bill.acquirer, bill.api, now_ns, now_ns + STEP_NS)
        match bill.state:
            case BillState.OPENED:
                await self.release(bill, LEFT_BEHIND, caller)
            case BillState.HELD:
                await self.release(bill, NOT_CONFIRMED, caller)
            case BillState.CONFIRMING | BillState.IN_DOUBT | BillState.SUSPENSE:
                await self._ask_again(bill, caller)
            case BillState.RELEASING:
                await self._free(bill, caller)
            case BillState.REVERSING:
                await self._reverse_again(bill, caller)
            case BillState.PAID | BillState.RELEASED | BillState.REFUSED | BillState.REVERSED:
                pass
            case _:
                assert_never(bill.state)

    async def tell_biller(self, bill: BillRow, caller: Caller) -> tuple[BillRow, str]:
        """Have a bill posted that is `confirming`; the row, and the token of a prepaid one."""
        answer = await self._hosts.pay(
            bill.biller, bill.serial.hex(), bill.bill_no, bill.amount_minor, caller.deadline_ns
        )
        if answer is BillerAnswer.CIRCUIT_OPEN:
            turned = await self._ledger.turn(
                bill.serial, BillState.HELD, Change(patience_ms=self._inquiry_ms(bill))
            )
            return turned or await self.current(bill), ""
        if answer in (BillerAnswer.TIMEOUT, BillerAnswer.FAULT):
            bill = await self._ledger.turn(bill.serial, BillState.IN_DOUBT) or bill
            answer = await self._query(bill, caller)
            if answer is BillerAnswer.UNKNOWN:
                return bill, ""  # what was sent may still be on its way there
        return await self._settle(bill, answer, caller)

    async def _settle(
        self, bill: BillRow, answer: PaymentAnswer | BillerAnswer, caller: Caller
    ) -> tuple[BillRow, str]:
        """Do what the biller's word asks for; without one the row stays as it is."""
        if isinstance(answer, PaymentAnswer):
            if answer.state is PaymentState.PAID:
                return await self._complete(bill, answer.receipt, caller), answer.token
            reason = answer.reason.value or RefusalReason.OTHER.value
            return await self.release(bill, reason, caller), ""
        if answer is BillerAnswer.UNKNOWN:
            reason = RefusalReason.UNKNOWN_BILL.value
            return await self.release(bill, reason, caller), ""
        return bill, ""

    async def _complete(self, bill: BillRow, receipt: str, caller: Caller) -> BillRow:
        """Take the money that was set aside: the biller has posted the bill."""
        biller = self.billers[bill.biller]
        request = self._posts.of_bill(
            Kind.COMPLETION, bill, biller, caller, about=Kind.PREAUTHORIZATION
        )
        reply = await self._posts.post(request)
        if reply.outcome.approved:
            change = Change(
                reason="",
                completion_id=reply.authorization_id,
                receipt=receipt,
                cut_at_us=self.next_cut_us(biller),
            )
            turned = await self._ledger.turn(bill.serial, BillState.PAID, change)
        elif reply.outcome in FOR_NOW:
            turned = await self._ledger.turn(bill.serial, BillState.IN_DOUBT)
        else:
            _log.error("a bill is paid and its money cannot be taken", biller=bill.biller)
            reason = Change(reason=reply.outcome.value, receipt=receipt)
            turned = await self._ledger.turn(bill.serial, BillState.SUSPENSE, reason)
        return turned or await self.current(bill)

    async def release(self, bill: BillRow, reason: str, caller: Caller) -> BillRow:
        """Announce that the money is to be free, and free it."""
        turned = await self._ledger.turn(bill.serial, BillState.RELEASING, Change(reason=reason))
        if turned is None:
            return await self.current(bill)
        return await self._free(turned, caller)

    async def _free(self, bill: BillRow, caller: Caller) -> BillRow:
        """Cancel the hold; one that nobody saw is reversed, so that none can come later."""
        kind = Kind.PREAUTHORIZATION_CANCEL if bill.hold_id else Kind.REVERSAL
        request = self._posts.of_bill(
            kind, bill, self.billers[bill.biller], caller, about=Kind.PREAUTHORIZATION
        )
        reply = await self._posts.post(request)
        if reply.outcome.approved or reply.outcome in _NOTHING_HELD:
            return await self._ledger.turn(bill.serial, BillState.RELEASED) or bill
        return bill

    async def _ask_again(self, bill: BillRow, caller: Caller) -> None:
        """Learn what became of a payment; where the biller never got it, send it once more."""
        if bill.state is BillState.CONFIRMING:
            bill = await self._ledger.turn(bill.serial, BillState.IN_DOUBT) or bill
        answer = await self._query(bill, caller)
        if answer is BillerAnswer.UNKNOWN:
            if bill.cut_passed:
                await self.release(bill, NOT_AT_BILLER, caller)
                return
            answer = await self._hosts.pay(
                bill.biller, bill.serial.hex(), bill.bill_no, bill.amount_minor, caller.deadline_ns
            )
        bill, _ = await self._settle(bill, answer, caller)
        if bill.state is BillState.IN_DOUBT and bill.cut_passed:
            _log.error("a payment is in suspense: its biller is silent", biller=bill.biller)
            silent = Change(reason=BILLER_SILENT)
            await self._ledger.turn(bill.serial, BillState.SUSPENSE, silent)

    async def take_back(self, bill: BillRow, caller: Caller) -> BillRow:
        """Have the biller give back what is `paid`, and give it back to the card."""
        patience_ms = self.left_ms(caller) + GRACE_MS
        turned = await self._ledger.turn(
            bill.serial, BillState.REVERSING, Change(reason="", patience_ms=patience_ms)
        )
        if turned is None:
            return await self.current(bill)
        answer = await self._hosts.reverse(
            bill.biller, bill.serial.hex(), bill.bill_no, bill.amount_minor, caller.deadline_ns
        )
        if answer is BillerAnswer.CIRCUIT_OPEN:
            return await self._ledger.turn(bill.serial, BillState.PAID) or turned
        return await self._settle_reversal(turned, answer, caller)

    async def _reverse_again(self, bill: BillRow, caller: Caller) -> None:
        answer = await self._query(bill, caller)
        if isinstance(answer, PaymentAnswer) and answer.state is PaymentState.PAID:
            answer = await self._hosts.reverse(
                bill.biller, bill.serial.hex(), bill.bill_no, bill.amount_minor, caller.deadline_ns
            )
        await self._settle_reversal(bill, answer, caller)

    async def _settle_reversal(
        self, bill: BillRow, answer: PaymentAnswer | BillerAnswer, caller: Caller
    ) -> BillRow:
        if not isinstance(answer, PaymentAnswer) or answer.state is PaymentState.PAID:
            return bill
        if answer.state is PaymentState.REFUSED:
            stands = Change(reason=REVERSAL_REFUSED)
            return await self._ledger.turn(bill.serial, BillState.PAID, stands) or bill
        request = self._posts.of_bill(
            Kind.REFUND, bill, self.billers[bill.biller], caller, about=Kind.COMPLETION
        )
        reply = await self._posts.post(request)
        if not reply.outcome.approved:
            return bill
        return await self._ledger.turn(bill.serial, BillState.REVERSED) or bill

    async def _query(self, bill: BillRow, caller: Caller) -> PaymentAnswer | BillerAnswer:
        return await self._hosts.query(
            bill.biller, bill.serial.hex(), bill.bill_no, bill.amount_minor, caller.deadline_ns
        )

    async def current(self, bill: BillRow) -> BillRow:
        """The row as it stands now that another was first."""
        return await self._ledger.bill(bill.serial) or bill

    def _inquiry_ms(self, bill: BillRow) -> int:
        return self.billers[bill.biller].inquiry_seconds * 1_000

    def left_ms(self, caller: Caller) -> int:
        """What is left of a caller's budget."""
        return max(0, (caller.deadline_ns - self._clock.monotonic_ns()) // MILLISECOND_NS)

    def next_cut_us(self, biller: Biller) -> int:
        """When this biller's day ends next."""
        return next_cut_us(self._calendar, biller.cut_off, self._clock.now_us())


def next_cut_us(calendar: BusinessCalendar, cut_off: str, now_us: int) -> int:
    """The next instant (epoch microseconds) at which a biller's day ends, HH:MM local time."""
    local = calendar.local(now_us)
    cut = local.replace(hour=int(cut_off[:2]), minute=int(cut_off[3:]), second=0, microsecond=0)
    while (at_us := epoch_us(cut)) <= now_us:
        cut = calendar.local(at_us + 24 * 3_600_000_000).replace(hour=cut.hour, minute=cut.minute)
    return at_us
