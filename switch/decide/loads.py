"""Loads: over the operator's counter at once, or by an agent in two steps.

An agent's money stands in PENDING from the moment it was taken until the load is confirmed
(domain §6.4 F5, §11.2): then it is in the purse, or after some weeks with the agent again,
and never both.

Before a chip's purse is loaded the chip says its counter and balance: what the ledger's shadow
has more than the chip is what the chip spent and nobody has uploaded yet (domain §3.2).
"""

from __future__ import annotations

import msgspec

from protocols.message import Balance, Kind, Outcome, Reply
from protocols.money import display_minor
from risk.assess import Assessment
from switch.decide.case import Case, approved, declined, declined_by_rule
from switch.decide.holds import open_hold
from switch.decide.moment import MINUTE_US
from switch.decide.refusals import assess, hotlist_refusal, pin_refusal, status_refusal
from switch.decide.standing import found_original
from switch.decide.taps import DAY_US
from switch.decide.terms import TRUST_ACCOUNT
from switch.posting import (
    ChipChange,
    ChipFacts,
    Hold,
    HoldOpening,
    HoldPurpose,
    Posting,
    Purse,
    Transfer,
    purse_book,
)


class LoadAgreed(msgspec.Struct, frozen=True, gc=False):
    """The purse that a load is for, what the rules said, and what a chip proved."""

    purse: Purse
    assessment: Assessment
    proof: ChipChange | None


def load(case: Case) -> Posting:
    """Credits the purse; with an original it is the confirmation of a pending load."""
    if case.request.linked:
        return _confirmation(case)
    agreed = _agree_to_load(case, waiting_minor=0)
    if isinstance(agreed, Posting):
        return agreed
    transfer = Transfer(
        case.terms.settlement_accounts[TRUST_ACCOUNT],
        purse_book(case.account.account_id, agreed.purse),
        case.request.amount.amount_minor,
    )
    return approved(
        case,
        purse=agreed.purse,
        transfers=(transfer,),
        assessment=agreed.assessment,
        chip=agreed.proof,
    )


def load_pending(case: Case) -> Posting:
    """The agent owes the money from now on; the purse has it when the load is confirmed."""
    agreed = _agree_to_load(case, waiting_minor=_waiting_minor(case))
    if isinstance(agreed, Posting):
        return agreed
    request, terms = case.request, case.terms
    amount_minor = request.amount.amount_minor
    transfer = Transfer(
        case.settlement_account("AGENT", request.acquirer),
        case.settlement_account("PENDING", request.acquirer),
        amount_minor,
    )
    expires_at_us = case.moment.now_us + terms.load_expiry_minutes * MINUTE_US
    posting = approved(
        case,
        purse=agreed.purse,
        transfers=(transfer,),
        opens=HoldOpening(HoldPurpose.LOAD, agreed.purse, amount_minor, expires_at_us),
        assessment=agreed.assessment,
        chip=agreed.proof,
    )
    return posting if agreed.proof is None else _telling_the_shadow(case, posting)


def _telling_the_shadow(case: Case, posting: Posting) -> Posting:
    """With what the ledger thinks is on the chip: the reader says what is still missing."""
    state = case.account.purses[Purse.CHIP]
    balance = Balance(Purse.CHIP.name, state.balance_minor, state.available_minor)
    reply = Reply(
        Outcome.APPROVED,
        approved_minor=posting.approved_minor,
        auth_code=posting.auth_code,
        rrn=posting.rrn,
        balances=(balance,),
    )
    return msgspec.structs.replace(posting, reply=reply)


def shadow_told(case: Case) -> tuple[Balance, ...]:
    """The same for a load that is told once more: as its chip's last proof has it."""
    chip = case.request.tap.chip if case.request.tap is not None else None
    known = case.loaded.chip
    if chip is None or known is None or known.proven_counter != chip.counter:
        return ()
    balance_minor = chip.balance_minor + known.proven_missing_minor
    return (Balance(Purse.CHIP.name, balance_minor, balance_minor),)


def _agree_to_load(case: Case, *, waiting_minor: int) -> LoadAgreed | Posting:
    """The ladder of a load; `waiting_minor` will be in GEN too, once it is confirmed."""
    request, account = case.request, case.account
    refused = status_refusal(case)
    if refused is not None:
        return refused
    if request.purse not in Purse.__members__ or Purse[request.purse] not in account.purses:
        return declined(case, Outcome.PURSE_NOT_ALLOWED, "the card has no such purse")
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    refused = hotlist_refusal(case)
    if refused is not None:
        return refused
    purse = Purse[request.purse]
    proof = _proof(case) if purse is Purse.CHIP else None
    if isinstance(proof, Posting):
        return proof
    balance_minor = account.purses[purse].balance_minor
    assessment = assess(case, balance_minor)
    if not assessment.decision.approved:
        return declined_by_rule(case, assessment)
    cap_minor = case.terms.balance_caps_minor[account.tier]
    after_minor = balance_minor + waiting_minor + request.amount.amount_minor
    if purse is Purse.GEN and after_minor > cap_minor:
        words = (
            f"the load would take {purse.name} above {display_minor(cap_minor)}, the most "
            f"that tier {account.tier} may keep"
        )
        return declined(case, Outcome.BALANCE_CAP, words, assessment)
    return LoadAgreed(purse, assessment, proof)


def _proof(case: Case) -> ChipChange | Posting:
    """What a chip says of itself, held against its records; a posting is the refusal."""
    tap = case.request.tap
    chip = tap.chip if tap is not None else None
    if tap is None or chip is None:
        words = "the purse of a chip is loaded at a reader, which tells its counter and balance"
        return declined(case, Outcome.PURSE_NOT_ALLOWED, words)
    if case.moment.now_us - tap.event_at_us >= DAY_US:
        # Older than that it would not be found by its key, if it came before.
        words = "the load was begun more than a day ago; begin it again"
        return declined(case, Outcome.SUSPECTED_FRAUD, words)
    if any(
        hold.purse == Purse.CHIP and hold.purpose is HoldPurpose.LOAD for hold in _waiting(case)
    ):
        words = "an earlier load of the chip waits to be confirmed or taken back"
        return declined(case, Outcome.COUNT_LIMIT, words)
    known = case.loaded.chip or ChipFacts()
    missing_minor = case.account.purses[Purse.CHIP].balance_minor - chip.balance_minor
    some_missing = chip.counter > known.highest or bool(known.gaps)
    if chip.counter < known.highest:
        words = f"the chip's counter {chip.counter} is behind {known.highest}, which it reached"
    elif missing_minor < 0:
        words = f"the chip has {display_minor(-missing_minor)} more than it was ever given"
    elif missing_minor and not some_missing:
        words = f"the chip lacks {display_minor(missing_minor)}, and all its records are here"
    else:
        return ChipChange(chip.counter, missing_minor=missing_minor)
    return declined(case, Outcome.SUSPECTED_FRAUD, words)


def _confirmation(case: Case) -> Posting:
    """Out of PENDING into the purse: exactly what waits, whatever became of the card since."""
    refused = pin_refusal(case)
    if refused is not None:
        return refused
    hold = open_hold(case, HoldPurpose.LOAD)
    if hold is None:
        return _nothing_waits(case)
    amount_minor = case.request.amount.amount_minor
    if amount_minor != hold.amount_minor:
        words = (
            f"{display_minor(amount_minor)} confirmed of a pending load of "
            f"{display_minor(hold.amount_minor)}"
        )
        return declined(case, Outcome.ABOVE_ORIGINAL, words)
    transfer = Transfer(
        case.settlement_account("PENDING", hold.acquirer),
        purse_book(case.account.account_id, hold.purse),
        amount_minor,
    )
    return approved(
        case,
        purse=hold.purse,
        transfers=(transfer,),
        closes=hold,
        original_id=hold.authorization_id,
        explanation="the pending load is confirmed",
    )


def _nothing_waits(case: Case) -> Posting:
    original = found_original(case)
    if original is None or original.kind is not Kind.LOAD_PENDING:
        words = "no pending load of this agent to confirm"
        return declined(case, Outcome.ORIGINAL_NOT_FOUND, words)
    words = "the pending load was confirmed, taken back or has gone back to the agent already"
    return declined(case, Outcome.ORIGINAL_RESOLVED, words)


def _waiting_minor(case: Case) -> int:
    """Pending loads of GEN, also those that this batch opened."""
    return sum(
        hold.amount_minor
        for hold in _waiting(case)
        if hold.purpose is HoldPurpose.LOAD and hold.purse == Purse.GEN
    )


def _waiting(case: Case) -> list[Hold | HoldOpening]:
    return [*case.loaded.holds, *case.account.opened]
