"""What is loaded for a decision and what a decision posts: the shapes between ledger and decide.

These are the only words the pure part and the SQL functions share; store.py turns them
into arrays and back.
"""

from __future__ import annotations

from datetime import date
from enum import IntEnum, StrEnum

import msgspec

from protocols.message import Fare, Kind, Mode, Outcome, Reply, Request, Segment, Tap
from risk.buckets import Addition
from risk.facts import History
from risk.record import Assessment


class Purse(IntEnum):
    """Purse numbers of the ledger (domain §3.1).

    CHIP is the ledger's shadow of the purse on the card's chip (domain §3.2): loads and
    uploaded records move it, and nothing else pays from it.
    """

    TRN = 1
    GEN = 2
    CHIP = 3


PURSE_BOOKS_FROM = 16_000_000
"""Account ids of transfers: purses from here, the operator's own accounts below."""


WANTS_HOLDS = frozenset(
    {
        Kind.PREAUTHORIZATION,
        Kind.PREAUTHORIZATION_CANCEL,
        Kind.COMPLETION,
        Kind.LOAD_PENDING,
        Kind.LOAD,
        Kind.VOID,
        Kind.REVERSAL,
        Kind.HOLD_EXPIRY,
        Kind.TAP_ON,
        Kind.TAP_OFF,
    }
)
"""Kinds that are decided on the account's open holds; the others do not load them."""


def purse_book(account_id: int, purse: int) -> int:
    """The account id under which a purse stands in transfers."""
    return account_id * 16 + purse


def stop_named(tap: Tap | None) -> str:
    """A tap's stop as history and rules know it: "line/stop", for two lines may number alike."""
    return f"{tap.line}/{tap.stop}" if tap is not None and tap.stop else ""


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """One movement of money; a debit makes a purse smaller."""

    debit_account_id: int
    credit_account_id: int
    amount_minor: int


class Forwarded(msgspec.Struct, frozen=True, gc=False):
    """What the issuer's host of another city or bank said of a request; see net/upstream.

    `upstream` is the route's name and the owner of its INTERCITY account. On a reversal,
    `outcome` is approved: the host hears of it by store-and-forward.
    """

    upstream: str
    outcome: Outcome
    approved_minor: int
    auth_code: str = ""
    rrn: str = ""


class Directed(msgspec.Struct, frozen=True, gc=False):
    """A request with the account its card leads to; account 0 is an unknown card.

    `forwarded` is there for a card of another issuer: the answer came from its host, and
    what is posted is what the issuer owes and the acquirer is due.
    """

    request: Request
    shard: int
    account_id: int
    card_id: int
    medium: bytes
    forwarded: Forwarded | None = None


class PurseState(msgspec.Struct, gc=False):
    """One purse as loaded, then as the decisions of the batch leave it. Minor units."""

    balance_minor: int
    held_minor: int
    floor_minor: int
    month_count: int
    month_minor: int
    week_count: int = 0
    week_minor: int = 0
    lifetime_count: int = 0
    lifetime_minor: int = 0

    @property
    def available_minor(self) -> int:
        return self.balance_minor - self.held_minor - self.floor_minor


class Account(msgspec.Struct, gc=False):
    """One account as loaded; shared by the requests of a batch, so they see each other.

    `event_ids` runs beside the columns of `history`: the authorization of each event, 0
    where it was decided in this batch and has no id yet. `opened` are the holds that decisions
    of this batch opened, and `pin_tries` the wrong PINs in a row of each card that they
    counted: what was loaded cannot tell of these.
    """

    account_id: int
    version: int
    status: str
    tier: str
    product: str
    purses: dict[int, PurseState]
    history: History
    event_ids: list[int]
    opened: list[HoldOpening] = msgspec.field(default_factory=list)
    pin_tries: dict[int, int] = msgspec.field(default_factory=dict)


class Follower(msgspec.Struct, frozen=True, gc=False):
    """One approved message that refers to an approval, and what that one itself is worth.

    `undone` tells that this follower was reversed in turn (a void taken back, say).
    """

    authorization_id: int
    kind: Kind
    approved_minor: int
    undone: bool = False


class Followers(msgspec.Struct, frozen=True, gc=False):
    """What became of an approval after it was posted, by the messages that refer to it.

    Each answer that gives an approval out is a claim on it: the first came with its own
    posting, every later one is a repeat. A claim that was answered too late is withdrawn;
    withdrawing the last one is the reversal. Each of these is posted under the version
    check, so exactly one withdrawal is the last.
    """

    reversed: bool = False
    repeats: int = 0
    withdrawn: int = 0
    changes: tuple[Follower, ...] = ()
    """Voids, refunds, adjustments, completions, cancels, confirmed loads, expiries and partial
    reversals, oldest first."""
    taken_back: bool = False
    """Reversed by a message of its sender (0400, 0420), and not by the switch as too late."""

    @property
    def claims(self) -> int:
        """Answers that may have given the approval out and are not withdrawn."""
        return 1 + self.repeats - self.withdrawn


class HoldPurpose(StrEnum):
    """Why money waits: set aside in a purse, or taken by an agent and not yet in a purse.

    A JOURNEY's hold is the maximum fare of a ride that began; where nobody taps off in time
    it is charged, not freed.
    """

    PREAUTHORIZATION = "preauthorization"
    LOAD = "load"
    JOURNEY = "journey"


class HoldStatus(StrEnum):
    """A hold resolves exactly once, from open to one of the others."""

    OPEN = "open"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Hold(msgspec.Struct, frozen=True, gc=False):
    """One open hold of an account as loaded.

    `authorization_id` is the preauthorization or pending load that it stands for; a hold
    reopened by a reversed completion keeps it and has a `hold_id` of its own, which is the
    id of the authorization that opened it. Only a
    preauthorization's hold counts in the purse's held money.
    """

    hold_id: int
    authorization_id: int
    purpose: HoldPurpose
    purse: int
    amount_minor: int
    expires_at_us: int
    acquirer: str
    rrn: str
    auth_code: str
    terminal: str = ""
    mcc: str = ""


class HoldOpening(msgspec.Struct, frozen=True, gc=False):
    """A hold that a posting opens; `authorization_id` 0 is the posting's own."""

    purpose: HoldPurpose
    purse: int
    amount_minor: int
    expires_at_us: int
    authorization_id: int = 0


class HoldResolution(msgspec.Struct, frozen=True, gc=False):
    """How a posting resolves an open hold of its account. `status` is not OPEN."""

    hold_id: int
    status: HoldStatus


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What the ledger holds under the key of a request.

    `at_us` is the instant of the decision; a lane knows its own posting by it.
    """

    authorization_id: int
    payload_hash: bytes
    outcome: Outcome
    approved_minor: int
    auth_code: str
    rrn: str
    at_us: int
    followers: Followers
    kind: Kind = Kind.PURCHASE


class CountedEvent(msgspec.Struct, frozen=True, gc=False):
    """An event as the counters of its terminal, merchant and acquirer were told of it.

    `given_minor` is what standing reversals, voids and cancels have given back of it so far,
    -1 where there are none; the event is given back while that is all of `approved_minor`.
    """

    kind: Kind
    outcome: Outcome
    at_us: int
    card_id: int
    acquirer: str
    terminal: str
    merchant: str
    mcc: str
    segment: Segment
    amount_minor: int
    approved_minor: int
    venue: str = ""
    stop: str = ""
    vehicle: str = ""
    given_minor: int = -1

    @property
    def given_back(self) -> bool:
        return 0 <= self.given_minor >= self.approved_minor


class Original(msgspec.Struct, frozen=True, gc=False):
    """The authorization that a linked message is about, found by id, key, RRN or approval code.

    `spent_count` and `spent_minor` are what it added to its purse's totals, and `spent_on` the
    business day whose week and month it counts in, where that is not its own. `legs` are its
    transfers, as written: giving it back is each of them the other way round. `hold` is
    the hold that it opened or, for a message that resolved one (completion, cancel, load),
    the one that it resolved, whatever became of that hold since: who takes such a message
    back opens the hold again, with the same amount and expiry. `event` is what was counted of
    it: itself where its kind is an event, and of a void or a cancel the event that it took
    back; None where that is older than yesterday.
    """

    account_id: int
    kind: Kind
    outcome: Outcome
    approved_minor: int
    purse: int
    business_date: date
    acquirer: str
    mcc: str
    followers: Followers
    authorization_id: int = 0
    original_id: int = 0
    at_us: int = 0
    currency: str = ""
    terminal: str = ""
    merchant: str = ""
    rrn: str = ""
    auth_code: str = ""
    spent_count: int = 0
    spent_minor: int = 0
    legs: tuple[Transfer, ...] = ()
    hold: Hold | None = None
    event: CountedEvent | None = None
    spent_on: date | None = None


class TapEvent(msgspec.Struct, frozen=True, gc=False):
    """One tap of an account as stored: what happened, and how it was priced (ledger.tap).

    `kind` is fare, tap_on, tap_off or incomplete_fare. `authorization_id` is 0 for one that
    is being decided. `journey_id` is the authorization of the tap-on that a tap-off or an
    incomplete fare settles, 0 where there is none. `fare_date` is the fare day it is priced on
    (`switch.fares.book.fare_date` of the event; an incomplete fare has its tap-on's).
    """

    kind: Kind
    event_at_us: int
    mode: Mode
    line: str
    stop: str
    vehicle: str
    acquirer: str
    fare: Fare
    fare_date: date
    authorization_id: int = 0
    journey_id: int = 0


class Entitlement(msgspec.Struct, frozen=True, gc=False):
    """A fare class that an account has a right to, from one instant until before another."""

    fare_class: int
    from_us: int
    until_us: int


class FareFacts(msgspec.Struct, frozen=True, gc=False):
    """What pricing a tap needs beside the account: its fare day so far, and its rights.

    `taps` are all of the account on the fare day of the tap's event that were not reversed, and
    with them the tap-ons of its open journeys, and of those that ended on this day, whatever
    their day; oldest event first and at most 200. For the expiry of a journey it is the fare
    day of its tap-on.
    """

    taps: tuple[TapEvent, ...] = ()
    entitlements: tuple[Entitlement, ...] = ()


class ChipGap(msgspec.Struct, frozen=True, gc=False):
    """Counters that have not come yet, both ends included."""

    first: int
    last: int


class ChipFacts(msgspec.Struct, frozen=True, gc=False):
    """What the ledger knows of a card's chip (domain §3.2).

    `highest` is the highest counter that came, -1 before the first; `gaps` are those below it
    that are missing. `stored_digest` and `stored_batch` are of the record that the ledger
    holds under the counter in hand, empty where it holds none; `stored_suspense` that it
    could not be posted to the purse. `proven_counter` and `proven_missing_minor` are of the
    last load: what the chip had spent up to there that had not come. `other_digests` are of
    further records that came under the same counter, each in suspense already.
    """

    highest: int = -1
    gaps: tuple[ChipGap, ...] = ()
    stored_digest: bytes = b""
    stored_batch: bytes = b""
    stored_suspense: bool = False
    proven_counter: int = -1
    proven_missing_minor: int = 0
    other_digests: tuple[bytes, ...] = ()


class ChipChange(msgspec.Struct, frozen=True, gc=False):
    """What a posting says of a chip: a record that came, or a proof at a load.

    For a record `digest` and `batch` are there, and `suspense` tells that it moved no purse.
    Of two records under one counter only the first is kept under it; the others, all in
    suspense, are kept beside it by their digests. For a load both are empty, and
    `missing_minor` is what the chip had spent up to `counter` that has not come.
    """

    counter: int
    digest: bytes = b""
    batch: bytes = b""
    suspense: bool = False
    missing_minor: int = 0


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """Everything one decision needs. `account` is None where the card is unknown.

    `holds` are the account's open holds, oldest first; loaded for the kinds that ask for them
    (`WANTS_HOLDS`). `pin_reference` (16 bytes, empty: no PIN is set) is what the entered PIN
    must equal, `pin_tries` how often it did not, in a row. `hotlisted`: the card is on the
    readers' hotlist. `fares` is loaded for taps that are priced and for inspections (their
    rights), `chip` for offline fares and loads of the chip's purse.
    """

    account: Account | None
    card_status: str
    expires_yymm: str
    last4: str
    stored: Stored | None
    original: Original | None
    holds: tuple[Hold, ...] = ()
    pin_reference: bytes = b""
    pin_tries: int = 0
    hotlisted: bool = False
    fares: FareFacts | None = None
    chip: ChipFacts | None = None
    card_age_days: int | None = None


class Listing(msgspec.Struct, frozen=True, gc=False):
    """An entry that a rule puts on a list: in force from soon after the decision to `until_us`."""

    list: str
    field: str
    value: str
    rule_id: str
    until_us: int


class Posting(msgspec.Struct, frozen=True, gc=False):
    """A decision to write: the message, its outcome and the money it moves.

    `reply` is what to answer once it is posted, where that is not the outcome itself.
    `tombstone_key` is written besides, under the original's own key, where a reversal came
    before its original. `pin_tries` is the card's new count of wrong PINs in a row, -1 where
    it stays; among several postings of one card in a batch the last one's count. What a
    posting approves is what its transfers move; without any, the hold it opens; without that,
    the hold it resolves. A JOURNEY's hold counts in neither: a posting with a `tap` approves
    what its transfers move and nothing else, so a free ride approves 0. `tap` is written to the
    account's fare day, `chip` to what is known of the card's chip.

    `assessment` is what the rules said, where they were asked: its reviews and tags are written
    too, and so are `listings`. `ruleset` is the hash of what decided, '' for the live one.
    `shadow` is what drafts would have said. `spent_on` is the business day whose week and month
    it counts in, where that is not the day of the posting. `additions` are what it adds to the
    counters of its terminal, merchant and acquirer.
    """

    directed: Directed
    at_us: int
    outcome: Outcome
    approved_minor: int = 0
    purse: int = 0
    auth_code: str = ""
    rrn: str = ""
    original_id: int = 0
    rule_results: bytes = b""
    explanation: str = ""
    spent_count: int = 0
    spent_minor: int = 0
    transfers: tuple[Transfer, ...] = ()
    key: bytes = b""
    kind: Kind = Kind.PURCHASE
    reply: Reply | None = None
    tombstone_key: bytes = b""
    opens: HoldOpening | None = None
    resolves: HoldResolution | None = None
    pin_tries: int = -1
    tap: TapEvent | None = None
    chip: ChipChange | None = None
    assessment: Assessment | None = None
    listings: tuple[Listing, ...] = ()
    shadow: tuple[Assessment, ...] = ()
    spent_on: date | None = None
    additions: tuple[Addition, ...] = ()

    @property
    def ruleset(self) -> str:
        return self.assessment.ruleset_hash if self.assessment is not None else ""

    @property
    def has_effect(self) -> bool:
        """Whether it moved money or touched a hold, so that it could have to be taken back."""
        moves = bool(self.transfers) or self.opens is not None or self.resolves is not None
        return moves or self.tap is not None or self.chip is not None

    @property
    def in_suspense(self) -> bool:
        """An advice of stand-in that no purse could pay."""
        advice = self.directed.request.standin_at_us != 0
        sale = self.kind in (Kind.PURCHASE, Kind.FARE)
        return advice and sale and self.outcome.approved and not self.purse

    @property
    def partial(self) -> bool:
        """Approved for less than was asked."""
        asked_minor = self.directed.request.amount.amount_minor
        return self.kind is Kind.PURCHASE and 0 < self.approved_minor < asked_minor


Decision = Posting | Reply
"""Either something to post, or an answer the ledger already holds."""


class Verdict(IntEnum):
    """What post_batch did with a row."""

    POSTED = 0
    CONFLICT = 1
    EXPIRED = 2


class Posted(msgspec.Struct, frozen=True, gc=False):
    """One row's verdict, with its new id where it was posted."""

    verdict: Verdict
    authorization_id: int
