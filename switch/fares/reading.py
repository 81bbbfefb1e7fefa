"""Fare tables from TOML: read, checked, every problem found in one pass."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from protocols.message import Mode
from switch.calendar import epoch_us
from switch.config_reading import ConfigError, Problem, read
from switch.config_types import CutOff, MinorUnits, Section
from switch.fares.book import (
    FareBook,
    FareClass,
    FareTable,
    Flat,
    Parking,
    Peak,
    Tariff,
    Transfer,
    Zones,
)

_Seen = dict[tuple[str, object], str]

FILE_BYTES_MAX = 4_194_304
TABLES_MAX = 256

Code = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z0-9-]{1,12}\Z", description="a code of 1 to 12 letters, digits or -"),
]
LocalTime = Annotated[
    str,
    Meta(
        pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}\Z",
        description='a local date and time such as "2026-01-01T00:00"',
    ),
]
Percent = Annotated[int, Meta(ge=0, le=100, description="a whole number from 0 to 100")]
Zone = Annotated[int, Meta(ge=0, le=999, description="a zone number from 0 to 999")]
Minutes = Annotated[int, Meta(ge=0, le=1_440, description="whole minutes from 0 to 1440")]
JourneyMinutes = Annotated[int, Meta(ge=1, le=1_440, description="whole minutes from 1 to 1440")]
Modes = Annotated[tuple[Mode, ...], Meta(min_length=1, description='modes such as ["bus"]')]
PeakText = Annotated[
    str,
    Meta(
        pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]-([01][0-9]|2[0-3]):[0-5][0-9]\Z",
        description='a time from Monday to Friday such as "07:30-09:00"',
    ),
]


class FlatText(Section, frozen=True):
    """`[[tables.flat]]`: without `lines` it is the default of its mode."""

    mode: Mode
    fare_minor: MinorUnits
    lines: tuple[Code, ...] = ()


class PairText(Section, frozen=True):
    """`[[tables.zones.pairs]]`: the fare between two zones, in both directions."""

    zones: tuple[Zone, ...]
    fare_minor: MinorUnits


class ZonesText(Section, frozen=True):
    """`[[tables.zones]]`: journeys by zone. `stops` maps a stop's code to its zone."""

    mode: Mode
    fare_minor: MinorUnits
    maximum_minor: MinorUnits
    lines: tuple[Code, ...] = ()
    stops: dict[Code, Zone] = msgspec.field(default_factory=dict)
    step_minor: MinorUnits = 0
    pairs: tuple[PairText, ...] = ()
    same_stop_minutes: Minutes = 2
    incomplete_minutes: JourneyMinutes = 240


class ParkingText(Section, frozen=True):
    """`[[tables.parking]]`: `lines` are the codes of car-parks."""

    hour_minor: MinorUnits
    maximum_minor: MinorUnits
    lines: tuple[Code, ...] = ()
    free_minutes: Minutes = 0
    incomplete_minutes: JourneyMinutes = 1_440
    mode: Mode = Mode.PARKING


class ClassText(Section, frozen=True):
    """`[[tables.classes]]`: class 0 is the full fare, and may have a cap like any other."""

    number: Annotated[int, Meta(ge=0, le=99, description="a whole number from 0 to 99")]
    percent: Percent = 100
    modes: tuple[Mode, ...] = ()
    peaks: tuple[PeakText, ...] = ()
    day_cap_minor: MinorUnits = 0


class TransferText(Section, frozen=True):
    """`[[tables.transfers]]`: the first that fits a boarding is the one."""

    from_modes: Modes
    to_modes: Modes
    window_minutes: JourneyMinutes
    discount_minor: MinorUnits = 0
    discount_percent: Percent = 0


class TableText(Section, frozen=True):
    """`[[tables]]`: one version, whole; a later one repeats what it keeps."""

    version: Annotated[int, Meta(ge=1, le=65_535, description="a whole number from 1 to 65535")]
    effective_from: LocalTime
    flat: tuple[FlatText, ...] = ()
    zones: tuple[ZonesText, ...] = ()
    parking: tuple[ParkingText, ...] = ()
    classes: tuple[ClassText, ...] = ()
    transfers: tuple[TransferText, ...] = ()
    capped_modes: tuple[Mode, ...] = ()


class BookText(Section, frozen=True):
    """The file."""

    tables: tuple[TableText, ...] = ()
    fare_day_start: CutOff = "04:30"


def load_fares(file: str, time_zone: str = "Asia/Shanghai") -> FareBook:
    """The configured fare tables, else the shipped ones, in the ledger's time zone.

    Raises ConfigError with all problems of the file.
    """
    source = file or "fares.toml"
    try:
        octets = (
            Path(file).read_bytes()
            if file
            else files("switch.fares").joinpath("fares.toml").read_bytes()
        )
    except OSError as error:
        raise _unreadable(source, error.strerror or "it cannot be opened") from None
    if len(octets) > FILE_BYTES_MAX:
        raise _unreadable(source, f"it is larger than {FILE_BYTES_MAX} bytes")
    return parse_fares(octets, source, time_zone)


def parse_fares(octets: bytes, source: str, time_zone: str = "Asia/Shanghai") -> FareBook:
    """The fare tables of a TOML document. Raises ConfigError with all its problems."""
    try:
        document = tomllib.loads(octets.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError):
        raise _unreadable(source, "it is not TOML in UTF-8") from None
    text, problems = read(BookText, document)
    if text is None or problems:
        raise ConfigError(source, problems)
    problems = list(_across(text))
    if problems:
        raise ConfigError(source, problems)
    zone = ZoneInfo(time_zone)
    tables = sorted(
        (_table(table, zone) for table in text.tables), key=lambda one: one.effective_from_us
    )
    return FareBook(time_zone, text.fare_day_start, tuple(tables))


def _unreadable(source: str, reason: str) -> ConfigError:
    return ConfigError(
        source, [Problem("fares.file", f"it cannot be read ({reason})", "name a fare file")]
    )


def _across(text: BookText) -> Iterator[Problem]:
    """What is wrong between keys: doubles, times that do not exist, fares above their maximum."""
    if len(text.tables) > TABLES_MAX:
        yield Problem("tables", f"there are more than {TABLES_MAX}", "leave old ones out")
    seen: _Seen = {}
    for index, table in enumerate(text.tables):
        path = f"tables[{index}]"
        yield from _twice(seen, path, "version", table.version)
        yield from _twice(seen, path, "effective_from", table.effective_from)
        if _instant(table.effective_from) is None:
            remedy = "give a day and a time that the calendar has"
            yield Problem(f"{path}.effective_from", "there is no such date", remedy)
        yield from _tariffs_across(path, table)
        yield from _classes_across(path, table)


def _tariffs_across(path: str, table: TableText) -> Iterator[Problem]:
    seen: _Seen = {}
    sections: tuple[tuple[str, Sequence[FlatText | ZonesText | ParkingText]], ...] = (
        ("flat", table.flat),
        ("zones", table.zones),
        ("parking", table.parking),
    )
    for name, tariffs in sections:
        for index, tariff in enumerate(tariffs):
            key = f"{path}.{name}[{index}]"
            for line in tariff.lines or ("",):
                yield from _twice(seen, key, "lines", (tariff.mode, line))
    for index, zones in enumerate(table.zones):
        key = f"{path}.zones[{index}]"
        if zones.fare_minor > zones.maximum_minor:
            remedy = "raise maximum_minor: nobody can ride for less than one zone's fare"
            yield Problem(f"{key}.maximum_minor", "it is less than fare_minor", remedy)
        known = frozenset(zones.stops.values())
        pairs: _Seen = {}
        for number, pair in enumerate(zones.pairs):
            at = f"{key}.pairs[{number}]"
            if len(pair.zones) != 2 or not known.issuperset(pair.zones):
                remedy = "name two zones that stops of this tariff are in"
                yield Problem(f"{at}.zones", "these are no two zones", remedy)
            elif pair.fare_minor > zones.maximum_minor:
                remedy = "raise maximum_minor: it is what is set aside at the gate"
                yield Problem(f"{at}.fare_minor", "it is more than maximum_minor", remedy)
            yield from _twice(pairs, at, "zones", tuple(sorted(pair.zones)))


def _classes_across(path: str, table: TableText) -> Iterator[Problem]:
    seen: _Seen = {}
    for index, each in enumerate(table.classes):
        key = f"{path}.classes[{index}]"
        yield from _twice(seen, key, "number", each.number)
        if each.number == 0 and (each.percent != 100 or each.peaks):
            remedy = "leave percent and peaks out: class 0 is what everybody pays"
            yield Problem(f"{key}.percent", "class 0 is the full fare", remedy)
        for number, peak in enumerate(each.peaks):
            from_minute, until_minute = _peak(peak)
            if from_minute >= until_minute:
                remedy = "write the earlier time first; a peak over midnight is two"
                yield Problem(f"{key}.peaks[{number}]", "it ends before it begins", remedy)
        if each.day_cap_minor and not table.capped_modes:
            remedy = f"name the modes that it caps in {path}.capped_modes"
            yield Problem(f"{key}.day_cap_minor", "no mode is capped", remedy)


def _twice(seen: _Seen, path: str, name: str, value: object) -> Iterator[Problem]:
    other = seen.setdefault((name, value), path)
    if other != path:
        yield Problem(f"{path}.{name}", f"{other} has the same", "keep one of them")


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def _peak(text: str) -> tuple[int, int]:
    """Minutes of the day."""
    from_text, until_text = text.split("-")
    return _minute(from_text), _minute(until_text)


def _minute(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _table(table: TableText, zone: ZoneInfo) -> FareTable:
    local = datetime.fromisoformat(table.effective_from).replace(tzinfo=zone)
    tariffs: dict[tuple[Mode, str], Tariff] = {}
    for flat in table.flat:
        for line in flat.lines or ("",):
            tariffs[flat.mode, line] = Flat(flat.fare_minor)
    for zones in table.zones:
        for line in zones.lines or ("",):
            tariffs[zones.mode, line] = _zones(zones)
    for parking in table.parking:
        for line in parking.lines or ("",):
            tariffs[parking.mode, line] = Parking(
                parking.free_minutes,
                parking.hour_minor,
                parking.maximum_minor,
                parking.incomplete_minutes,
            )
    return FareTable(
        table.version,
        epoch_us(local.astimezone(UTC)),
        tariffs,
        {each.number: _class(each) for each in table.classes},
        tuple(
            Transfer(
                frozenset(each.from_modes),
                frozenset(each.to_modes),
                each.window_minutes,
                each.discount_minor,
                each.discount_percent,
            )
            for each in table.transfers
        ),
        frozenset(table.capped_modes),
    )


def _zones(zones: ZonesText) -> Zones:
    pairs = {(min(pair.zones), max(pair.zones)): pair.fare_minor for pair in zones.pairs}
    return Zones(
        zones.stops,
        zones.fare_minor,
        zones.step_minor,
        pairs,
        zones.maximum_minor,
        zones.same_stop_minutes,
        zones.incomplete_minutes,
    )


def _class(each: ClassText) -> FareClass:
    peaks = tuple(Peak(*_peak(peak)) for peak in each.peaks)
    modes = frozenset(each.modes or tuple(Mode))
    return FareClass(each.number, each.percent, modes, peaks, each.day_cap_minor)
