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
    """A sale; also the advice of a sale that the switch approved in stand-in."""
    VOID = "void"
    """Takes a sale or a completion of the same business day back, whole."""
    REFUND = "refund"
    """Gives back all or part of what still stands of a sale, to the purse it came from."""
    PREAUTHORIZATION = "preauthorization"
    """Sets money aside as a hold; none moves."""
    PREAUTHORIZATION_CANCEL = "preauthorization_cancel"
    COMPLETION = "completion"
    """Takes at most what the hold has, and frees the rest at once."""
    INQUIRY = "inquiry"
    LOAD_PENDING = "load_pending"
    """Money taken by an agent; it waits in PENDING until the load is confirmed."""
    LOAD = "load"
    """Credits the purse: over the counter, or the confirmation of a pending load."""
    OFFLINE_SALE = "offline_sale"
    """An advice of a sale that a terminal approved by itself."""
    ADJUSTMENT = "adjustment"
    """A new total for a sale (correction or tip); only the difference is posted."""
    CREDIT_ADJUSTMENT = "credit_adjustment"
    """What an adjustment to a smaller total is posted as: money goes back."""
    REVERSAL = "reversal"
    HOLD_EXPIRY = "hold_expiry"
    """The switch's own: a hold, or a pending load, whose time is over."""
    FARE = "fare"
    """A single tap: a ride that is priced at once (bus, ferry, park gate)."""
    TAP_ON = "tap_on"
    """Opens a journey: the maximum fare is set aside, none moves."""
    TAP_OFF = "tap_off"
    """Settles a journey at its fare; what was set aside is free again."""
    INCOMPLETE_FARE = "incomplete_fare"
    """What the expiry of a journey's hold is posted as: nobody tapped off in time."""
    FARE_CREDIT = "fare_credit"
    """What a late tap is posted as that makes its day cheaper: money goes back."""
    INSPECT = "inspect"
    """Asks whether a card may pass: a door, an inspector's reader, a ticket; no money."""
    OFFLINE_FARE = "offline_fare"
    """A record of the purse on the chip, uploaded later; the chip was debited then."""
    BILL_INQUIRY = "bill_inquiry"
    """A bill was asked for with this card; no money, but rules count it."""
    BILL = "bill"
    """A bill of a debit file, collected by mandate."""
    REPEAT = "repeat"
    """A stored approval given out once more; written down, moves nothing."""
    TOMBSTONE = "tombstone"
    """Stands under the key of an original that was reversed before it came."""


TAP_KINDS = frozenset({Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT, Kind.OFFLINE_FARE})
"""Kinds that come as taps, and have a `Tap`."""


LINKED_KINDS = frozenset(
    {
        Kind.VOID,
        Kind.REFUND,
        Kind.PREAUTHORIZATION_CANCEL,
        Kind.COMPLETION,
        Kind.ADJUSTMENT,
        Kind.REVERSAL,
        Kind.HOLD_EXPIRY,
    }
)
"""Kinds that mean nothing without their original; LOAD is linked where it names one."""


class Outcome(StrEnum):
    """What became of a request, in order of precedence: the first that applies is answered."""

    APPROVED = "approved"
    # what the message itself is worth
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
    LINK_SIGNED_OFF = "link_signed_off"
    MAC_WRONG = "mac_wrong"
    TERMINAL_NOT_PERMITTED = "terminal_not_permitted"
    CURRENCY_NOT_CONFIGURED = "currency_not_configured"
    INVALID_AMOUNT = "invalid_amount"
    # the switch could not take it, and no money moved
    OVERLOADED = "overloaded"
    NO_BUDGET = "no_budget"
    LEDGER_DOWN = "ledger_down"
    DESTINATION_DOWN = "destination_down"
    # sent to the ledger, answered without knowing or too late
    OUTCOME_UNKNOWN = "outcome_unknown"
    ANSWERED_LATE = "answered_late"
    FAULT = "fault"
    # the ledger knows
    KEY_REUSED = "key_reused"
    ORIGINAL_NOT_FOUND = "original_not_found"
    ORIGINAL_RESOLVED = "original_resolved"
    """The original was given back, completed, cancelled or has expired already."""
    ABOVE_ORIGINAL = "above_original"
    """More is asked than still stands of the original."""
    REVERSED_BEFORE = "reversed_before"
    """This message was reversed before it came."""
    BILL_BUSY = "bill_busy"
    """Another payment of the same bill is under way."""
    BILL_PAID = "bill_paid"
    UNKNOWN_CARD = "unknown_card"
    TAC_WRONG = "tac_wrong"
    """A record of a chip that no chip of ours made."""
    CARD_STOLEN = "card_stolen"
    CARD_LOST = "card_lost"
    CARD_BLOCKED = "card_blocked"
    CARD_CLOSED = "card_closed"
    CARD_EXPIRED = "card_expired"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_CLOSED = "account_closed"
    PURSE_NOT_ALLOWED = "purse_not_allowed"
    PIN_TRIES_EXCEEDED = "pin_tries_exceeded"
    PIN_WRONG = "pin_wrong"
    PIN_REQUIRED = "pin_required"
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


class OriginalReference(msgspec.Struct, frozen=True, gc=False):
    """Which earlier message this one is about, as far as the message says it.

    `key` (16 bytes) is the idempotency key that the original had, made from its original
    data elements (DE90 of ISO 8583:1987; DE61 or the repeated DE11 of UnionPay POS); empty
    where they do not tell it. `rrn` is DE37 and `auth_code` DE38 of the original, `mmdd` the
    terminal's date of it. At least one of `key`, `rrn` and `auth_code` is there.
    """

    key: bytes = b""
    rrn: str = ""
    auth_code: str = ""
    mmdd: str = ""


class Mode(StrEnum):
    """What a reader stands at; with the line it names the fare, and by itself the venue."""

    BUS = "bus"
    METRO = "metro"
    FERRY = "ferry"
    TAXI = "taxi"
    PARKING = "parking"
    PARK = "park"
    STADIUM = "stadium"
    COMMUNITY = "community"


class ChipVerdict(StrEnum):
    """What the issuer's check of a chip's record says (TAC, domain §2.1)."""

    GENUINE = "genuine"
    OLD_KEY = "old_key"
    """Genuine under the key before the newest one, within its overlap."""
    WRONG = "wrong"


class ChipRecord(msgspec.Struct, frozen=True, gc=False):
    """One record of the purse on a chip (PBOC log of 23 bytes, domain §2.1), its TAC checked.

    `counter` is the chip's offline transaction counter, 0 to 65535. `digest` (8 bytes) is of
    all that the record says: the same counter with another digest is a clone or a replay.
    `batch` (8 bytes) names the upload that it came in.
    """

    counter: int
    overdraft_minor: int
    digest: bytes
    batch: bytes
    verdict: ChipVerdict


class ChipState(msgspec.Struct, frozen=True, gc=False):
    """What a chip says of itself when it is loaded, as it was before.

    `counter` is of its last record, -1 where it has made none.
    """

    counter: int
    balance_minor: int


class Tap(msgspec.Struct, frozen=True, gc=False):
    """What a reader says beside card and amount.

    `line`, `stop` and `vehicle` are the operator's codes, up to 12 characters each, empty
    where there is none. `event_at_us` is the device's instant (epoch microseconds), never
    later than when it was received: `clock_ahead` tells that it was, by more than the
    tolerance. `fare_version` is the table that the device used. `record` is there for an
    offline fare, `chip` for a load of the chip's purse.
    """

    mode: Mode
    line: str
    stop: str
    vehicle: str
    event_at_us: int
    fare_version: int = 0
    clock_ahead: bool = False
    record: ChipRecord | None = None
    chip: ChipState | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """One message of an acquirer, understood.

    `key` (16 bytes) is the idempotency key of design §3; `payload_hash` (8 bytes) tells a
    repeat from another message under the same key. Both clocks are monotonic nanoseconds:
    `received_ns` is the first byte of the frame, `deadline_ns` = received + budget.
    `local_at` is the terminal's own clock, MMDDhhmmss (DE13 + DE12), or the batch number of
    a terminal that sends no clock. `original` is what the message says of the one it is
    about; `original_id` is that authorization where the switch itself knows it. `purse` is
    the purse a load is for. `advice` tells of what has happened already (x120, x220, x420):
    it is repeated until answered. `replacement_minor` is what shall stand of the original
    after a partial reversal (DE95). `partial_allowed`: the terminal takes less than it asks
    for (response 10). `pin` is the keyed hash of the PIN that was entered, 16 bytes, empty
    without one. `standin_at_us` is when the switch approved it in stand-in, else 0.

    `venue` is the venue's code (switch/venues.toml), empty where none is known. `medium` (16
    bytes) names the card where the message has no number: readers know a card by it. `tap`
    is there for what a reader says. `background` is work that waits while anything else
    does: uploads and debit files; it is never shed and has no deadline that matters.
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
    advice: bool = False
    original: OriginalReference | None = None
    replacement_minor: int = 0
    partial_allowed: bool = False
    pin: bytes = b""
    standin_at_us: int = 0
    venue: str = ""
    medium: bytes = b""
    tap: Tap | None = None
    background: bool = False

    @property
    def linked(self) -> bool:
        """Whether it is about another message, which must be loaded with it."""
        return self.original is not None or self.original_id != 0

    @property
    def alone(self) -> bool:
        """Whether it is decided on what is written, with nothing else of its account beside it."""
        return self.linked or self.kind in TAP_KINDS or self.purse == "CHIP"

    @property
    def must_post(self) -> bool:
        """Whether it is written however late: nobody takes it back, its sender repeats it."""
        return (
            self.advice
            or self.kind is Kind.REVERSAL
            or self.kind is Kind.HOLD_EXPIRY
            or self.standin_at_us != 0
            or self.kind is Kind.OFFLINE_FARE
        )

    @property
    def never_shed(self) -> bool:
        """Reversals, completions and confirmations pass whatever the load is (design §4)."""
        return (
            self.must_post
            or self.kind is Kind.COMPLETION
            or self.background
            or (self.kind is Kind.LOAD and self.linked)
        )


class Balance(msgspec.Struct, frozen=True, gc=False):
    """What an inquiry tells of one purse: code (TRN, GEN), minor units."""

    purse: str
    balance_minor: int
    available_minor: int


class Fare(msgspec.Struct, frozen=True, gc=False):
    """How a ride was priced: nominal plus the adjustments (zero or less) is what is charged.

    Minor units. `charged_minor` is below zero where a late tap made its day cheaper.
    `fare_class` is a number of the fare table (0: full fare); it never says why.
    `recomputed_minor` is the part that corrects earlier taps of the day.
    """

    nominal_minor: int
    concession_minor: int = 0
    transfer_minor: int = 0
    cap_minor: int = 0
    recomputed_minor: int = 0
    fare_class: int = 0
    fare_version: int = 0

    @property
    def charged_minor(self) -> int:
        return (
            self.nominal_minor
            + self.concession_minor
            + self.transfer_minor
            + self.cap_minor
            + self.recomputed_minor
        )


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What the switch answers. `replayed` means the stored answer of an earlier message.

    `partial`: approved for less than was asked (response 10). `balances` answer an inquiry.
    `suspense`: an advice of stand-in that no purse could pay, or a chip's record that cannot
    be right; it stands in SUSPENSE. `fare` is how a tap was priced. `duplicate`: an offline
    record that was posted before, from another upload.
    """

    outcome: Outcome
    approved_minor: int = 0
    authorization_id: int = 0
    auth_code: str = ""
    rrn: str = ""
    replayed: bool = False
    partial: bool = False
    balances: tuple[Balance, ...] = ()
    suspense: bool = False
    fare: Fare | None = None
    duplicate: bool = False


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A message that never became a request: what to answer and where it was at fault."""

    outcome: Outcome
    field_path: str
    reason: str


PARTIALLY_APPROVED_CODE = "10"
"""DE39 of an approval for less than was asked (domain §4.1)."""


def response_code(outcome: Outcome) -> str:
    """DE39 of ISO 8583:1987 for an outcome (domain §4.1); looked up once, at the edge."""
    match outcome:
        case Outcome.APPROVED:
            return "00"
        case Outcome.MALFORMED:
            return "30"
        case Outcome.UNSUPPORTED | Outcome.CURRENCY_NOT_CONFIGURED | Outcome.ORIGINAL_RESOLVED:
            return "12"
        case Outcome.TERMINAL_NOT_PERMITTED | Outcome.LINK_SIGNED_OFF:
            return "58"
        case Outcome.MAC_WRONG | Outcome.TAC_WRONG:
            return "63"
        case Outcome.INVALID_AMOUNT | Outcome.ABOVE_ORIGINAL:
            return "13"
        case (
            Outcome.OVERLOADED
            | Outcome.NO_BUDGET
            | Outcome.LEDGER_DOWN
            | Outcome.DESTINATION_DOWN
            | Outcome.OUTCOME_UNKNOWN
            | Outcome.ANSWERED_LATE
        ):
            return "91"
        case Outcome.FAULT:
            return "96"
        case Outcome.KEY_REUSED | Outcome.BILL_PAID:
            return "94"
        case Outcome.BILL_BUSY:
            return "09"
        case Outcome.ORIGINAL_NOT_FOUND:
            return "25"
        case Outcome.REVERSED_BEFORE:
            return "68"
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
        case Outcome.PIN_TRIES_EXCEEDED:
            return "75"
        case Outcome.PIN_WRONG | Outcome.PIN_REQUIRED:
            return "55"
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
