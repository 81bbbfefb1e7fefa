"""The service day against the plain calendar, in zones with and without clock changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.moments import Settings, microseconds, service_day

ZONES = [
    "Asia/Shanghai",
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
]


def day_settings(zone: str = "Asia/Shanghai", start: str = "00:00") -> Settings:
    return Settings(zone, start, "156")


def us(text: str) -> int:
    return microseconds(datetime.fromisoformat(text))


@settings(max_examples=300, deadline=None)
@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    st.sampled_from(ZONES),
    st.sampled_from(["00:00", "01:30", "02:30", "04:00", "23:59"]),
)
def test_the_day_began_no_more_than_25_hours_ago(moment: datetime, zone: str, start: str) -> None:
    now_us = microseconds(moment)
    day = service_day(day_settings(zone, start), now_us)
    local = moment.astimezone(ZoneInfo(zone))
    assert day.local_second_of_day == local.hour * 3600 + local.minute * 60 + local.second
    assert day.weekday == local.isoweekday()
    assert 0 <= now_us - day.day_start_us < 25 * 3_600_000_000
    began = (
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=day.day_start_us)
    ).astimezone(ZoneInfo(zone))
    skipped_by_clock_change = began.strftime("%H:%M") != start
    assert not skipped_by_clock_change or start in ("00:00", "01:30", "02:30")


@given(st.integers(0, 20_000), st.integers(0, 86_399_999_999))
def test_without_clock_changes_the_day_is_plain_arithmetic(day: int, rest_us: int) -> None:
    start_us = us("2000-01-01T04:00:00+08:00") + day * 86_400_000_000
    found = service_day(day_settings(start="04:00"), start_us + rest_us)
    assert found.day_start_us == start_us


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2024-02-29T23:59:59+08:00", "2024-02-29T04:00:00+08:00"),
        ("2024-03-01T03:59:59+08:00", "2024-02-29T04:00:00+08:00"),
        ("2024-03-01T04:00:00+08:00", "2024-03-01T04:00:00+08:00"),
        ("2023-03-01T03:59:59+08:00", "2023-02-28T04:00:00+08:00"),
        ("2026-01-01T00:00:00+08:00", "2025-12-31T04:00:00+08:00"),
    ],
)
def test_month_ends_and_leap_days(now: str, start: str) -> None:
    assert service_day(day_settings(start="04:00"), us(now)).day_start_us == us(start)


def test_the_day_of_a_clock_change_is_23_or_25_hours_long() -> None:
    london = day_settings("Europe/London", "04:00")
    spring = service_day(london, us("2026-03-29T03:59:59+01:00"))
    assert spring.day_start_us == us("2026-03-28T04:00:00+00:00")
    autumn = service_day(london, us("2026-10-25T03:59:59+00:00"))
    assert autumn.day_start_us == us("2026-10-24T04:00:00+01:00")
    assert us("2026-10-25T03:59:59+00:00") - autumn.day_start_us > 24 * 3_600_000_000


def test_a_start_that_comes_twice_counts_the_first_time() -> None:
    """At 01:10 after the clocks went back, 01:30 has already been once."""
    zone = day_settings("Europe/London", "01:30")
    found = service_day(zone, us("2026-10-25T01:10:00+00:00"))
    assert found.day_start_us == us("2026-10-25T01:30:00+01:00")


def test_microseconds_are_exact() -> None:
    assert us("2026-05-28T20:26:40.123457+00:00") == 1_780_000_000_123_457
