"""Where stops are, and how fast a card would have had to travel between two of them.

Whole numbers only, so that a replay on any machine comes to the same. The earth is taken as
flat between places of one city: an equirectangular projection at their mean latitude, which
over `SPAN_DEGREES_MAX` is wrong by less than one part in a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated

from msgspec import Meta

PLACES_MAX = 50_000
"""Stops of all lines of a city; as text they are under half of the largest ruleset."""
SPAN_DEGREES_MAX = 5
SPEED_KMH_MAX = 9_999
"""What a speed is cut to: it says only that nobody travels so fast."""

MICRODEGREES = 1_000_000
MILLIMETRES_PER_THOUSAND_MICRODEGREES = 111_195
"""Of latitude, on a sphere of the earth's mean radius, 6,371.0088 km (IUGG 1980)."""
DISTANCE_METRES_MAX = 1_000_000
"""No two places are further apart than the span allows."""

Latitude = Annotated[int, Meta(ge=-90 * MICRODEGREES, le=90 * MICRODEGREES)]
Longitude = Annotated[int, Meta(ge=-180 * MICRODEGREES, le=180 * MICRODEGREES)]
Place = tuple[Latitude, Longitude]
"""Latitude and longitude in microdegrees (WGS 84), north and east above zero."""
StopName = Annotated[str, Meta(min_length=1, max_length=25)]
Places = Mapping[str, Place]
"""By stop, as "line/stop"."""

_COSINE_MILLIONTHS = [round(math.cos(math.radians(degree)) * 1_000_000) for degree in range(91)]


def distance_mm(one: Place, other: Place) -> int:
    """Millimetres between two places, as the crow flies."""
    mean = abs(one[0] + other[0]) // 2
    degree, part = divmod(mean, MICRODEGREES)
    cosine = _COSINE_MILLIONTHS[degree]
    if part:
        cosine += (_COSINE_MILLIONTHS[degree + 1] - cosine) * part // MICRODEGREES
    east = abs(one[1] - other[1])
    east = min(east, 360 * MICRODEGREES - east) * cosine // 1_000_000
    north = abs(one[0] - other[0])
    return math.isqrt(east * east + north * north) * MILLIMETRES_PER_THOUSAND_MICRODEGREES // 1000


def speed_kmh(millimetres: int, microseconds: int) -> int:
    """Whole kilometres an hour, at most `SPEED_KMH_MAX`; no time at all counts as the least."""
    return min(SPEED_KMH_MAX, millimetres * 3_600 // max(1, microseconds))


def spread_too_far(places: Iterable[Place]) -> bool:
    """Whether they are more than `SPAN_DEGREES_MAX` degrees apart, north or east."""
    known = list(places)
    limit = SPAN_DEGREES_MAX * MICRODEGREES
    return any(max(axis) - min(axis) > limit for axis in zip(*known, strict=True))
