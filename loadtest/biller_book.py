"""What a simulated biller knows: its bills, what was paid of them, and how often it was asked.

A bill needs no list. Its number says all about it: what it begins with is how it behaves
(`PREFIXES`), a last part of digits is its amount in minor units (`WATER-7-1250` is 12.50).
The same serial posts once however often it comes, which is what is reconciled in the end.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal

import msgspec

from protocols.bills.biller import (
    Absent,
    AbsentWhat,
    Bill,
    PaymentAnswer,
    PaymentOrder,
    PaymentState,
    RefusalReason,
    TokenAnswer,
)

Kind = Literal["postpaid", "prepaid"]
PAYMENTS_MAX = 1_000_000
PERIOD = "2026-10"
DUE = "2026-11-30"
FEE_MINOR = 200
GROWTH_MINOR = 100
TOKEN_DIGITS = 20
_AMOUNT = re.compile(r"-([0-9]{1,9})\Z")


class Fault(StrEnum):
    """What goes wrong between a biller's book and its answer."""

    NONE = "none"
    SLOW = "slow"
    """The work is done, the answer comes late."""
    ERROR = "500"
    """Nothing is done, and the answer is a 500."""
    LOST = "timeout_after"
    """The work is done and never answered."""
    WRONG_AMOUNT = "wrong_amount"
    """The work is done, the answer names another amount."""
    OTHER_SERIAL = "other_serial"
    """The work is done, the answer is about another payment."""
    DOUBLE_ANSWER = "double_answer"
    """The work is done, the answer comes twice over."""
    HUGE = "huge"
    """The answer is larger than any may be."""
    PROXY_404 = "proxy_404"
    """Something before the biller says 404, which says nothing of the biller's book."""


PAYMENT_FAULTS: Mapping[str, Fault] = {
    "SLOW": Fault.SLOW,
    "F500": Fault.ERROR,
    "LOST": Fault.LOST,
    "WRONG": Fault.WRONG_AMOUNT,
    "MIXED": Fault.OTHER_SERIAL,
    "TWICE": Fault.DOUBLE_ANSWER,
}
"""By what a bill's number begins with: its payment goes wrong, and asking after it does not."""
ALWAYS_FAULTS: Mapping[str, Fault] = {
    "DEAF": Fault.ERROR,
    "MUTE": Fault.LOST,
    "HUGE": Fault.HUGE,
    "PROXY": Fault.PROXY_404,
}
"""Whatever is asked about these goes wrong."""
PREFIXES: Mapping[str, str] = {
    "NOBILL": "there is no such bill",
    "PAID": "it was paid elsewhere",
    "CLOSED": "it can be asked for and is not taken",
    "GROWS": f"each inquiry finds it {GROWTH_MINOR} minor units larger",
    "FEE": f"it has a late fee of {FEE_MINOR} minor units",
    "CUTOFF": "it is never given back: its day is settled",
    **{prefix: f"paying it: {fault.value}" for prefix, fault in PAYMENT_FAULTS.items()},
    **{prefix: f"anything: {fault.value}" for prefix, fault in ALWAYS_FAULTS.items()},
}
"""All that a bill's number may begin with, for --help."""


class Payment(msgspec.Struct):
    """A payment in the book; `heard` is how often its serial was sent."""

    serial: str
    bill_no: str
    amount_minor: int
    state: PaymentState
    receipt: str
    token: str
    reason: RefusalReason
    heard: int = 1


class Conflict(msgspec.Struct, frozen=True):
    """The serial is known with another bill or amount."""

    conflict: str = "serial"


class Book:
    """The book of one biller."""

    def __init__(self, kind: Kind = "postpaid") -> None:
        self.kind = kind
        self.payments: dict[str, Payment] = {}
        self.inquiries: Counter[str] = Counter()
        self._paid_by: dict[str, str] = {}

    def inquire(self, bill_no: str) -> Bill | Absent:
        """What there is to pay of a bill, or of a meter."""
        self.inquiries[bill_no] += 1
        if bill_no.startswith("NOBILL"):
            return Absent(AbsentWhat.BILL)
        fee_minor = FEE_MINOR if bill_no.startswith("FEE") else 0
        return Bill(
            bill_no=bill_no,
            name_masked="*" + bill_no[-1],
            period=PERIOD,
            amount_minor=self._amount_minor(bill_no),
            late_fee_minor=fee_minor,
            due=DUE,
            payable=not bill_no.startswith("PAID") and bill_no not in self._paid_by,
        )

    def pay(self, order: PaymentOrder) -> PaymentAnswer | Absent | Conflict:
        """Post a payment once; the same serial again is answered as before."""
        known = self.payments.get(order.serial)
        if known is not None:
            known.heard += 1
            same = (known.bill_no, known.amount_minor) == (order.bill_no, order.amount_minor)
            return _answer(known) if same else Conflict()
        if order.bill_no.startswith("NOBILL"):
            return Absent(AbsentWhat.BILL)
        if len(self.payments) >= PAYMENTS_MAX:
            raise RuntimeError("the biller's book is full; start a new one")
        reason = self._refusal(order)
        number = len(self.payments) + 1
        paid = reason is RefusalReason.NONE
        payment = Payment(
            order.serial,
            order.bill_no,
            order.amount_minor,
            PaymentState.PAID if paid else PaymentState.REFUSED,
            f"R{number:08}" if paid else "",
            _token(order.serial) if paid and self.kind == "prepaid" else "",
            reason,
        )
        self.payments[order.serial] = payment
        if paid and self.kind == "postpaid":
            self._paid_by[order.bill_no] = order.serial
        return _answer(payment)

    def query(self, serial: str) -> PaymentAnswer | Absent:
        """What became of a payment."""
        known = self.payments.get(serial)
        return Absent(AbsentWhat.TRANSACTION) if known is None else _answer(known)

    def reverse(self, serial: str) -> PaymentAnswer | Absent:
        """Give a payment back: never a token, never after the cut-off, never twice."""
        known = self.payments.get(serial)
        if known is None:
            return Absent(AbsentWhat.TRANSACTION)
        if known.state is PaymentState.PAID:
            refusal = RefusalReason.NONE
            if known.token:
                refusal = RefusalReason.TOKEN_ISSUED
            elif known.bill_no.startswith("CUTOFF"):
                refusal = RefusalReason.CUT_OFF
            if refusal is not RefusalReason.NONE:
                answer = _answer(known)
                return msgspec.structs.replace(
                    answer, state=PaymentState.REFUSED, reason=refusal, token=""
                )
            known.state = PaymentState.REVERSED
            self._paid_by.pop(known.bill_no, None)
        return _answer(known)

    def token(self, serial: str) -> TokenAnswer | Absent:
        """The last response for a prepaid payment."""
        known = self.payments.get(serial)
        if known is None or not known.token:
            return Absent(AbsentWhat.TRANSACTION)
        return TokenAnswer(serial, known.token)

    def written(self) -> dict[str, object]:
        """The book for a reconciliation: every serial once, and the sums of what stands.

        Tokens stay out: whoever has one has the electricity.
        """
        standing = [each for each in self.payments.values() if each.state is PaymentState.PAID]
        return {
            "kind": self.kind,
            "inquiries": self.inquiries.total(),
            "paid_count": len(standing),
            "paid_minor": sum(each.amount_minor for each in standing),
            "payments": [
                {
                    "serial": each.serial,
                    "bill_no": each.bill_no,
                    "amount_minor": each.amount_minor,
                    "state": each.state,
                    "reason": each.reason,
                    "receipt": each.receipt,
                    "heard": each.heard,
                }
                for each in self.payments.values()
            ],
        }

    def _amount_minor(self, bill_no: str) -> int:
        if self.kind == "prepaid":
            return 0
        named = _AMOUNT.search(bill_no)
        amount_minor = int(named.group(1)) if named else 1_000 + _number(bill_no) % 19_000
        grown = max(0, self.inquiries[bill_no] - 1) if bill_no.startswith("GROWS") else 0
        return amount_minor + grown * GROWTH_MINOR

    def _refusal(self, order: PaymentOrder) -> RefusalReason:
        if order.bill_no.startswith("PAID") or order.bill_no in self._paid_by:
            return RefusalReason.ALREADY_PAID
        if order.bill_no.startswith("CLOSED"):
            return RefusalReason.CLOSED
        if not order.amount_minor:
            return RefusalReason.AMOUNT_WRONG
        if self.kind == "postpaid":
            fee_minor = FEE_MINOR if order.bill_no.startswith("FEE") else 0
            if order.amount_minor != self._amount_minor(order.bill_no) + fee_minor:
                return RefusalReason.AMOUNT_WRONG
        return RefusalReason.NONE


def fault_of(bill_no: str, *, paying: bool) -> Fault:
    """The fault that a bill's number asks for."""
    table = {**ALWAYS_FAULTS, **PAYMENT_FAULTS} if paying else ALWAYS_FAULTS
    for prefix, fault in table.items():
        if bill_no.startswith(prefix):
            return fault
    return Fault.NONE


def _answer(payment: Payment) -> PaymentAnswer:
    return PaymentAnswer(
        serial=payment.serial,
        bill_no=payment.bill_no,
        amount_minor=payment.amount_minor,
        state=payment.state,
        receipt=payment.receipt,
        token=payment.token,
        reason=payment.reason,
    )


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _token(serial: str) -> str:
    """Twenty digits that look like a meter's token (STS, IEC 62055-41); no meter takes them."""
    digest = hashlib.blake2b(serial.encode(), digest_size=16, person=b"sts").digest()
    return f"{int.from_bytes(digest) % 10**TOKEN_DIGITS:0{TOKEN_DIGITS}}"
