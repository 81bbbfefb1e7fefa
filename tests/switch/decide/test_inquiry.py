"""What an inquiry tells, to whom, and that a repeat is asked anew."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocols.message import Balance, Kind, Outcome, Reply
from switch.posting import (
    Account,
    PurseState,
    Stored,
)
from tests.simulation.model_ledger import purchase
from tests.switch.decide.cases import (
    GEN,
    PIN,
    TRN,
    WRONG_PIN,
    account,
    approved,
    loaded,
    posting_on,
    refused,
    reply_on,
    stored,
)

ASKING = purchase(1, 0, kind=Kind.INQUIRY)
BALANCES = (Balance("TRN", 700, 700), Balance("GEN", 10_000, 6_000))


def holder() -> Account:
    return account(
        purses={GEN: PurseState(10_000, 4_000, 0, 0, 0), TRN: PurseState(700, 0, 0, 0, 0)}
    )


def answered(**changed: Any) -> Stored:
    return stored(payload_hash=ASKING.payload_hash, approved_minor=0, auth_code="", **changed)


def test_an_inquiry_tells_every_purse_and_moves_nothing() -> None:
    facts = loaded(holder())
    posting = approved(ASKING, facts)
    assert (posting.approved_minor, posting.auth_code, posting.has_effect) == (0, "", False)
    assert posting.reply == Reply(Outcome.APPROVED, rrn=posting.rrn, balances=BALANCES)
    assert facts.account == holder()


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"card_status": "blocked"}, Outcome.CARD_BLOCKED),
        ({"expires_yymm": "2001"}, Outcome.CARD_EXPIRED),
        ({"account": account(status="closed")}, Outcome.ACCOUNT_CLOSED),
    ],
)
def test_a_card_that_may_not_pay_is_told_nothing(changed: dict[str, Any], outcome: Outcome) -> None:
    assert refused(ASKING, loaded(**changed))[0] is outcome
    again = reply_on(ASKING, loaded(stored=answered(), **changed))
    assert again == Reply(outcome)


def test_a_repeat_is_told_what_is_there_now_and_writes_nothing() -> None:
    reply = reply_on(ASKING, loaded(holder(), stored=answered()))
    assert reply == Reply(
        Outcome.APPROVED, 0, 55, "", "609012000001", replayed=True, balances=BALANCES
    )


def test_a_declined_inquiry_is_answered_from_the_record() -> None:
    found = answered(outcome=Outcome.CARD_BLOCKED)
    assert reply_on(ASKING, loaded(stored=found)).outcome is Outcome.CARD_BLOCKED


def test_a_repeat_is_no_way_to_guess_a_pin() -> None:
    guess = msgspec.structs.replace(ASKING, pin=WRONG_PIN)
    facts = loaded(stored=answered(), pin_reference=PIN, pin_tries=1)
    posting = posting_on(guess, facts)
    assert (posting.outcome, posting.kind, posting.pin_tries) == (
        Outcome.PIN_WRONG,
        Kind.REPEAT,
        2,
    )
    assert posting.key != guess.key
    assert posting.original_id == 55
    closed = loaded(stored=answered(), pin_reference=PIN, pin_tries=3)
    assert reply_on(guess, closed) == Reply(Outcome.PIN_TRIES_EXCEEDED)
