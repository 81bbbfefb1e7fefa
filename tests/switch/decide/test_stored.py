"""What is answered where the ledger already holds something under the key."""

from __future__ import annotations

import msgspec
import pytest

from protocols.message import Kind, Outcome, Reply, Request
from switch.decide import (
    CLAIMS_MAX,
    decide,
    resolved_as_answered,
    stored_reply,
)
from switch.posting import Followers, Stored
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    GEN,
    about,
    account,
    directed,
    late_reversal,
    loaded,
    moment,
    original,
    posting_on,
    reply_on,
    stored,
    terms,
)


def test_a_stored_decline_is_answered_again_and_written_no_more() -> None:
    decline = stored(outcome=Outcome.COUNT_LIMIT, approved_minor=0, auth_code="")
    decision = decide(directed(purchase()), loaded(stored=decline), terms(), moment())
    assert decision == Reply(Outcome.COUNT_LIMIT, 0, 55, "", "609012000001", replayed=True)


@pytest.mark.parametrize("outcome", [Outcome.OUTCOME_UNKNOWN, Outcome.ANSWERED_LATE])
def test_the_record_of_an_answer_given_in_doubt_is_answered_again(outcome: Outcome) -> None:
    tombstone = stored(outcome=outcome, approved_minor=0, auth_code="")
    decision = decide(directed(purchase()), loaded(stored=tombstone), terms(), moment())
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.replayed) == (outcome, True)


def test_a_stored_approval_is_written_down_before_it_is_given_out_again() -> None:
    holder = account()
    posting = posting_on(purchase(), loaded(holder, stored=stored()))
    assert (posting.kind, posting.original_id, posting.transfers) == (Kind.REPEAT, 55, ())
    assert (posting.approved_minor, posting.spent_count) == (0, 0)
    assert posting.key != purchase().key
    assert posting.key[:4] == purchase().key[:4]
    assert posting.reply == Reply(
        Outcome.APPROVED, 500, 55, "ABC234", "609012000001", replayed=True
    )
    assert holder.purses[GEN].balance_minor == 10_000
    assert holder.history.at_us == []
    again = posting_on(purchase(), loaded(stored=stored()), NOON_US + 1)
    assert again.key != posting.key, "each answer is a claim of its own"


def test_a_repeat_is_written_after_what_it_repeats_even_where_this_clock_is_behind() -> None:
    holder = account()
    posting_on(purchase(), loaded(holder))
    behind_us = NOON_US - 5_000_000
    posting = posting_on(purchase(), loaded(holder, stored=stored(at_us=NOON_US)), now_us=behind_us)
    assert posting.kind is Kind.REPEAT
    assert posting.at_us > NOON_US


def test_a_terminal_that_repeats_without_end_is_answered_without_another_row() -> None:
    often = stored(followers=Followers(repeats=CLAIMS_MAX - 1))
    decision = decide(directed(purchase()), loaded(stored=often), terms(), moment())
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.authorization_id) == (Outcome.APPROVED, 55)


def test_a_reversed_approval_is_answered_as_late() -> None:
    gone = stored(followers=Followers(reversed=True))
    decision = decide(directed(purchase()), loaded(stored=gone), terms(), moment())
    assert decision == Reply(Outcome.ANSWERED_LATE, replayed=True)


@pytest.mark.parametrize("found", [stored(), stored(outcome=Outcome.COUNT_LIMIT)])
def test_the_same_key_with_another_content_is_refused(found: Stored) -> None:
    other = purchase(amount_minor=501)
    decision = decide(directed(other), loaded(stored=found), terms(), moment())
    assert decision == Reply(Outcome.KEY_REUSED)


def test_a_reversal_that_was_already_written_is_answered_from_the_record() -> None:
    decision = decide(
        directed(late_reversal()), loaded(stored=stored(), original=original()), terms(), moment()
    )
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.replayed) == (Outcome.APPROVED, True)


def test_the_record_of_a_doubt_moves_nothing_under_the_same_key() -> None:
    holder = account()
    unknown = Outcome.OUTCOME_UNKNOWN
    posting = resolved_as_answered(directed(purchase()), holder, unknown, moment())
    assert (posting.key, posting.outcome) == (purchase().key, unknown)
    assert posting.transfers == ()
    assert holder.history.outcome == [unknown], "the next of the batch counts the attempt"
    of_repeat = directed(purchase(kind=Kind.REPEAT))
    assert resolved_as_answered(of_repeat, holder, unknown, moment()).at_us > NOON_US
    assert len(holder.history.at_us) == 1, "a repeat is no attempt"


def test_a_repeat_is_no_request() -> None:
    decision = decide(directed(purchase(kind=Kind.REPEAT)), loaded(), terms(), moment())
    assert decision == Reply(Outcome.UNSUPPORTED)


@pytest.mark.parametrize(
    "request_",
    [
        about(Kind.REVERSAL),
        about(Kind.REFUND, advice=True),
        purchase(kind=Kind.OFFLINE_SALE, advice=True),
        purchase(kind=Kind.HOLD_EXPIRY, original_id=55),
    ],
)
@pytest.mark.parametrize("reversed_", [False, True])
def test_what_is_written_however_late_is_answered_from_the_record(
    request_: Request, reversed_: bool
) -> None:
    found = stored(payload_hash=request_.payload_hash, followers=Followers(reversed=reversed_))
    reply = reply_on(request_, loaded(stored=found))
    assert (reply.outcome, reply.authorization_id, reply.replayed) == (Outcome.APPROVED, 55, True)


@pytest.mark.parametrize("request_", [purchase(), purchase(amount_minor=501)])
def test_what_was_reversed_before_it_came(request_: Request) -> None:
    tombstone = stored(kind=Kind.TOMBSTONE, outcome=Outcome.REVERSED_BEFORE, approved_minor=0)
    late = reply_on(request_, loaded(stored=tombstone))
    assert late == Reply(Outcome.REVERSED_BEFORE)
    standin = msgspec.structs.replace(request_, standin_at_us=NOON_US)
    assert reply_on(standin, loaded(stored=tombstone)) == Reply(Outcome.REVERSED_BEFORE)


def test_a_part_is_told_as_a_part_again() -> None:
    part = stored(approved_minor=400)
    assert stored_reply(part, purchase()).partial
    assert not stored_reply(stored(), purchase()).partial
    assert not stored_reply(part, about(Kind.COMPLETION, 500)).partial
    posting = posting_on(purchase(), loaded(stored=part))
    assert posting.reply is not None
    assert posting.reply.partial


def test_a_completion_of_nothing_is_told_as_nothing_again() -> None:
    cancelled = stored(approved_minor=4_000, kind=Kind.PREAUTHORIZATION_CANCEL)
    assert stored_reply(cancelled, about(Kind.COMPLETION, 0)).approved_minor == 0
