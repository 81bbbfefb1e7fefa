"""What a purse has, for a terminal to show: nothing moves, and each answer is of now."""

from __future__ import annotations

import msgspec

from protocols.message import Balance, Kind, Outcome, Reply
from switch.decide.case import Case, approved, declined_by_rule
from switch.decide.keys import derived_key
from switch.decide.refusals import assess, hotlist_refusal, pin_refusal, status_refusal
from switch.posting import Posting, Purse, Stored


def inquiry(case: Case) -> Posting:
    """The balances of all purses, to a card that may be used."""
    refused = status_refusal(case) or pin_refusal(case)
    if refused is not None:
        return refused
    posting = approved(case, auth_code="")
    reply = Reply(Outcome.APPROVED, rrn=posting.rrn, balances=balances(case))
    return msgspec.structs.replace(posting, reply=reply)


def bill_inquiry(case: Case) -> Posting:
    """A bill is asked for with this card: nothing moves, but rules count it (domain §5)."""
    refused = status_refusal(case) or pin_refusal(case) or hotlist_refusal(case)
    if refused is not None:
        return refused
    assessment = assess(case, 0)
    if not assessment.decision.approved:
        return declined_by_rule(case, assessment)
    return approved(case, assessment=assessment, auth_code="")


def asked_again(case: Case, stored: Stored) -> Posting | Reply:
    """The repeat of an inquiry that was answered: asked anew, and written down only where a
    wrong PIN must count."""
    refused = status_refusal(case) or pin_refusal(case)
    if refused is None:
        return Reply(
            Outcome.APPROVED,
            authorization_id=stored.authorization_id,
            rrn=stored.rrn,
            replayed=True,
            balances=balances(case),
        )
    if case.pin_tries < 0:
        return Reply(refused.outcome)
    repeat = case.request.key + case.moment.now_us.to_bytes(8, "big")
    return msgspec.structs.replace(
        refused,
        kind=Kind.REPEAT,
        original_id=stored.authorization_id,
        key=derived_key(repeat, b"repeat"),
    )


def balances(case: Case) -> tuple[Balance, ...]:
    """What each purse has and what of it can be spent, by purse number.

    The shadow of the chip's purse is left out: what the chip has is known to the chip.
    """
    return tuple(
        Balance(Purse(number).name, state.balance_minor, state.available_minor)
        for number, state in sorted(case.account.purses.items())
        if number != Purse.CHIP
    )
