"""A rule goes on at its limit, and pauses with the first decline above it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.pause import Declines, PausePolicy, limit_ppm, must_pause

POLICY = PausePolicy(evaluations_min=1000, factor_percent=200, slack_ppm=1000)


@pytest.mark.parametrize(
    ("evaluations", "declines", "forecast_ppm", "pauses"),
    [
        (1000, 21, 10_000, False),
        (1000, 22, 10_000, True),
        (999, 999, 10_000, False),
        (1000, 1, 0, False),
        (1000, 2, 0, True),
        (0, 0, 0, False),
    ],
)
def test_the_edge(evaluations: int, declines: int, forecast_ppm: int, pauses: bool) -> None:
    assert must_pause(Declines(evaluations, declines), forecast_ppm, POLICY) is pauses


@given(st.integers(1000, 10**7), st.integers(0, 10**6), st.data())
def test_more_declines_never_make_it_go_on(
    evaluations: int, forecast_ppm: int, data: st.DataObject
) -> None:
    declines = data.draw(st.integers(0, evaluations - 1))
    seen = Declines(evaluations, declines)
    if must_pause(seen, forecast_ppm, POLICY):
        assert must_pause(Declines(evaluations, declines + 1), forecast_ppm, POLICY)
        assert seen.share_ppm >= limit_ppm(forecast_ppm, POLICY)
