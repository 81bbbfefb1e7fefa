from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch.calendar import BusinessCalendar, epoch_us
from switch.clock import SystemClock

DAY_US = 86_400_000_000
INSTANTS = st.integers(
    epoch_us(datetime(2000, 1, 1, tzinfo=UTC)), epoch_us(datetime(2060, 1, 1, tzinfo=UTC))
)
CUT_OFFS = st.sampled_from(["00:00", "04:00", "04:30", "12:00", "23:30"])


def at(zone: str, *parts: int, fold: int = 0) -> int:
    return epoch_us(datetime(*parts, tzinfo=ZoneInfo(zone), fold=fold))  # type: ignore[misc,arg-type]


@given(INSTANTS, CUT_OFFS)
def test_business_date_is_the_date_of_local_time_less_cut_off(now_us: int, cut_off: str) -> None:
    calendar = BusinessCalendar("Asia/Shanghai", cut_off)
    hours, minutes = map(int, cut_off.split(":"))
    expected = (calendar.local(now_us) - timedelta(hours=hours, minutes=minutes)).date()
    assert calendar.business_date(now_us) == expected


@given(st.lists(INSTANTS, min_size=1, max_size=20), CUT_OFFS)
def test_the_cached_day_never_answers_for_another(instants: list[int], cut_off: str) -> None:
    calendar = BusinessCalendar("Asia/Shanghai", cut_off)
    for now_us in instants:
        for near_us in (now_us, now_us + 1, now_us - 1, now_us + DAY_US):
            fresh = BusinessCalendar("Asia/Shanghai", cut_off)
            assert calendar.business_date(near_us) == fresh.business_date(near_us)


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Australia/Lord_Howe"])
@given(now_us=INSTANTS, cut_off=st.sampled_from(["00:00", "01:30", "02:30", "04:00"]))
def test_business_days_only_go_forward_where_summer_time_is_kept(
    zone: str, now_us: int, cut_off: str
) -> None:
    calendar = BusinessCalendar(zone, cut_off)
    start_us, end_us = calendar.day_bounds_us(calendar.business_date(now_us))
    assert start_us <= now_us < end_us
    assert calendar.business_date(end_us) > calendar.business_date(end_us - 1)


def test_a_repeated_cut_off_ends_the_day_once() -> None:
    calendar = BusinessCalendar("America/New_York", "01:30")
    first = at("America/New_York", 2026, 11, 1, 1, 30)
    between = at("America/New_York", 2026, 11, 1, 1, 10, fold=1)
    assert first < between
    assert calendar.business_date(first - 1) == date(2026, 10, 31)
    assert calendar.business_date(first) == date(2026, 11, 1)
    assert calendar.business_date(between) == date(2026, 11, 1)


def test_a_day_is_25_hours_long_when_the_clock_goes_back() -> None:
    calendar = BusinessCalendar("America/New_York", "00:00")
    start_us, end_us = calendar.day_bounds_us(date(2026, 11, 1))
    assert end_us - start_us == 25 * 3_600_000_000


@pytest.mark.parametrize(
    ("cut_off", "instant", "expected"),
    [
        ("00:00", (2028, 2, 29, 0, 0, 0), date(2028, 2, 29)),
        ("04:00", (2028, 3, 1, 3, 59, 59), date(2028, 2, 29)),
        ("04:00", (2027, 1, 1, 3, 59, 59), date(2026, 12, 31)),
        ("04:00", (2027, 1, 1, 4, 0, 0), date(2027, 1, 1)),
    ],
)
def test_edges_of_days(cut_off: str, instant: tuple[int, ...], expected: date) -> None:
    calendar = BusinessCalendar("Asia/Shanghai", cut_off)
    assert calendar.business_date(at("Asia/Shanghai", *instant)) == expected


@given(INSTANTS)
@example(1_700_000_000_123_457)
def test_local_time_keeps_every_microsecond(now_us: int) -> None:
    local = BusinessCalendar("Asia/Shanghai", "00:00").local(now_us)
    assert epoch_us(local) == now_us
    assert local.utcoffset() == timedelta(hours=8)


def test_the_system_clock_reads_in_its_units() -> None:
    clock = SystemClock()
    before = datetime.now(UTC)
    now_us = clock.now_us()
    after = datetime.now(UTC)
    assert epoch_us(before) <= now_us <= epoch_us(after) + 1
    assert clock.monotonic_ns() <= clock.monotonic_ns()
