"""The paths of the API, what each takes and what it answers: what its description is made of."""

from __future__ import annotations

import msgspec

from protocols.bills.api import (
    BillAsked,
    BillersView,
    InquiryView,
    PaidView,
    PaymentAsked,
    PaymentView,
    RefundAsked,
    SaleAsked,
    SaleView,
    TokenView,
)
from switch.net.http.problems import Fault


class Endpoint(msgspec.Struct, frozen=True):
    """One path. `asked` is its body; `once`: it takes an Idempotency-Key. `query` are its
    parameters; `answers` is None for a text."""

    method: str
    path: str
    summary: str
    answers: type[msgspec.Struct] | None
    asked: type[msgspec.Struct] | None = None
    once: bool = False
    faults: tuple[Fault, ...] = ()
    status: int = 200
    query: tuple[str, ...] = ()


_BILL = "/v1/bills/payments/{id}"
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/v1/billers", "Whose bills are paid here", BillersView),
    Endpoint(
        "POST", "/v1/bills/inquiries", "Ask a biller what there is to pay", InquiryView, BillAsked,
        faults=(Fault.FIELD, Fault.NOT_FOUND, Fault.DECLINED, Fault.BILLER_AWAY),
    ),
    Endpoint(
        "POST", "/v1/bills/payments", "Lock a bill and set its money aside", PaymentView,
        PaymentAsked, once=True, status=201,
        faults=(
            Fault.FIELD, Fault.KEY_REUSED, Fault.NOT_FOUND, Fault.INQUIRY_ENDED, Fault.BILL_BUSY,
            Fault.BILL_PAID, Fault.AMOUNT_CHANGED, Fault.DECLINED, Fault.UNKNOWN,
        ),
    ),
    Endpoint(
        "POST", f"{_BILL}/confirm", "Have the biller post it; 202 while it is in doubt", PaidView,
        faults=(
            Fault.NOT_FOUND, Fault.STATE, Fault.BILL_PAID, Fault.AMOUNT_CHANGED,
            Fault.BILL_REFUSED, Fault.BILLER_AWAY,
        ),
    ),
    Endpoint(
        "POST", f"{_BILL}/cancel", "Free the money, until it is confirmed", PaymentView,
        faults=(Fault.NOT_FOUND, Fault.STATE),
    ),
    Endpoint(
        "POST", f"{_BILL}/reverse", "Have a postpaid bill given back, until the biller's cut-off",
        PaymentView, faults=(Fault.NOT_FOUND, Fault.STATE, Fault.BILL_REFUSED, Fault.BILLER_AWAY),
    ),
    Endpoint("GET", _BILL, "How a payment stands", PaymentView, faults=(Fault.NOT_FOUND,)),
    Endpoint(
        "GET", f"{_BILL}/token", "The token of a prepaid meter, again", TokenView,
        faults=(Fault.NOT_FOUND, Fault.STATE, Fault.BILLER_AWAY),
    ),
    Endpoint(
        "POST", "/v1/sales", "A sale in one step, such as a ticket", SaleView, SaleAsked,
        once=True, status=201,
        faults=(Fault.FIELD, Fault.KEY_REUSED, Fault.DECLINED, Fault.UNKNOWN),
    ),
    Endpoint(
        "POST", "/v1/sales/{id}/refunds", "Give all or a part of a sale back", SaleView,
        RefundAsked, once=True,
        faults=(Fault.FIELD, Fault.KEY_REUSED, Fault.NOT_FOUND, Fault.DECLINED, Fault.UNKNOWN),
    ),
)  # fmt: skip
