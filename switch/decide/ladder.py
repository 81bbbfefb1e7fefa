"""From facts to a decision: pure, so a recorded day decides the same way again."""

from __future__ import annotations

from typing import assert_never

from protocols.message import Kind, Outcome, Reply
from switch.decide import giving_back, holds, inquiry, loads, sales, taps
from switch.decide.case import Case, declined, nobody, refusal, remember
from switch.decide.forwarded import forwarded_decision
from switch.decide.moment import Moment, not_before, not_before_facts
from switch.decide.offline_fares import offline_fare
from switch.decide.reversals import reversal
from switch.decide.standin import STANDIN_KINDS, standin_sale
from switch.decide.stored import stored_answer
from switch.decide.terms import Terms
from switch.posting import Account, Decision, Directed, Loaded, Posting

MOVING_KINDS = frozenset(
    {
        Kind.PURCHASE,
        Kind.VOID,
        Kind.REFUND,
        Kind.PREAUTHORIZATION,
        Kind.LOAD_PENDING,
        Kind.LOAD,
        Kind.OFFLINE_SALE,
        Kind.BILL,
    }
)
"""Kinds that mean nothing without an amount; a transfer or a hold of nothing is no posting."""


def decide(directed: Directed, loaded: Loaded, terms: Terms, moment: Moment) -> Decision:
    """The decision on one request, given everything the ledger knows about it."""
    account = loaded.account
    case = Case(directed, loaded, account or nobody(), terms, not_before_facts(moment, loaded))
    decision = _decided(case, known=account is not None)
    if account is not None and isinstance(decision, Posting) and decision.kind is not Kind.REPEAT:
        remember(account, decision)
    return decision


def _decided(case: Case, *, known: bool) -> Decision:
    request, stored, forwarded = case.request, case.loaded.stored, case.directed.forwarded
    standin = request.standin_at_us != 0 and request.kind in STANDIN_KINDS
    if request.kind is Kind.OFFLINE_FARE:
        # What is stored under its key is told apart from it by the chip's counter.
        return offline_fare(case, known=known)
    if stored is not None and not (standin and stored.kind is not Kind.TOMBSTONE):
        return stored_answer(case, stored)
    if forwarded is not None:
        return forwarded_decision(case, forwarded)
    if not request.amount.amount_minor and request.kind in MOVING_KINDS:
        return declined(case, Outcome.INVALID_AMOUNT, "there is no amount to move")
    if standin:
        return standin_sale(case)
    if not known:
        return refusal(case.directed, case.moment, Outcome.UNKNOWN_CARD, "no such card")
    return _of_kind(case)


def _of_kind(case: Case) -> Decision:
    match case.request.kind:
        case Kind.PURCHASE:
            return sales.purchase(case)
        case Kind.VOID:
            return giving_back.void(case)
        case Kind.REFUND:
            return giving_back.refund(case)
        case Kind.PREAUTHORIZATION:
            return holds.preauthorization(case)
        case Kind.PREAUTHORIZATION_CANCEL:
            return holds.cancel(case)
        case Kind.COMPLETION:
            return holds.completion(case)
        case Kind.INQUIRY:
            return inquiry.inquiry(case)
        case Kind.LOAD_PENDING:
            return loads.load_pending(case)
        case Kind.LOAD:
            return loads.load(case)
        case Kind.OFFLINE_SALE:
            return sales.offline_sale(case)
        case Kind.ADJUSTMENT:
            return sales.adjustment(case)
        case Kind.REVERSAL:
            return reversal(case)
        case Kind.HOLD_EXPIRY:
            return holds.expiry(case)
        case Kind.FARE | Kind.TAP_ON | Kind.TAP_OFF:
            return taps.priced_tap(case)
        case Kind.INSPECT:
            return taps.inspect(case)
        case Kind.BILL_INQUIRY:
            return inquiry.bill_inquiry(case)
        case Kind.BILL:
            return sales.bill(case)
        case (
            Kind.CREDIT_ADJUSTMENT
            | Kind.INCOMPLETE_FARE
            | Kind.FARE_CREDIT
            | Kind.OFFLINE_FARE
            | Kind.REPEAT
            | Kind.TOMBSTONE
        ):
            # The switch writes these by itself, and nobody sends them; or they came no further
            # than above.
            return Reply(Outcome.UNSUPPORTED)
        case _:
            assert_never(case.request.kind)


def resolved_as_answered(
    directed: Directed, account: Account | None, outcome: Outcome, moment: Moment
) -> Posting:
    """The record of a request that was answered while its posting was in doubt.

    Written under the same key and version check as the posting itself: whichever of the
    two comes first makes the other fail, so the ledger ends up agreeing with the answer
    or shows the approval that must now be reversed.
    """
    moment = not_before(moment, account)
    posting = refusal(directed, moment, outcome, "answered before the ledger could tell")
    if account is not None:
        remember(account, posting)
    return posting
