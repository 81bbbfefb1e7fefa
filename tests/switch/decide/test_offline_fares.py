"""Records of a chip's purse: posted once, doubts kept apart, and what a load proves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocols.message import ChipVerdict, Kind, Mode, Outcome, Reply, Tap
from switch.posting import (
    ChipChange,
    ChipFacts,
    ChipGap,
    Follower,
    Followers,
    HoldPurpose,
    Loaded,
    Transfer,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    HOUR_US,
    PAYABLE,
    TAP_SUSPENSE,
    account,
    hold,
    leg,
    loaded,
    stored,
    stranger,
)
from tests.switch.decide.rides import CHIP, chip_load, decided, posted, record, with_chip


def known(chip: ChipFacts | None = None, balance_minor: int = 1_000, **changed: Any) -> Loaded:
    return loaded(with_chip(balance_minor), chip=chip or ChipFacts(), **changed)


@pytest.mark.parametrize(
    "changed",
    [{}, {"card_status": "stolen", "hotlisted": True}, {"expires_yymm": "2001"}],
)
@pytest.mark.parametrize("verdict", [ChipVerdict.GENUINE, ChipVerdict.OLD_KEY])
def test_a_record_is_posted_whatever_became_of_the_card(
    changed: dict[str, Any], verdict: ChipVerdict
) -> None:
    facts = known(**changed)
    posting = posted(record(verdict=verdict), facts)
    assert posting.transfers == (leg(200, CHIP),)
    assert (posting.purse, posting.spent_count, posting.key) == (CHIP, 1, record().key)
    assert posting.chip == ChipChange(7, b"d" * 8, b"b" * 8)
    assert facts.account is not None
    assert facts.account.purses[CHIP].balance_minor == 800


def test_a_record_of_nothing_is_a_ride_too() -> None:
    posting = posted(record(amount_minor=0), known())
    assert (posting.transfers, posting.has_effect) == ((), True)


def test_the_same_batch_once_more_is_told_the_same_and_another_upload_that_it_is_known() -> None:
    chip = ChipFacts(7, stored_digest=b"d" * 8, stored_batch=b"b" * 8)
    again = decided(record(), known(chip))
    assert again == Reply(Outcome.APPROVED, 200, replayed=True)
    other = decided(record(batch=b"x" * 8), known(chip))
    assert other == Reply(Outcome.APPROVED, 200, replayed=True, duplicate=True)
    # The old key may be gone by then: what was taken stays taken.
    assert decided(record(verdict=ChipVerdict.WRONG), known(chip)) == again
    doubtful = ChipFacts(7, stored_digest=b"d" * 8, stored_batch=b"b" * 8, stored_suspense=True)
    assert decided(record(), known(doubtful)) == Reply(
        Outcome.APPROVED, 200, replayed=True, suspense=True
    )


def test_a_record_that_no_chip_of_ours_made_does_not_stand_in_the_way_of_the_right_one() -> None:
    wrong = posted(record(digest=b"w" * 8, verdict=ChipVerdict.WRONG), known())
    assert wrong.outcome is Outcome.TAC_WRONG
    assert wrong.key not in (record().key, b"")
    stranger_ = posted(record(), stranger())
    assert stranger_.outcome is Outcome.UNKNOWN_CARD
    assert stranger_.key != record().key


def test_another_record_under_the_same_counter_is_kept_in_suspense_once() -> None:
    chip = ChipFacts(7, stored_digest=b"d" * 8, stored_batch=b"b" * 8)
    clone = record(amount_minor=500, digest=b"c" * 8)
    was = stored(payload_hash=b"d" * 8, kind=Kind.OFFLINE_FARE)
    posting = posted(clone, known(chip, stored=was))
    assert posting.transfers == (Transfer(TAP_SUSPENSE, PAYABLE, 500),)
    assert (posting.purse, posting.original_id) == (0, 55)
    assert posting.key != record().key
    assert posting.chip == ChipChange(7, b"c" * 8, b"b" * 8, suspense=True)
    assert posting.reply is not None
    assert posting.reply.suspense
    said = Reply(Outcome.APPROVED, 500, replayed=True, suspense=True)
    followed = stored(
        payload_hash=b"d" * 8,
        followers=Followers(changes=(Follower(56, Kind.OFFLINE_FARE, 500),)),
    )
    assert decided(clone, known(chip, stored=followed)) == said
    told = ChipFacts(
        7, stored_digest=b"d" * 8, stored_batch=b"b" * 8, other_digests=(b"c" * 8, b"e" * 8)
    )
    assert decided(clone, known(told)) == said
    third = record(amount_minor=500, digest=b"f" * 8)
    assert posted(third, known(told, stored=followed)).approved_minor == 500


@pytest.mark.parametrize("holder", [with_chip(199), account()], ids=["too little", "no chip"])
def test_what_the_purse_cannot_have_paid_is_in_suspense_under_its_counter(holder: Any) -> None:
    posting = posted(record(), loaded(holder, chip=ChipFacts()))
    assert posting.transfers == (Transfer(TAP_SUSPENSE, PAYABLE, 200),)
    assert posting.chip == ChipChange(7, b"d" * 8, b"b" * 8, suspense=True)
    assert posting.key == record().key


# ---- what a chip says when it is loaded -----------------------------------------------------

GAPPED = ChipFacts(9, gaps=(ChipGap(5, 6),))
WHOLE = ChipFacts(9)


@pytest.mark.parametrize(
    ("chip", "counter", "balance_minor", "missing_minor"),
    [
        (WHOLE, 9, 1_000, 0),
        (GAPPED, 9, 600, 400),
        (GAPPED, 9, 1_000, 0),
        (WHOLE, 12, 400, 600),  # three records that came after the highest
    ],
)
def test_what_is_missing_is_proven_by_the_chip(
    chip: ChipFacts, counter: int, balance_minor: int, missing_minor: int
) -> None:
    posting = posted(chip_load(counter, balance_minor), known(chip))
    assert posting.outcome.approved, posting.explanation
    assert posting.chip == ChipChange(counter, missing_minor=missing_minor)
    assert posting.opens is not None
    assert posting.opens.purse == CHIP


@pytest.mark.parametrize(
    ("chip", "counter", "balance_minor", "words"),
    [
        (WHOLE, 9, 999, "lacks 0.01, and all its records are here"),
        (WHOLE, 9, 1_001, "0.01 more than it was ever given"),
        (GAPPED, 9, 1_001, "more than it was ever given"),
        (WHOLE, 8, 1_000, "is behind 9"),
    ],
)
def test_a_chip_that_cannot_be_right_is_not_loaded(
    chip: ChipFacts, counter: int, balance_minor: int, words: str
) -> None:
    posting = posted(chip_load(counter, balance_minor), known(chip))
    assert posting.outcome is Outcome.SUSPECTED_FRAUD
    assert words in posting.explanation


def test_a_load_that_comes_again_after_days_is_none() -> None:
    old = chip_load(12, 400)
    refused = posted(old, known(WHOLE), now_us=NOON_US + 24 * HOUR_US)
    assert (refused.outcome, refused.has_effect) == (Outcome.SUSPECTED_FRAUD, False)
    assert "begin it again" in refused.explanation
    assert posted(old, known(WHOLE), now_us=NOON_US + 24 * HOUR_US - 1).outcome.approved


def test_a_load_that_is_told_again_tells_the_same_shadow() -> None:
    asked = chip_load(9, 600)
    first = posted(asked, known(GAPPED))
    told = msgspec.structs.replace(GAPPED, proven_counter=9, proven_missing_minor=400)
    was = stored(payload_hash=asked.payload_hash, kind=Kind.LOAD_PENDING, approved_minor=1_000)
    again = posted(asked, known(told, stored=was))
    assert first.reply is not None
    assert again.reply is not None
    assert [one.balance_minor for one in first.reply.balances] == [1_000]
    assert [one.balance_minor for one in again.reply.balances] == [1_000]


def test_a_chip_is_loaded_at_a_reader_one_load_after_the_other() -> None:
    counter_load = purchase(1, 500, kind=Kind.LOAD, purse="CHIP")
    assert posted(counter_load, known()).outcome is Outcome.PURSE_NOT_ALLOWED
    silent = purchase(1, 500, kind=Kind.LOAD, purse="CHIP", tap=Tap(Mode.BUS, "", "", "", 1))
    assert posted(silent, known()).outcome is Outcome.PURSE_NOT_ALLOWED
    waits = hold(500, purpose=HoldPurpose.LOAD, purse=CHIP)
    assert posted(chip_load(9, 1_000), known(WHOLE, holds=(waits,))).outcome is (
        Outcome.COUNT_LIMIT
    )
