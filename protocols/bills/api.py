"""What utilities and counters say to the HTTP API, and what it answers: JSON, version 1.

A description completes "give ...": it is what a caller is told whose field does not fit, and
what the OpenAPI page shows.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocols.bills.biller import BillNo
from protocols.money import AMOUNT_MINOR_MAX

IDEMPOTENCY_KEY_PATTERN = r"\A[!-~]{1,64}\Z"

BillerName = Annotated[
    str,
    Meta(pattern=r"\A[a-z][a-z0-9_-]{0,31}\Z", description="the name of a biller, as listed"),
]
Card = Annotated[
    str,
    Meta(
        pattern=r"\A([0-9]{12,19}|[0-9a-f]{32})\Z",
        description="a card number of 12 to 19 digits, or the medium of a card in 32 hex digits",
    ),
]
Hex128 = Annotated[
    str, Meta(pattern=r"\A[0-9a-f]{32}\Z", description="32 hex digits, as they were answered")
]
PaidMinor = Annotated[
    int,
    Meta(ge=1, le=AMOUNT_MINOR_MAX, description="whole minor units from 1, at most 12 digits"),
]
Terminal = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z]{1,8}\Z", description="1 to 8 ASCII letters or digits")
]
Merchant = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z]{1,15}\Z", description="1 to 15 ASCII letters or digits")
]
Reference = Annotated[
    str, Meta(pattern=r"\A[0-9A-Za-z]{0,12}\Z", description="up to 12 ASCII letters or digits")
]
VenueCode = Annotated[
    str, Meta(pattern=r"\A[a-z][a-z_]{0,31}\Z", description="the code of a venue, such as cinema")
]


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: a field that it does not know is refused, not read over."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class BillAsked(Asked, frozen=True):
    """Which bill of which biller; for a prepaid meter the number of the meter."""

    biller: BillerName
    bill_no: BillNo
    card: Card


class PaymentAsked(Asked, frozen=True):
    """Set the money of a bill aside. The amount is the inquiry's; a prepaid meter takes any."""

    inquiry_id: Hex128
    amount_minor: PaidMinor
    card: Card


class SaleAsked(Asked, frozen=True):
    """A sale in one step, of a venue that has no terminal of its own, such as e-tickets."""

    venue: VenueCode
    merchant: Merchant
    terminal: Terminal
    amount_minor: PaidMinor
    card: Card
    reference: Reference = ""


class RefundAsked(Asked, frozen=True):
    """Give all or a part of a sale back, to the card that paid."""

    amount_minor: PaidMinor
    card: Card


class BillerView(msgspec.Struct, frozen=True):
    """A biller whose bills are paid here. `cut_off` is a time of day, HH:MM."""

    biller: str
    venue: str
    kind: Literal["postpaid", "prepaid"]
    cut_off: str


class BillersView(msgspec.Struct, frozen=True):
    billers: list[BillerView]


class InquiryView(msgspec.Struct, frozen=True):
    """What the biller says there is to pay, and for how long it may be paid so.

    `amount_minor` includes `late_fee_minor`; 0 for a prepaid meter, which takes any amount.
    """

    inquiry_id: str
    biller: str
    bill_no: str
    name_masked: str
    period: str
    amount_minor: int
    late_fee_minor: int
    due: str
    payable: bool
    payable_seconds: int


class PaymentView(msgspec.Struct, frozen=True):
    """A payment as it stands. `reason` says why it is not paid, empty where it may be yet.

    `state`: opened, held (confirm or cancel it), confirming or in_doubt (the biller is being
    asked; ask here again), paid, releasing or released (the money is free again), refused
    (none was taken), reversing or reversed, suspense (the biller's day decides).
    """

    payment_id: str
    biller: str
    bill_no: str
    amount_minor: int
    state: str
    reason: str = ""
    receipt: str = ""
    auth_code: str = ""
    rrn: str = ""


class PaidView(msgspec.Struct, frozen=True):
    """The answer to a confirmation. `token` is there for a prepaid meter, this once; ask for it
    again at `…/token`."""

    payment: PaymentView
    token: str = ""

    def __repr__(self) -> str:
        return f"PaidView({self.payment!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("payment", self.payment)]


class TokenView(msgspec.Struct, frozen=True):
    """The 20 digits that are keyed into the meter: the last response of the biller."""

    payment_id: str
    token: str

    def __repr__(self) -> str:
        return "TokenView(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class SaleView(msgspec.Struct, frozen=True):
    """A sale or refund that was posted. `replayed`: it is the answer of before."""

    sale_id: str
    amount_minor: int
    auth_code: str
    rrn: str
    replayed: bool


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why it was not done, and what to do about it (RFC 9457).

    `pointer` (RFC 6901) is the field of the body that does not fit. `outcome` and
    `response_code` (DE39) are the switch's, for a card that may not pay.
    """

    type: str
    title: str
    status: int
    detail: str
    pointer: str = ""
    outcome: str = ""
    response_code: str = ""
    payment_id: str = ""
