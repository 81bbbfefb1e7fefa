"""Minute buckets never say less than the exact window, and at most one bucket more."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Outcome, Segment
from risk.buckets import (
    BUCKET_US,
    Addition,
    Buckets,
    PlaceEvent,
    bucket_values,
    first_minute,
    key_of,
    minute_of,
    series_of,
    window_sum,
)
from risk.conditions import Compare, Constant, FactOperand, Relation
from risk.features import Aggregate, Basis, CalendarDay, Feature, Key, Trailing

NOW_US = 1_780_000_020_000_000
"""Not on a whole minute, as hardly any moment is."""
MINUTE_US = BUCKET_US


def feature(**changed: Any) -> Feature:
    usual: dict[str, Any] = {
        "id": "wrong",
        "key": Key.TERMINAL,
        "aggregate": Aggregate.COUNT,
        "basis": Basis.ATTEMPTS,
        "window": Trailing(600),
    }
    return Feature(**{**usual, **changed})


def event(**changed: Any) -> PlaceEvent:
    usual: dict[str, Any] = {
        "at_us": NOW_US,
        "acquirer": "shops",
        "merchant": "M1",
        "terminal": "T1",
        "card_id": 1,
        "kind": Kind.PURCHASE,
        "amount_minor": 500,
        "outcome": Outcome.APPROVED,
        "segment": Segment.RETAIL,
        "mcc": "5411",
    }
    return PlaceEvent(**{**usual, **changed})


EVENTS = st.lists(
    st.builds(
        lambda ago_us, amount, approved, back: (
            event(
                at_us=NOW_US - ago_us,
                amount_minor=amount,
                outcome=Outcome.APPROVED if approved else Outcome.PIN_WRONG,
            ),
            back,
        ),
        st.one_of(
            st.integers(0, 20).map(lambda n: n * MINUTE_US + NOW_US % MINUTE_US),
            st.integers(0, 20).map(lambda n: n * MINUTE_US),
            st.integers(-MINUTE_US, 20 * MINUTE_US),
        ),
        st.integers(0, 5000),
        st.booleans(),
        st.booleans(),
    ),
    max_size=30,
)
FEATURES = st.builds(
    feature,
    key=st.sampled_from([Key.TERMINAL, Key.MERCHANT, Key.ACQUIRER]),
    aggregate=st.sampled_from([Aggregate.COUNT, Aggregate.SUM]),
    basis=st.sampled_from(Basis),
    window=st.one_of(st.integers(1, 15).map(lambda n: Trailing(60 * n)), st.just(CalendarDay())),
)


@settings(max_examples=300, deadline=None)
@given(FEATURES, EVENTS, st.integers(0, 2 * MINUTE_US))
def test_a_window_of_buckets_rounds_against_the_card(
    counted: Feature, events: list[tuple[PlaceEvent, bool]], later_us: int
) -> None:
    now_us = NOW_US + later_us
    day_start_us = (NOW_US // MINUTE_US - 7) * MINUTE_US
    buckets = Buckets([counted])
    by_minute: dict[int, int] = defaultdict(int)
    for placed, given_back in events:
        for addition in buckets.additions(placed):
            by_minute[addition.minute] += addition.amount
        if given_back:
            for addition in buckets.given_back(placed):
                by_minute[addition.minute] += addition.amount
    first = first_minute(counted, now_us, day_start_us)
    begin_us = day_start_us
    if isinstance(counted.window, Trailing):
        begin_us = now_us - counted.window.seconds * 1_000_000 + 1
    exact = sum(_adds(counted, each, back) for each, back in events if each.at_us >= begin_us)
    oldest = sum(
        _adds(counted, each, back) for each, back in events if minute_of(each.at_us) == first
    )
    found = window_sum(by_minute, first)
    assert exact <= found <= exact + oldest
    if isinstance(counted.window, CalendarDay):
        assert found == exact


def _adds(counted: Feature, placed: PlaceEvent, given_back: bool) -> int:
    approved = placed.outcome is Outcome.APPROVED
    based = {Basis.ATTEMPTS: True, Basis.APPROVED: approved, Basis.DECLINED: not approved}
    if not based[counted.basis] or (given_back and counted.restores):
        return 0
    return placed.amount_minor if counted.aggregate is Aggregate.SUM else 1


def test_an_hour_is_sixty_buckets_and_the_rest_of_the_one_before() -> None:
    whole = feature(window=Trailing(3600))
    assert minute_of(NOW_US) - first_minute(whole, NOW_US, 0) == 60
    on_the_minute = NOW_US // MINUTE_US * MINUTE_US - 1
    assert minute_of(on_the_minute) - first_minute(whole, on_the_minute, 0) == 59


def test_what_an_event_adds_depends_on_its_own_facts() -> None:
    counted = feature(
        basis=Basis.DECLINED,
        codes=(Outcome.PIN_WRONG,),
        where=Compare(FactOperand("kind"), Relation.EQ, Constant("purchase")),
    )
    buckets = Buckets([counted, feature(id="spent", key=Key.MERCHANT, aggregate=Aggregate.SUM)])
    spent = Addition(series_of(feature(aggregate=Aggregate.SUM, key=Key.MERCHANT)), "shops/M1",
                     minute_of(NOW_US), 500)  # fmt: skip
    wrong = Addition(series_of(counted), "shops/T1", minute_of(NOW_US), 1)
    assert buckets.additions(event()) == [spent]
    assert buckets.additions(event(outcome=Outcome.PIN_WRONG)) == [wrong, spent]
    assert buckets.additions(event(outcome=Outcome.COUNT_LIMIT)) == [spent]
    assert buckets.additions(event(outcome=Outcome.PIN_WRONG, kind=Kind.LOAD)) == [spent]
    assert buckets.additions(event(terminal="", merchant="")) == []
    assert buckets.given_back(event(outcome=Outcome.PIN_WRONG)) == [spent._replace(amount=-500)]


def test_a_series_is_what_is_counted_not_what_it_is_called() -> None:
    first = feature()
    renamed = feature(id="other", noun="tries", noun_zh="尝试", window=Trailing(60))
    assert series_of(first) == series_of(renamed)
    assert len(Buckets([first, renamed]).additions(event())) == 1
    groceries = Compare(FactOperand("mcc"), Relation.EQ, Constant("5411"))
    for changed in ({"key": Key.MERCHANT}, {"basis": Basis.DECLINED}, {"where": groceries}):
        assert series_of(feature(**changed)) != series_of(first)
    assert key_of(Key.TERMINAL, "a", "M1", "T1") != key_of(Key.TERMINAL, "b", "M1", "T1")


def test_facts_for_a_request_are_unknown_where_nobody_knows(make_facts: Any) -> None:
    features = [feature(), feature(id="card", key=Key.CARD), feature(id="m", key=Key.MERCHANT)]
    asked: list[tuple[bytes, str, int]] = []

    def read(series: bytes, key: str, first: int) -> int | None:
        asked.append((series, key, first))
        return 7 if key == "shops/T1" else None

    assert bucket_values(features, make_facts(), read) == {"wrong": 7, "m": None}
    assert [key for _, key, _ in asked] == ["shops/T1", "shops/M1"]
    assert bucket_values(features, make_facts(terminal=""), read)["wrong"] is None
