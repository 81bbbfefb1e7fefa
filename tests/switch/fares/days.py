"""Taps by hand: events of a leap day, and arrivals that are charged one after the other."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from protocols.message import Fare, Kind, Mode
from switch.calendar import epoch_us
from switch.fares.book import FareBook, fare_date
from switch.fares.pricing import charge_of
from switch.fares.reading import load_fares
from switch.posting import Entitlement, FareFacts, TapEvent

ZONE = ZoneInfo("Asia/Shanghai")
LEAP_DAY = "2028-02-29"
"""A Tuesday."""


@cache
def book() -> FareBook:
    """The shipped fare tables."""
    return load_fares("")


def at(clock: str, day: str = LEAP_DAY) -> int:
    """Epoch microseconds of a local time HH:MM."""
    return epoch_us(datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZONE))


def tap(kind: Kind, event_at_us: int, **changed: Any) -> TapEvent:
    """A tap as it comes: on the bus, unless said otherwise."""
    usual: dict[str, Any] = {
        "kind": kind,
        "event_at_us": event_at_us,
        "mode": Mode.BUS,
        "line": "",
        "stop": "",
        "vehicle": "",
        "acquirer": "48031000",
        "fare": Fare(0),
        "fare_date": fare_date(book(), event_at_us),
    }
    return TapEvent(**(usual | changed))


def metro(kind: Kind, event_at_us: int, stop: str, **changed: Any) -> TapEvent:
    return tap(kind, event_at_us, mode=Mode.METRO, stop=stop, **changed)


class Day:
    """A fare day as it comes in: each tap is charged with what is stored before it."""

    def __init__(self, *rights: Entitlement) -> None:
        self.rights = rights
        self.taps: list[TapEvent] = []

    def charge(self, event: TapEvent) -> Fare:
        facts = FareFacts(tuple(self.taps), self.rights)
        fare = charge_of(event, facts, book())
        number = event.authorization_id or len(self.taps) + 1
        self.taps.append(msgspec.structs.replace(event, fare=fare, authorization_id=number))
        return fare

    @property
    def charged_minor(self) -> int:
        return sum(one.fare.charged_minor for one in self.taps)


def always(fare_class: int) -> Entitlement:
    return Entitlement(fare_class, 0, 1 << 60)
