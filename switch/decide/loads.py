"""Loads: over the operator's counter at once, or by an agent in two steps.

An agent's money stands in PENDING from the moment it was taken until the load is confirmed
(domain §6.4 F5, §11.2): then it is in the purse, or after some weeks with the agent again,
and never both.
"""

from __future__ import annotations

from protocols.message import Kind, Outcome
from protocols.money import display_minor
from risk.assess import Assessment
from switch.decide.case import Case, approved, declined, declined_by_rule
from switch.decide.holds import open_hold
from switch.decide.moment import MINUTE_US
from switch.decide.refusals import assess, pin_refusal, status_refusal
from switch.decide.standing import found_original
from switch.decide.terms import TRUST_ACCOUNT
from switch.posting import Hold, HoldOpening, HoldPurpose, Posting, Purse, Transfer, purse_book


def load(case: Case) -> Posting:
    """Credits the purse; with an original it is the confirmation of a pending load."""
    if case.request.linked:
        return _confirmation(case)
    agreed = _agree_to_load(case, waiting_minor=0)
    if isinstance(agreed, Posting):
        return agreed
    purse, assessment = agreed
    transfer = Transfer(
        case.terms.settlement_accounts[TRUST_ACCOUNT],
        purse_book(case.account.account_id, purse),
        case.request.amount.amount_minor,
    )
    return approved(case, purse=purse, transfers=(transfer,), assessment=assessment)


def load_pending(case: Case) -> Posting:
    """The agent owes the money from now on; the purse has it when the load is confirmed."""
    agreed = _agree_to_load(case, waiting_minor=_waiting_minor(case))
    if isinstance(agreed, Posting):
        return agreed
    purse, assessment = agreed
    request, terms = case.request, case.terms
    amount_minor = request.amount.amount_minor
    transfer = Transfer(
        case.settlement_account("AGENT", request.acquirer),
        case.settlement_account("PENDING", request.acquirer),
        amount_minor,
    )
    expires_at_us = case.moment.now_us + terms.load_expiry_minutes * MINUTE_US
    return approved(
        case,
        purse=purse,
        transfers=(transfer,),
        opens=HoldOpening(HoldPurpose.LOAD, purse, amount_minor, expires_at_us),
        assessment=assessment,
    )


def _agree_to_load(case: Case, *, waiting_minor: int) -> tuple[Purse, Assessment] | Posting:
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
    purse = Purse[request.purse]
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
    return purse, assessment


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
    waiting: list[Hold | HoldOpening] = [*case.loaded.holds, *case.account.opened]
    return sum(
        hold.amount_minor
        for hold in waiting
        if hold.purpose is HoldPurpose.LOAD and hold.purse == Purse.GEN
    )
