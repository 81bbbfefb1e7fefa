"""Cards of another city or bank: their host has decided, here is written who owes what.

There is no account and no rule: what the issuer owes (INTERCITY) against what the acquirer
is due (ACQ).
"""

from __future__ import annotations

from typing import assert_never

from protocols.message import Kind, Outcome, Reply, Request
from switch.decide.case import Case, approved, declined
from switch.decide.reversals import reversal
from switch.decide.standing import found_original
from switch.posting import Decision, Forwarded, Transfer


def forwarded_decision(case: Case, forwarded: Forwarded) -> Decision:
    """The record of what the issuer's host answered."""
    if not forwarded.outcome.approved:
        words = f"declined by the issuer's host {forwarded.upstream}"
        return declined(case, forwarded.outcome, words)
    match case.request.kind:
        case Kind.PURCHASE | Kind.OFFLINE_SALE | Kind.COMPLETION:
            return _moved(case, forwarded, "INTERCITY", "ACQ")
        case Kind.REFUND | Kind.VOID:
            return _moved(case, forwarded, "ACQ", "INTERCITY")
        case Kind.PREAUTHORIZATION | Kind.PREAUTHORIZATION_CANCEL | Kind.INQUIRY:
            return _noted(case, forwarded)
        case Kind.REVERSAL:
            return reversal(case)
        case (
            Kind.LOAD_PENDING
            | Kind.LOAD
            | Kind.ADJUSTMENT
            | Kind.CREDIT_ADJUSTMENT
            | Kind.HOLD_EXPIRY
            | Kind.FARE
            | Kind.TAP_ON
            | Kind.TAP_OFF
            | Kind.INCOMPLETE_FARE
            | Kind.FARE_CREDIT
            | Kind.INSPECT
            | Kind.OFFLINE_FARE
            | Kind.BILL_INQUIRY
            | Kind.BILL
            | Kind.REPEAT
            | Kind.TOMBSTONE
        ):
            words = "messages of this kind are not sent to other issuers"
            return declined(case, Outcome.UNSUPPORTED, words)
        case _:
            assert_never(case.request.kind)


def _moved(case: Case, forwarded: Forwarded, debit: str, credit: str) -> Decision:
    request = case.request
    # A host cannot approve more than was asked, whatever it says.
    amount_minor = min(forwarded.approved_minor, request.amount.amount_minor)
    owners = {"INTERCITY": forwarded.upstream, "ACQ": request.acquirer}
    transfer = Transfer(
        case.settlement_account(debit, owners[debit]),
        case.settlement_account(credit, owners[credit]),
        amount_minor,
    )
    return approved(
        case,
        transfers=(transfer,) if amount_minor else (),
        original_id=_original_id(case),
        explanation=_words(forwarded),
        auth_code=forwarded.auth_code,
        rrn=_rrn(request, forwarded),
    )


def _noted(case: Case, forwarded: Forwarded) -> Decision:
    """Nothing is owed yet; the answer still tells what the host agreed to."""
    rrn = _rrn(case.request, forwarded)
    reply = Reply(
        Outcome.APPROVED, forwarded.approved_minor, auth_code=forwarded.auth_code, rrn=rrn or ""
    )
    return approved(
        case,
        original_id=_original_id(case),
        explanation=_words(forwarded),
        auth_code=forwarded.auth_code,
        rrn=rrn,
        reply=reply,
    )


def _original_id(case: Case) -> int:
    original = found_original(case)
    return original.authorization_id if original is not None else 0


def _words(forwarded: Forwarded) -> str:
    return f"approved by the issuer's host {forwarded.upstream}"


def _rrn(request: Request, forwarded: Forwarded) -> str | None:
    """The acquirer's own reference first: it is what a later message names."""
    return request.rrn or forwarded.rrn or None
