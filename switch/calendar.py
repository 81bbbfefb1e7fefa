"""Which business day an instant belongs to: pure arithmetic on what a clock said."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from zoneinfo import ZoneInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def epoch_us(instant: datetime) -> int:
    """Microseconds since 1970 of an aware datetime, exactly (no float in between)."""
    return (instant - _EPOCH) // _MICROSECOND


class BusinessCalendar:
    """Which business day (domain §3.4, 日切) an instant belongs to.

    Business day D runs from the cut-off on D to the cut-off on D+1 in the ledger's time
    zone, so its name is the date of (local time − cut-off). Where a change of summer time
    repeats the cut-off, the day begins at its first occurrence, and where it is skipped, at
    the instant that the old offset gives: a business day never comes back once it has ended.

    Raises ValueError for a cut-off that is not HH:MM, and ZoneInfoNotFoundError (a KeyError)
    for an unknown zone; configuration checks both first.
    """

    __slots__ = ("_current", "_cut_off", "_zone")

    def __init__(self, time_zone: str, cut_off: str) -> None:
        self._zone = ZoneInfo(time_zone)
        self._cut_off = time_of_day.fromisoformat(cut_off)
        # start and end in epoch microseconds and the date between; replaced as one tuple,
        # so that a thread never sees half of a change
        self._current: tuple[int, int, date] = (0, 0, date.min)

    def business_date(self, now_us: int) -> date:
        """The business day of this instant (epoch microseconds)."""
        start_us, end_us, day = self._current
        if start_us <= now_us < end_us:
            return day
        self._current = self._day_around(now_us)
        return self._current[2]

    def day_bounds_us(self, day: date) -> tuple[int, int]:
        """First instant of a business day and of the next, epoch microseconds."""
        return self._start_us(day), self._start_us(day + timedelta(days=1))

    def local(self, now_us: int) -> datetime:
        """The same instant as an aware datetime in the ledger's time zone."""
        return (_EPOCH + timedelta(microseconds=now_us)).astimezone(self._zone)

    def _start_us(self, day: date) -> int:
        return epoch_us(datetime.combine(day, self._cut_off, tzinfo=self._zone).astimezone(UTC))

    def _day_around(self, now_us: int) -> tuple[int, int, date]:
        day = self.local(now_us).date()
        start_us, end_us = self.day_bounds_us(day)
        while now_us < start_us:
            day -= timedelta(days=1)
            start_us, end_us = self.day_bounds_us(day)
        return start_us, end_us, day
