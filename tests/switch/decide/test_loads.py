"""Loads over the counter, and an agent's in two steps."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.message import Kind, OriginalReference, Outcome, Request
from switch.posting import (
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    PurseState,
    Transfer,
    purse_book,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    ACCOUNT,
    AGENT,
    GEN,
    MINUTE_US,
    PENDING,
    TRN,
    TRUST,
    about,
    account,
    approved,
    hold,
    load_of,
    loaded,
    original,
    posting_on,
    refused,
    terms,
)


def test_a_load_comes_from_the_trust_account_and_is_no_spending() -> None:
    holder = account()
    posting = posting_on(load_of(500), loaded(holder))
    assert posting.transfers == (Transfer(TRUST, purse_book(ACCOUNT, GEN), 500),)
    assert (posting.spent_count, posting.spent_minor) == (0, 0)
    assert holder.purses[GEN].balance_minor == 10_500
    assert holder.purses[GEN].month_minor == 0


def test_a_load_may_reach_the_cap_of_its_tier_and_not_pass_it() -> None:
    cap_minor = terms().balance_caps_minor["T2"]
    assert posting_on(load_of(1), loaded(account(0, cap_minor - 1))).outcome.approved
    outcome, why = refused(load_of(2), loaded(account(0, cap_minor - 1)))
    assert outcome is Outcome.BALANCE_CAP
    assert "tier T2" in why
    # the cap is of the general purse only (domain 3.5)
    assert posting_on(load_of(2, "TRN"), loaded(account(cap_minor, 0))).outcome.approved


# ---- an agent's, in two steps ----


def pending_of(amount_minor: int = 500, number: int = 1, purse: str = "GEN") -> Request:
    return purchase(number, amount_minor, kind=Kind.LOAD_PENDING, purse=purse)


def waiting(amount_minor: int = 500, **changed: Any) -> Hold:
    return hold(amount_minor, purpose=HoldPurpose.LOAD, **changed)


def confirmation(amount_minor: int = 500, **changed: Any) -> Request:
    return about(Kind.LOAD, amount_minor, **changed)


PENDING_LOAD = original(
    kind=Kind.LOAD_PENDING, approved_minor=500, legs=(Transfer(AGENT, PENDING, 500),)
)


def test_money_that_an_agent_took_waits() -> None:
    holder = account()
    posting = approved(pending_of(), loaded(holder))
    assert posting.transfers == (Transfer(AGENT, PENDING, 500),)
    expires_at_us = NOON_US + terms().load_expiry_minutes * MINUTE_US
    assert posting.opens == HoldOpening(HoldPurpose.LOAD, GEN, 500, expires_at_us)
    assert posting.spent_minor == 0
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)
    assert holder.history.at_us == []


def test_what_waits_counts_towards_the_cap_also_within_a_batch() -> None:
    cap_minor = terms().balance_caps_minor["T2"]
    holder = account(0, cap_minor - 1_000)
    facts = loaded(holder, holds=(waiting(400), waiting(9_999, purse=TRN)))
    assert refused(pending_of(601), facts)[0] is Outcome.BALANCE_CAP
    assert approved(pending_of(600), facts).approved_minor == 600
    assert refused(pending_of(1), facts)[0] is Outcome.BALANCE_CAP
    assert approved(pending_of(10**9, purse="TRN"), facts).purse == TRN


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"card_status": "lost"}, Outcome.CARD_LOST),
        ({"account": account(status="frozen")}, Outcome.ACCOUNT_FROZEN),
        ({"account": account(purses={})}, Outcome.PURSE_NOT_ALLOWED),
    ],
)
def test_an_agent_takes_no_money_for_a_card_that_cannot_have_it(
    changed: dict[str, Any], outcome: Outcome
) -> None:
    assert refused(pending_of(), loaded(**changed))[0] is outcome


def test_a_confirmation_puts_it_into_the_purse_whatever_became_of_the_card() -> None:
    cap_minor = terms().balance_caps_minor["T2"]
    holder = account(0, cap_minor, status="closed")
    facts = loaded(holder, original=PENDING_LOAD, holds=(waiting(),), card_status="lost")
    posting = approved(confirmation(), facts)
    assert posting.transfers == (Transfer(PENDING, purse_book(ACCOUNT, GEN), 500),)
    assert posting.resolves == HoldResolution(55, HoldStatus.COMPLETED)
    assert (posting.original_id, posting.spent_count) == (55, 0)
    assert holder.purses[GEN] == PurseState(cap_minor + 500, 0, 0, 0, 0)
    assert holder.history.kind == [Kind.LOAD]


@pytest.mark.parametrize(
    ("facts", "amount_minor", "outcome"),
    [
        ({"original": PENDING_LOAD, "holds": (waiting(),)}, 499, Outcome.ABOVE_ORIGINAL),
        ({"original": PENDING_LOAD, "holds": (waiting(),)}, 501, Outcome.ABOVE_ORIGINAL),
        ({"original": PENDING_LOAD}, 500, Outcome.ORIGINAL_RESOLVED),
        ({}, 500, Outcome.ORIGINAL_NOT_FOUND),
        ({"original": original()}, 500, Outcome.ORIGINAL_NOT_FOUND),
        ({"holds": (waiting(acquirer="48029999"),)}, 500, Outcome.ORIGINAL_NOT_FOUND),
        ({"holds": (hold(500),)}, 500, Outcome.ORIGINAL_NOT_FOUND),
    ],
)
def test_only_what_waits_is_confirmed_and_exactly_that(
    facts: dict[str, Any], amount_minor: int, outcome: Outcome
) -> None:
    assert refused(confirmation(amount_minor), loaded(**facts))[0] is outcome


def test_a_pending_load_is_found_by_its_reference_too() -> None:
    assert approved(confirmation(), loaded(holds=(waiting(),))).original_id == 55
    other = OriginalReference(rrn="609012000001", auth_code="XXX999")
    facts = loaded(holds=(waiting(),))
    assert refused(confirmation(original=other), facts)[0] is Outcome.ORIGINAL_NOT_FOUND
