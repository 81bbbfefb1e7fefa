"""Sales: paid at the counter, told of afterwards, corrected to a new total."""

from __future__ import annotations

from protocols.message import Kind, Outcome
from protocols.money import display_minor
from switch.decide.case import Case, approved, declined
from switch.decide.purses import (
    able_purse,
    agree_to_pay,
    eligible_purses,
    no_purse,
    sale_leg,
    too_little,
)
from switch.decide.refusals import status_outcome, status_words
from switch.decide.standing import (
    changed_minor,
    found_sale,
    leg_of,
    mirrored,
    paid_from,
    spent_on,
    standing_minor,
    total_minor,
    unspent_minor,
)
from switch.posting import Original, Posting, Purse, Transfer

OFFLINE_REFUSED = frozenset(
    {Outcome.CARD_STOLEN, Outcome.CARD_LOST, Outcome.CARD_CLOSED, Outcome.ACCOUNT_CLOSED}
)
"""Even a sale that a terminal made by itself is not the holder's debt then."""


def purchase(case: Case) -> Posting:
    """A sale; a part of it where the terminal takes less and the purse has no more."""
    agreed = agree_to_pay(case, partly=case.request.partial_allowed)
    if isinstance(agreed, Posting):
        return agreed
    return approved(
        case,
        purse=agreed.purse,
        transfers=(sale_leg(case, agreed.purse, agreed.amount_minor),),
        assessment=agreed.assessment,
        spent_count=1,
        spent_minor=agreed.amount_minor,
    )


def bill(case: Case) -> Posting:
    """A bill of a debit file: a sale that a mandate agreed to, so no PIN is asked for."""
    agreed = agree_to_pay(case, mandated=True)
    if isinstance(agreed, Posting):
        return agreed
    return approved(
        case,
        purse=agreed.purse,
        transfers=(sale_leg(case, agreed.purse, agreed.amount_minor),),
        assessment=agreed.assessment,
        spent_count=1,
        spent_minor=agreed.amount_minor,
    )


def offline_sale(case: Case) -> Posting:
    """The advice of a sale that a terminal approved: taken without rules or PIN, if it can be."""
    outcome = status_outcome(case)
    if outcome in OFFLINE_REFUSED:
        return declined(case, outcome, f"{status_words(outcome, case)}, also for offline sales")
    eligible = eligible_purses(case)
    if not eligible:
        return no_purse(case)
    amount_minor = case.request.amount.amount_minor
    paying = able_purse(eligible, amount_minor)
    if paying is None:
        return too_little(case, amount_minor, eligible[-1])
    return approved(
        case,
        purse=paying.purse,
        transfers=(sale_leg(case, paying.purse, amount_minor),),
        explanation="approved by the terminal; posted without rules",
        spent_count=1,
        spent_minor=amount_minor,
    )


def adjustment(case: Case) -> Posting:
    """A new total for a sale: more is taken from its purse, or less is given back to it.

    The sale itself was agreed to, so neither status nor rules are asked.
    """
    original = found_sale(case)
    if original is None:
        return declined(case, Outcome.ORIGINAL_NOT_FOUND, "no sale of this acquirer to adjust")
    if standing_minor(original) <= 0:
        return declined(case, Outcome.ORIGINAL_RESOLVED, "the sale was given back already")
    more_minor = case.request.amount.amount_minor - total_minor(original)
    if more_minor == 0:
        return approved(case, purse=original.purse, explanation="the total is what it was")
    return (
        _take_more(case, original, more_minor)
        if more_minor > 0
        else _give_less(case, original, -more_minor)
    )


def _take_more(case: Case, original: Original, more_minor: int) -> Posting:
    leg = leg_of(original)
    transfer = Transfer(leg.debit_account_id, leg.credit_account_id, more_minor)
    if not paid_from(case, transfer):
        words = f"{display_minor(more_minor)} more asked than {Purse(original.purse).name} has"
        return declined(case, Outcome.INSUFFICIENT_FUNDS, words)
    return approved(
        case,
        purse=original.purse,
        transfers=(transfer,),
        explanation=f"the sale's total is {display_minor(more_minor)} more",
        spent_minor=more_minor if original.spent_minor else 0,
        spent_on=spent_on(case, original),
    )


def _give_less(case: Case, original: Original, less_minor: int) -> Posting:
    stands_minor = standing_minor(original)
    if less_minor > stands_minor:
        refunded = display_minor(changed_minor(original, Kind.REFUND))
        words = f"less than the {refunded} that was refunded already"
        return declined(case, Outcome.ABOVE_ORIGINAL, words)
    return approved(
        case,
        kind=Kind.CREDIT_ADJUSTMENT,
        purse=original.purse,
        transfers=(mirrored(original, less_minor),),
        explanation=f"the sale's total is {display_minor(less_minor)} less",
        spent_minor=unspent_minor(original, less_minor),
        spent_on=spent_on(case, original),
    )
