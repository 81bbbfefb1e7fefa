"""Voids and refunds: what stands, whose it is, and where the money goes."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from protocols.message import Kind, Outcome
from switch.posting import (
    Follower,
    Followers,
    Original,
    Transfer,
)
from tests.simulation.model_ledger import NOON_US
from tests.switch.decide.cases import (
    ACCOUNT,
    GEN,
    PAYABLE,
    TAP_SUSPENSE,
    TODAY,
    TRN,
    about,
    account,
    approved,
    back,
    hold,
    leg,
    loaded,
    original,
    posting_on,
    refused,
    spending,
    terms,
)


def followed(*changes: tuple[Kind, int]) -> Followers:
    return Followers(changes=tuple(Follower(60 + n, *one) for n, one in enumerate(changes)))


def undone(kind: Kind, minor: int) -> Followers:
    return Followers(changes=(Follower(60, kind, minor, undone=True),))


SALE_KINDS = [Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.COMPLETION]


@pytest.mark.parametrize("kind", SALE_KINDS)
@pytest.mark.parametrize("status", ["active", "blocked", "lost", "closed"])
def test_a_void_takes_the_whole_sale_back_whatever_the_card_is_now(kind: Kind, status: str) -> None:
    holder = account(purses={GEN: spending(700, 1, 300)}, status="closed")
    sale = original(kind=kind)
    posting = approved(about(Kind.VOID), loaded(holder, original=sale, card_status=status))
    assert posting.transfers == (back(leg(300)),)
    assert (posting.kind, posting.original_id, posting.purse) == (Kind.VOID, 55, GEN)
    assert (posting.spent_count, posting.spent_minor) == (0, -300)
    assert holder.purses[GEN] == spending(1_000, 1, 0)


@pytest.mark.parametrize(
    ("sale", "amount_minor", "outcome"),
    [
        (None, 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(account_id=ACCOUNT + 1), 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(acquirer="48029999"), 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(terminal="T0000002"), 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(kind=Kind.LOAD), 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(kind=Kind.REFUND), 300, Outcome.ORIGINAL_NOT_FOUND),
        (original(outcome=Outcome.COUNT_LIMIT, approved_minor=0), 1, Outcome.ORIGINAL_NOT_FOUND),
        (original(business_date=TODAY.replace(day=30)), 300, Outcome.ORIGINAL_RESOLVED),
        (original(followers=Followers(reversed=True)), 300, Outcome.ORIGINAL_RESOLVED),
        (original(followers=followed((Kind.VOID, 300))), 300, Outcome.ORIGINAL_RESOLVED),
        (original(followers=followed((Kind.REFUND, 1))), 299, Outcome.ORIGINAL_RESOLVED),
        (original(), 299, Outcome.ABOVE_ORIGINAL),
        (original(), 301, Outcome.ABOVE_ORIGINAL),
        (original(followers=followed((Kind.ADJUSTMENT, 50))), 300, Outcome.ABOVE_ORIGINAL),
        (original(followers=followed((Kind.ADJUSTMENT, 50))), 350, None),
        (original(followers=followed((Kind.CREDIT_ADJUSTMENT, 50))), 250, None),
        (original(followers=followed((Kind.REVERSAL, 50))), 250, None),
        (original(followers=undone(Kind.VOID, 300)), 300, None),
    ],
)
def test_a_void_is_of_a_sale_of_this_terminal_and_day_and_of_all_that_stands(
    sale: Original | None, amount_minor: int, outcome: Outcome | None
) -> None:
    posting = posting_on(about(Kind.VOID, amount_minor), loaded(original=sale))
    assert posting.outcome is (outcome or Outcome.APPROVED)
    assert posting.approved_minor == (0 if outcome else amount_minor)


def test_an_older_sale_is_refunded() -> None:
    older = loaded(original=original(business_date=TODAY.replace(day=30)))
    assert "send a refund" in refused(about(Kind.VOID), older)[1]
    assert approved(about(Kind.REFUND), older).approved_minor == 300


@pytest.mark.parametrize(
    ("changed", "balance_minor", "reopened"),
    [
        ({}, 3_700, True),
        ({}, 3_699, False),  # with the 300 that come back the hold of 40.00 is not there
        ({"expires_at_us": NOON_US}, 9_000, False),
        ({"expires_at_us": NOON_US + 1}, 9_000, True),
    ],
)
def test_the_void_of_a_completion_opens_its_hold_again_if_it_can(
    changed: dict[str, Any], balance_minor: int, reopened: bool
) -> None:
    done = original(kind=Kind.COMPLETION, authorization_id=56, original_id=55, hold=hold(**changed))
    holder = account(0, balance_minor)
    posting = approved(about(Kind.VOID), loaded(holder, original=done))
    assert posting.approved_minor == 300
    assert holder.purses[GEN].held_minor == (4_000 if reopened else 0)
    assert (posting.opens is not None) == reopened
    if posting.opens is not None:
        assert (posting.opens.authorization_id, posting.opens.amount_minor) == (55, 4_000)


@pytest.mark.parametrize(
    ("changes", "amount_minor", "outcome"),
    [
        ((), 300, None),
        ((), 1, None),
        ((), 301, Outcome.ABOVE_ORIGINAL),
        (((Kind.REFUND, 200),), 100, None),
        (((Kind.REFUND, 200),), 101, Outcome.ABOVE_ORIGINAL),
        (((Kind.REFUND, 200), (Kind.REFUND, 100)), 1, Outcome.ABOVE_ORIGINAL),
        (((Kind.ADJUSTMENT, 50),), 350, None),
        (((Kind.CREDIT_ADJUSTMENT, 50),), 251, Outcome.ABOVE_ORIGINAL),
        (((Kind.REVERSAL, 200),), 101, Outcome.ABOVE_ORIGINAL),
        (((Kind.VOID, 300),), 1, Outcome.ABOVE_ORIGINAL),
    ],
)
def test_a_refund_gives_back_at_most_what_stands(
    changes: tuple[tuple[Kind, int], ...], amount_minor: int, outcome: Outcome | None
) -> None:
    facts = loaded(original=original(followers=followed(*changes)))
    posting = posting_on(about(Kind.REFUND, amount_minor), facts)
    assert posting.outcome is (outcome or Outcome.APPROVED)
    assert posting.transfers == (() if outcome else (back(leg(amount_minor)),))


@pytest.mark.parametrize(
    "sale",
    [
        None,
        original(acquirer="48029999"),
        original(currency="840"),
        original(kind=Kind.PREAUTHORIZATION),
        original(outcome=Outcome.COUNT_LIMIT, approved_minor=0),
    ],
)
def test_a_refund_of_what_is_not_this_acquirers_sale(sale: Original | None) -> None:
    said, _ = refused(about(Kind.REFUND), loaded(original=sale))
    assert said is Outcome.ORIGINAL_NOT_FOUND


def test_a_refund_goes_to_the_purse_it_came_from_above_the_cap_and_to_a_closed_card() -> None:
    cap_minor = terms().balance_caps_minor["T2"]
    holder = account(100, cap_minor, status="closed")
    tap = original(purse=TRN, legs=(leg(300, TRN),), terminal="GATE")
    facts = loaded(holder, original=tap, card_status="closed")
    assert approved(about(Kind.REFUND), facts).transfers == (back(leg(300, TRN)),)
    assert approved(about(Kind.REFUND), loaded(holder, original=original())).purse == GEN
    assert holder.purses[TRN].balance_minor == 400
    assert holder.purses[GEN].balance_minor == cap_minor + 300


@pytest.mark.parametrize(
    ("business_date", "month_minor", "week_minor"),
    [
        (TODAY, 0, 0),
        (TODAY.replace(day=30), 0, 0),  # Monday
        (TODAY.replace(day=29), 0, 300),
        (TODAY.replace(day=1), 0, 300),
        (TODAY.replace(month=2, day=28), 300, 300),
    ],
)
def test_money_back_counts_in_the_periods_of_the_sale(
    business_date: date, month_minor: int, week_minor: int
) -> None:
    holder = account(purses={GEN: spending(700, 1, 300)})
    posting = approved(
        about(Kind.REFUND), loaded(holder, original=original(business_date=business_date))
    )
    assert posting.spent_minor == -300
    assert posting.spent_on == (None if business_date == TODAY else business_date)
    purse = holder.purses[GEN]
    assert (purse.month_minor, purse.week_minor) == (month_minor, week_minor)
    assert (purse.lifetime_count, purse.lifetime_minor) == (1, 0)


def test_what_corrects_a_correction_counts_on_the_day_of_the_sale() -> None:
    """A refund of yesterday that counts on the sale's day, taken back today."""
    sold_on, refunded_on = TODAY.replace(month=2, day=28), TODAY.replace(day=30)
    refunded = original(
        kind=Kind.REFUND, business_date=refunded_on, spent_on=sold_on, spent_minor=-300,
        legs=(back(leg(300)),),
    )  # fmt: skip
    holder = account(purses={GEN: spending(1_000, 1, 300)})
    posting = approved(about(Kind.REVERSAL), loaded(holder, original=refunded))
    assert (posting.spent_minor, posting.spent_on) == (300, sold_on)
    assert holder.purses[GEN].month_minor == 300
    assert holder.purses[GEN].lifetime_minor == 600


def test_an_adjustment_counts_on_the_day_of_the_sale() -> None:
    sold_on = TODAY.replace(month=2, day=28)
    for total_minor, changed_minor in ((450, 150), (100, -200)):
        facts = loaded(original=original(business_date=sold_on))
        posting = approved(about(Kind.ADJUSTMENT, total_minor), facts)
        assert (posting.spent_minor, posting.spent_on) == (changed_minor, sold_on)


def test_what_suspense_paid_goes_back_to_suspense() -> None:
    promised = original(purse=0, spent_minor=0, legs=(Transfer(TAP_SUSPENSE, PAYABLE, 300),))
    holder = account()
    posting = approved(about(Kind.REFUND, 100), loaded(holder, original=promised))
    assert posting.transfers == (Transfer(PAYABLE, TAP_SUSPENSE, 100),)
    assert holder.purses[GEN].balance_minor == 10_000
