"""Figures in words: nothing is rounded up, and nothing is said that was not given."""

from __future__ import annotations

from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.conditions import Relation
from risk.vocabulary import Unit
from switch.backtest.wording import (
    axis_unit,
    counted,
    exact_moment,
    measured,
    moment,
    percent,
    printable,
    relation_sign,
    shortened,
    tick,
    unit_named,
    unit_of,
)

counts = st.integers(0, 10**12)


@given(counts, counts)
def test_a_share_is_never_said_to_be_more_than_it_is(part, more):
    whole = part + more
    said = percent(part, whole)
    if whole == 0:
        assert said == "–"
    elif said == "100 %":
        assert more == 0
    elif said == "0 %":
        assert part == 0
    elif said.startswith("<"):
        assert part * 1_000_000 < whole
    else:
        units, _, decimals = said.removesuffix(" %").partition(".")
        scale = 10 ** len(decimals)
        shown = int(units) * scale + int(decimals)
        assert shown * whole <= part * 100 * scale < (shown + 1) * whole


@pytest.mark.parametrize(
    ("value", "unit", "full", "short"),
    [
        (123_456, Unit.MONEY, "1,234.56", "1,234.56"),
        (123_400, Unit.MONEY, "1,234.00", "1,234"),
        (1_234_567_800, Unit.MONEY, "12,345,678.00", "12.3 M"),
        (-50, Unit.MONEY, "-0.50", "-0.50"),
        (-1_234_567_89, Unit.MONEY, "-1,234,567.89", "-1.2 M"),
        (9_999, Unit.COUNT, "9,999", "9,999"),
        (10_000, None, "10,000", "10 k"),
        (-1_500_000, None, "-1,500,000", "-1.5 M"),
        (300, Unit.SECONDS, "300 s", "300"),
        (1, Unit.DAYS, "1 day", "1"),
        (120, Unit.SPEED, "120 km/h", "120"),
        (2_000, Unit.METRES, "2,000 m", "2,000"),
        (75_600, Unit.TIME_OF_DAY, "21:00", "21:00"),
        (7, Unit.WEEKDAY, "Sun", "Sun"),
    ],
)
def test_values_have_their_unit(value, unit, full, short):
    assert (measured(value, unit), tick(value, unit)) == (full, short)


def test_every_unit_of_the_model_has_a_word_for_its_axis():
    assert all(axis_unit(unit) for unit in (*Unit, None))
    assert [unit_named(unit.value) for unit in Unit] == list(Unit)
    assert unit_named("furlongs") is None


def test_an_operand_has_the_unit_that_all_in_it_share():
    features = {"taps_5m": "a count", "loaded": "minor units of money"}
    assert unit_of("taps_5m + 1", features) is Unit.COUNT
    assert unit_of("amount + loaded", features) is Unit.MONEY
    assert unit_of("loaded + taps_5m", features) is None
    assert unit_of("nothing known", features) is None


def test_relations_are_signs():
    assert all(len(relation_sign(relation.value)) == 1 for relation in Relation)
    assert relation_sign(">") == ">"


def test_instants_are_local_to_the_microsecond_and_odd_ones_are_bare():
    shanghai = ZoneInfo("Asia/Shanghai")
    assert moment(1_793_000_000_123_456, shanghai) == "2026-10-26 15:33:20"
    assert exact_moment(1_793_000_000_123_456, UTC) == "2026-10-26T07:33:20.123456+00:00"
    for far in (10**18, -(10**18), -62_135_596_800_000_000, 10**30):
        assert str(far) in moment(far, ZoneInfo("America/New_York"))


@given(st.text(), st.integers(1, 20))
def test_what_is_shown_is_printable_and_bounded(text, most):
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert len(shortened(text, most)) == min(len(text), most)


def test_nouns_agree():
    assert [counted(number, "day") for number in (0, 1, 1_200)] == ["0 days", "1 day", "1,200 days"]
