"""The ladder of stand-in as a table: one case for each refusal and each edge."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.message import Kind
from protocols.money import Money
from switch.config_trouble import StandinPolicy, TransitStandin
from switch.standin.policy import (
    MICROSECONDS_PER_HOUR,
    SALE_KINDS,
    CardStanding,
    Exposure,
    Refusal,
    limit_refusal,
    refusal_of,
)
from tests.simulation.model_ledger import NOON_US, purchase

POLICY = TransitStandin()
SEEN = CardStanding(NOON_US, hotlisted=False)
DAY_US = POLICY.seen_hours * MICROSECONDS_PER_HOUR


@pytest.mark.parametrize(
    ("changed", "standing", "refusal"),
    [
        ({}, SEEN, None),
        ({"amount": Money(1_000, "156")}, SEEN, None),
        ({"amount": Money(1_001, "156")}, SEEN, Refusal.AMOUNT),
        ({"amount": Money(100, "840")}, SEEN, Refusal.CURRENCY),
        ({"pin": b"p" * 16}, SEEN, Refusal.PIN),
        ({}, CardStanding(0, hotlisted=False), Refusal.CARD_NOT_SEEN),
        ({}, CardStanding(NOON_US - DAY_US, hotlisted=False), None),
        ({}, CardStanding(NOON_US - DAY_US - 1, hotlisted=False), Refusal.CARD_NOT_SEEN),
        ({}, CardStanding(NOON_US, hotlisted=True), Refusal.HOTLISTED),
        ({"kind": Kind.FARE}, SEEN, None),
        *(({"kind": kind}, SEEN, Refusal.KIND) for kind in Kind if kind not in SALE_KINDS),
    ],
)
def test_what_is_covered(changed, standing, refusal):
    request = purchase(amount_minor=200, **changed)
    assert refusal_of(POLICY, request, standing, NOON_US, "156") is refusal


def test_a_segment_that_is_not_enabled_covers_nothing():
    request = purchase(amount_minor=200)
    assert refusal_of(StandinPolicy(), request, SEEN, NOON_US, "156") is Refusal.SEGMENT


@pytest.mark.parametrize(
    ("card", "total", "amount_minor", "refusal"),
    [
        (Exposure(), Exposure(), 1_000, None),
        (Exposure(5, 2_000), Exposure(5, 2_000), 1_000, None),
        (Exposure(6, 600), Exposure(6, 600), 100, Refusal.CARD_COUNT),
        (Exposure(3, 2_001), Exposure(3, 2_001), 1_000, Refusal.CARD_AMOUNT),
        (Exposure(), Exposure(1, 50_000_000 - 100), 100, None),
        (Exposure(), Exposure(1, 50_000_000 - 99), 100, Refusal.TOTAL),
    ],
)
def test_limits(card, total, amount_minor, refusal):
    assert limit_refusal(POLICY, amount_minor, card, total) is refusal


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 1_500)), max_size=60))
def test_no_order_of_sales_gets_past_a_limit(sales):
    policy = msgspec.structs.replace(POLICY, total_max_minor=5_000)
    cards: dict[int, Exposure] = {}
    total = Exposure()
    for card, amount_minor in sales:
        request = purchase(amount_minor=amount_minor)
        had = cards.get(card, Exposure())
        if refusal_of(policy, request, SEEN, NOON_US, "156") is not None:
            continue
        if limit_refusal(policy, amount_minor, had, total) is not None:
            continue
        cards[card] = Exposure(had.count + 1, had.amount_minor + amount_minor)
        total = Exposure(total.count + 1, total.amount_minor + amount_minor)
    assert total.amount_minor <= policy.total_max_minor
    for exposure in cards.values():
        assert exposure.count <= policy.card_count_max
        assert exposure.amount_minor <= policy.card_amount_max_minor
