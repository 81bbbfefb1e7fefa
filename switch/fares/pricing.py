"""What a day of taps costs: a pure function of its events, its rights and the fare tables.

The same events cost the same in whatever order they arrive:

    sorted        by the instants of the events, never by when they came
    paired        an off ends the newest open on of its acquirer and mode within its time; a car
                  leaves where it stands however late that is
    rides         one per single tap, pair, off without an on (the maximum), and incomplete
                  fare whose on has no off (the maximum)
    priced        nominal − concession − transfer − cap, ride after ride

What a new tap is charged is the day's total with it, less what the day was charged before;
so a late tap that reorders a day, makes a transfer or ends a journey that was charged as
incomplete corrects the earlier taps by `recomputed_minor`, and nothing is edited (domain
§2.2, §6.4 F3). Where the end of a journey comes on a later day than the one on which it was
charged as incomplete, what it was charged then counts as charged before on that later day.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import msgspec

from protocols.message import Fare, Kind, Mode
from switch.fares.book import (
    FULL_FARE,
    FareBook,
    FareTable,
    Flat,
    Parking,
    Tariff,
    Transfer,
    Zones,
    in_peak,
)
from switch.posting import Entitlement, FareFacts, TapEvent

_MINUTE_US = 60_000_000
_KIND_ORDER = {Kind.TAP_OFF: 0, Kind.FARE: 1, Kind.TAP_ON: 2, Kind.INCOMPLETE_FARE: 3}
"""Of two taps in one instant the one that ends a ride comes first."""


class _Ride(msgspec.Struct, frozen=True, gc=False):
    """One priced ride; `place` is that of the event that it is charged with."""

    place: int
    start_us: int
    end_us: int
    mode: Mode
    line: str
    nominal_minor: int
    fare_class: int
    table: FareTable


def charge_of(event: TapEvent, facts: FareFacts, book: FareBook) -> Fare:
    """What a tap is charged, given all of its fare day that was charged before.

    Its nominal fare and adjustments are its own; `recomputed_minor` corrects the others.
    """
    events = (*facts.taps, event)
    fares = priced_day(events, event.fare_date, facts.entitlements, book)
    total_minor = sum([fare.charged_minor for fare in fares])
    before_minor = sum(
        [one.fare.charged_minor for one in facts.taps if one.fare_date == event.fare_date]
    )
    before_minor += _charged_elsewhere_minor(events, event.fare_date, book)
    own = fares[-1]
    return msgspec.structs.replace(
        own, recomputed_minor=total_minor - before_minor - own.charged_minor
    )


def _charged_elsewhere_minor(events: Sequence[TapEvent], day: date, book: FareBook) -> int:
    """What rides that end on this day were charged as incomplete on another one.

    Without what that charge corrected of its own day, which stays that day's.
    """
    charged = {
        one.journey_id: one.fare.charged_minor - one.fare.recomputed_minor
        for one in events
        if one.kind is Kind.INCOMPLETE_FARE and one.fare_date != day
    }
    if not charged:
        return 0
    ended_here = [
        events[on].authorization_id
        for off, on in _pairs(events, book).items()
        if events[off].fare_date == day
    ]
    return sum([charged.get(journey_id, 0) for journey_id in ended_here])


def priced_day(
    events: Sequence[TapEvent], day: date, rights: Sequence[Entitlement], book: FareBook
) -> tuple[Fare, ...]:
    """One fare per event, in the order given; events of other days cost nothing here."""
    rides = [ride for ride in _rides(events, rights, book) if events[ride.place].fare_date == day]
    if len(rides) > 1:
        rides.sort(key=lambda ride: (ride.start_us, ride.end_us, _rank(events[ride.place])))
    fares = [Fare(0)] * len(events)
    for place, event in enumerate(events):
        if event.kind is Kind.TAP_ON and event.fare_date == day:
            table = book.table_at(event.event_at_us)
            number = _class_of(event, rights, book)
            fares[place] = Fare(0, fare_class=number, fare_version=table.version)
    previous: _Ride | None = None
    capped_minor = 0
    for ride in rides:
        fare = _fare_of(ride, previous, capped_minor)
        if ride.mode in ride.table.capped_modes:
            capped_minor += fare.charged_minor
        fares[ride.place] = fare
        previous = ride
    return tuple(fares)


def partner_of(event: TapEvent, taps: Sequence[TapEvent], book: FareBook) -> TapEvent | None:
    """The tap-on that an off ends, or the off that ends an on that comes late."""
    events = (*taps, event)
    on_of = _pairs(events, book)
    here = len(events) - 1
    if event.kind is Kind.TAP_OFF:
        return events[on_of[here]] if here in on_of else None
    offs = [off for off, on in on_of.items() if on == here]
    return events[offs[0]] if offs else None


def maximum_of(event: TapEvent, facts: FareFacts, book: FareBook) -> int | None:
    """The most that a journey from this tap-on may cost, its class counted: what is set aside.

    None where no tariff is for journeys of its mode: nothing tells their maximum.
    """
    table = book.table_at(event.event_at_us)
    tariff = table.tariff(event.mode, event.line)
    if tariff is None:
        return None
    number = _class_of(event, facts.entitlements, book)
    return table.fare_class(number).fare_minor(tariff.maximum_minor, event.mode)


def incomplete_minutes(event: TapEvent, book: FareBook) -> int:
    """How long the journey from this tap-on may last; 0 where no tariff tells."""
    tariff = book.table_at(event.event_at_us).tariff(event.mode, event.line)
    return tariff.incomplete_minutes if tariff is not None else 0


def class_at(event_at_us: int, mode: Mode, rights: Sequence[Entitlement], book: FareBook) -> int:
    """The class that a right gives at an instant: of several the cheapest, else the full fare.

    A class that no table knows, that is not for the mode or whose peak it is gives nothing.
    """
    if not rights:
        return FULL_FARE
    table = book.table_at(event_at_us)
    held = [
        table.classes[right.fare_class]
        for right in rights
        if right.from_us <= event_at_us < right.until_us and right.fare_class in table.classes
    ]
    fit = [one for one in held if mode in one.modes and not in_peak(book, one, event_at_us)]
    return min(fit, key=lambda one: (one.percent, one.number)).number if fit else FULL_FARE


def _class_of(event: TapEvent, rights: Sequence[Entitlement], book: FareBook) -> int:
    if event.authorization_id and event.kind is Kind.TAP_ON:
        # Its day may be another one, whose rights are not at hand.
        return event.fare.fare_class
    return class_at(event.event_at_us, event.mode, rights, book)


def _rank(event: TapEvent) -> tuple[int, int, str, str, str, str, str]:
    """Order of events by what they say; two that say the same may change places."""
    return (
        event.event_at_us,
        _KIND_ORDER[event.kind],
        event.mode,
        event.acquirer,
        event.line,
        event.stop,
        event.vehicle,
    )


def _pairs(events: Sequence[TapEvent], book: FareBook) -> Mapping[int, int]:
    """Places of offs, and of the on that each ends."""
    on_of: dict[int, int] = {}
    journeys = [place for place, one in enumerate(events) if one.kind in _JOURNEY_KINDS]
    if not journeys:
        return on_of
    open_ons: dict[tuple[str, Mode], list[int]] = {}
    for place in sorted(journeys, key=lambda place: _rank(events[place])):
        event = events[place]
        ons = open_ons.setdefault((event.acquirer, event.mode), [])
        if event.kind is Kind.TAP_ON:
            ons.append(place)
        elif ons:
            on = events[ons[-1]]
            if event.event_at_us - on.event_at_us <= _lasts_us(on, book):
                on_of[place] = ons.pop()
    return on_of


def _lasts_us(on: TapEvent, book: FareBook) -> int:
    """How long after a tap-on another tap may be the end of its journey.

    A car that stayed too long has been charged the maximum; its exit is no second stay.
    """
    tariff = book.table_at(on.event_at_us).tariff(on.mode, on.line)
    if isinstance(tariff, Parking):
        return _PARKED_US_MAX
    return incomplete_minutes(on, book) * _MINUTE_US


_PARKED_US_MAX = 8 * 24 * 60 * _MINUTE_US
"""As long as an entry is kept at hand after its time (ledger.fare_facts looks back a week)."""


_JOURNEY_KINDS = frozenset({Kind.TAP_ON, Kind.TAP_OFF})


def _rides(
    events: Sequence[TapEvent], rights: Sequence[Entitlement], book: FareBook
) -> list[_Ride]:
    on_of = _pairs(events, book)
    ended = frozenset(on_of.values())
    place_of = {
        one.authorization_id: place for place, one in enumerate(events) if one.kind is Kind.TAP_ON
    }
    rides = []
    for place, event in enumerate(events):
        if event.kind is Kind.TAP_ON:
            continue
        if event.kind is Kind.FARE:
            rides.append(_single(place, event, rights, book))
        elif event.kind is Kind.TAP_OFF and place in on_of:
            rides.append(_journey(place, events[on_of[place]], event, rights, book))
        elif event.journey_id and event.journey_id not in place_of:
            rides.append(_as_stored(place, event, book))
        elif event.kind is Kind.TAP_OFF:
            rides.append(_at_maximum(place, event, rights, book))
        elif place_of[event.journey_id] not in ended:
            rides.append(_at_maximum(place, events[place_of[event.journey_id]], rights, book))
    return rides


def _single(place: int, event: TapEvent, rights: Sequence[Entitlement], book: FareBook) -> _Ride:
    """One tap; on a line that is priced by journeys it costs the maximum."""
    table = book.table_at(event.event_at_us)
    tariff = table.tariff(event.mode, event.line)
    nominal_minor = event.fare.nominal_minor if tariff is None else tariff.maximum_minor
    return _ride(place, event, event.event_at_us, nominal_minor, rights, book)


def _journey(
    place: int, on: TapEvent, off: TapEvent, rights: Sequence[Entitlement], book: FareBook
) -> _Ride:
    tariff = book.table_at(on.event_at_us).tariff(on.mode, on.line)
    seconds = (off.event_at_us - on.event_at_us) // 1_000_000
    nominal_minor = _between(tariff, on.stop, off.stop, seconds)
    return _ride(place, on, off.event_at_us, nominal_minor, rights, book)


def _between(tariff: Tariff | None, on_stop: str, off_stop: str, seconds: int) -> int:
    match tariff:
        case Zones():
            return tariff.fare_between(on_stop, off_stop, seconds)
        case Parking():
            return tariff.fare_of(seconds)
        case Flat():
            return tariff.fare_minor
        case None:
            return 0


def _at_maximum(
    place: int, event: TapEvent, rights: Sequence[Entitlement], book: FareBook
) -> _Ride:
    tariff = book.table_at(event.event_at_us).tariff(event.mode, event.line)
    nominal_minor = event.fare.nominal_minor if tariff is None else tariff.maximum_minor
    return _ride(place, event, event.event_at_us, nominal_minor, rights, book)


def _as_stored(place: int, event: TapEvent, book: FareBook) -> _Ride:
    """The end of a journey that began on the day before, whose tap-on is no longer at hand."""
    return _Ride(
        place,
        event.event_at_us,
        event.event_at_us,
        event.mode,
        event.line,
        event.fare.nominal_minor,
        event.fare.fare_class,
        book.table_at(event.event_at_us),
    )


def _ride(
    place: int,
    began: TapEvent,
    end_us: int,
    nominal_minor: int,
    rights: Sequence[Entitlement],
    book: FareBook,
) -> _Ride:
    """A ride of the class and the table of the tap that began it."""
    return _Ride(
        place,
        began.event_at_us,
        end_us,
        began.mode,
        began.line,
        nominal_minor,
        _class_of(began, rights, book),
        book.table_at(began.event_at_us),
    )


def _fare_of(ride: _Ride, previous: _Ride | None, capped_minor: int) -> Fare:
    fare_class = ride.table.fare_class(ride.fare_class)
    after_class = fare_class.fare_minor(ride.nominal_minor, ride.mode)
    discount = _transfer(ride, previous)
    after_transfer = discount.fare_minor(after_class) if discount is not None else after_class
    charged = after_transfer
    if fare_class.day_cap_minor and ride.mode in ride.table.capped_modes:
        charged = min(charged, max(fare_class.day_cap_minor - capped_minor, 0))
    return Fare(
        nominal_minor=ride.nominal_minor,
        concession_minor=after_class - ride.nominal_minor,
        transfer_minor=after_transfer - after_class,
        cap_minor=charged - after_transfer,
        fare_class=ride.fare_class,
        fare_version=ride.table.version,
    )


def _transfer(ride: _Ride, previous: _Ride | None) -> Transfer | None:
    """The discount that the ride before gives, if it does: the table's first that fits."""
    if previous is None or (ride.mode, ride.line) == (previous.mode, previous.line):
        return None
    waited_us = ride.start_us - previous.end_us
    for transfer in ride.table.transfers:
        if previous.mode in transfer.from_modes and ride.mode in transfer.to_modes:
            fits = 0 <= waited_us <= transfer.window_minutes * _MINUTE_US
            return transfer if fits else None
    return None
