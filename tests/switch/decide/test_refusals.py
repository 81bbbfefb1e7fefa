"""The PIN ladder: every kind verifies a PIN that was sent, and counts wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.message import Kind, Outcome, Request
from switch.decide import PIN_TRIES_MAX
from switch.posting import (
    PurseState,
)
from tests.simulation.model_ledger import purchase
from tests.switch.decide.cases import (
    GEN,
    PIN,
    WRONG_PIN,
    about,
    account,
    hold,
    loaded,
    original,
    posting_on,
    terms,
)

WITH_PIN = {"pin_reference": PIN}
VERIFYING = [
    purchase(pin=WRONG_PIN),
    purchase(kind=Kind.PREAUTHORIZATION, pin=WRONG_PIN),
    purchase(kind=Kind.INQUIRY, pin=WRONG_PIN),
    purchase(kind=Kind.LOAD, purse="GEN", pin=WRONG_PIN),
    purchase(kind=Kind.LOAD_PENDING, purse="GEN", pin=WRONG_PIN),
    about(Kind.LOAD, pin=WRONG_PIN),
    about(Kind.VOID, pin=WRONG_PIN),
    about(Kind.REFUND, pin=WRONG_PIN),
    about(Kind.COMPLETION, pin=WRONG_PIN),
    about(Kind.PREAUTHORIZATION_CANCEL, pin=WRONG_PIN),
]


@pytest.mark.parametrize("request_", VERIFYING, ids=lambda request: request.kind.value)
@pytest.mark.parametrize(
    ("tries", "outcome", "counted"),
    [
        (0, Outcome.PIN_WRONG, 1),
        (2, Outcome.PIN_WRONG, 3),
        (3, Outcome.PIN_TRIES_EXCEEDED, -1),
    ],
)
def test_a_wrong_pin_counts_until_there_are_too_many(
    request_: Request, tries: int, outcome: Outcome, counted: int
) -> None:
    holder = account()
    facts = loaded(holder, original=original(), holds=(hold(),), pin_tries=tries, pin_reference=PIN)
    posting = posting_on(request_, facts)
    assert (posting.outcome, posting.pin_tries, posting.has_effect) == (outcome, counted, False)
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("tries", "outcome", "counted"),
    [
        (0, Outcome.APPROVED, -1),
        (2, Outcome.APPROVED, 0),
        (3, Outcome.PIN_TRIES_EXCEEDED, -1),
        (9, Outcome.PIN_TRIES_EXCEEDED, -1),
    ],
)
def test_a_right_pin_ends_the_row_unless_it_was_too_long(
    tries: int, outcome: Outcome, counted: int
) -> None:
    posting = posting_on(purchase(pin=PIN), loaded(pin_reference=PIN, pin_tries=tries))
    assert (posting.outcome, posting.pin_tries) == (outcome, counted)


def test_a_right_pin_ends_the_row_also_where_the_money_is_not_there() -> None:
    facts = loaded(account(0, 0), pin_reference=PIN, pin_tries=1)
    posting = posting_on(purchase(pin=PIN), facts)
    assert (posting.outcome, posting.pin_tries) == (Outcome.INSUFFICIENT_FUNDS, 0)
    by_rule = loaded(account(tier="T0"), pin_reference=PIN, pin_tries=1)
    posting = posting_on(purchase(amount_minor=60_000, pin=PIN), by_rule)
    assert (posting.outcome, posting.pin_tries) == (Outcome.AMOUNT_LIMIT, 0)


def test_guesses_of_one_batch_are_counted_one_after_the_other() -> None:
    facts = loaded(account(), pin_reference=PIN)
    guesses = [posting_on(purchase(n, pin=WRONG_PIN), facts) for n in range(4)]
    assert [posting.pin_tries for posting in guesses] == [1, 2, 3, -1]
    assert guesses[-1].outcome is Outcome.PIN_TRIES_EXCEEDED
    assert posting_on(purchase(9, pin=PIN), facts).outcome is Outcome.PIN_TRIES_EXCEEDED
    assert posting_on(purchase(10), facts).outcome is Outcome.APPROVED  # a small one without


@pytest.mark.parametrize("tries", [0, PIN_TRIES_MAX])
def test_a_card_that_is_refused_learns_nothing_of_its_pin(tries: int) -> None:
    facts = loaded(card_status="stolen", pin_reference=PIN, pin_tries=tries)
    for pin in (PIN, WRONG_PIN):
        posting = posting_on(purchase(pin=pin), facts)
        assert (posting.outcome, posting.pin_tries) == (Outcome.CARD_STOLEN, -1)
    nowhere = posting_on(purchase(mcc="7995", pin=WRONG_PIN), loaded(pin_reference=PIN))
    assert (nowhere.outcome, nowhere.pin_tries) == (Outcome.PURSE_NOT_ALLOWED, -1)


ABOVE = 100_001


@pytest.mark.parametrize(
    ("request_", "facts", "outcome"),
    [
        (purchase(amount_minor=ABOVE), WITH_PIN, Outcome.PIN_REQUIRED),
        (purchase(amount_minor=ABOVE), {}, Outcome.PIN_REQUIRED),
        (purchase(amount_minor=ABOVE, pin=PIN), {}, Outcome.PIN_REQUIRED),  # the card has none
        (purchase(amount_minor=ABOVE, pin=PIN), WITH_PIN, Outcome.APPROVED),
        (purchase(amount_minor=ABOVE, pin=WRONG_PIN), WITH_PIN, Outcome.PIN_WRONG),
        (purchase(amount_minor=ABOVE - 1), WITH_PIN, Outcome.APPROVED),
        (purchase(amount_minor=ABOVE, mcc="4111"), WITH_PIN, Outcome.APPROVED),  # from TRN
        (purchase(amount_minor=ABOVE, kind=Kind.LOAD, purse="GEN"), {}, Outcome.APPROVED),
        # a part above the limit asks for it too, and what cannot be paid does not
        (purchase(amount_minor=300_000, partial_allowed=True), WITH_PIN, Outcome.PIN_REQUIRED),
        (purchase(amount_minor=300_000), WITH_PIN, Outcome.INSUFFICIENT_FUNDS),
    ],
)
def test_a_large_payment_from_gen_asks_for_the_pin(
    request_: Request, facts: dict[str, Any], outcome: Outcome
) -> None:
    posting = posting_on(request_, loaded(account(200_000, 200_000), **facts))
    assert posting.outcome is outcome


def test_a_pin_that_no_card_has_is_as_if_none_was_sent() -> None:
    posting = posting_on(purchase(pin=WRONG_PIN), loaded())
    assert (posting.outcome, posting.pin_tries) == (Outcome.APPROVED, -1)


def test_no_pin_in_any_explanation() -> None:
    for pin in (PIN, WRONG_PIN):
        posting = posting_on(purchase(pin=pin), loaded(pin_reference=PIN, pin_tries=2))
        assert pin.decode() not in posting.explanation
        assert pin.hex() not in posting.explanation


CATEGORIES = {"bus": "4131", "metro": "4111", "taxi": "4121", "ferry": "4111", "fuel": "5541",
              "parking": "7523", "park": "7991"}  # fmt: skip


def test_each_venues_own_limit_of_one_payment() -> None:
    """Domain §5: at the limit it passes, a fen above it does not."""
    limits = {code: venue.amount_max_minor for code, venue in terms().venues.items()}
    limited = {code: most_minor for code, most_minor in limits.items() if most_minor}
    assert CATEGORIES.keys() <= limited.keys()
    for number, (code, most_minor) in enumerate(limited.items()):
        for asked_minor in (most_minor, most_minor + 1):
            rich = loaded(account(200_000, 200_000), pin_reference=PIN)
            posting = posting_on(
                purchase(
                    number, asked_minor, venue=code, mcc=CATEGORIES.get(code, "5411"), pin=PIN
                ),
                rich,
            )
            if asked_minor == most_minor:
                assert posting.outcome is Outcome.APPROVED, (code, posting.explanation)
            else:
                assert posting.outcome is Outcome.AMOUNT_LIMIT, code
                assert "the most of one payment at this venue" in posting.explanation
