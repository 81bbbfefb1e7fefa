"""Sales and single taps that stand-in approved while the ledger was away: posted, whatever
stands against it.

The goods are gone and the acquirer was promised its money. What no purse can pay is kept in
SUSPENSE for whoever answers for the segment (domain §11.2: nothing is lost in between). A tap
was approved by the fare that its reader knew, and is charged what the tables say.
"""

from __future__ import annotations

from protocols.message import Kind, Outcome, Reply
from switch.decide.case import Case, approved
from switch.decide.keys import derived_key
from switch.decide.purses import able_purse, eligible_purses, sale_leg, suspense_legs
from switch.decide.stored import given_out_again, stored_reply
from switch.decide.taps import standin_fare
from switch.posting import Decision, Posting, Stored

STANDIN_KINDS = frozenset({Kind.PURCHASE, Kind.FARE})
"""Kinds that stand-in may approve."""


def standin_sale(case: Case) -> Decision:
    """The advice of a stand-in approval: no status, no PIN, no rules.

    Where its key holds an approval that stands, that is this sale; the claim on it keeps a
    worker that was too late with its answer from reversing it. What its sender took back
    meanwhile, at a worker that did not know of the stand-in yet, is taken back. A decline
    there, a sale that the switch itself reversed as too late, or another content does not
    make the promise undone: it is posted under a key of its own, linked to what was there.
    """
    stored = case.loaded.stored
    if stored is None:
        return _posted(case, case.request.key, 0)
    if _is_posted(case, stored):
        return given_out_again(case, stored)
    if stored.followers.taken_back and stored.payload_hash == case.request.payload_hash:
        return stored_reply(stored)
    for change in stored.followers.changes:
        if change.kind in STANDIN_KINDS or change.kind is Kind.FARE_CREDIT:
            return Reply(
                Outcome.APPROVED,
                approved_minor=change.approved_minor,
                authorization_id=change.authorization_id,
                rrn=stored.rrn,
                replayed=True,
            )
    key = derived_key(case.request.key, b"standin")
    return _posted(case, key, stored.authorization_id)


def _is_posted(case: Case, stored: Stored) -> bool:
    same = stored.payload_hash == case.request.payload_hash
    return same and stored.outcome.approved and not stored.followers.reversed


def _posted(case: Case, key: bytes, original_id: int) -> Posting:
    request = case.request
    if request.kind is Kind.FARE and case.account.account_id:
        return standin_fare(case, key, original_id)
    amount_minor = request.amount.amount_minor
    paying = able_purse(eligible_purses(case), amount_minor)
    if paying is not None:
        return approved(
            case,
            key=key,
            original_id=original_id,
            purse=paying.purse,
            transfers=(sale_leg(case, paying.purse, amount_minor),),
            explanation="approved in stand-in; posted without rules",
            spent_count=1,
            spent_minor=amount_minor,
        )
    owner = case.terms.suspense_owners[request.segment]
    return approved(
        case,
        key=key,
        original_id=original_id,
        transfers=suspense_legs(case, amount_minor),
        explanation=f"approved in stand-in; no purse can pay, kept in suspense for {owner}",
    )
