"""Every feature kind against a brute-force oracle that reads one event at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any, get_args
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Outcome, Segment
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    CurrentOperand,
    FactOperand,
    IsMissing,
    Membership,
    Not,
    Relation,
    StartsWith,
)
from risk.counting import compile_feature
from risk.facts import Facts, Totals, empty_history
from risk.features import (
    BUCKETED_KEYS,
    Aggregate,
    Basis,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    DistinctField,
    Feature,
    Key,
    Lifetime,
    OnReversal,
    SameField,
    Trailing,
)
from risk.moments import Settings, microseconds, service_day

NOW_US = 1_780_000_000_000_000
Event = dict[str, Any]

PLACES = {"M1/S01": (31_100_000, 121_400_000), "M1/S02": (31_112_000, 121_404_000)}
APART_MM = 1_387_491
"""Between the two places, which test_places.py knows to be right."""
STOPS = st.sampled_from(["", "M1/S01", "M1/S02", "M1/unlisted"])
TERMINALS = st.sampled_from(["", "T1", "T2", "S3"])
EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            # whole tens of seconds make equal timestamps and events exactly at a window's edge
            "at_us": st.one_of(
                st.integers(0, 40).map(lambda n: NOW_US - n * 10_000_000),
                st.integers(NOW_US - 90_000_000_000, NOW_US + 2_000_000),
            ),
            "card_id": st.integers(1, 2),
            "kind": st.sampled_from([Kind.PURCHASE, Kind.LOAD]),
            "amount_minor": st.integers(0, 5000),
            "outcome": st.sampled_from(
                [Outcome.APPROVED, Outcome.COUNT_LIMIT, Outcome.INSUFFICIENT_FUNDS]
            ),
            "segment": st.sampled_from(list(Segment)),
            "mcc": st.sampled_from(["", "4131", "5411"]),
            "merchant": st.sampled_from(["", "M1", "M2"]),
            "terminal": TERMINALS,
            "venue": st.sampled_from(["", "bus", "metro"]),
            "stop": STOPS,
            "vehicle": st.sampled_from(["", "V1", "V2"]),
            "given_back": st.booleans(),
        }
    ),
    max_size=25,
).map(lambda events: sorted(events, key=lambda event: event["at_us"]))

RIGHT = st.one_of(
    st.sampled_from(["T1", "T2", "4131", "M1"]).map(Constant),
    st.sampled_from(["terminal", "merchant", "vehicle"]).map(CurrentOperand),
)
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(
        Compare,
        st.sampled_from(["terminal", "merchant", "mcc", "vehicle", "stop"]).map(FactOperand),
        st.sampled_from([Relation.EQ, Relation.NE]),
        RIGHT,
    ),
    st.builds(
        Compare,
        st.just(FactOperand("amount")),
        st.sampled_from(list(Relation)),
        st.one_of(st.integers(0, 5000).map(Constant), st.just(CurrentOperand("amount"))),
    ),
    st.builds(
        Membership,
        st.just(FactOperand("kind")),
        st.sampled_from(["in", "not_in"]),
        st.just(("purchase",)),
    ),
    st.builds(
        Between,
        st.just(FactOperand("amount")),
        st.integers(0, 2500).map(Constant),
        st.integers(2500, 5000).map(Constant),
    ),
    st.builds(IsMissing, st.sampled_from(["terminal", "mcc"]).map(FactOperand)),
    st.builds(StartsWith, st.just(FactOperand("terminal")), st.just("T")),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda of: All(tuple(of))),
        st.lists(inner, min_size=1, max_size=3).map(lambda of: AnyOf(tuple(of))),
        inner.map(Not),
    ),
    max_leaves=5,
)
FEATURES = st.builds(
    Feature,
    id=st.just("counter"),
    key=st.sampled_from(sorted(set(Key) - BUCKETED_KEYS)),
    aggregate=st.sampled_from(Aggregate),
    basis=st.sampled_from(Basis),
    window=st.one_of(st.sampled_from([10, 60, 300, 86_400]).map(Trailing), st.just(CalendarDay())),
    field=st.sampled_from(get_args(DistinctField)),
    same=st.one_of(st.none(), st.sampled_from(get_args(SameField))),
    codes=st.sampled_from([(), (Outcome.COUNT_LIMIT,)]),
    where=st.one_of(st.none(), CONDITIONS),
    on_reversal=st.one_of(st.none(), st.sampled_from(OnReversal)),
)


def facts_with(events: list[Event], **changed: Any) -> Facts:
    history = empty_history()
    for event in events:
        history.append(**{name: value for name, value in event.items() if name != "given_back"})
        history.given_back[-1] = event["given_back"]
    usual: dict[str, Any] = {
        "now_us": NOW_US,
        "day_start_us": NOW_US - 30_000_000_000,
        "local_second_of_day": 30_000,
        "weekday": 1,
        "kind": Kind.PURCHASE,
        "segment": Segment.TRANSIT,
        "amount_minor": 1234,
        "mcc": "4131",
        "merchant": "M1",
        "terminal": "T1",
        "acquirer": "bus",
        "entry_mode": "07",
        "medium": "ab" * 16,
        "card_id": 1,
        "card_status": "active",
        "tier": "named",
        "product": "citizen",
        "balance_minor": 0,
        "history": history,
        "totals": Totals(month_count=7, month_minor=4321),
    }
    return Facts(**{**usual, **changed})


@settings(max_examples=500, deadline=None)
@given(FEATURES, EVENTS, TERMINALS, STOPS, st.sampled_from(["", "V1"]), st.sampled_from(["", "M1"]))
def test_a_feature_equals_the_oracle(
    feature: Feature, events: list[Event], terminal: str, stop: str, vehicle: str, merchant: str
) -> None:
    if feature.basis is not Basis.DECLINED:
        feature = _without_codes(feature)
    facts = facts_with(events, terminal=terminal, stop=stop, vehicle=vehicle, merchant=merchant)
    assert compile_feature(feature, {}, PLACES)(facts) == oracle(feature, events, facts)


def test_an_event_exactly_as_old_as_the_window_is_out() -> None:
    feature = Feature(
        id="attempts",
        key=Key.CARD,
        aggregate=Aggregate.COUNT,
        basis=Basis.ATTEMPTS,
        window=Trailing(10),
    )
    count = compile_feature(feature, {})
    assert count(facts_with([_event(at_us=NOW_US - 10_000_000)])) == 0
    assert count(facts_with([_event(at_us=NOW_US - 9_999_999)])) == 1


def test_amounts_are_given_back_by_default_and_counts_are_kept() -> None:
    events = [_event(given_back=True, amount_minor=700), _event(amount_minor=300)]
    of = {"id": "x", "key": Key.CARD, "basis": Basis.APPROVED, "window": CalendarDay()}
    total = Feature(aggregate=Aggregate.SUM, field="amount", **of)
    number = Feature(aggregate=Aggregate.COUNT, **of)
    assert compile_feature(total, {})(facts_with(events)) == 300
    assert compile_feature(number, {})(facts_with(events)) == 2


def test_the_month_is_read_from_the_totals() -> None:
    of = {"id": "x", "key": Key.ACCOUNT, "basis": Basis.APPROVED, "window": CalendarMonth()}
    facts = facts_with([])
    assert compile_feature(Feature(aggregate=Aggregate.SUM, **of), {})(facts) == 4321
    assert compile_feature(Feature(aggregate=Aggregate.COUNT, **of), {})(facts) == 7


def test_longer_windows_are_read_from_the_totals_or_unknown() -> None:
    of = {"id": "x", "key": Key.ACCOUNT, "basis": Basis.APPROVED}
    kept = Totals(week_minor=5, lifetime_count=6)
    for window, aggregate, expected in (
        (CalendarWeek(), Aggregate.SUM, 5),
        (CalendarWeek(), Aggregate.COUNT, None),
        (Lifetime(), Aggregate.COUNT, 6),
        (Lifetime(), Aggregate.SUM, None),
    ):
        feature = Feature(aggregate=aggregate, window=window, **of)
        assert compile_feature(feature, {})(facts_with([], totals=kept)) == expected


def test_a_bucketed_feature_is_what_was_handed_in() -> None:
    feature = Feature(
        id="wrong",
        key=Key.TERMINAL,
        aggregate=Aggregate.COUNT,
        basis=Basis.DECLINED,
        window=Trailing(600),
    )
    count = compile_feature(feature, {})
    assert count(facts_with([_event()])) is None
    assert count(facts_with([_event()], buckets={"wrong": None})) is None
    assert count(facts_with([_event()], buckets={"wrong": 16})) == 16


# Days: whatever the zone, the start of the service day and the date, a day's events are those
# of the same service date. The ledger's part is done here: a duplicate is no second event, and
# a reversal marks the event that it gives back.

SECONDS_OF_TWO_DAYS = 2 * 86_400
ZONES = ["Asia/Shanghai", "Asia/Kathmandu", "UTC", "America/St_Johns", "Australia/Lord_Howe"]
DAYS = [
    (2028, 2, 29), (2027, 2, 28), (2028, 3, 1), (2026, 12, 31), (2027, 1, 1), (2026, 4, 30),
    (2026, 10, 25), (2027, 3, 14),
]  # fmt: skip
MESSAGES = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.one_of(st.integers(0, SECONDS_OF_TWO_DAYS), st.just(0), st.just(86_400)),
        st.sampled_from(["sale", "sale", "sale", "reversal"]),
        st.integers(1, 900),
    ),
    max_size=16,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.sampled_from(["00:00", "04:00", "23:59"]),
    st.sampled_from(DAYS),
    st.integers(0, 86_399),
    MESSAGES,
)
def test_a_day_is_the_service_date_over_duplicates_and_reversals(
    zone: str,
    start: str,
    day: tuple[int, int, int],
    second: int,
    messages: list[tuple[int, int, str, int]],
) -> None:
    now = datetime(*day, tzinfo=UTC) + timedelta(seconds=second)
    now_us = microseconds(now)
    at = service_day(Settings(zone, start, "156"), now_us)
    stream = sorted(messages, key=lambda message: -message[1])
    history, seen = empty_history(), {}
    for key, ago_s, what, amount in stream:
        if what == "sale" and key not in seen:
            seen[key] = len(history.at_us)
            event = _event(at_us=now_us - ago_s * 1_000_000, amount_minor=amount)
            history.append(**{name: v for name, v in event.items() if name != "given_back"})
        elif what == "reversal" and key in seen:
            history.given_back[seen[key]] = True
    facts = facts_with([], now_us=now_us, day_start_us=at.day_start_us, history=history)
    of = {"id": "x", "key": Key.CARD, "basis": Basis.APPROVED, "window": CalendarDay()}
    for aggregate, restores in ((Aggregate.COUNT, False), (Aggregate.SUM, True)):
        expected = _of_the_service_date(stream, now, zone, start, restores=restores)
        found = compile_feature(Feature(aggregate=aggregate, **of), {})(facts)
        assert found == sum(1 if aggregate is Aggregate.COUNT else each for each in expected)


def _of_the_service_date(
    stream: list[tuple[int, int, str, int]], now: datetime, zone: str, start: str, *, restores: bool
) -> list[int]:
    """Amounts of the first message of each key that is of today's service date."""
    hour, minute = map(int, start.split(":"))

    def date(moment: datetime) -> Any:
        local = moment.astimezone(ZoneInfo(zone))
        before = (local.hour, local.minute) < (hour, minute)
        return local.date() - timedelta(days=1 if before else 0)

    first: dict[int, tuple[int, int]] = {}
    reversed_keys = set()
    for key, ago_s, what, amount in stream:
        if what == "sale":
            first.setdefault(key, (ago_s, amount))
        elif key in first:
            reversed_keys.add(key)
    return [
        amount
        for key, (ago_s, amount) in first.items()
        if date(now - timedelta(seconds=ago_s)) == date(now)
        and not (restores and key in reversed_keys)
    ]


def test_seconds_since_last_is_unknown_before_the_first_event() -> None:
    feature = Feature(
        id="since",
        key=Key.CARD,
        aggregate=Aggregate.SECONDS_SINCE_LAST,
        basis=Basis.APPROVED,
        window=Trailing(3600),
        where=Compare(FactOperand("terminal"), Relation.EQ, CurrentOperand("terminal")),
    )
    since = compile_feature(feature, {})
    assert since(facts_with([])) is None
    assert since(facts_with([_event(at_us=NOW_US - 19_999_999)])) == 19
    assert since(facts_with([_event(terminal="T2")])) is None, "another stop is no passback"


def test_events_of_one_batch_see_each_other() -> None:
    feature = Feature(
        id="attempts",
        key=Key.CARD,
        aggregate=Aggregate.COUNT,
        basis=Basis.ATTEMPTS,
        window=Trailing(60),
    )
    facts = facts_with([_event()])
    facts.history.append(**{k: v for k, v in _event(at_us=NOW_US).items() if k != "given_back"})
    assert compile_feature(feature, {})(facts) == 2


def _event(**changed: Any) -> Event:
    return {
        "at_us": NOW_US - 1_000_000,
        "card_id": 1,
        "kind": Kind.PURCHASE,
        "amount_minor": 100,
        "outcome": Outcome.APPROVED,
        "segment": Segment.TRANSIT,
        "mcc": "4131",
        "merchant": "M1",
        "terminal": "T1",
        "given_back": False,
        **changed,
    }


def _without_codes(feature: Feature) -> Feature:
    fields = {name: getattr(feature, name) for name in feature.__struct_fields__}
    return Feature(**{**fields, "codes": ()})


# The oracle: slow, one event at a time, and written from the model's words.


def oracle(feature: Feature, events: list[Event], facts: Facts) -> int | str | None:
    needed = {feature.same} if feature.same else set()
    if feature.key is Key.CARD_MERCHANT:
        needed.add("merchant")
    if feature.where is not None:
        needed |= _current(feature.where) - {"amount"}
    if any(getattr(facts, name) == "" for name in needed):
        return None
    counted = [event for event in events if _counts(feature, event, facts)]
    match feature.aggregate:
        case Aggregate.COUNT:
            return len(counted)
        case Aggregate.SUM:
            return sum(event["amount_minor"] for event in counted)
        case Aggregate.DISTINCT:
            return len({event[feature.field] for event in counted if event[feature.field] != ""})
        case Aggregate.LAST:
            return (counted[-1][feature.field] or None) if counted else None
        case Aggregate.SECONDS_SINCE_LAST:
            if not counted:
                return None
            return max(0, facts.now_us - max(e["at_us"] for e in counted)) // 1_000_000
        case Aggregate.DISTANCE_M | Aggregate.SPEED_KMH:
            if not counted or not {counted[-1]["stop"], facts.stop} <= set(PLACES):
                return None
            far_mm = 0 if counted[-1]["stop"] == facts.stop else APART_MM
            if feature.aggregate is Aggregate.DISTANCE_M:
                return far_mm // 1000
            hours = Fraction(max(1, facts.now_us - counted[-1]["at_us"]), 3_600_000_000)
            return min(9_999, floor(Fraction(far_mm, 1_000_000) / hours))


def _current(condition: Condition) -> set[str]:
    match condition:
        case All(of=of) | AnyOf(of=of):
            return set().union(*map(_current, of))
        case Not(of=child):
            return _current(child)
        case Compare(right=CurrentOperand(name=name)):
            return {name}
    return set()


def _counts(feature: Feature, event: Event, facts: Facts) -> bool:
    match feature.window:
        case Trailing(seconds=seconds):
            inside = facts.now_us - event["at_us"] < seconds * 1_000_000
        case _:
            inside = event["at_us"] >= facts.day_start_us
    approved = event["outcome"] is Outcome.APPROVED
    based = {
        Basis.ATTEMPTS: True,
        Basis.APPROVED: approved,
        Basis.DECLINED: not approved and (not feature.codes or event["outcome"] in feature.codes),
    }[feature.basis]
    restores = feature.on_reversal is OnReversal.RESTORE or (
        feature.on_reversal is None and feature.aggregate is Aggregate.SUM
    )
    return (
        inside
        and based
        and (feature.key is Key.ACCOUNT or event["card_id"] == facts.card_id)
        and (feature.key is not Key.CARD_MERCHANT or event["merchant"] == facts.merchant)
        and not (restores and event["given_back"])
        and (feature.same is None or event[feature.same] == getattr(facts, feature.same))
        and (feature.where is None or _truth(feature.where, event, facts) is True)
    )


def _truth(condition: Condition, event: Event, facts: Facts) -> bool | None:
    match condition:
        case All(of=of):
            parts = [_truth(child, event, facts) for child in of]
            return False if False in parts else None if None in parts else True
        case AnyOf(of=of):
            parts = [_truth(child, event, facts) for child in of]
            return True if True in parts else None if None in parts else False
        case Not(of=child):
            inner = _truth(child, event, facts)
            return None if inner is None else not inner
    name = condition.left.name
    value = event["amount_minor" if name == "amount" else name]
    if isinstance(condition, IsMissing):
        return value == ""
    if value == "":
        return None
    match condition:
        case Compare(op=op, right=right):
            if isinstance(right, Constant):
                other: Any = right.value
            else:
                other = getattr(facts, "amount_minor" if right.name == "amount" else right.name)
            return {
                "eq": lambda: value == other,
                "ne": lambda: value != other,
                "lt": lambda: value < other,
                "le": lambda: value <= other,
                "gt": lambda: value > other,
                "ge": lambda: value >= other,
            }[op.value]()
        case Membership(op=op, values=values):
            return (value in values) == (op == "in")
        case Between(low=low, high=high):
            return low.value <= value <= high.value
        case StartsWith(prefix=prefix):
            return value.startswith(prefix)
    raise AssertionError(condition)
