"""The population is the same in every process, valid on the wire, and shaped as shops are."""

from collections import Counter
from random import Random

import pytest

from loadtest.population import (
    CONVENIENCE_DECILES,
    CONVENIENCE_MCC,
    MERCHANTS,
    SUPERMARKET_DECILES,
    SUPERMARKET_MCC,
    UNKNOWN_CARD_FROM,
    USUAL_MERCHANTS,
    draw_amount_minor,
    population_card,
    usual_merchant,
)
from protocols.card_number import luhn_check_digit


def test_cards_are_distinct_valid_and_masked():
    cards = [population_card(index) for index in (0, 1, 19_999, UNKNOWN_CARD_FROM + 999_999)]
    assert len(set(cards)) == 4
    for card in cards:
        digits = card.reveal()
        assert len(digits) == 16
        assert digits.startswith("621234")
        assert luhn_check_digit(digits[:-1]) == digits[-1]
        assert digits not in f"{card!r}{card}"


def test_merchants_fit_their_fields_and_share_no_terminal():
    terminals = [terminal for merchant in MERCHANTS for terminal in merchant.terminals]
    assert len(set(terminals)) == len(terminals)
    assert {len(terminal) for terminal in terminals} == {8}
    assert {len(merchant.merchant) for merchant in MERCHANTS} == {15}
    assert {merchant.mcc for merchant in MERCHANTS} == {CONVENIENCE_MCC, SUPERMARKET_MCC}


def test_a_card_keeps_to_its_usual_merchants():
    shops = {usual_merchant(4711, choice % USUAL_MERCHANTS).merchant for choice in range(30)}
    assert 1 <= len(shops) <= USUAL_MERCHANTS


def test_merchants_are_visited_by_zipf():
    visits = Counter(
        usual_merchant(index, choice).merchant
        for index in range(20_000)
        for choice in range(USUAL_MERCHANTS)
    )
    first, tenth = (visits[MERCHANTS[rank].merchant] for rank in (0, 9))
    assert len(visits) == len(MERCHANTS)
    assert 8 < first / tenth < 12


@pytest.mark.parametrize(
    ("mcc", "deciles"),
    [(CONVENIENCE_MCC, CONVENIENCE_DECILES), (SUPERMARKET_MCC, SUPERMARKET_DECILES)],
)
def test_amounts_follow_the_deciles(mcc, deciles):
    dice = Random(7)
    amounts = sorted(draw_amount_minor(mcc, dice) for _ in range(5_000))
    assert all(type(amount) is int for amount in amounts)
    assert deciles[0] <= amounts[0]
    assert amounts[-1] < deciles[-1]
    assert deciles[4] * 0.9 < amounts[2_500] < deciles[6]
