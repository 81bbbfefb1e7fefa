"""How a backtest's figures are written for people, alike on the page, in plots and in a terminal.

Everything is whole-number arithmetic: money is minor units and a share is parts per million,
so nothing is rounded up to look complete ("100 %" is said only of all).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from protocols.money import display_minor
from risk.conditions import Relation
from risk.vocabulary import CURRENT_FACTS, Unit

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
HASH_SHOWN = 12
"""Of a ruleset's hash: as many as name it among all that a city will ever have."""
_SIGNS: dict[str, str] = {
    Relation.EQ: "=",
    Relation.NE: "≠",
    Relation.LT: "<",
    Relation.LE: "≤",
    Relation.GT: ">",
    Relation.GE: "≥",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
_STEPS = ((1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


def printable(text: str) -> str:
    """The text with everything that draws nothing or redirects text (control, bidi) as `·`."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "·" for each in text)


def shortened(text: str, characters_max: int) -> str:
    """At most so many characters, the cut shown as an ellipsis."""
    text = printable(text)
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def short_hash(digest: str) -> str:
    """As much of a ruleset's hash as a person needs."""
    return printable(digest[:HASH_SHOWN])


def counted(number: int, noun: str = "", plural: str = "") -> str:
    """A count with separators, and its noun: `1 day`, `1,200 days`."""
    if not noun:
        return f"{number:,}"
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(part: int, whole: int) -> str:
    """The share in percent, rounded down; `–` of nothing."""
    if whole <= 0:
        return "–"
    ppm = part * 1_000_000 // whole
    if ppm == 0 and part > 0:
        return "< 0.0001 %"
    return percent_of_ppm(ppm)


def percent_of_ppm(ppm: int) -> str:
    """Parts per million as percent: two decimals, four where it is less than one percent."""
    if ppm % 1_000_000 == 0:
        return f"{ppm // 10_000} %"
    if ppm < 10_000:
        return f"0.{ppm:04} %"
    return f"{ppm // 10_000}.{ppm // 100 % 100:02} %"


def moment(at_us: int, zone: tzinfo) -> str:
    """An instant in epoch microseconds as local time to the second."""
    at = _local(at_us, zone)
    return at.strftime("%Y-%m-%d %H:%M:%S") if at else f"{at_us} µs"


def exact_moment(at_us: int, zone: tzinfo) -> str:
    """The same to the microsecond and with its offset (ISO 8601), for programs."""
    at = _local(at_us, zone)
    return at.isoformat(timespec="microseconds") if at else str(at_us)


def _local(at_us: int, zone: tzinfo) -> datetime | None:
    try:
        return (_EPOCH + timedelta(microseconds=at_us)).astimezone(zone)
    except (OverflowError, ValueError):
        return None


def unit_of(text: str, features: dict[str, str]) -> Unit | None:
    """The unit that all features and facts named in an operand share; None if they don't.

    `features` are units by feature id, each as `FeatureReport.unit` says it.
    """
    units = {unit_named(features[word]) for word in _WORD.findall(text) if word in features}
    units |= {CURRENT_FACTS[word].unit for word in _WORD.findall(text) if word in CURRENT_FACTS}
    return units.pop() if len(units) == 1 else None


def unit_named(name: str) -> Unit | None:
    """The unit of this name or of this text; None if it is none."""
    try:
        return Unit(name)
    except ValueError:
        return Unit.__members__.get(name.upper())


def relation_sign(relation: str) -> str:
    """`>` of `gt`, as rules spell it; anything else as it is."""
    return _SIGNS.get(relation, relation)


def axis_unit(unit: Unit | None) -> str:
    """What stands in parentheses beside an axis."""
    match unit:
        case Unit.MONEY:
            return "money"
        case Unit.SECONDS | Unit.DAYS:
            return unit.value
        case Unit.METRES:
            return "m"
        case Unit.SPEED:
            return "km/h"
        case Unit.TIME_OF_DAY:
            return "local time"
        case Unit.WEEKDAY:
            return "weekday"
        case _:
            return "count"


def measured(value: int, unit: Unit | None) -> str:
    """A value in full, with its unit."""
    match unit:
        case Unit.MONEY:
            return display_minor(value)
        case Unit.SECONDS:
            return f"{value:,} s"
        case Unit.DAYS:
            return counted(value, "day")
        case Unit.METRES:
            return f"{value:,} m"
        case Unit.SPEED:
            return f"{value:,} km/h"
        case Unit.TIME_OF_DAY:
            return f"{value // 3600:02}:{value // 60 % 60:02}"
        case Unit.WEEKDAY:
            return WEEKDAYS[(value - 1) % 7]
        case _:
            return f"{value:,}"


def tick(value: int, unit: Unit | None) -> str:
    """A value beside an axis, whose label has the unit: short, so that five fit on a phone."""
    match unit:
        case Unit.TIME_OF_DAY | Unit.WEEKDAY:
            return measured(value, unit)
        case Unit.MONEY if abs(value) < 10_000_00 and value % 100:
            return display_minor(value)
        case Unit.MONEY:
            return _abbreviated(abs(value) // 100 * (-1 if value < 0 else 1))
        case _:
            return _abbreviated(value)


def _abbreviated(value: int) -> str:
    if abs(value) < 10_000:
        return f"{value:,}"
    for step, letter in _STEPS:
        if abs(value) >= step:
            whole, tenth = divmod(abs(value) * 10 // step, 10)
            sign = "-" if value < 0 else ""
            return f"{sign}{whole:,}{f'.{tenth}' if tenth else ''} {letter}"
    return str(value)
