"""English: how the parts of a rule are said."""

from __future__ import annotations

from typing import assert_never

from protocols.message import Outcome, response_code
from risk.conditions import Relation
from risk.features import (
    Aggregate,
    Basis,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Key,
    Lifetime,
    Trailing,
    Window,
)
from risk.rules import (
    SCOPE_FACTS,
    AddToList,
    Allow,
    Challenge,
    Decline,
    ForceOnline,
    Mark,
    Review,
    Rule,
    Scope,
    Stage,
    Tag,
    Then,
)
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS, Unit

_KEYS = {
    Key.CARD: "on one card",
    Key.ACCOUNT: "on one account",
    Key.CARD_MERCHANT: "on one card at one merchant",
    Key.TERMINAL: "at one terminal",
    Key.MERCHANT: "at one merchant",
    Key.ACQUIRER: "of one acquirer",
}
_EVENTS = {Basis.ATTEMPTS: "attempts", Basis.APPROVED: "approvals", Basis.DECLINED: "declines"}
_SUMMED = {Basis.ATTEMPTS: "attempted", Basis.APPROVED: "approved", Basis.DECLINED: "declined"}
_FIELDS = {
    "terminal": "terminals",
    "merchant": "merchants",
    "mcc": "merchant categories",
    "segment": "segments",
    "card_id": "cards",
    "venue": "venues",
    "stop": "stops",
    "vehicle": "vehicles",
}
_RELATIONS = {
    Relation.EQ: "is",
    Relation.NE: "is not",
    Relation.LT: "is less than",
    Relation.LE: "is at most",
    Relation.GT: "is more than",
    Relation.GE: "is at least",
}
_NARROWING = frozenset({"at", "in", "of", "with", "elsewhere", "on", "or"})
"""Words after which a noun of several words only says where."""
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class English:
    def fact(self, name: str) -> str:
        return f"the {CURRENT_FACTS[name].says}"

    def feature(self, feature: Feature) -> str:
        where = f"{_window(feature.window)} {_KEYS[feature.key]}"
        same = _same(feature)
        events = (feature.noun or _EVENTS[feature.basis]) + same
        match feature.aggregate:
            case Aggregate.COUNT:
                return f"the number of {events} {where}"
            case Aggregate.SUM:
                return f"the sum {feature.noun or _SUMMED[feature.basis]}{same} {where}"
            case Aggregate.DISTINCT:
                return f"the number of different {_FIELDS[feature.field or '']} of {events} {where}"
            case Aggregate.LAST:
                return f"the {PAST_FACTS[feature.field or ''].says} of the last of {events} {where}"
            case Aggregate.SECONDS_SINCE_LAST:
                return f"the time since the last of {events} {where}"
            case Aggregate.DISTANCE_M:
                return f"the way from the last of {events} {where}"
            case Aggregate.SPEED_KMH:
                return f"the speed from the last of {events} {where}"
            case _:
                assert_never(feature.aggregate)

    def ordinal(self, number: int, feature: Feature) -> str:
        same = _same(feature)
        first, *more = (feature.noun or _EVENTS[feature.basis]).split(" ")
        # "loads at a store" counts loads, "taxi rides" rides
        narrowed = bool(more) and more[0] in _NARROWING
        noun = " ".join([_one(first), *more] if narrowed else [_one(" ".join([first, *more]))])
        return f"the {_nth(number)} {noun}{same} {_window(feature.window)} {_KEYS[feature.key]}"

    def is_ordinal(self, ordinal: str) -> str:
        return f"it is {ordinal}"

    def compared(self, left: str, op: Relation, right: str) -> str:
        return f"{left} {_RELATIONS[op]} {right}"

    def among(self, left: str, values: list[str], *, inside: bool) -> str:
        return f"{left} is {'one' if inside else 'none'} of {', '.join(values)}"

    def between(self, left: str, low: str, high: str, *, inside: bool) -> str:
        return f"{left} is {'' if inside else 'not '}from {low} to {high}"

    def starts(self, left: str, prefix: str, *, holds: bool) -> str:
        return f"{left} {'starts' if holds else 'does not start'} with {prefix}"

    def listed(self, left: str, name: str, *, holds: bool) -> str:
        return f"{left} is {'' if holds else 'not '}on list {name}"

    def missing(self, left: str, *, holds: bool) -> str:
        return f"{left} is {'missing' if holds else 'known'}"

    def sum(self, terms: list[str]) -> str:
        return " plus ".join(terms)

    def percent(self, whole: str, percent: int) -> str:
        return f"{percent} % of {whole}"

    def all(self, parts: list[str], *, nested: bool) -> str:
        return _joined(parts, " and ", nested=nested)

    def any(self, parts: list[str], *, nested: bool) -> str:
        return _joined(parts, " or ", nested=nested)

    def value(self, name: str, value: str) -> str:
        return value

    def duration(self, seconds: int) -> str:
        return f"{seconds} s"

    def unit(self, unit: Unit, number: int) -> str:
        match unit:
            case Unit.METRES:
                return f"{number:,} m"
            case Unit.SPEED:
                return f"{number:,} km/h"
            case Unit.DAYS:
                return f"{number:,} days"
            case Unit.WEEKDAY:
                return _WEEKDAYS[(number - 1) % 7]
            case Unit.IDENTITY:
                return str(number)
            case _:
                return f"{number:,}"

    def rule(self, rule: Rule, condition: str, ordinal: str, scope: list[str]) -> str:
        line = _opening(rule.then, ordinal, self.effect(rule.then))
        line += "".join(f" and {self.effect(mark)}" for mark in rule.also)
        if condition:
            line += f" if {condition}"
        if scope:
            line += f", for {', '.join(scope)}"
        if rule.canary_percent is not None:
            line += f", on {rule.canary_percent} % of the cards"
        if rule.expires_at is not None:
            line += f", until {rule.expires_at:%Y-%m-%d}"
        return f"only watches, else {line}" if rule.stage is Stage.WATCH else line

    def scope(self, scope: Scope, *, kinds_said: bool) -> list[str]:
        parts: list[str] = []
        for field, fact in SCOPE_FACTS.items():
            chosen = getattr(scope, field)
            if chosen and not (field == "kinds" and kinds_said):
                parts.append(f"{CURRENT_FACTS[fact].says} {' or '.join(map(str, chosen))}")
        parts += [f"except list {name}" for name in scope.except_lists]
        return parts

    def effect(self, then: Then | Mark) -> str:
        match then:
            case Decline(outcome=outcome):
                return f"declines with {response_code(outcome)}"
            case Allow():
                return "allows over amber"
            case Challenge():
                return f"asks for the PIN ({response_code(Outcome.PIN_REQUIRED)})"
            case Review(queue=queue):
                return f"sends it to queue {queue} for review"
            case Tag(tag=tag):
                return f"tags it {tag}"
            case AddToList(list=name, ttl_s=ttl_s):
                return f"puts it on list {name} for {_span(ttl_s)}"
            case ForceOnline():
                return "sends the card online next time"
            case _:
                assert_never(then)


def _opening(then: Then, ordinal: str, effect: str) -> str:
    if not ordinal:
        return effect
    match then:
        case Decline():
            return f"declines {ordinal} with {response_code(then.outcome)}"
        case Allow():
            return f"allows {ordinal} over amber"
        case _:
            return f"{effect} at {ordinal}"


def _same(feature: Feature) -> str:
    if feature.same is None:
        return ""
    return f" {'in' if feature.same == 'vehicle' else 'at'} the same {feature.same}"


def _window(window: Window) -> str:
    match window:
        case Trailing(seconds=seconds):
            return f"in {_span(seconds)}"
        case CalendarDay():
            return "in a day"
        case CalendarWeek():
            return "in a week"
        case CalendarMonth():
            return "in a month"
        case Lifetime():
            return "ever"
        case _:
            assert_never(window)


def _span(seconds: int) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _one(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun.removesuffix("s")


def _nth(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"


def _joined(parts: list[str], word: str, *, nested: bool) -> str:
    line = word.join(parts)
    return f"({line})" if nested and len(parts) > 1 else line
