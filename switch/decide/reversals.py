"""Reversals: as if the original had not been, whatever kind it was and whoever asks.

A client's reversal takes an approval back whole or in part, before or after its original
came. The switch's own takes back an approval that was answered too late, unless another
answer has given it out. Neither asks for status, PIN or rules.

| Original | What its reversal does |
|---|---|
| sale | the money goes back |
| completion | the money goes back, its hold opens again |
| void, refund, smaller total | the money is taken again; a hold opened by a void closes |
| preauthorization | its hold is cancelled |
| its cancel | the hold opens again |
| pending load | back to the agent |
| confirmed load | out of the purse, pending again |
| load over the counter | out of the purse |
| single tap, tap-off | what it was charged goes back; the journey is open again |
| tap-on | its hold is cancelled |
| money back of a late tap | it is taken again |

A tap that was reversed is not of its fare day any more: what the other taps cost without it
comes with the day's next one.
"""

from __future__ import annotations

from typing import assert_never

import msgspec

from protocols.message import Kind, Outcome, Reply
from protocols.money import display_minor
from switch.decide.case import Case, approved, declined, give_back_event
from switch.decide.holds import reopening, to_agent
from switch.decide.moment import MINUTE_US, rrn_of
from switch.decide.standing import (
    SALES,
    changed_minor,
    followed_by,
    mirrored,
    paid_from,
    spent_on,
    standing_minor,
    unspent_minor,
)
from switch.posting import (
    Decision,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldStatus,
    Original,
    Posting,
    Transfer,
)

PARTLY_REVERSED = SALES | {Kind.REFUND}
"""Kinds of which a part may be reversed (DE95); the others stand or fall whole."""

_NOTHING_LEFT = Reply(Outcome.APPROVED, replayed=True)


def reversal(case: Case) -> Decision:
    """The ladder up to what the kind of the original decides."""
    original, internal = case.loaded.original, _internal(case)
    if original is None or original.account_id != case.account.account_id:
        return _not_found(case)
    if original.kind is Kind.TOMBSTONE or original.acquirer != case.request.acquirer:
        return _not_found(case)
    if not original.outcome.approved:
        return _NOTHING_LEFT if internal else Reply(Outcome.APPROVED)
    if original.followers.reversed:
        return _NOTHING_LEFT
    if internal and original.followers.claims > 1:
        words = "this answer came too late, another one gave the approval out"
        return declined(case, Outcome.ANSWERED_LATE, words)
    replacement_minor = case.request.replacement_minor
    if replacement_minor and original.kind not in PARTLY_REVERSED:
        words = "a message of this kind is reversed whole, not in part"
        return declined(case, Outcome.UNSUPPORTED, words)
    return _of_kind(case, original)


def _of_kind(case: Case, original: Original) -> Decision:
    match original.kind:
        case Kind.PURCHASE | Kind.OFFLINE_SALE | Kind.COMPLETION:
            return _of_sale(case, original)
        case Kind.VOID | Kind.REFUND | Kind.CREDIT_ADJUSTMENT:
            return _of_giving_back(case, original)
        case Kind.PREAUTHORIZATION:
            return _of_preauthorization(case, original)
        case Kind.PREAUTHORIZATION_CANCEL:
            return _of_cancel(case, original)
        case Kind.LOAD_PENDING:
            return _of_pending_load(case, original)
        case Kind.LOAD:
            return _of_load(case, original)
        case Kind.INQUIRY:
            return Reply(Outcome.APPROVED)
        case Kind.ADJUSTMENT:
            # Nothing here tells what was refunded of the sale with it: giving it back could
            # give it back twice.
            words = "an adjustment is corrected by another adjustment"
            return declined(case, Outcome.UNSUPPORTED, words)
        case Kind.BILL:
            return _of_sale(case, original)
        case Kind.FARE | Kind.TAP_OFF | Kind.FARE_CREDIT:
            return _of_priced_tap(case, original)
        case Kind.TAP_ON:
            return _of_tap_on(case, original)
        case Kind.INSPECT | Kind.BILL_INQUIRY:
            return Reply(Outcome.APPROVED)
        case Kind.INCOMPLETE_FARE | Kind.OFFLINE_FARE:
            return declined(case, Outcome.UNSUPPORTED, "a message of this kind is not reversed")
        case Kind.REVERSAL | Kind.HOLD_EXPIRY | Kind.REPEAT | Kind.TOMBSTONE:
            return declined(case, Outcome.UNSUPPORTED, "a message of this kind is not reversed")
        case _:
            assert_never(original.kind)


def _of_sale(case: Case, original: Original) -> Decision:
    stands_minor, replacement_minor = standing_minor(original), case.request.replacement_minor
    if replacement_minor > stands_minor:
        return _above(case, replacement_minor, stands_minor)
    amount_minor = stands_minor - replacement_minor
    if amount_minor <= 0:
        return _NOTHING_LEFT
    if not case.account.account_id and changed_minor(original, Kind.REVERSAL):
        # The ledger writes one a day: without an account nothing else keeps two apart.
        words = "a sale of another issuer's card is reversed once"
        return declined(case, Outcome.UNSUPPORTED, words)
    transfer = mirrored(original, amount_minor)
    whole = amount_minor == original.approved_minor
    if not replacement_minor:
        give_back_event(case.account, original.authorization_id or case.original_id)
    completed = whole and original.kind is Kind.COMPLETION
    return _taken_back(
        case,
        original,
        transfers=(transfer,),
        opens=reopening(case, original, transfer) if completed else None,
        spent_minor=unspent_minor(original, amount_minor),
    )


def _of_priced_tap(case: Case, original: Original) -> Decision:
    amount_minor = original.approved_minor
    transfers = (mirrored(original, amount_minor),) if amount_minor else ()
    if not all(paid_from(case, transfer) for transfer in transfers):
        return _no_longer_there(case, amount_minor)
    give_back_event(case.account, original.authorization_id)
    opens = reopening(case, original, *transfers) if original.hold is not None else None
    return _taken_back(
        case,
        original,
        transfers=transfers,
        opens=opens,
        spent_minor=unspent_minor(original, amount_minor),
    )


def _of_tap_on(case: Case, original: Original) -> Decision:
    hold = _hold_standing_for(case, original)
    if hold is not None:
        give_back_event(case.account, original.authorization_id)
        return _taken_back(case, original, closes=hold, closed_as=HoldStatus.CANCELLED)
    if any(followed_by(original, kind) for kind in _JOURNEY_ENDS):
        words = "the journey has ended; reverse its tap-off"
        return declined(case, Outcome.ORIGINAL_RESOLVED, words)
    # It set nothing aside, or settled at once with the tap-off that came before it.
    return _of_priced_tap(case, original)


_JOURNEY_ENDS = (Kind.TAP_OFF, Kind.INCOMPLETE_FARE, Kind.FARE_CREDIT)


def _of_giving_back(case: Case, original: Original) -> Decision:
    stands_minor, replacement_minor = standing_minor(original), case.request.replacement_minor
    if replacement_minor > stands_minor:
        return _above(case, replacement_minor, stands_minor)
    amount_minor = stands_minor - replacement_minor
    if amount_minor <= 0:
        return _NOTHING_LEFT
    opened = _hold_opened_by(case, original)
    if original.hold is not None and opened is None:
        words = "the hold that it opened again was resolved since"
        return declined(case, Outcome.ORIGINAL_RESOLVED, words)
    transfer = mirrored(original, amount_minor)
    if not paid_from(case, transfer, opened.amount_minor if opened is not None else 0):
        return _no_longer_there(case, amount_minor)
    return _taken_back(
        case,
        original,
        transfers=(transfer,),
        closes=opened,
        spent_minor=unspent_minor(original, amount_minor),
    )


def _of_preauthorization(case: Case, original: Original) -> Decision:
    hold = _hold_standing_for(case, original)
    if hold is not None:
        give_back_event(case.account, original.authorization_id)
        return _taken_back(case, original, closes=hold, closed_as=HoldStatus.CANCELLED)
    if followed_by(original, Kind.COMPLETION):
        words = "the preauthorization was completed; reverse the completion"
        return declined(case, Outcome.ORIGINAL_RESOLVED, words)
    return _NOTHING_LEFT


def _of_cancel(case: Case, original: Original) -> Decision:
    hold = original.hold
    if hold is None or hold.expires_at_us <= case.moment.now_us:
        # What the cancel freed would be free by now without it.
        return _NOTHING_LEFT
    opens = reopening(case, original)
    if opens is None:
        return _no_longer_there(case, hold.amount_minor)
    return _taken_back(case, original, opens=opens)


def _of_pending_load(case: Case, original: Original) -> Decision:
    hold = _hold_standing_for(case, original)
    if hold is not None:
        return _taken_back(
            case,
            original,
            transfers=(to_agent(case, hold),),
            closes=hold,
            closed_as=HoldStatus.CANCELLED,
        )
    if followed_by(original, Kind.HOLD_EXPIRY):
        return _NOTHING_LEFT
    words = "the pending load was confirmed; reverse the confirmation"
    return declined(case, Outcome.ORIGINAL_RESOLVED, words)


def _of_load(case: Case, original: Original) -> Decision:
    amount_minor = standing_minor(original)
    transfer = mirrored(original, amount_minor)
    if not paid_from(case, transfer):
        return _no_longer_there(case, amount_minor)
    give_back_event(case.account, original.authorization_id)
    opens = _pending_again(case, original, transfer) if original.original_id else None
    return _taken_back(case, original, transfers=(transfer,), opens=opens)


def _pending_again(case: Case, original: Original, transfer: Transfer) -> HoldOpening:
    """The pending load that was confirmed waits once more, till when it did before."""
    hold = original.hold
    later_us = case.moment.now_us + case.terms.load_expiry_minutes * MINUTE_US
    return HoldOpening(
        HoldPurpose.LOAD,
        original.purse,
        transfer.amount_minor,
        hold.expires_at_us if hold is not None else later_us,
        original.original_id,
    )


def _taken_back(
    case: Case,
    original: Original,
    *,
    transfers: tuple[Transfer, ...] = (),
    opens: HoldOpening | None = None,
    closes: Hold | None = None,
    closed_as: HoldStatus = HoldStatus.COMPLETED,
    spent_minor: int = 0,
) -> Posting:
    internal = _internal(case)
    return approved(
        case,
        kind=Kind.REVERSAL,
        purse=original.purse,
        transfers=transfers,
        opens=opens,
        closes=closes,
        closed_as=closed_as,
        spent_minor=spent_minor,
        spent_on=spent_on(case, original),
        auth_code="",
        rrn=case.request.rrn if internal else rrn_of(case.request, case.moment),
        explanation=(
            "reversed by the switch: the approval came too late to be answered"
            if internal
            else "reversed by the acquirer"
        ),
    )


def _internal(case: Case) -> bool:
    """Whether the switch itself reverses, because it was too late with its answer."""
    return case.request.original is None


def _not_found(case: Case) -> Posting:
    """Nothing to reverse; the original, should it still come, finds a tombstone."""
    words = "the authorization to reverse is not in the ledger"
    posting = declined(case, Outcome.ORIGINAL_NOT_FOUND, words)
    reference = case.request.original
    if reference is not None and reference.key and case.loaded.original is None:
        posting = msgspec.structs.replace(posting, tombstone_key=reference.key)
    return posting


def _hold_standing_for(case: Case, original: Original) -> Hold | None:
    for hold in case.loaded.holds:
        if hold.authorization_id == original.authorization_id:
            return hold
    return None


def _hold_opened_by(case: Case, original: Original) -> Hold | None:
    for hold in case.loaded.holds:
        if hold.hold_id == original.authorization_id:
            return hold
    return None


def _above(case: Case, replacement_minor: int, stands_minor: int) -> Posting:
    words = (
        f"{display_minor(replacement_minor)} shall stand of a message of which "
        f"{display_minor(stands_minor)} do"
    )
    return declined(case, Outcome.ABOVE_ORIGINAL, words)


def _no_longer_there(case: Case, amount_minor: int) -> Posting:
    words = f"{display_minor(amount_minor)} to take back is no longer in the purse"
    return declined(case, Outcome.INSUFFICIENT_FUNDS, words)
