"""Dates of the trade as integers: epoch microseconds, and the service day of a moment.

Time zone arithmetic is slow and this is on the way of every request, so it is done once a
minute; an offset from UTC changes only on a whole minute.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
MINUTE_US = 60_000_000


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all features and rules share.

    `time_zone` is an IANA name; `service_day_start` a local time HH:MM (transit often turns
    the day after the last train); `currency` an ISO 4217 numeric code.
    """

    time_zone: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z][A-Za-z0-9_+/-]{0,63}\Z")]
    service_day_start: Annotated[str, msgspec.Meta(pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z")]
    currency: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{3}\Z")]


class ServiceDay(msgspec.Struct, frozen=True, gc=False):
    """Where a moment lies: start of its service day, local wall clock, Monday is 1."""

    day_start_us: int
    local_second_of_day: int
    weekday: int


def microseconds(moment: datetime) -> int:
    """Epoch microseconds of an aware datetime, exactly (a float would round)."""
    return (moment - _EPOCH) // _MICROSECOND


def service_day(settings: Settings, now_us: int) -> ServiceDay:
    """The service day of a moment (epoch microseconds) in the settings' time zone.

    The day starts when the local clock first shows `service_day_start`; where that time is
    skipped by a clock change, it starts as long after midnight by the clock before the change.
    """
    minute, rest_us = divmod(now_us, MINUTE_US)
    at_minute = _service_day_of_minute(settings, minute)
    return ServiceDay(
        at_minute.day_start_us,
        at_minute.local_second_of_day + rest_us // 1_000_000,
        at_minute.weekday,
    )


@lru_cache(maxsize=256)
def _service_day_of_minute(settings: Settings, minute: int) -> ServiceDay:
    zone = ZoneInfo(settings.time_zone)
    local = (_EPOCH + timedelta(minutes=minute)).astimezone(zone)
    now_us = minute * MINUTE_US
    start_us = _start_of(local.date(), settings, zone)
    if start_us > now_us:
        start_us = _start_of(local.date() - timedelta(days=1), settings, zone)
    second = local.hour * 3600 + local.minute * 60 + local.second
    return ServiceDay(start_us, second, local.isoweekday())


def _start_of(day: date, settings: Settings, zone: ZoneInfo) -> int:
    hour, minute = settings.service_day_start.split(":")
    return microseconds(datetime(day.year, day.month, day.day, int(hour), int(minute), tzinfo=zone))
