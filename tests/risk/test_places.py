"""Distances on flat ground against those on a sphere, and speeds at their edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.places import (
    DISTANCE_METRES_MAX,
    SPAN_DEGREES_MAX,
    SPEED_KMH_MAX,
    Place,
    distance_mm,
    speed_kmh,
    spread_too_far,
)

DEGREE = 1_000_000
HOUR_US = 3_600_000_000
EARTH_MM = 6_371_008_800
LATITUDES = st.integers(-60 * DEGREE, 60 * DEGREE)


def sphere_mm(one: Place, other: Place) -> float:
    """The haversine formula, in floating point."""
    (north, east), (north_too, east_too) = (
        (math.radians(axis / DEGREE) for axis in place) for place in (one, other)
    )
    half = math.sin((north - north_too) / 2) ** 2
    half += math.cos(north) * math.cos(north_too) * math.sin((east - east_too) / 2) ** 2
    return 2 * EARTH_MM * math.asin(math.sqrt(half))


@given(
    LATITUDES,
    st.integers(-180 * DEGREE, 180 * DEGREE),
    *[st.integers(-SPAN_DEGREES_MAX * DEGREE // 2, SPAN_DEGREES_MAX * DEGREE // 2)] * 2,
)
def test_a_distance_is_that_on_the_sphere_to_a_hundredth(
    north: int, east: int, up: int, right: int
) -> None:
    around = (east + right + 180 * DEGREE) % (360 * DEGREE) - 180 * DEGREE
    one, other = (north, east), (north + up, around)
    found, true_mm = distance_mm(one, other), sphere_mm(one, other)
    assert abs(found - true_mm) <= true_mm / 100 + 1_000
    assert found == distance_mm(other, one)
    assert 0 <= found // 1000 <= DISTANCE_METRES_MAX


def test_a_minute_of_latitude_is_a_nautical_mile() -> None:
    assert distance_mm((0, 0), (DEGREE // 60, 0)) == pytest.approx(1_852_000, rel=0.002)
    assert distance_mm((90 * DEGREE, 0), (90 * DEGREE, 180 * DEGREE)) == 0


@pytest.mark.parametrize(
    ("millimetres", "microseconds", "kmh"),
    [
        (120_000_000, HOUR_US, 120),
        (120_999_999, HOUR_US, 120),
        (121_000_000, HOUR_US, 121),
        (1_000_000, 30_000_000, 120),
        (0, 0, 0),
        (1, 0, 3_600),
        (1_000_000, 0, SPEED_KMH_MAX),
        (1_000_000, -5, SPEED_KMH_MAX),
    ],
)
def test_speeds(millimetres: int, microseconds: int, kmh: int) -> None:
    assert speed_kmh(millimetres, microseconds) == kmh


def test_places_of_one_city_lie_together() -> None:
    limit = SPAN_DEGREES_MAX * DEGREE
    assert not spread_too_far([])
    assert not spread_too_far([(0, 0), (limit, limit)])
    assert spread_too_far([(0, 0), (limit + 1, 0)])
    assert spread_too_far([(0, 0), (0, limit + 1)])
