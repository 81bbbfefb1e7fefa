"""Cards of other issuers: what their host said becomes who owes whom."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.message import Kind, Outcome, Reply, Request
from switch.decide import decide
from switch.posting import (
    Decision,
    Forwarded,
    Original,
    Posting,
    Transfer,
)
from tests.simulation.model_ledger import purchase
from tests.switch.decide.cases import (
    ISSUER,
    PAYABLE,
    about,
    back,
    directed,
    late_reversal,
    moment,
    original,
    stored,
    stranger,
    terms,
)


def said(outcome: Outcome = Outcome.APPROVED, approved_minor: int = 500) -> Forwarded:
    return Forwarded("city-b", outcome, approved_minor, "HOST01", "700000000001")


def decided(request: Request, forwarded: Forwarded | None = None, **changed: Any) -> Decision:
    whose = directed(request, 0, forwarded=forwarded or said())
    return decide(whose, stranger(**changed), terms(), moment())


def posted(request: Request, forwarded: Forwarded | None = None, **changed: Any) -> Posting:
    decision = decided(request, forwarded, **changed)
    assert isinstance(decision, Posting)
    assert (decision.directed.account_id, decision.purse, decision.spent_count) == (0, 0, 0)
    return decision


OWED = Transfer(ISSUER, PAYABLE, 500)


@pytest.mark.parametrize("kind", [Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.COMPLETION])
def test_the_issuer_owes_and_the_acquirer_is_due_what_the_host_approved(kind: Kind) -> None:
    posting = posted(purchase(kind=kind))
    assert posting.transfers == (OWED,)
    assert (posting.outcome, posting.approved_minor) == (Outcome.APPROVED, 500)
    assert (posting.auth_code, posting.rrn) == ("HOST01", "700000000001")
    assert posting.rule_results == b""
    assert posted(purchase(rrn="123456789012")).rrn == "123456789012"


@pytest.mark.parametrize("kind", [Kind.REFUND, Kind.VOID])
def test_money_given_back_goes_the_other_way(kind: Kind) -> None:
    assert posted(about(kind, 500)).transfers == (back(OWED),)


def test_a_host_approves_a_part_and_never_more_than_was_asked() -> None:
    part = posted(purchase(), said(approved_minor=400))
    assert (part.approved_minor, part.partial) == (400, True)
    assert posted(purchase(), said(approved_minor=501)).approved_minor == 500


def test_a_declined_request_is_a_row_with_the_hosts_outcome() -> None:
    posting = posted(purchase(), said(Outcome.PIN_WRONG, 0))
    assert (posting.outcome, posting.transfers) == (Outcome.PIN_WRONG, ())
    assert posting.explanation == "Declined 55: declined by the issuer's host city-b."


@pytest.mark.parametrize(
    "kind", [Kind.PREAUTHORIZATION, Kind.PREAUTHORIZATION_CANCEL, Kind.INQUIRY]
)
def test_where_nothing_is_owed_the_answer_still_tells_the_amount(kind: Kind) -> None:
    posting = posted(purchase(kind=kind))
    assert (posting.approved_minor, posting.has_effect) == (0, False)
    assert posting.reply == Reply(Outcome.APPROVED, 500, auth_code="HOST01", rrn="700000000001")


@pytest.mark.parametrize("kind", [Kind.LOAD, Kind.LOAD_PENDING, Kind.ADJUSTMENT])
def test_kinds_that_are_not_forwarded(kind: Kind) -> None:
    assert posted(about(kind)).outcome is Outcome.UNSUPPORTED


def abroad(**changed: Any) -> Original:
    usual = {"account_id": 0, "purse": 0, "legs": (OWED,), "spent_minor": 0, "approved_minor": 500}
    return original(**(usual | changed))


@pytest.mark.parametrize(
    ("sale", "replacement_minor", "moved"),
    [
        (abroad(), 0, back(OWED)),
        (abroad(), 200, Transfer(PAYABLE, ISSUER, 300)),
        (abroad(kind=Kind.REFUND, legs=(back(OWED),)), 0, OWED),
    ],
)
def test_a_reversal_mirrors_what_was_owed(
    sale: Original, replacement_minor: int, moved: Transfer
) -> None:
    request = about(Kind.REVERSAL, 500, replacement_minor=replacement_minor)
    posting = posted(request, original=sale)
    assert posting.transfers == (moved,)
    assert (posting.kind, posting.original_id) == (Kind.REVERSAL, 55)
    internal = posted(late_reversal(), original=abroad())
    assert internal.transfers == (back(OWED),)


def test_a_reversal_before_its_original_leaves_a_tombstone_here_too() -> None:
    posting = posted(about(Kind.REVERSAL))
    assert (posting.outcome, posting.tombstone_key) == (Outcome.ORIGINAL_NOT_FOUND, b"o" * 16)
    own = posted(about(Kind.REVERSAL), original=original())
    assert (own.outcome, own.tombstone_key) == (Outcome.ORIGINAL_NOT_FOUND, b"")


def test_a_refund_counts_against_the_sale_of_its_own_acquirer_only() -> None:
    assert posted(about(Kind.REFUND, 500), original=abroad()).original_id == 55
    others = abroad(acquirer="48029999")
    assert posted(about(Kind.REFUND, 500), original=others).original_id == 0


def test_a_repeat_is_answered_from_the_record() -> None:
    declined = stored(outcome=Outcome.DO_NOT_HONOUR, approved_minor=0)
    reply = decided(purchase(), stored=declined)
    assert isinstance(reply, Reply)
    assert (reply.outcome, reply.replayed) == (Outcome.DO_NOT_HONOUR, True)
    claim = posted(purchase(), stored=stored())
    assert (claim.kind, claim.original_id) == (Kind.REPEAT, 55)
    asked = purchase(kind=Kind.INQUIRY)
    inquiry = decided(asked, stored=stored(payload_hash=asked.payload_hash))
    assert isinstance(inquiry, Reply)
