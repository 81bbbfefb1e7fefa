"""Which purse pays: by merchant category, in the operator's order, where the money is there."""

from __future__ import annotations

import msgspec

from protocols.message import Outcome
from protocols.money import display_minor
from risk.assess import Assessment
from switch.decide.case import Case, declined, declined_by_rule
from switch.decide.refusals import (
    assess,
    hotlist_refusal,
    pin_refusal,
    pin_required,
    status_refusal,
    venue_refusal,
)
from switch.posting import Posting, Purse, PurseState, Transfer, purse_book


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The purse that pays or receives."""

    purse: Purse
    state: PurseState


class Agreed(msgspec.Struct, frozen=True, gc=False):
    """A purse that has the money, the amount that it pays, and what the rules said."""

    purse: Purse
    amount_minor: int
    assessment: Assessment


def eligible_purses(case: Case) -> list[Chosen]:
    """The purses of the account that pay at this venue and merchant category, in order of use."""
    mcc, terms, purses = case.request.mcc, case.terms, case.account.purses
    venue = terms.venues.get(case.request.venue)
    eligible = []
    for purse in venue.purse_order if venue is not None else terms.purse_order:
        allowed = (
            mcc in terms.transit_mccs
            if purse is Purse.TRN
            else mcc not in terms.general_refused_mccs
        )
        if allowed and purse in purses:
            eligible.append(Chosen(purse, purses[purse]))
    return eligible


def no_purse(case: Case) -> Posting:
    """No purse of the card pays there."""
    words = f"no purse of this card pays at merchant category {case.request.mcc}"
    return declined(case, Outcome.PURSE_NOT_ALLOWED, words)


def too_little(
    case: Case, amount_minor: int, chosen: Chosen, assessment: Assessment | None = None
) -> Posting:
    """The money is not there; says what was asked and what is available."""
    words = (
        f"{display_minor(amount_minor)} asked, {display_minor(chosen.state.available_minor)} "
        f"available in {chosen.purse.name}"
    )
    return declined(case, Outcome.INSUFFICIENT_FUNDS, words, assessment)


def able_purse(eligible: list[Chosen], amount_minor: int) -> Chosen | None:
    """The first that can pay it all."""
    for chosen in eligible:
        if chosen.state.available_minor >= amount_minor:
            return chosen
    return None


def agree_to_pay(case: Case, *, partly: bool = False, mandated: bool = False) -> Agreed | Posting:
    """The whole ladder of a payment; a posting is the refusal.

    With `partly` a purse that has less than is asked pays what it has; the rules are asked
    about the whole amount all the same. What is `mandated` was agreed to beforehand: nobody is
    there to enter a PIN.
    """
    refused = status_refusal(case)
    if refused is not None:
        return refused
    eligible = eligible_purses(case)
    if not eligible:
        return no_purse(case)
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    amount_minor = case.request.amount.amount_minor
    paying = able_purse(eligible, amount_minor)
    payable_minor = amount_minor
    if paying is None:
        paying = eligible[-1]
        payable_minor = 0
        if partly:
            paying = max(eligible, key=lambda chosen: chosen.state.available_minor)
            payable_minor = max(0, paying.state.available_minor)
    refused = None if mandated else pin_required(case, paying.purse, payable_minor)
    refused = refused or hotlist_refusal(case)
    if refused is not None:
        return refused
    assessment = assess(case, paying.state.available_minor)
    if not assessment.decision.approved:
        return declined_by_rule(case, assessment)
    refused = venue_refusal(case, amount_minor, assessment)
    if refused is not None:
        return refused
    if payable_minor < amount_minor and payable_minor == 0:
        return too_little(case, amount_minor, paying, assessment)
    return Agreed(paying.purse, payable_minor, assessment)


def sale_leg(case: Case, purse: Purse, amount_minor: int) -> Transfer:
    """A sale's money: from the purse to what is owed to the acquirer."""
    acquirer_account = case.settlement_account("ACQ", case.request.acquirer)
    return Transfer(purse_book(case.account.account_id, purse), acquirer_account, amount_minor)


def suspense_legs(case: Case, amount_minor: int) -> tuple[Transfer, ...]:
    """What is owed to the acquirer, and no purse's debt: kept for the owner of its segment."""
    if not amount_minor:
        return ()
    owner = case.terms.suspense_owners[case.request.segment]
    suspense = case.settlement_account("SUSPENSE", owner)
    return (
        Transfer(suspense, case.settlement_account("ACQ", case.request.acquirer), amount_minor),
    )
