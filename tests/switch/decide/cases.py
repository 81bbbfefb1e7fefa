"""Facts by hand: an account, a card, an original, a hold, and what is decided on them."""

from __future__ import annotations

from functools import cache
from typing import Any

from protocols.message import Kind, OriginalReference, Outcome, Reply, Request, response_code
from risk.facts import empty_history
from switch.config import parse
from switch.decide import Moment, Terms, decide, moment_at
from switch.posting import (
    Account,
    Directed,
    Followers,
    Hold,
    HoldPurpose,
    Loaded,
    Original,
    Posting,
    PurseState,
    Stored,
    Transfer,
    purse_book,
)
from switch.terms import load_terms
from tests.simulation.model_ledger import ACQUIRER, CALENDAR, NOON_US, purchase

ACCOUNT, CARD = 1_000_001, 2_000_001
TRN, GEN = 1, 2
TODAY = CALENDAR.business_date(NOON_US)
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US

TRUST, PAYABLE, AGENT, PENDING, ISSUER, TAP_SUSPENSE, SHOP_SUSPENSE = range(1, 8)
SETTLEMENT_ACCOUNTS = {
    ("BANK", "trust"): TRUST,
    ("ACQ", ACQUIRER): PAYABLE,
    ("AGENT", ACQUIRER): AGENT,
    ("PENDING", ACQUIRER): PENDING,
    ("INTERCITY", "city-b"): ISSUER,
    ("SUSPENSE", "transit operations"): TAP_SUSPENSE,
    ("SUSPENSE", "risk office"): SHOP_SUSPENSE,
}
PIN, WRONG_PIN = b"p" * 16, b"q" * 16


@cache
def terms() -> Terms:
    """The shipped ruleset and the configuration's defaults, every account opened."""
    return load_terms(parse("", "defaults"), SETTLEMENT_ACCOUNTS)


def moment(now_us: int = NOON_US) -> Moment:
    return moment_at(now_us, CALENDAR, terms())


def account(transit_minor: int = 0, general_minor: int = 10_000, **changed: Any) -> Account:
    usual: dict[str, Any] = {
        "account_id": ACCOUNT,
        "version": 7,
        "status": "active",
        "tier": "T2",
        "product": "standard",
        "purses": {
            TRN: PurseState(transit_minor, 0, 0, 0, 0),
            GEN: PurseState(general_minor, 0, 0, 0, 0),
        },
        "history": empty_history(),
        "event_ids": [],
    }
    return Account(**(usual | changed))


def spending(balance_minor: int, count: int, minor: int) -> PurseState:
    """A purse that never spent anything before this week."""
    return PurseState(balance_minor, 0, 0, count, minor, count, minor, count, minor)


def loaded(holder: Account | None = None, **changed: Any) -> Loaded:
    usual: dict[str, Any] = {
        "account": holder or account(),
        "card_status": "active",
        "expires_yymm": "2912",
        "last4": "0042",
        "stored": None,
        "original": None,
    }
    return Loaded(**(usual | changed))


def stranger(**changed: Any) -> Loaded:
    """What is loaded for a card that is not of this ledger."""
    nothing: dict[str, Any] = {"account": None, "card_status": "", "expires_yymm": "", "last4": ""}
    return loaded(**(nothing | changed))


def directed(request: Request, account_id: int = ACCOUNT, **changed: Any) -> Directed:
    return Directed(request, 1, account_id, CARD if account_id else 0, b"m" * 16, **changed)


def leg(amount_minor: int, purse: int = GEN, acquirer_account: int = PAYABLE) -> Transfer:
    """What a sale moves."""
    return Transfer(purse_book(ACCOUNT, purse), acquirer_account, amount_minor)


def back(transfer: Transfer) -> Transfer:
    return Transfer(transfer.credit_account_id, transfer.debit_account_id, transfer.amount_minor)


def original(**changed: Any) -> Original:
    """An approved sale of 3.00 as loaded, with the leg and month totals that follow from it."""
    minor = changed.get("approved_minor", 300)
    kind = changed.get("kind", Kind.PURCHASE)
    spends = kind in (Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.COMPLETION)
    usual: dict[str, Any] = {
        "account_id": ACCOUNT,
        "kind": kind,
        "outcome": Outcome.APPROVED,
        "approved_minor": minor,
        "purse": GEN,
        "business_date": TODAY,
        "acquirer": ACQUIRER,
        "mcc": "5411",
        "followers": Followers(),
        "authorization_id": 55,
        "at_us": NOON_US - HOUR_US,
        "currency": "156",
        "terminal": "T0000001",
        "merchant": "M1",
        "spent_count": int(spends),
        "spent_minor": minor if spends else 0,
        "legs": (leg(minor),) if minor else (),
    }
    return Original(**(usual | changed))


def hold(amount_minor: int = 4_000, **changed: Any) -> Hold:
    usual: dict[str, Any] = {
        "hold_id": 55,
        "authorization_id": 55,
        "purpose": HoldPurpose.PREAUTHORIZATION,
        "purse": GEN,
        "amount_minor": amount_minor,
        "expires_at_us": NOON_US + HOUR_US,
        "acquirer": ACQUIRER,
        "rrn": "609012000001",
        "auth_code": "ABC234",
    }
    return Hold(**(usual | changed))


def stored(**changed: Any) -> Stored:
    usual: dict[str, Any] = {
        "authorization_id": 55,
        "payload_hash": purchase().payload_hash,
        "outcome": Outcome.APPROVED,
        "approved_minor": 500,
        "auth_code": "ABC234",
        "rrn": "609012000001",
        "at_us": NOON_US - 1_000_000,
        "followers": Followers(),
    }
    return Stored(**(usual | changed))


def about(kind: Kind, amount_minor: int = 300, number: int = 9, **changed: Any) -> Request:
    """A message about an earlier one, of which it says everything it can."""
    reference = OriginalReference(key=b"o" * 16, rrn="609012000001", auth_code="ABC234")
    return purchase(number, amount_minor, **({"kind": kind, "original": reference} | changed))


def load_of(amount_minor: int, purse: str = "GEN", number: int = 1) -> Request:
    return purchase(number, amount_minor, kind=Kind.LOAD, purse=purse)


def late_reversal(original_id: int = 55, number: int = 9) -> Request:
    """The switch's own, of an approval that came too late."""
    return purchase(number, kind=Kind.REVERSAL, original_id=original_id)


def posting_on(request: Request, facts: Loaded, now_us: int = NOON_US) -> Posting:
    holder = facts.account
    whose = directed(request, holder.account_id if holder is not None else 0)
    decision = decide(whose, facts, terms(), moment(now_us))
    assert isinstance(decision, Posting)
    return decision


def reply_on(request: Request, facts: Loaded, now_us: int = NOON_US) -> Reply:
    decision = decide(directed(request), facts, terms(), moment(now_us))
    assert isinstance(decision, Reply)
    return decision


def approved(request: Request, facts: Loaded, now_us: int = NOON_US) -> Posting:
    """An approval; what it approves is what it moves, by the rule of Posting."""
    posting = posting_on(request, facts, now_us)
    assert posting.outcome is Outcome.APPROVED, posting.explanation
    if posting.transfers:
        assert posting.approved_minor == sum(one.amount_minor for one in posting.transfers)
    elif posting.opens is not None:
        assert posting.approved_minor == posting.opens.amount_minor
    elif posting.resolves is None:
        assert posting.approved_minor == 0
    return posting


def refused(request: Request, facts: Loaded) -> tuple[Outcome, str]:
    """Outcome and explanation of a decline, which moves nothing."""
    posting = posting_on(request, facts)
    assert not posting.outcome.approved
    assert not posting.has_effect
    assert (posting.approved_minor, posting.auth_code, posting.spent_count) == (0, "", 0)
    assert posting.spent_minor == 0
    assert posting.explanation.startswith(f"Declined {response_code(posting.outcome)}: ")
    return posting.outcome, posting.explanation
