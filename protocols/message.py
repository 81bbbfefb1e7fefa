"""The canonical words between a wire dialect and the switch: requests in, replies out.

A dialect turns fields into a `Request` and a `Reply` into fields; nothing behind it knows
a DE number or a response code. An `Outcome` is one closed list, in order of precedence.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from protocols.card_number import CardNumber
from protocols.money import Money


class Segment(StrEnum):
    """The branch of city life an acquirer serves; it decides budget and shedding order."""

    TRANSIT = "transit"
    UTILITY = "utility"
    RETAIL = "retail"


class Kind(StrEnum):
    """What a message asks the ledger to do."""

    PURCHASE = "purchase"
    LOAD = "load"
    REVERSAL = "reversal"
    REPEAT = "repeat"
    """A stored approval given out once more; written down, moves nothing."""


class Outcome(StrEnum):
    """What became of a request, in order of precedence: the first that applies is answered."""

    APPROVED = "approved"
    # what the message itself is worth
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    TERMINAL_NOT_PERMITTED = "terminal_not_permitted"
    CURRENCY_NOT_CONFIGURED = "currency_not_configured"
    INVALID_AMOUNT = "invalid_amount"
    # the switch could not take it, and no money moved
    OVERLOADED = "overloaded"
    NO_BUDGET = "no_budget"
    LEDGER_DOWN = "ledger_down"
    # sent to the ledger, answered without knowing or too late
    OUTCOME_UNKNOWN = "outcome_unknown"
    ANSWERED_LATE = "answered_late"
    FAULT = "fault"
    # the ledger knows
    KEY_REUSED = "key_reused"
    ORIGINAL_NOT_FOUND = "original_not_found"
    UNKNOWN_CARD = "unknown_card"
    CARD_STOLEN = "card_stolen"
    CARD_LOST = "card_lost"
    CARD_BLOCKED = "card_blocked"
    CARD_CLOSED = "card_closed"
    CARD_EXPIRED = "card_expired"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_CLOSED = "account_closed"
    PURSE_NOT_ALLOWED = "purse_not_allowed"
    # a rule says no
    HOTLISTED = "hotlisted"
    SUSPECTED_FRAUD = "suspected_fraud"
    DO_NOT_HONOUR = "do_not_honour"
    AMOUNT_LIMIT = "amount_limit"
    COUNT_LIMIT = "count_limit"
    BALANCE_CAP = "balance_cap"
    # and last, whether there is money
    INSUFFICIENT_FUNDS = "insufficient_funds"

    @property
    def approved(self) -> bool:
        return self is Outcome.APPROVED


class Request(msgspec.Struct, frozen=True, gc=False):
    """One message of an acquirer, understood.

    `key` (16 bytes) is the idempotency key of design §3; `payload_hash` (8 bytes) tells a
    repeat from another message under the same key. Both clocks are monotonic nanoseconds:
    `received_ns` is the first byte of the frame, `deadline_ns` = received + budget.
    `local_at` is the terminal's own clock, MMDDhhmmss (DE13 + DE12), or the batch number of
    a terminal that sends no clock. `original_id` is the
    authorization a reversal gives back, `purse` the purse a load is for; others leave both.
    """

    kind: Kind
    segment: Segment
    acquirer: str
    link: str
    message_class: str
    card: CardNumber | None
    amount: Money
    terminal: str
    merchant: str
    mcc: str
    stan: str
    local_at: str
    rrn: str
    entry_mode: str
    expiry: str
    key: bytes
    payload_hash: bytes
    received_ns: int
    deadline_ns: int
    original_id: int = 0
    purse: str = ""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What the switch answers. `replayed` means the stored answer of an earlier message."""

    outcome: Outcome
    approved_minor: int = 0
    authorization_id: int = 0
    auth_code: str = ""
    rrn: str = ""
    replayed: bool = False


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A message that never became a request: what to answer and where it was at fault."""

    outcome: Outcome
    field_path: str
    reason: str


def response_code(outcome: Outcome) -> str:
    """DE39 of ISO 8583:1987 for an outcome (domain §4.1); looked up once, at the edge."""
    match outcome:
        case Outcome.APPROVED:
            return "00"
        case Outcome.MALFORMED:
            return "30"
        case Outcome.UNSUPPORTED | Outcome.CURRENCY_NOT_CONFIGURED:
            return "12"
        case Outcome.TERMINAL_NOT_PERMITTED:
            return "58"
        case Outcome.INVALID_AMOUNT:
            return "13"
        case (
            Outcome.OVERLOADED
            | Outcome.NO_BUDGET
            | Outcome.LEDGER_DOWN
            | Outcome.OUTCOME_UNKNOWN
            | Outcome.ANSWERED_LATE
        ):
            return "91"
        case Outcome.FAULT:
            return "96"
        case Outcome.KEY_REUSED:
            return "94"
        case Outcome.ORIGINAL_NOT_FOUND:
            return "25"
        case Outcome.UNKNOWN_CARD:
            return "14"
        case Outcome.CARD_STOLEN:
            return "43"
        case Outcome.CARD_LOST:
            return "41"
        case Outcome.CARD_BLOCKED | Outcome.HOTLISTED | Outcome.ACCOUNT_FROZEN:
            return "62"
        case Outcome.CARD_CLOSED | Outcome.ACCOUNT_CLOSED:
            return "46"
        case Outcome.CARD_EXPIRED:
            return "54"
        case Outcome.PURSE_NOT_ALLOWED:
            return "57"
        case Outcome.SUSPECTED_FRAUD:
            return "34"
        case Outcome.DO_NOT_HONOUR:
            return "05"
        case Outcome.AMOUNT_LIMIT | Outcome.BALANCE_CAP:
            return "61"
        case Outcome.COUNT_LIMIT:
            return "65"
        case Outcome.INSUFFICIENT_FUNDS:
            return "51"
        case _:
            assert_never(outcome)
