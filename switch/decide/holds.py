"""Money set aside: a preauthorization opens a hold, and exactly one message resolves it.

    open ── completion ─────────────▶ completed   the amount moves, the rest is free at once
      │ ├── cancel, reversal, or
      │ │   a completion of nothing ▶ cancelled   all of it is free
      │ └── expiry ─────────────────▶ expired     all of it is free
      └◀─ a completion taken back, or a cancel reversed, opens a new hold for the same
          preauthorization, with the same amount and expiry

The same table holds for a pending load, whose money waits in PENDING instead of a purse
(see loads.py), and for a journey, whose expiry is charged instead of freed (see taps.py). An
expired preauthorization may still be completed: as a forced sale.
"""

from __future__ import annotations

import msgspec

from protocols.message import Kind, Outcome, Reply
from protocols.money import display_minor
from switch.decide.case import Case, approved, declined, give_back_event
from switch.decide.moment import MINUTE_US
from switch.decide.purses import agree_to_pay, sale_leg
from switch.decide.refusals import pin_refusal
from switch.decide.standing import followed_by, found_original
from switch.decide.taps import incomplete
from switch.posting import (
    PURSE_BOOKS_FROM,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldStatus,
    Original,
    Posting,
    Purse,
    Transfer,
)


def preauthorization(case: Case) -> Posting:
    """Decided like a sale; the money stays in the purse, set aside."""
    agreed = agree_to_pay(case)
    if isinstance(agreed, Posting):
        return agreed
    if _open_count(case) >= case.terms.holds_open_max:
        words = f"{case.terms.holds_open_max} preauthorizations are open on the account already"
        return declined(case, Outcome.COUNT_LIMIT, words, agreed.assessment)
    opens = HoldOpening(
        HoldPurpose.PREAUTHORIZATION, agreed.purse, agreed.amount_minor, _expires_at_us(case)
    )
    return approved(case, purse=agreed.purse, opens=opens, assessment=agreed.assessment)


def cancel(case: Case) -> Posting:
    """Frees the whole hold."""
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    hold = open_hold(case, HoldPurpose.PREAUTHORIZATION)
    if hold is None:
        return _not_open(case, found_preauthorization(case))
    return cancelled(case, hold)


def cancelled(case: Case, hold: Hold) -> Posting:
    """The posting of a cancel, also where a completion of nothing asked for it."""
    give_back_event(case.account, hold.authorization_id)
    return approved(
        case,
        kind=Kind.PREAUTHORIZATION_CANCEL,
        purse=hold.purse,
        closes=hold,
        closed_as=HoldStatus.CANCELLED,
        original_id=hold.authorization_id,
        explanation=f"{display_minor(hold.amount_minor)} are free again",
    )


def completion(case: Case) -> Posting:
    """Takes at most what the hold has; whatever became of the card since."""
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    hold = open_hold(case, HoldPurpose.PREAUTHORIZATION)
    amount_minor = case.request.amount.amount_minor
    if hold is None:
        return _late_completion(case, found_preauthorization(case), amount_minor)
    if amount_minor > hold.amount_minor:
        return _above(case, amount_minor, hold.amount_minor)
    if amount_minor == 0:
        posting = cancelled(case, hold)
        nothing = Reply(Outcome.APPROVED, auth_code=posting.auth_code, rrn=posting.rrn)
        return msgspec.structs.replace(posting, reply=nothing)
    return approved(
        case,
        purse=hold.purse,
        transfers=(sale_leg(case, Purse(hold.purse), amount_minor),),
        closes=hold,
        original_id=hold.authorization_id,
        explanation=f"{display_minor(hold.amount_minor - amount_minor)} are free again",
        spent_count=1,
        spent_minor=amount_minor,
    )


def _late_completion(case: Case, original: Original | None, amount_minor: int) -> Posting:
    """A completion whose hold is not open: forced where it only expired (domain §6.4 F8)."""
    if original is None or _resolved(original) or amount_minor == 0:
        return _not_open(case, original)
    if amount_minor > original.approved_minor:
        return _above(case, amount_minor, original.approved_minor)
    transfer = sale_leg(case, Purse(original.purse), amount_minor)
    if case.account.purses[original.purse].available_minor < amount_minor:
        words = f"the hold has expired, and {display_minor(amount_minor)} are not in the purse"
        return declined(case, Outcome.INSUFFICIENT_FUNDS, words)
    return approved(
        case,
        purse=original.purse,
        transfers=(transfer,),
        explanation="forced: completed after its hold had expired",
        spent_count=1,
        spent_minor=amount_minor,
    )


def expiry(case: Case) -> Posting | Reply:
    """Resolves a hold or a pending load whose time is over; nothing where another was first."""
    now_us, standing_for = case.moment.now_us, case.request.original_id
    due = [hold for hold in case.loaded.holds if hold.authorization_id == standing_for]
    if not due or due[0].expires_at_us > now_us:
        return Reply(Outcome.APPROVED, replayed=True)
    hold = due[0]
    if hold.purpose is HoldPurpose.JOURNEY:
        return incomplete(case, hold)
    give_back_event(case.account, hold.authorization_id)
    returning = (to_agent(case, hold),) if hold.purpose is HoldPurpose.LOAD else ()
    return approved(
        case,
        purse=hold.purse,
        transfers=returning,
        closes=hold,
        closed_as=HoldStatus.EXPIRED,
        explanation=(
            "not confirmed in time: back to the agent"
            if returning
            else "not completed in time: free again"
        ),
        auth_code="",
    )


def to_agent(case: Case, hold: Hold) -> Transfer:
    """A pending load's money back to the agent who took it."""
    return Transfer(
        case.settlement_account("PENDING", hold.acquirer),
        case.settlement_account("AGENT", hold.acquirer),
        hold.amount_minor,
    )


def open_hold(case: Case, purpose: HoldPurpose) -> Hold | None:
    """The open hold that the message means: by its original, else by RRN and approval code."""
    request, original = case.request, case.loaded.original
    mine = [
        hold
        for hold in case.loaded.holds
        if hold.purpose is purpose and hold.acquirer == request.acquirer
    ]
    if original is not None:
        for hold in mine:
            if hold.authorization_id == original.authorization_id:
                return hold
    reference = request.original
    if reference is None or (original is not None and original.kind in _OPENING_KINDS):
        return None
    for hold in mine:
        pairs = ((reference.rrn, hold.rrn), (reference.auth_code, hold.auth_code))
        said = [(wanted, has) for wanted, has in pairs if wanted]
        if said and all(wanted == has for wanted, has in said):
            return hold
    return None


def found_preauthorization(case: Case) -> Original | None:
    """The approved preauthorization of this acquirer that the message is about."""
    original = found_original(case)
    return original if original is not None and original.kind is Kind.PREAUTHORIZATION else None


def reopening(
    case: Case, original: Original, returned: Transfer | None = None
) -> HoldOpening | None:
    """The hold that `original` resolved, opened once more; None where it has expired since or
    the money is not there, counting what `returned` gives back, or takes, beside it."""
    hold = original.hold
    if hold is None or hold.expires_at_us <= case.moment.now_us:
        return None
    available_minor = case.account.purses[hold.purse].available_minor
    if returned is not None and returned.credit_account_id >= PURSE_BOOKS_FROM:
        available_minor += returned.amount_minor
    if returned is not None and returned.debit_account_id >= PURSE_BOOKS_FROM:
        available_minor -= returned.amount_minor
    if available_minor < hold.amount_minor:
        return None
    return HoldOpening(
        hold.purpose, hold.purse, hold.amount_minor, hold.expires_at_us, hold.authorization_id
    )


_OPENING_KINDS = frozenset({Kind.PREAUTHORIZATION, Kind.LOAD_PENDING})


def _open_count(case: Case) -> int:
    loaded = [h for h in case.loaded.holds if h.purpose is HoldPurpose.PREAUTHORIZATION]
    opened = [h for h in case.account.opened if h.purpose is HoldPurpose.PREAUTHORIZATION]
    return len(loaded) + len(opened)


def _expires_at_us(case: Case) -> int:
    terms = case.terms
    minutes = terms.hold_expiry_minutes_by_mcc.get(case.request.mcc, terms.hold_expiry_minutes)
    return case.moment.now_us + minutes * MINUTE_US


def _resolved(original: Original) -> bool:
    return (
        original.followers.reversed
        or followed_by(original, Kind.COMPLETION)
        or followed_by(original, Kind.PREAUTHORIZATION_CANCEL)
    )


def _not_open(case: Case, original: Original | None) -> Posting:
    if original is None:
        words = "no preauthorization of this acquirer to complete or cancel"
        return declined(case, Outcome.ORIGINAL_NOT_FOUND, words)
    words = "its hold was completed, cancelled or has expired already"
    return declined(case, Outcome.ORIGINAL_RESOLVED, words)


def _above(case: Case, amount_minor: int, held_minor: int) -> Posting:
    words = f"{display_minor(amount_minor)} asked of a hold of {display_minor(held_minor)}"
    return declined(case, Outcome.ABOVE_ORIGINAL, words)
