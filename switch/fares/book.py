"""Fare tables as values: versions by effective instant, lines, classes, windows and caps.

All amounts are minor units. What a line costs is one of three tariffs:

    flat      one tap, one fare: bus, ferry, a park's gate
    zones     on and off: fare by the zones of the two stops, at most the maximum
    parking   in and out: fare by the time between, at most the maximum

A ride is priced by the table that was in force at the instant it began (domain §11.6: taps
under an old table that arrive late keep it).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from protocols.message import Mode
from switch.calendar import BusinessCalendar

FULL_FARE = 0
"""The class of everybody without a right to another one."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_US = 60_000_000


class Flat(msgspec.Struct, frozen=True, gc=False):
    """One tap, one fare. On and off on such a line cost the same as one tap."""

    fare_minor: int

    @property
    def maximum_minor(self) -> int:
        return self.fare_minor

    @property
    def incomplete_minutes(self) -> int:
        return FLAT_INCOMPLETE_MINUTES


FLAT_INCOMPLETE_MINUTES = 240
"""How long a journey may last where a line has no tariff for journeys."""


class Zones(msgspec.Struct, frozen=True, gc=False):
    """A journey's fare by zones.

    `zone_of` is by stop; `pairs` by (smaller zone, greater zone) stand before the rule: the
    fare of one zone and a step for each border crossed. A stop that has no zone makes the
    journey cost the maximum. Who leaves where he entered within `same_stop_minutes` has not
    ridden (domain §2.2). After `incomplete_minutes` without a tap-off the maximum is charged.
    """

    zone_of: Mapping[str, int]
    fare_minor: int
    step_minor: int
    pairs: Mapping[tuple[int, int], int]
    maximum_minor: int
    same_stop_minutes: int
    incomplete_minutes: int

    def fare_between(self, on_stop: str, off_stop: str, seconds: int) -> int:
        """The fare from one stop to another after `seconds` of riding."""
        if on_stop == off_stop and seconds <= self.same_stop_minutes * 60:
            return 0
        one, other = self.zone_of.get(on_stop), self.zone_of.get(off_stop)
        if one is None or other is None:
            return self.maximum_minor
        low, high = min(one, other), max(one, other)
        by_rule_minor = self.fare_minor + (high - low) * self.step_minor
        return min(self.pairs.get((low, high), by_rule_minor), self.maximum_minor)


class Parking(msgspec.Struct, frozen=True, gc=False):
    """A stay's fare: nothing up to `free_minutes`, else `hour_minor` for each hour begun.

    Nobody stays longer than `incomplete_minutes` for the maximum: it is charged then.
    """

    free_minutes: int
    hour_minor: int
    maximum_minor: int
    incomplete_minutes: int

    def fare_of(self, seconds: int) -> int:
        if seconds <= self.free_minutes * 60:
            return 0
        return min(-(-seconds // 3600) * self.hour_minor, self.maximum_minor)


Tariff = Flat | Zones | Parking


class Peak(msgspec.Struct, frozen=True, gc=False):
    """Minutes of the local day, Monday to Friday, from one until before another."""

    from_minute: int
    until_minute: int


class FareClass(msgspec.Struct, frozen=True, gc=False):
    """What a right is worth: `percent` of the nominal fare is paid, on rides of `modes`.

    Within a peak the right does not hold: the ride is of class 0. `day_cap_minor` is the most
    that the rides of a fare day cost together, 0 for no cap.
    """

    number: int
    percent: int
    modes: frozenset[Mode]
    peaks: tuple[Peak, ...] = ()
    day_cap_minor: int = 0

    def fare_minor(self, nominal_minor: int, mode: Mode) -> int:
        """What is left of a nominal fare. Half a fen goes to the holder (domain §11.6)."""
        if mode not in self.modes:
            return nominal_minor
        return (nominal_minor * self.percent + 49) // 100


class Transfer(msgspec.Struct, frozen=True, gc=False):
    """A discount on the boarding that follows another ride within a window.

    It is `discount_minor`, and `discount_percent` of what is left; the window runs from the
    last tap of the ride before. A boarding is discounted once; the same line is no transfer.
    """

    from_modes: frozenset[Mode]
    to_modes: frozenset[Mode]
    window_minutes: int
    discount_minor: int
    discount_percent: int

    def fare_minor(self, fare_minor: int) -> int:
        """What is left of a fare; half a fen goes to the holder."""
        left_minor = max(fare_minor - self.discount_minor, 0)
        return (left_minor * (100 - self.discount_percent) + 49) // 100


class FareTable(msgspec.Struct, frozen=True, gc=False):
    """One version. `tariffs` are by (mode, line); line "" is the default of its mode.

    Only rides of `capped_modes` count towards the daily cap and are cut by it.
    """

    version: int
    effective_from_us: int
    tariffs: Mapping[tuple[Mode, str], Tariff]
    classes: Mapping[int, FareClass] = {}
    transfers: tuple[Transfer, ...] = ()
    capped_modes: frozenset[Mode] = frozenset()

    def tariff(self, mode: Mode, line: str) -> Tariff | None:
        """What a line costs, else what its mode does; None: the reader's own fare holds."""
        return self.tariffs.get((mode, line)) or self.tariffs.get((mode, ""))

    def fare_class(self, number: int) -> FareClass:
        return self.classes.get(number, _FULL)


_FULL = FareClass(FULL_FARE, 100, frozenset())
NO_TABLE = FareTable(0, 0, {})
"""Before the first table every reader's own fare holds."""


class FareBook(msgspec.Struct, frozen=True):
    """Every fare table of the city, by the instant from which it holds, the newest last.

    A fare day runs from `fare_day_start` (local time HH:MM) to the same time of the next day.
    """

    time_zone: str = "Asia/Shanghai"
    fare_day_start: str = "04:30"
    tables: tuple[FareTable, ...] = ()

    def table_at(self, event_at_us: int) -> FareTable:
        """The table in force at an instant (epoch microseconds)."""
        for table in reversed(self.tables):
            if table.effective_from_us <= event_at_us:
                return table
        return NO_TABLE


EMPTY_FARE_BOOK = FareBook()


def fare_date(book: FareBook, event_at_us: int) -> date:
    """The fare day of an event (epoch microseconds): the date on which it began."""
    return _calendar(book.time_zone, book.fare_day_start).business_date(event_at_us)


def in_peak(book: FareBook, fare_class: FareClass, event_at_us: int) -> bool:
    """Whether a right of this class does not hold at an instant."""
    if not fare_class.peaks:
        return False
    weekday, minute = _local_minute(book.time_zone, event_at_us // _MINUTE_US)
    return weekday <= 5 and any(
        peak.from_minute <= minute < peak.until_minute for peak in fare_class.peaks
    )


@lru_cache(maxsize=16)
def _calendar(time_zone: str, fare_day_start: str) -> BusinessCalendar:
    return BusinessCalendar(time_zone, fare_day_start)


@lru_cache(maxsize=4_096)
def _local_minute(time_zone: str, epoch_minute: int) -> tuple[int, int]:
    """ISO weekday and minute of the local day; offsets from UTC are whole minutes."""
    local = (_EPOCH + timedelta(minutes=epoch_minute)).astimezone(ZoneInfo(time_zone))
    return local.isoweekday(), local.hour * 60 + local.minute
