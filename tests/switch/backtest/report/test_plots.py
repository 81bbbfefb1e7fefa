"""What is drawn is what is in the tables, at the right place."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.backtest.plots import _place, _steps, plots


@pytest.fixture(scope="module")
def drawn(big):
    return {plot.table.slug: plot for plot in plots(big)}


def lines_of(plot):
    return {line.get_label(): line for line in plot.figure.axes[0].get_lines()}


def words_of(figure):
    texts = [text.get_text() for text in figure.texts]
    for ax in figure.axes:
        texts += [ax.get_xlabel(), ax.get_title(loc="left"), *(t.get_text() for t in ax.texts)]
    return texts


def test_the_order_is_days_hours_overlaps_sweeps_features(drawn):
    # of the sweeps, the limit that was changed comes first
    assert list(drawn) == [
        "days",
        "hours",
        "overlaps",
        "sweep-tap_burst",
        "sweep-load_ladder",
        "sweep-bill_scan",
        "feature-taps_5m",
        "feature-loaded_24h",
    ]


def test_days_are_drawn_by_date(drawn, big):
    lines = lines_of(drawn["days"])
    assert [date.fromordinal(int(x)) for x in lines["answered"].get_xdata()] == [
        day.day for day in big.days
    ]
    assert list(lines["answered"].get_ydata()) == [day.answered_declines for day in big.days]
    assert list(lines["tested ruleset"].get_ydata()) == [day.tested_declines for day in big.days]


def test_a_sweep_is_declines_a_day_with_both_limits_marked(drawn, big):
    curve, *limits = drawn["sweep-tap_burst"].figure.axes[0].get_lines()
    sweep = big.sweeps[0]
    assert list(curve.get_xdata()) == list(sweep.limits)
    assert list(curve.get_ydata()) == [count / 35 for count in sweep.declines]
    assert {line.get_label(): line.get_xdata()[0] for line in limits} == {
        "tested: limit 6": 6,
        "live: limit 8": 8,
    }
    assert "taps_5m + 1 > limit (count)" in words_of(drawn["sweep-tap_burst"].figure)
    money = drawn["sweep-load_ladder"].figure
    assert "tested and live: limit 1,500.00" in lines_of(drawn["sweep-load_ladder"])
    assert "loaded_24h > limit (money)" in words_of(money)


def test_a_histogram_has_its_percentiles_and_limits(drawn, big):
    plot = drawn["feature-loaded_24h"]
    ax = plot.figure.axes[0]
    assert [bar.get_height() for bar in ax.patches] == list(big.features[1].counts)
    # 40 bins of 50.00 each, and 1,500.00 is where the 31st begins
    assert {line.get_label(): line.get_xdata()[0] for line in ax.get_lines()} == {
        "p50 = 50.00": 1,
        "p95 = 400.00": 8,
        "p99 = 1,000.00": 20,
        "load_ladder: limit 1,500.00": 30,
    }
    assert drawn["feature-taps_5m"].figure.axes[0].get_yscale() == "log"


def test_both_halves_of_the_week_have_one_scale(drawn, big):
    answered, tested, _ = drawn["hours"].figure.axes
    [one], [other] = answered.collections, tested.collections
    assert one.norm.boundaries.tolist() == other.norm.boundaries.tolist()
    assert other.get_array().tolist() == [list(row) for row in big.hours_tested]


def test_overlap_bars_are_the_largest_pairs(drawn, big):
    bars = [bar.get_width() for bar in drawn["overlaps"].figure.axes[0].patches]
    assert bars == sorted((each.both for each in big.overlaps), reverse=True)[:12]


def test_nothing_is_a_sentence_and_not_an_empty_frame(empty, odd):
    for plot in plots(empty):
        assert plot.figure.axes == []
        assert words_of(plot.figure)[1].endswith(".")
    silent = [plot.table.slug for plot in plots(odd) if not plot.figure.axes]
    assert len(silent) == 3
    assert "hours" in silent


def test_lines_that_coincide_are_one(big):
    feature = msgspec.structs.replace(big.features[0], p50=2, p95=2, limits=(("a", 5), ("b", 5)))
    result = msgspec.structs.replace(big, features=(feature,), sweeps=())
    *_, plot = plots(result)
    assert set(lines_of(plot)) == {"p50 = p95 = 2", "p99 = 4", "a +1: limit 5"}


@given(st.sets(st.integers(0, 10**12), min_size=2, max_size=41), st.lists(st.integers(0, 10**12)))
def test_places_rise_with_values_and_edges_stand_at_bins(edges, values):
    edges = sorted(edges)
    assert [_place(edges, edge) for edge in edges] == list(range(len(edges)))
    places = [_place(edges, value) for value in sorted(values)]
    assert all(one <= other for one, other in pairwise(places))


@given(st.integers(1, 10**12))
def test_a_scale_reaches_the_highest_in_few_whole_steps(highest):
    steps = _steps(highest)
    assert steps[0] == 0
    assert steps[-1] >= highest
    assert 2 <= len(steps) <= 10
