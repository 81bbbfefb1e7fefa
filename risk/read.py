"""From an officer's TOML to the typed ruleset, with a finding for every fault of form.

Officers write short forms (`fact = "amount", op = "gt", value = 50000`, `window = "5m"`); this
turns them into the canonical values and reports where something else was expected. What the
words mean together (units, reach, names) is for `check.py`.

    [[rules]]
    id = "tap_burst"
    version = 1
    name = "Too many taps on one card"
    stage = "amber"
    scope = { kinds = ["purchase"], segments = ["transit"] }
    when = { feature = "card_taps_5m", plus = 1, op = "gt", value = 6 }
    then = { decline = "count_limit", reason = "too many taps" }
    also = [{ add_to_list = "suspects", ttl = "48h" }]      # marks beside it, if any

`then` is a decline, `{ allow = true }`, `{ challenge = "pin", reason = "…" }` or one mark:
`{ review = "queue" }`, `{ tag = "…" }`, `{ add_to_list = "…", ttl = "48h" }` or
`{ force_online = true }`. `scope` may leave out lists, `except = ["group_passes"]`, and
`canary_percent` puts a rule in force for so many cards of a hundred.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from protocols.message import Kind, Outcome, Segment
from risk.features import (
    WINDOW_SECONDS_MAX,
    WINDOW_SECONDS_MIN,
    Aggregate,
    Basis,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Key,
    Lifetime,
    OnReversal,
    Trailing,
    Window,
)
from risk.findings import Finding, key_path, one_of
from risk.lists import ListEntry, NamedList
from risk.moments import Settings
from risk.read_conditions import NAME, NAME_EXPECTED, VALUE_EXPECTED, ConditionReader, is_text
from risk.rules import (
    MARKS_MAX,
    RULE_OUTCOMES,
    TTL_SECONDS_MAX,
    TTL_SECONDS_MIN,
    AddToList,
    Allow,
    Challenge,
    Decline,
    ForceOnline,
    Mark,
    OnError,
    Review,
    Rule,
    Stage,
    Tag,
    Then,
)
from risk.ruleset import Ruleset

RULESET_BYTES_MAX = 4 * 1024 * 1024
"""A ruleset is written by people; only a pasted list comes near this."""

_MARK_KEYS = frozenset({"tag", "review", "add_to_list", "ttl", "force_online"})
_THEN_KEYS = _MARK_KEYS | {"decline", "allow", "challenge", "reason"}
_MARKS_EXPECTED = (
    '{ review = "…" }, { tag = "…" }, { add_to_list = "…", ttl = "48h" } or { force_online = true }'
)
_DURATION = re.compile(r"\A([1-9][0-9]{0,5})(s|m|h)\Z")
_TTL = re.compile(r"\A([1-9][0-9]{0,5})(m|h|d)\Z")
_DURATION_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOWS: dict[object, Window] = {
    "calendar_day": CalendarDay(),
    "calendar_week": CalendarWeek(),
    "calendar_month": CalendarMonth(),
    "lifetime": Lifetime(),
}
_DOTTED_KEY = re.compile(r"(?<![\w\"'-])(?:[\w\"'-]++[ \t]*+\.[ \t]*+){8}")
"""No key of a ruleset has eight parts, and TOML readers take quadratic time over such keys."""
_PLACE = re.compile(r" - at `\$?(.*)`\Z", re.DOTALL)
_MISSING = re.compile(r"\AObject missing required field `(\w+)`")

_DATE = "a date and time with its offset, such as 2026-10-01T00:00:00+08:00"
_EXPECTED = {
    "id": NAME_EXPECTED,
    "version": "a whole number from 1 to 999999",
    "name": "a text of 1 to 80 characters (for a list: " + NAME_EXPECTED + ")",
    "stage": one_of(Stage),
    "key": one_of(Key),
    "aggregate": one_of(Aggregate),
    "basis": one_of(Basis),
    "on_reversal": one_of(OnReversal),
    "on_error": one_of(OnError),
    "kinds": "a list, each " + one_of(Kind),
    "segments": "a list, each " + one_of(Segment),
    "mccs": "a list of merchant category codes of four digits in quotes",
    "codes": "a list of outcomes, such as count_limit",
    "field": "terminal, merchant, mcc, segment, card_id, venue, stop or vehicle (last may also "
    "read kind, outcome or amount; a list may also name line, medium, acquirer, product or tier)",
    "except": "at most 4 names of lists",
    "canary_percent": "a whole number from 1 to 99",
    "noun": "a text of at most 30 characters",
    "noun_zh": "a text of at most 20 characters",
    "same": "stop, vehicle, merchant or terminal",
    "places": 'a table of "line/stop" = [latitude, longitude], whole microdegrees',
    "value": VALUE_EXPECTED,
    "reason": "a text of 1 to 120 characters",
    "expires_at": _DATE,
    "from": _DATE,
    "until": _DATE,
    "time_zone": "an IANA time zone, such as Asia/Shanghai",
    "service_day_start": 'a local time in quotes, such as "04:00"',
    "currency": 'an ISO 4217 numeric code in quotes, such as "156"',
}

_T = TypeVar("_T", bound=msgspec.Struct)


def read_ruleset(text: str) -> tuple[Ruleset | None, list[Finding]]:
    """The ruleset, or None with the findings of form; never raises for what is written."""
    reader = _Reader()
    ruleset = reader.ruleset(text)
    return (None if reader.findings else ruleset), reader.findings


class _Reader(ConditionReader):
    """Collects findings while it builds; every method returns None after a finding."""

    def ruleset(self, text: str) -> Ruleset | None:
        raw = self.toml(text)
        if raw is None or not self.known_keys(raw, "", frozenset(Ruleset.__struct_fields__)):
            return None
        settings = self.typed(raw.get("settings"), Settings, "settings")
        features = [self.feature(item, path) for item, path in self.tables(raw, "features")]
        rules = [self.rule(item, path) for item, path in self.tables(raw, "rules")]
        lists = [self.named_list(item, path) for item, path in self.tables(raw, "lists")]
        places = raw.get("places", {})
        if self.findings or settings is None:
            return None
        whole = {
            "settings": settings,
            "features": features,
            "rules": rules,
            "lists": lists,
            "places": places,
        }
        return self.typed(whole, Ruleset, "")

    def toml(self, text: str) -> dict[str, Any] | None:
        try:
            if len(text.encode()) > RULESET_BYTES_MAX:
                self.refuse("", f"at most {RULESET_BYTES_MAX:,} bytes; load long lists separately")
                return None
            if _DOTTED_KEY.search(text):
                self.refuse("", "fewer dots in one word or key")
                return None
            return tomllib.loads(text)
        except UnicodeEncodeError:
            self.refuse("", "text that can be written as UTF-8")
        except RecursionError:
            self.refuse("", "fewer brackets inside one another")
        except tomllib.TOMLDecodeError as fault:
            self.refuse("", f"valid TOML; the reader says: {fault}")
        except ValueError:
            self.refuse("", "numbers and dates of ordinary size")
        return None

    def tables(self, raw: dict[str, Any], name: str) -> list[tuple[dict[str, Any], str]]:
        items = raw.get(name, [])
        if not isinstance(items, list):
            self.refuse(name, f"tables under [[{name}]]")
            return []
        found = []
        for position, item in enumerate(items):
            if isinstance(item, dict):
                found.append((item, f"{name}[{position}]"))
            else:
                self.refuse(f"{name}[{position}]", "a table")
        return found

    def typed(self, raw: object, kind: type[_T], path: str) -> _T | None:
        """msgspec's strict conversion; its first complaint becomes a finding."""
        if not isinstance(raw, dict):
            self.refuse(path, "a table")
            return None
        if not self.known_keys(raw, path, frozenset(kind.__struct_encode_fields__)):
            return None
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as fault:
            self.from_msgspec(str(fault), path)
            return None

    def from_msgspec(self, message: str, path: str) -> None:
        place = _PLACE.search(message)
        inside = place.group(1) if place else ""
        full = f"{path}{inside}".lstrip(".")
        missing = _MISSING.match(message)
        if missing:
            full = key_path(full, missing.group(1))
        key = re.split(r"[.\[]", re.sub(r"(\[[^]]*\])+\Z", "", full))[-1]
        about = _EXPECTED.get(key)
        if about is None:
            spoken = _PLACE.sub("", message).removeprefix("Expected ")
            about = spoken if message.startswith("Expected ") else "a value of the documented type"
        self.refuse(full, about + (", and it is required" if missing else ""))

    # features

    def feature(self, raw: dict[str, Any], path: str) -> Feature | None:
        before = len(self.findings)
        shaped = dict(raw)
        shaped["window"] = self.window(raw.get("window"), f"{path}.window")
        if "where" in raw:
            shaped["where"] = self.condition(raw["where"], f"{path}.where", 1)
        if raw.get("aggregate") == Aggregate.SUM:
            shaped.setdefault("field", "amount")
        if len(self.findings) > before:
            return None
        feature = self.typed(shaped, Feature, path)
        if feature is None or feature.on_reversal is not None:
            return feature
        spelt = OnReversal.RESTORE if feature.restores else OnReversal.KEEP
        return msgspec.structs.replace(feature, on_reversal=spelt)

    def window(self, raw: object, path: str) -> Window | None:
        if isinstance(raw, str) and raw in _WINDOWS:
            return _WINDOWS[raw]
        duration = _DURATION.match(raw) if isinstance(raw, str) else None
        if duration:
            seconds = int(duration.group(1)) * _DURATION_SECONDS[duration.group(2)]
            if WINDOW_SECONDS_MIN <= seconds <= WINDOW_SECONDS_MAX:
                return Trailing(seconds)
        self.refuse(
            path,
            'from "10s" to "24h" (s, m or h), "calendar_day", "calendar_week", "calendar_month" '
            'or "lifetime"',
        )
        return None

    # rules and lists

    def rule(self, raw: dict[str, Any], path: str) -> Rule | None:
        before = len(self.findings)
        shaped = dict(raw)
        shaped["when"] = self.condition(raw.get("when"), f"{path}.when", 1)
        shaped["then"] = self.then(raw.get("then"), f"{path}.then")
        if "also" in raw:
            shaped["also"] = self.also(raw["also"], f"{path}.also")
        return None if len(self.findings) > before else self.typed(shaped, Rule, path)

    def then(self, raw: object, path: str) -> Then | None:
        expected = (
            'one of { decline = "count_limit", reason = "…" }, { allow = true }, '
            f'{{ challenge = "pin", reason = "…" }}, {_MARKS_EXPECTED}'
        )
        if not isinstance(raw, dict):
            self.refuse(path, expected)
            return None
        if not self.known_keys(raw, path, _THEN_KEYS):
            return None
        match raw:
            case {"decline": word, "reason": str(reason)} if len(raw) == 2 and is_text(reason, 120):
                if isinstance(word, str) and word in RULE_OUTCOMES:
                    return Decline(Outcome(word), reason)
                self.refuse(f"{path}.decline", one_of(RULE_OUTCOMES, word))
            case {"decline": _, **rest} if set(rest) <= {"reason"}:
                self.refuse(f"{path}.reason", _EXPECTED["reason"])
            case {"allow": True} if len(raw) == 1:
                return Allow()
            case {"allow": True, "reason": str(reason)} if len(raw) == 2 and is_text(reason, 120):
                return Allow(reason)
            case {"challenge": "pin", "reason": str(reason)} if len(raw) == 2 and is_text(
                reason, 120
            ):
                return Challenge("pin", reason)
            case {"challenge": "pin", **rest} if set(rest) <= {"reason"}:
                self.refuse(f"{path}.reason", _EXPECTED["reason"])
            case {"challenge": _}:
                self.refuse(f"{path}.challenge", "pin, and a reason beside it")
            case _:
                return self.mark(raw, path, expected)
        return None

    def also(self, raw: object, path: str) -> tuple[Mark, ...] | None:
        """What is done beside `then`."""
        if not isinstance(raw, list) or len(raw) > MARKS_MAX:
            self.refuse(path, f"a list of at most {MARKS_MAX}, each {_MARKS_EXPECTED}")
            return None
        marks = [
            self.mark(item, f"{path}[{position}]", f"one of {_MARKS_EXPECTED}")
            for position, item in enumerate(raw)
        ]
        return tuple(mark for mark in marks if mark is not None)

    def mark(self, raw: object, path: str, expected: str) -> Mark | None:
        if not isinstance(raw, dict):
            self.refuse(path, expected)
            return None
        match raw:
            case {"tag": str(tag)} if len(raw) == 1 and NAME.match(tag):
                return Tag(tag)
            case {"review": str(queue)} if len(raw) == 1 and NAME.match(queue):
                return Review(queue)
            case {"force_online": True} if len(raw) == 1:
                return ForceOnline()
            case {"add_to_list": str(name), "ttl": str(ttl)} if len(raw) == 2 and NAME.match(name):
                seconds = self.ttl_s(ttl, f"{path}.ttl")
                return None if seconds is None else AddToList(name, seconds)
            case _:
                self.refuse(path, expected)
        return None

    def ttl_s(self, raw: str, path: str) -> int | None:
        duration = _TTL.match(raw)
        if duration:
            seconds = int(duration.group(1)) * _DURATION_SECONDS[duration.group(2)]
            if TTL_SECONDS_MIN <= seconds <= TTL_SECONDS_MAX:
                return seconds
        self.refuse(path, 'from "1m" to "366d" (m, h or d)')
        return None

    def named_list(self, raw: dict[str, Any], path: str) -> NamedList | None:
        """Entries one by one, so that each faulty entry of a long list is named."""
        entries = raw.get("entries", [])
        if not isinstance(entries, list):
            self.refuse(f"{path}.entries", "a list of { value = …, reason = … }")
            return None
        typed = [
            self.typed(entry, ListEntry, f"{path}.entries[{position}]")
            for position, entry in enumerate(entries)
        ]
        if any(entry is None for entry in typed):
            return None
        return self.typed({**raw, "entries": typed}, NamedList, path)
