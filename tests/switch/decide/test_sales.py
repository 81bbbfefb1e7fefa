"""Purchases, offline sales and adjustments: every outcome, and what each moves."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card_number import numbered_card
from protocols.message import Kind, Outcome, Request
from risk.assess import decode_results
from switch.decide import (
    auth_code_of,
    decide,
)
from switch.posting import (
    Follower,
    Followers,
    Loaded,
    Original,
    Posting,
    PurseState,
    Transfer,
    purse_book,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    ACCOUNT,
    GEN,
    PAYABLE,
    PIN,
    TRN,
    WRONG_PIN,
    about,
    account,
    approved,
    back,
    directed,
    leg,
    load_of,
    loaded,
    moment,
    original,
    posting_on,
    refused,
    terms,
)


def test_an_approved_purchase_moves_its_amount_from_the_purse_to_the_acquirer() -> None:
    holder = account()
    posting = posting_on(purchase(amount_minor=500), loaded(holder))
    assert posting.outcome is Outcome.APPROVED
    assert posting.transfers == (Transfer(purse_book(ACCOUNT, GEN), PAYABLE, 500),)
    assert (posting.approved_minor, posting.purse) == (500, GEN)
    assert (posting.spent_count, posting.spent_minor) == (1, 500)
    assert posting.auth_code == auth_code_of(posting.key)
    assert decode_results(posting.rule_results).ruleset_hash == terms().rules.hash
    assert holder.purses[GEN].balance_minor == 9_500


@pytest.mark.parametrize(
    ("changed", "outcome", "words"),
    [
        ({"card_status": "lost"}, Outcome.CARD_LOST, "card ••0042 is lost"),
        ({"card_status": "stolen"}, Outcome.CARD_STOLEN, "card ••0042 is stolen"),
        ({"card_status": "blocked"}, Outcome.CARD_BLOCKED, "card ••0042 is blocked"),
        ({"card_status": "closed"}, Outcome.CARD_CLOSED, "card ••0042 is closed"),
        ({"expires_yymm": "2602"}, Outcome.CARD_EXPIRED, "expired in 2602"),
        ({"account": account(status="frozen")}, Outcome.ACCOUNT_FROZEN, "••0042 is frozen"),
        ({"account": account(status="closed")}, Outcome.ACCOUNT_CLOSED, "••0042 is closed"),
    ],
)
@pytest.mark.parametrize("request_", [purchase(), load_of(500)], ids=["purchase", "load"])
def test_a_card_or_account_that_may_not_pay(
    request_: Request, changed: dict[str, Any], outcome: Outcome, words: str
) -> None:
    said, why = refused(request_, loaded(**changed))
    assert said is outcome
    assert words in why


def test_the_card_stands_before_the_account_and_both_before_the_purse() -> None:
    both = loaded(account(status="frozen"), card_status="stolen", expires_yymm="2001")
    assert refused(purchase(mcc="7995"), both)[0] is Outcome.CARD_STOLEN
    frozen = loaded(account(status="frozen"), expires_yymm="2001")
    assert refused(purchase(mcc="7995"), frozen)[0] is Outcome.CARD_EXPIRED
    assert refused(purchase(mcc="7995"), loaded(account(status="frozen")))[0] is (
        Outcome.ACCOUNT_FROZEN
    )


def test_a_card_pays_through_the_last_day_of_its_month_and_forever_without_one() -> None:
    assert posting_on(purchase(), loaded(expires_yymm="2603")).outcome.approved
    assert posting_on(purchase(), loaded(expires_yymm="")).outcome.approved
    next_month_us = NOON_US + 12 * 3_600_000_000
    late = posting_on(purchase(), loaded(expires_yymm="2603"), next_month_us)
    assert late.outcome is Outcome.CARD_EXPIRED


def test_an_unknown_card_is_recorded_under_no_account() -> None:
    facts = Loaded(None, "", "", "", None, None)
    decision = decide(directed(purchase(), account_id=0), facts, terms(), moment())
    assert isinstance(decision, Posting)
    assert decision.outcome is Outcome.UNKNOWN_CARD
    assert decision.directed.account_id == 0
    assert decision.transfers == ()


@pytest.mark.parametrize(
    ("mcc", "transit_minor", "general_minor", "purse"),
    [
        ("4111", 1_000, 1_000, TRN),  # transit first where both can pay
        ("4111", 100, 1_000, GEN),  # the next one that can pay it all
        ("5411", 1_000, 1_000, GEN),  # TRN pays nothing but transit
    ],
)
def test_the_purse_order(mcc: str, transit_minor: int, general_minor: int, purse: int) -> None:
    holder = account(transit_minor, general_minor)
    posting = posting_on(purchase(mcc=mcc), loaded(holder))
    assert (posting.outcome, posting.purse) == (Outcome.APPROVED, purse)
    assert holder.purses[purse].month_minor == 500


def test_a_merchant_category_that_no_purse_pays() -> None:
    outcome, why = refused(purchase(mcc="7995"), loaded())
    assert outcome is Outcome.PURSE_NOT_ALLOWED
    assert "7995" in why


def test_a_card_without_the_purse_is_refused_too() -> None:
    only_transit = account(purses={TRN: PurseState(1_000, 0, 0, 0, 0)})
    assert refused(purchase(), loaded(only_transit))[0] is Outcome.PURSE_NOT_ALLOWED
    assert refused(load_of(500), loaded(only_transit))[0] is Outcome.PURSE_NOT_ALLOWED


@pytest.mark.parametrize("purse", ["", "MED", "gen", "2"])
def test_a_load_names_a_purse_that_exists(purse: str) -> None:
    assert refused(load_of(500, purse), loaded())[0] is Outcome.PURSE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("state", "approved"),
    [
        (PurseState(500, 0, 0, 0, 0), True),
        (PurseState(499, 0, 0, 0, 0), False),
        (PurseState(600, 101, 0, 0, 0), False),  # what is held is not available
        (PurseState(0, 0, -500, 0, 0), True),  # an overdraft to the floor, and no further
        (PurseState(-1, 0, -500, 0, 0), False),
    ],
)
def test_what_is_available_is_balance_less_held_down_to_the_floor(
    state: PurseState, approved: bool
) -> None:
    holder = account(purses={GEN: state})
    posting = posting_on(purchase(amount_minor=500), loaded(holder))
    assert posting.outcome is (Outcome.APPROVED if approved else Outcome.INSUFFICIENT_FUNDS)


def test_insufficient_funds_says_what_was_asked_and_what_is_there() -> None:
    outcome, why = refused(purchase(amount_minor=123_456), loaded(account(0, 12_345)))
    assert outcome is Outcome.INSUFFICIENT_FUNDS
    assert "1,234.56 asked, 123.45 available in GEN" in why


def test_a_rule_declines_before_the_money_is_looked_at_and_says_why() -> None:
    outcome, why = refused(purchase(amount_minor=60_000), loaded(account(tier="T0")))
    assert outcome is Outcome.AMOUNT_LIMIT
    assert why.startswith("Declined 61: anonymous_payment v1 (live, ruleset ")
    assert "500.00" in why


@given(
    st.sampled_from(["5411", "7995", "4111", ""]),
    st.sampled_from(["active", "lost", "closed"]),
    st.integers(1, 999_999_999_999),
    st.sampled_from(["T0", "T1", "T2"]),
    st.sampled_from([Kind.PURCHASE, Kind.LOAD]),
)
def test_no_card_number_in_any_explanation(
    mcc: str, status: str, amount_minor: int, tier: str, kind: Kind
) -> None:
    card = numbered_card("621299", 424_242)
    digits = card.reveal()
    request = purchase(
        1, amount_minor, card=card, mcc=mcc, kind=kind, purse="GEN", merchant=digits[:15],
        terminal=digits[:8], rrn=digits[:12],
    )  # fmt: skip
    facts = loaded(account(tier=tier), card_status=status, last4=card.last4)
    posting = posting_on(request, facts)
    for text in (posting.explanation, posting.rule_results.decode()):
        assert digits not in text
        assert not re.search(r"\d{13}", text)


# ---- a part of it ----


@pytest.mark.parametrize(
    ("mcc", "transit_minor", "general_minor", "purse", "paid_minor"),
    [
        ("5411", 0, 400, GEN, 400),
        ("4111", 100, 400, GEN, 400),  # where none has it all, the one that has most
        ("4111", 400, 100, TRN, 400),
        ("4111", 300, 300, TRN, 300),
        ("4111", 500, 300, TRN, 500),  # enough is enough
    ],
)
def test_a_terminal_that_takes_less_gets_what_there_is(
    mcc: str, transit_minor: int, general_minor: int, purse: int, paid_minor: int
) -> None:
    holder = account(transit_minor, general_minor)
    posting = approved(purchase(mcc=mcc, partial_allowed=True), loaded(holder))
    assert (posting.purse, posting.approved_minor) == (purse, paid_minor)
    assert posting.partial == (paid_minor < 500)
    assert posting.transfers == (leg(paid_minor, purse),)
    assert (posting.spent_count, posting.spent_minor) == (1, paid_minor)
    assert holder.purses[purse].month_minor == paid_minor


def test_no_part_of_nothing_and_none_unless_the_terminal_takes_it() -> None:
    asked = purchase(partial_allowed=True)
    assert refused(asked, loaded(account(0, 0)))[0] is Outcome.INSUFFICIENT_FUNDS
    held = account(purses={GEN: PurseState(400, 400, 0, 0, 0)})
    assert refused(asked, loaded(held))[0] is Outcome.INSUFFICIENT_FUNDS
    assert refused(purchase(), loaded(account(0, 400)))[0] is Outcome.INSUFFICIENT_FUNDS


def test_the_rules_are_asked_about_the_whole_amount_of_a_part() -> None:
    asked = purchase(amount_minor=60_000, partial_allowed=True)
    assert refused(asked, loaded(account(0, 400, tier="T0")))[0] is Outcome.AMOUNT_LIMIT


# ---- offline sales ----


def offline(amount_minor: int = 500, **changed: Any) -> Request:
    return purchase(1, amount_minor, kind=Kind.OFFLINE_SALE, advice=True, **changed)


def test_an_offline_sale_is_posted_without_rules_or_pin() -> None:
    holder = account(0, 400_000, tier="T0")
    asked = offline(200_000, pin=WRONG_PIN)  # above every limit of its tier, and of no PIN
    posting = approved(asked, loaded(holder, pin_reference=PIN))
    assert posting.transfers == (leg(200_000),)
    assert (posting.kind, posting.spent_count, posting.pin_tries) == (Kind.OFFLINE_SALE, 1, -1)
    assert posting.rule_results == b""
    assert holder.purses[GEN].month_minor == 200_000


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"card_status": "stolen"}, Outcome.CARD_STOLEN),
        ({"card_status": "lost"}, Outcome.CARD_LOST),
        ({"card_status": "closed"}, Outcome.CARD_CLOSED),
        ({"account": account(status="closed")}, Outcome.ACCOUNT_CLOSED),
        ({"account": account(0, 499)}, Outcome.INSUFFICIENT_FUNDS),
        ({"card_status": "blocked"}, None),
        ({"expires_yymm": "2001"}, None),
        ({"account": account(status="frozen")}, None),
    ],
)
def test_when_an_offline_sale_is_not_the_holders_debt(
    changed: dict[str, Any], outcome: Outcome | None
) -> None:
    posting = posting_on(offline(), loaded(**changed))
    assert posting.outcome is (outcome or Outcome.APPROVED)


def test_an_offline_sale_where_no_purse_pays() -> None:
    assert refused(offline(mcc="7995"), loaded())[0] is Outcome.PURSE_NOT_ALLOWED


# ---- adjustments ----


def followed(*changes: tuple[Kind, int]) -> Followers:
    return Followers(changes=tuple(Follower(60 + n, *one) for n, one in enumerate(changes)))


@pytest.mark.parametrize(
    ("changes", "new_total_minor", "kind", "moved"),
    [
        ((), 350, Kind.ADJUSTMENT, leg(50)),
        ((), 200, Kind.CREDIT_ADJUSTMENT, back(leg(100))),
        ((), 0, Kind.CREDIT_ADJUSTMENT, back(leg(300))),
        ((), 300, Kind.ADJUSTMENT, None),
        (((Kind.ADJUSTMENT, 50),), 350, Kind.ADJUSTMENT, None),
        (((Kind.ADJUSTMENT, 50), (Kind.CREDIT_ADJUSTMENT, 20)), 340, Kind.ADJUSTMENT, leg(10)),
        # what was refunded is no part of the total
        (((Kind.REFUND, 100),), 250, Kind.CREDIT_ADJUSTMENT, back(leg(50))),
        # a part that was reversed is
        (((Kind.REVERSAL, 100),), 250, Kind.ADJUSTMENT, leg(50)),
    ],
)
def test_an_adjustment_moves_the_difference(
    changes: tuple[tuple[Kind, int], ...],
    new_total_minor: int,
    kind: Kind,
    moved: Transfer | None,
) -> None:
    sale = original(followers=followed(*changes))
    posting = approved(about(Kind.ADJUSTMENT, new_total_minor), loaded(original=sale))
    assert (posting.kind, posting.original_id, posting.purse) == (kind, 55, GEN)
    assert posting.transfers == (() if moved is None else (moved,))
    sign = -1 if kind is Kind.CREDIT_ADJUSTMENT else 1
    assert posting.spent_minor == sign * posting.approved_minor
    assert posting.spent_count == 0


@pytest.mark.parametrize(
    ("sale", "new_total_minor", "outcome"),
    [
        (None, 400, Outcome.ORIGINAL_NOT_FOUND),
        (original(kind=Kind.REFUND), 400, Outcome.ORIGINAL_NOT_FOUND),
        (original(acquirer="48029999"), 400, Outcome.ORIGINAL_NOT_FOUND),
        (original(account_id=ACCOUNT + 1), 400, Outcome.ORIGINAL_NOT_FOUND),
        (original(currency="840"), 400, Outcome.ORIGINAL_NOT_FOUND),
        (original(outcome=Outcome.COUNT_LIMIT, approved_minor=0), 9, Outcome.ORIGINAL_NOT_FOUND),
        (original(followers=Followers(reversed=True)), 400, Outcome.ORIGINAL_RESOLVED),
        (original(followers=followed((Kind.VOID, 300))), 400, Outcome.ORIGINAL_RESOLVED),
        (original(followers=followed((Kind.REFUND, 200))), 150, Outcome.ABOVE_ORIGINAL),
        (original(), 10_301, Outcome.INSUFFICIENT_FUNDS),
    ],
)
def test_adjustments_that_are_refused(
    sale: Original | None, new_total_minor: int, outcome: Outcome
) -> None:
    assert refused(about(Kind.ADJUSTMENT, new_total_minor), loaded(original=sale))[0] is outcome


def test_an_adjustment_asks_for_no_status() -> None:
    lost = loaded(original=original(), card_status="lost")
    assert approved(about(Kind.ADJUSTMENT, 400), lost).approved_minor == 100
