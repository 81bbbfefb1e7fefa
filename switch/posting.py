"""What is loaded for a decision and what a decision posts: the shapes between ledger and decide.

These are the only words the pure part and the SQL functions share; store.py turns them
into arrays and back.
"""

from __future__ import annotations

from datetime import date
from enum import IntEnum

import msgspec

from protocols.message import Kind, Outcome, Reply, Request
from risk.facts import History


class Purse(IntEnum):
    """Purse numbers of the ledger (domain §3.1)."""

    TRN = 1
    GEN = 2


PURSE_BOOKS_FROM = 16_000_000
"""Account ids of transfers: purses from here, the operator's own accounts below."""


def purse_book(account_id: int, purse: int) -> int:
    """The account id under which a purse stands in transfers."""
    return account_id * 16 + purse


class Directed(msgspec.Struct, frozen=True, gc=False):
    """A request with the account its card leads to; account 0 is an unknown card."""

    request: Request
    shard: int
    account_id: int
    card_id: int
    medium: bytes


class PurseState(msgspec.Struct, gc=False):
    """One purse as loaded, then as the decisions of the batch leave it. Minor units."""

    balance_minor: int
    held_minor: int
    floor_minor: int
    month_count: int
    month_minor: int

    @property
    def available_minor(self) -> int:
        return self.balance_minor - self.held_minor - self.floor_minor


class Account(msgspec.Struct, gc=False):
    """One account as loaded; shared by the requests of a batch, so they see each other.

    `event_ids` runs beside the columns of `history`: the authorization of each event, 0
    where it was decided in this batch and has no id yet.
    """

    account_id: int
    version: int
    status: str
    tier: str
    product: str
    purses: dict[int, PurseState]
    history: History
    event_ids: list[int]


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

    @property
    def claims(self) -> int:
        """Answers that may have given the approval out and are not withdrawn."""
        return 1 + self.repeats - self.withdrawn


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


class Original(msgspec.Struct, frozen=True, gc=False):
    """The authorization that a reversal wants to give back."""

    account_id: int
    kind: Kind
    outcome: Outcome
    approved_minor: int
    purse: int
    business_date: date
    acquirer: str
    mcc: str
    followers: Followers


class Loaded(msgspec.Struct, frozen=True, gc=False):
    """Everything one decision needs. `account` is None where the card is unknown."""

    account: Account | None
    card_status: str
    expires_yymm: str
    last4: str
    stored: Stored | None
    original: Original | None


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """One movement of money; a debit makes a purse smaller."""

    debit_account_id: int
    credit_account_id: int
    amount_minor: int


class Posting(msgspec.Struct, frozen=True, gc=False):
    """A decision to write: the message, its outcome and the money it moves.

    `reply` is what to answer once it is posted, where that is not the outcome itself.
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
