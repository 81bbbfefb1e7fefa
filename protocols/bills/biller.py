"""What the switch and a biller's host say to each other: JSON over HTTP, domain §3.4.

    POST /bills/inquiry                     {bill_no}                       → Bill
    POST /bills/payments                    {serial, bill_no, amount_minor} → PaymentAnswer
    GET  /bills/payments/{serial}                                           → PaymentAnswer
    POST /bills/payments/{serial}/reverse                                   → PaymentAnswer
    GET  /bills/payments/{serial}/token                                     → TokenAnswer

The switch gives each payment one serial (32 hex digits) and asks by it for ever after: the
same serial with the same bill and amount is the same payment, however often it is sent, and
with another content it is refused with 409. An unknown bill, and an unknown serial, is 404
with an `Absent` body: "transaction does not exist" is a statement of the biller about its own
book, which a 404 of some proxy is not. Everything else (5xx, no answer, an answer that is not
this) says nothing about whether the work was done. With a key, requests carry it as
`Authorization: Bearer`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from protocols.money import AMOUNT_MINOR_MAX

BILL_NO_PATTERN = r"\A[0-9A-Za-z-]{1,32}\Z"
SERIAL_PATTERN = r"\A[0-9a-f]{32}\Z"
TOKEN_PATTERN = r"\A[0-9]{20}\Z"  # noqa: S105 - the shape of a meter token, not a secret
"""A prepaid meter's token has 20 digits (STS, IEC 62055-41)."""
ANSWER_BYTES_MAX = 65_536
"""No answer of a biller's host is larger; what is, is not read to its end."""

BillNo = Annotated[
    str,
    Meta(pattern=BILL_NO_PATTERN, description="1 to 32 ASCII letters, digits or hyphens"),
]
Serial = Annotated[str, Meta(pattern=SERIAL_PATTERN, description="32 hex digits")]
AmountMinor = Annotated[
    int,
    Meta(
        ge=0, le=AMOUNT_MINOR_MAX, description="whole minor units, at most 12 digits, never below 0"
    ),
]


class _Said(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """Words of a biller: what it says beside these is read over."""


class BillQuestion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which bill; for a prepaid meter the number of the meter."""

    bill_no: BillNo


class Bill(_Said, frozen=True):
    """What there is to pay. `due` is a day, YYYY-MM-DD, or empty; `period` is the biller's word.

    `amount_minor` is without `late_fee_minor`: a payment is of both together. A prepaid meter
    has no amount of its own (0): it takes what is bought. `payable` is False for a bill that
    is paid already or closed.
    """

    bill_no: BillNo
    name_masked: Annotated[str, Meta(max_length=64)]
    period: Annotated[str, Meta(max_length=32)]
    amount_minor: AmountMinor
    late_fee_minor: AmountMinor = 0
    due: Annotated[str, Meta(max_length=10)] = ""
    payable: bool = True

    @property
    def total_minor(self) -> int:
        """What paying it takes."""
        return self.amount_minor + self.late_fee_minor


class PaymentOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Post this payment against this bill; once, whatever is repeated."""

    serial: Serial
    bill_no: BillNo
    amount_minor: AmountMinor


class PaymentState(StrEnum):
    PAID = "paid"
    REFUSED = "refused"
    REVERSED = "reversed"


class RefusalReason(StrEnum):
    """Why a biller did not take a payment, or not give it back."""

    NONE = ""
    UNKNOWN_BILL = "unknown_bill"
    ALREADY_PAID = "already_paid"
    AMOUNT_WRONG = "amount_wrong"
    CLOSED = "closed"
    """Its date has passed, or its account is closed."""
    CUT_OFF = "cut_off"
    """Too late to give it back; the day is settled."""
    TOKEN_ISSUED = "token_issued"  # noqa: S105
    OTHER = "other"


class PaymentAnswer(_Said, frozen=True):
    """What became of a payment. Serial, bill and amount are repeated, so that a mixed-up answer
    is noticed. `receipt` is the biller's own number. `token` is there for prepaid."""

    serial: Serial
    bill_no: BillNo
    amount_minor: AmountMinor
    state: PaymentState
    receipt: Annotated[str, Meta(max_length=32)] = ""
    token: Annotated[str, Meta(pattern=r"\A([0-9]{20})?\Z")] = ""
    reason: RefusalReason = RefusalReason.NONE

    def __repr__(self) -> str:
        return f"PaymentAnswer(state={self.state.value!r}, reason={self.reason.value!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("state", self.state.value), ("reason", self.reason.value)]


class TokenAnswer(_Said, frozen=True):
    """The last response for a prepaid payment: its token again, and no new one."""

    serial: Serial
    token: Annotated[str, Meta(pattern=TOKEN_PATTERN)]

    def __repr__(self) -> str:
        return "TokenAnswer(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class AbsentWhat(StrEnum):
    BILL = "bill"
    TRANSACTION = "transaction"


class Absent(_Said, frozen=True):
    """The body of a 404 that the biller itself means: {"absent": "transaction"} or "bill"."""

    absent: AbsentWhat
