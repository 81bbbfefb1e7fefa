"""A bill payment as its client sees it, and the problems that come of where it stands."""

from __future__ import annotations

from protocols.bills.api import PaidView, PaymentView, Problem
from protocols.bills.biller import RefusalReason
from protocols.message import Outcome, Reply
from switch.ledger.bills import OPEN, BillRow, BillState
from switch.net.http.problems import Fault, declined, problem


def view(bill: BillRow) -> PaymentView:
    """A payment as its client sees it."""
    return PaymentView(
        bill.serial.hex(),
        bill.biller,
        bill.bill_no,
        bill.amount_minor,
        bill.state.value,
        bill.reason,
        bill.receipt,
        bill.auth_code,
        bill.rrn,
    )


def confirmed(bill: BillRow, token: str) -> PaidView | Problem:
    """The answer to a confirmation, by what it led to."""
    if bill.state is BillState.PAID:
        return PaidView(view(bill), token)
    if bill.state in (BillState.RELEASING, BillState.RELEASED):
        return _not_taken(bill)
    if bill.state in OPEN - {BillState.OPENED, BillState.REVERSING}:
        return PaidView(view(bill))
    return stands_otherwise(bill, "only what is held can be confirmed; look at its state")


def _not_taken(bill: BillRow) -> Problem:
    payment_id = bill.serial.hex()
    if bill.reason == RefusalReason.ALREADY_PAID:
        return declined(Reply(Outcome.BILL_PAID), payment_id=payment_id)
    if bill.reason == RefusalReason.AMOUNT_WRONG:
        words = "the money is free again; ask for the bill again"
        return problem(Fault.AMOUNT_CHANGED, words, payment_id=payment_id)
    if bill.reason in frozenset(RefusalReason):
        words = "the money is free again; the payment's reason says why"
        return problem(Fault.BILL_REFUSED, words, payment_id=payment_id)
    return stands_otherwise(bill, "its money is free again; pay the bill anew")


def stands_otherwise(bill: BillRow, words: str) -> Problem:
    return problem(Fault.STATE, words, payment_id=bill.serial.hex())


def away(bill: BillRow | None = None) -> Problem:
    payment_id = bill.serial.hex() if bill is not None else ""
    return problem(Fault.BILLER_AWAY, "nothing was changed; try again", payment_id=payment_id)


def no_such_biller() -> Problem:
    return problem(Fault.FIELD, "give a name that GET /v1/billers lists", "/biller")


def no_such_payment() -> Problem:
    return problem(Fault.NOT_FOUND, "there is no such payment of yours; check its id")
