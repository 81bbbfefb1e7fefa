"""What still stands of an earlier message, and its money the other way round.

A sale of 500 that was adjusted to 600 and of which 100 was refunded stands with 500. Each
message that changed it counts once, unless it was itself reversed:

    total     = approved + adjustments − credit adjustments − reversed parts
    standing  = total − voids − refunds,  0 once it is reversed whole
"""

from __future__ import annotations

from datetime import date

from protocols.message import Kind
from switch.decide.case import Case
from switch.posting import PURSE_BOOKS_FROM, Original, Transfer

SALES = frozenset({Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.COMPLETION, Kind.BILL})
"""Kinds that took money for goods: what voids, refunds and adjustments are about."""


def found_original(case: Case) -> Original | None:
    """The approval that the message is about, where it is this account's and this acquirer's."""
    original = case.loaded.original
    if original is None or original.account_id != case.account.account_id:
        return None
    if original.acquirer != case.request.acquirer or not original.outcome.approved:
        return None
    return original


def found_sale(case: Case) -> Original | None:
    """The same, where it was a sale in the currency of the message."""
    original = found_original(case)
    if original is None or original.kind not in SALES:
        return None
    return original if original.currency == case.request.amount.currency else None


def changed_minor(original: Original, *kinds: Kind) -> int:
    """What the messages of these kinds changed of it, less what was taken back of them."""
    return sum(
        change.approved_minor
        for change in original.followers.changes
        if change.kind in kinds and not change.undone
    )


def followed_by(original: Original, kind: Kind) -> bool:
    """Whether a message of this kind resolved it and was not taken back."""
    return any(change.kind is kind and not change.undone for change in original.followers.changes)


def total_minor(original: Original) -> int:
    """What it came to, by itself and its adjustments, before anything was given back."""
    added_minor = changed_minor(original, Kind.ADJUSTMENT)
    removed_minor = changed_minor(original, Kind.CREDIT_ADJUSTMENT, Kind.REVERSAL)
    return original.approved_minor + added_minor - removed_minor


def standing_minor(original: Original) -> int:
    """What is left of it to give back."""
    if original.followers.reversed:
        return 0
    return total_minor(original) - changed_minor(original, Kind.VOID, Kind.REFUND)


def leg_of(original: Original) -> Transfer:
    """Its one transfer: each kind that moves money moves it once. Raises ValueError if not."""
    (leg,) = original.legs
    return leg


def mirrored(original: Original, amount_minor: int) -> Transfer:
    """That much of its money the other way round, to and from where it came."""
    leg = leg_of(original)
    return Transfer(leg.credit_account_id, leg.debit_account_id, amount_minor)


def paid_from(case: Case, transfer: Transfer, freed_minor: int = 0) -> bool:
    """Whether the purse that a transfer debits, if it is one, has the money.

    `freed_minor` is what a hold resolved beside it makes available.
    """
    book = transfer.debit_account_id
    if book < PURSE_BOOKS_FROM:
        return True
    available_minor = case.account.purses[book % 16].available_minor
    return available_minor + freed_minor >= transfer.amount_minor


def unspent_minor(original: Original, amount_minor: int) -> int:
    """What giving `amount_minor` back changes of what was spent, on the original's day."""
    if not original.spent_minor:
        return 0
    return -amount_minor if original.spent_minor > 0 else amount_minor


def spent_on(case: Case, original: Original) -> date | None:
    """The business day whose week and month the original counts in; None where it is today's."""
    return other_day(case, original.spent_on or original.business_date)


def other_day(case: Case, day: date) -> date | None:
    """A business day as `Posting.spent_on` has it: None for that of the posting itself."""
    return None if day == case.moment.business_date else day
