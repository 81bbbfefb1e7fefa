"""Voids and refunds: money of a sale back to the purse that it came from.

Neither asks for the card's status: a holder whose card is lost or closed is still owed it.
"""

from __future__ import annotations

from protocols.message import Kind, Outcome
from protocols.money import display_minor
from switch.decide.case import Case, approved, declined, give_back_event
from switch.decide.holds import reopening
from switch.decide.refusals import pin_refusal
from switch.decide.standing import (
    found_sale,
    mirrored,
    spent_on,
    standing_minor,
    total_minor,
    unspent_minor,
)
from switch.posting import Posting


def void(case: Case) -> Posting:
    """Takes a sale of the same day back, whole, at the terminal that made it."""
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    original = found_sale(case)
    if original is None or original.terminal != case.request.terminal:
        return declined(case, Outcome.ORIGINAL_NOT_FOUND, "no sale of this terminal to void")
    stands_minor = standing_minor(original)
    if stands_minor < total_minor(original) or stands_minor <= 0:
        return declined(case, Outcome.ORIGINAL_RESOLVED, "the sale was given back already")
    if original.business_date != case.moment.business_date:
        words = "the sale is of an earlier business day; send a refund"
        return declined(case, Outcome.ORIGINAL_RESOLVED, words)
    if case.request.amount.amount_minor != stands_minor:
        words = (
            f"a void takes back all of the {display_minor(stands_minor)} that stand; "
            "send a refund for a part"
        )
        return declined(case, Outcome.ABOVE_ORIGINAL, words)
    transfer = mirrored(original, stands_minor)
    give_back_event(case.account, original.authorization_id)
    return approved(
        case,
        purse=original.purse,
        transfers=(transfer,),
        opens=reopening(case, original, transfer) if original.kind is Kind.COMPLETION else None,
        explanation="the sale is taken back",
        spent_minor=unspent_minor(original, stands_minor),
        spent_on=spent_on(case, original),
    )


def refund(case: Case) -> Posting:
    """Gives back all or a part of what still stands, above the balance cap if need be."""
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    original = found_sale(case)
    if original is None:
        return declined(case, Outcome.ORIGINAL_NOT_FOUND, "no sale of this acquirer to refund")
    amount_minor, stands_minor = case.request.amount.amount_minor, standing_minor(original)
    if amount_minor > stands_minor:
        words = (
            f"{display_minor(amount_minor)} to give back, and {display_minor(stands_minor)} "
            "of the sale stand"
        )
        return declined(case, Outcome.ABOVE_ORIGINAL, words)
    return approved(
        case,
        purse=original.purse,
        transfers=(mirrored(original, amount_minor),),
        explanation=f"{display_minor(stands_minor - amount_minor)} of the sale still stand",
        spent_minor=unspent_minor(original, amount_minor),
        spent_on=spent_on(case, original),
    )
