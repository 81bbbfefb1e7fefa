"""How a feature is computed: a window is one bisection, then each filter is one pass.

What remains is counted, summed or looked at; see `counting_filters.py` for what remains.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import assert_never, cast

import msgspec

from risk.counting_filters import Positions, feature_filters, needed_facts
from risk.facts import Facts, History
from risk.features import (
    TRAVEL,
    Aggregate,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Lifetime,
    TotalWindow,
    Trailing,
    Window,
)
from risk.lists import Lookup
from risk.places import Places, distance_mm, speed_kmh
from risk.vocabulary import PAST_FACTS

Count = Callable[[Facts], int | str | None]
"""A feature compiled: None means unknown (nothing seen yet, or a fact it needs is missing)."""
Conclusion = Callable[[Facts, History, Positions], int | str | None]
"""What the events that stayed come to."""

_NO_PLACES: Places = {}
_MISSING = (None, "")


def compile_feature(
    feature: Feature, lists: Mapping[str, Lookup], places: Places = _NO_PLACES
) -> Count:
    """The feature as a function of the facts; it must have passed the checks."""
    if feature.bucketed:
        return _from_buckets(feature)
    if isinstance(feature.window, TotalWindow):
        return _running_total(feature.aggregate, feature.window)
    start_of = _window_start(feature.window)
    filters = feature_filters(feature, lists)
    needed = needed_facts(feature)
    conclude = _travelled(feature, places) if feature.aggregate in TRAVEL else _conclusion(feature)

    def count(facts: Facts) -> int | str | None:
        for read in needed:
            if read(facts) in _MISSING:
                return None
        history = facts.history
        positions: Positions = range(start_of(facts), len(history.at_us))
        for keep in filters:
            if not positions:
                break
            positions = keep(facts, positions)
        return conclude(facts, history, positions)

    return count


class _Unasked(msgspec.Struct, gc=False):
    """The part of `Facts` that filters read which compare with nothing of a request."""

    history: History


def event_counts(feature: Feature) -> Callable[[History], bool]:
    """Whether the one event of a history counts for a bucketed feature.

    Such a feature compares with no fact of the request and no list, for its event is judged
    once, when it is decided.
    """
    filters = feature_filters(feature, {})

    def counts(history: History) -> bool:
        positions: Positions = (0,)
        for keep in filters:
            positions = keep(cast(Facts, _Unasked(history)), positions)
        return bool(positions)

    return counts


def _from_buckets(feature: Feature) -> Count:
    name = feature.id
    return lambda facts: facts.buckets.get(name)


def _running_total(aggregate: Aggregate, window: TotalWindow) -> Count:
    unit = "minor" if aggregate is Aggregate.SUM else "count"
    match window:
        case CalendarWeek():
            return attrgetter(f"totals.week_{unit}")
        case CalendarMonth():
            return attrgetter(f"totals.month_{unit}")
        case Lifetime():
            return attrgetter(f"totals.lifetime_{unit}")
        case _:
            assert_never(window)


def _window_start(window: Window) -> Callable[[Facts], int]:
    match window:
        case Trailing(seconds=seconds):
            span_us = seconds * 1_000_000
            return lambda facts: bisect_right(facts.history.at_us, facts.now_us - span_us)
        case CalendarDay():
            return lambda facts: bisect_left(facts.history.at_us, facts.day_start_us)
        case CalendarWeek() | CalendarMonth() | Lifetime():
            raise AssertionError("longer than a day is read from the totals")
        case _:
            assert_never(window)


def _conclusion(feature: Feature) -> Conclusion:
    match feature.aggregate:
        case Aggregate.COUNT:
            return lambda facts, history, positions: len(positions)
        case Aggregate.SUM:

            def total(facts: Facts, history: History, positions: Positions) -> int:
                amounts = history.amount_minor
                return sum([amounts[at] for at in positions])

            return total
        case Aggregate.DISTINCT:
            column_of = attrgetter(PAST_FACTS[feature.field or ""].attribute)

            def distinct(facts: Facts, history: History, positions: Positions) -> int:
                column = column_of(history)
                seen = {column[at] for at in positions}
                seen.discard("")
                return len(seen)

            return distinct
        case Aggregate.LAST:
            read_of = attrgetter(PAST_FACTS[feature.field or ""].attribute)

            def last(facts: Facts, history: History, positions: Positions) -> int | str | None:
                if not positions:
                    return None
                value: int | str = read_of(history)[positions[-1]]
                return None if value == "" else value

            return last
        case Aggregate.SECONDS_SINCE_LAST:

            def since(facts: Facts, history: History, positions: Positions) -> int | None:
                if not positions:
                    return None
                return max(0, facts.now_us - history.at_us[positions[-1]]) // 1_000_000

            return since
        case Aggregate.DISTANCE_M | Aggregate.SPEED_KMH:
            raise AssertionError("travel is concluded from places")
        case _:
            assert_never(feature.aggregate)


def _travelled(feature: Feature, places: Places) -> Conclusion:
    """From the last event's stop to this one's; unknown where either has no known place."""
    by_time = feature.aggregate is Aggregate.SPEED_KMH

    def travelled(facts: Facts, history: History, positions: Positions) -> int | None:
        here = places.get(facts.stop)
        if here is None or not positions:
            return None
        last = positions[-1]
        there = places.get(history.stop[last])
        if there is None:
            return None
        millimetres = distance_mm(there, here)
        if by_time:
            return speed_kmh(millimetres, facts.now_us - history.at_us[last])
        return millimetres // 1000

    return travelled
