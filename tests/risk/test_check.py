"""Findings: the place, what was expected, and never what was written."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from datetime import date, datetime
from importlib import resources
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs
from protocols.message import Kind
from risk.assess import CompiledRuleset, Effect
from risk.check import check, load_ruleset
from risk.compile import compile_ruleset
from risk.explain import explain
from risk.facts import Facts
from risk.findings import FINDINGS_MAX, RulesetError, Severity

FEATURE = """
[[features]]
id = "attempts"
key = "card"
aggregate = "count"
basis = "attempts"
where = { fact = "kind", op = "eq", value = "purchase" }
window = "5m"
"""
LIST = """
[[lists]]
name = "hotlist"
field = "card_id"
entries = [
    { value = 1, reason = "lost", from = 2026-01-01T00:00:00Z, until = 2026-02-01T00:00:00Z },
]
"""
RULE = """
[[rules]]
id = "burst"
version = 1
name = "Burst"
stage = "amber"
when = { all = [
    { feature = "attempts", plus = 1, op = "gt", value = 6 },
    { not = { fact = "card_id", op = "in_list", list = "hotlist" } },
] }
then = { decline = "count_limit", reason = "too many" }
"""


def text(settings_toml: str, body: str = FEATURE + LIST + RULE) -> str:
    return settings_toml + body


def test_the_text_that_the_faults_are_put_into_is_sound(settings_toml: str) -> None:
    assert check(text(settings_toml)) == []


LEAF = '{ feature = "attempts", plus = 1, op = "gt", value = 6 }'
FIRST = "rules[0].when.all[0]"
THEN = 'then = { decline = "count_limit", reason = "too many" }'
SECOND = """
[[rules]]
id = "second"
version = 1
name = "Loads"
stage = "amber"
scope = { kinds = ["load"] }
when = { all = [
    { fact = "kind", op = "eq", value = "fare" },
    { fact = "amount", op = "gt", value = 100 },
] }
then = { tag = "second" }
"""
BEHIND = """
[[rules]]
id = "behind"
version = 1
name = "Behind"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { all = [
    { feature = "attempts", plus = 1, op = "gt", value = 9 },
    { not = { fact = "card_id", op = "in_list", list = "hotlist" } },
] }
then = { decline = "count_limit", reason = "never said" }
"""
BUCKETED = ("buckets", "whole minutes", "a constant, for a terminal", "no list", "against the card",
            "count or sum")  # fmt: skip
"""What is said of a counter only where it is a place's."""
DEEP = "{ all = [{ any = [{ not = { all = [" + LEAF + "] } }] }] }"


@pytest.mark.parametrize(
    ("old", "new", "path", "expected"),
    [
        # form
        ("[[rules]]", "[[rulez]]", "rulez", "perhaps rules"),
        ("[[rules]]", "[rules]", "rules", "tables under [[rules]]"),
        ("version = 1", "version = 1.5", "rules[0].version", "a whole number from 1"),
        ("version = 1", "version = true", "rules[0].version", "a whole number from 1"),
        ("version = 1\n", "", "rules[0].version", "required"),
        ("version = 1", "version = 1\nweight = 3", "rules[0].weight", "another key"),
        ('id = "burst"', 'id = "Burst!"', "rules[0].id", "a name of small letters"),
        ('stage = "amber"', 'stage = "orange"', "rules[0].stage", "amber, green, red, watch"),
        ('key = "card"', 'key = "person"', "features[0].key", "account, acquirer, card"),
        ('aggregate = "count"', 'aggregate = "avg"', "features[0].aggregate", "one of count"),
        ('window = "5m"', 'window = "25h"', "features[0].window", '"10s" to "24h"'),
        ('window = "5m"', 'window = "9s"', "features[0].window", '"10s" to "24h"'),
        ('window = "5m"', "window = 300", "features[0].window", '"10s" to "24h"'),
        ('op = "gt"', 'op = "=~"', f"{FIRST}.op", "one of between, eq"),
        ('op = "gt"', 'op = "matches"', f"{FIRST}.op", "one of between, eq"),
        ("value = 6", "value = 6.0", f"{FIRST}.value", "a whole number"),
        ("value = 6", "value = true", f"{FIRST}.value", "a whole number"),
        ("value = 6", "limit = 6", f"{FIRST}.limit", "another key"),
        ("value = 6", "value = [1, 2]", f"{FIRST}.value", "a whole number"),
        ("plus = 1", "plus = [1, 2, 3]", f"{FIRST}.plus", "2 at most"),
        (LEAF, "{ op = 'gt', value = 1 }", FIRST, "exactly one of fact and feature"),
        (LEAF, "{ any = [] }", f"{FIRST}.any", "one or more conditions"),
        (LEAF, DEEP, f"{FIRST}.all[0].any[0].not", "at most 4 levels"),
        (LEAF, "3", FIRST, "{ fact"),
        (', reason = "too many" }', " }", "rules[0].then.reason", "1 to 120 characters"),
        ('decline = "count_limit"', 'decline = "approved"', "rules[0].then.decline", "count_limit"),
        ('decline = "count_limit"', 'decline = "fault"', "rules[0].then.decline", "count_limit"),
        ('"count_limit", reason', '"count_limit", tag', "rules[0].then", "one of { decline"),
        ("from = 2026-01-01T00:00:00Z", "from = 2026-01-01", "lists[0].entries[0].from", "offset"),
        ('field = "card_id"', 'field = "pan"', "lists[0].field", "medium"),
        ('"Asia/Shanghai"', '"Asia/Shangai"', "settings.time_zone", "an IANA time zone"),
        ('"Asia/Shanghai"', '"../../etc/passwd"', "settings.time_zone", "an IANA time zone"),
        ('"00:00"', '"24:00"', "settings.service_day_start", "a local time"),
        ('"156"', "156", "settings.currency", "ISO 4217"),
        ("[settings]", "[settings", "", "valid TOML"),
        # names
        ('feature = "attempts"', 'feature = "attemps"', f"{FIRST}.feature", "perhaps attempts"),
        ('plus = 1', 'plus = "amonut"', f"{FIRST}.plus", "perhaps"),
        ('list = "hotlist"', 'list = "hotlst"', "rules[0].when.all[1].not.list", "perhaps hotlist"),
        ('fact = "kind"', 'fact = "tier"', "features[0].where.fact", "one of amount, card_id"),
        ('value = 6', 'value = { fact = "amout" }', f"{FIRST}.value.fact", "perhaps amount"),
        (LEAF, '{ fact = "amuont", op = "gt", value = 1 }', f"{FIRST}.fact", "perhaps amount"),
        # units and types
        ("value = 6", 'value = "6"', f"{FIRST}.value", "a whole number, a count"),
        ("value = 6", 'value = { fact = "amount" }', f"{FIRST}.value", "a count as on the left"),
        ("plus = 1", 'plus = "amount"', f"{FIRST}.plus", "one unit"),
        (LEAF, '{ fact = "tier", op = "gt", value = "a" }', f"{FIRST}.op", "is text"),
        (LEAF, '{ fact = "mcc", op = "eq", value = 5411 }', f"{FIRST}.value", "a text in quotes"),
        (LEAF, '{ fact = "mcc", op = "eq", value = "food" }', f"{FIRST}.value", "four digits"),
        (LEAF, '{ fact = "card_id", op = "gt", value = 1 }', f"{FIRST}.op", "an identity"),
        (LEAF, '{ fact = "amount", op = "starts_with", value = "1" }', f"{FIRST}.op", "comparison"),
        (LEAF, '{ fact = "kind", op = "eq", value = "lode" }', f"{FIRST}.value", "perhaps load"),
        (LEAF, '{ fact = "tier", op = "in_list", list = "hotlist" }', FIRST, "fact = card_id"),
        ('value = "purchase"', 'value = "buy"', "features[0].where.value", "purchase"),
        ("value = 1, reason", 'value = "x", reason', "lists[0].entries[0].value", "whole number"),
        # reach
        ("value = 6", "value = 513", f"{FIRST}.value", "from 1 to 513, so this never holds"),
        ("value = 6", "value = -1", f"{FIRST}.value", "always holds"),
        (LEAF, '{ fact = "weekday", op = "eq", value = 8 }', f"{FIRST}.value", "from 1 to 7"),
        (
            LEAF,
            '{ fact = "local_time", op = "between", value = ["22:00", "02:00"] }',
            f"{FIRST}.value",
            "across midnight",
        ),
        # meaning
        ('window = "5m"', 'window = "5m"\nsame = "stops"', "features[0].same", "stop, vehicle"),
        (
            'aggregate = "count"',
            'aggregate = "speed_kmh"\nsame = "stop"',
            "features[0].same",
            "nobody travels",
        ),
        ('aggregate = "count"', 'aggregate = "speed_kmh"', f"{FIRST}.plus", "one unit"),
        (
            '"count"\nbasis = "attempts"',
            '"distance_m"\nbasis = "attempts"',
            "features[0].aggregate",
            "expected [places]",
        ),
        ("[[lists]]", '[places]\n"M1/S01" = [91_000_000, 0]\n[[lists]]', "places[...][0]", "micro"),
        ("[[lists]]", '[places]\n"M1/S01" = [31.1, 121]\n[[lists]]', "places[...][0]", "micro"),
        ("[[lists]]", '[places]\n"M1/S01" = [1]\n[[lists]]', "places[...]", "microdegrees"),
        ("[[lists]]", "[[places]]\nx = 1\n[[lists]]", "places", "microdegrees"),
        (
            "[[lists]]",
            '[places]\na = [31_000_000, 121_000_000]\nb = [39_900_000, 116_400_000]\n[[lists]]',
            "places",
            "5 degrees apart",
        ),
        (
            "[[lists]]",
            '[places]\n"6212990000000042" = [1, 1]\n[[lists]]',
            "places",
            "without a long number",
        ),
        ('stage = "amber"', 'stage = "green"', "rules[0].then", "expected allow"),
        ('then = { decline = "count_limit", reason = "too many" }', "then = { allow = true }",
         "rules[0].then", "an allow is a green rule"),
        ('aggregate = "count"', 'aggregate = "distinct"', "features[0].field", "to count"),
        ('"count"', '"count"\nfield = "mcc"', "features[0].field", "nothing"),
        ('basis = "attempts"', 'basis = "attempts"\ncodes = ["count_limit"]', "features[0].codes",
         'basis = "declined"'),
        ('window = "5m"', 'window = "calendar_month"', "features[0].key", "running totals"),
        ('window = "5m"', 'window = "calendar_month"', "features[0].where", "no single events"),
        ('id = "attempts"', 'id = "amount"', "features[0].id", "isn't the name of a fact"),
        (RULE, RULE + RULE, "rules[1].id", "rules[0] has the same"),
        (RULE, RULE + RULE.replace('"burst"', '"second"'), "rules[1].when", "same cases"),
        ("until = 2026-02-01", "until = 2025-02-01", "lists[0].entries[0].until", "after from"),
        (LEAF, '{ fact = "amount", op = "gt", value = 6 }', "features[0]", "none does"),
        ('name = "Burst"', 'name = "Card 6200000000000000005"', "rules[0].name", "long number"),
        # effects
        (THEN, "then = { challenge = 'face', reason = 'x' }", "rules[0].then.challenge", "pin"),
        (THEN, "then = { challenge = 'pin' }", "rules[0].then.reason", "1 to 120"),
        (THEN, "then = { add_to_list = 'hotlist' }", "rules[0].then", "add_to_list"),
        (THEN, "then = { add_to_list = 'hotlst', ttl = '48h' }", "rules[0].then.add_to_list",
         "perhaps hotlist"),
        (THEN, "then = { add_to_list = 'hotlist', ttl = '30s' }", "rules[0].then.ttl", '"1m" to'),
        (THEN, "then = { add_to_list = 'hotlist', ttl = '367d' }", "rules[0].then.ttl", '"366d"'),
        (THEN, "then = { force_online = false }", "rules[0].then", "force_online = true"),
        (THEN, THEN + "\nalso = { tag = 'x' }", "rules[0].also", "a list of at most 4"),
        (THEN, THEN + "\nalso = [{ decline = 'count_limit', reason = 'x' }]", "rules[0].also[0]",
         "one of { review"),
        (THEN, THEN + "\nalso = [{ tag = 'x' }, 3]", "rules[0].also[1]", "one of { review"),
        (THEN, THEN + "\nalso = [{ add_to_list = 'x', ttl = '1h' }]",
         "rules[0].also[0].add_to_list", "a declared list"),
        (THEN, THEN + "\ncanary_percent = 100", "rules[0].canary_percent", "1 to 99"),
        (THEN, THEN + "\nscope = { except = ['hotlst'] }", "rules[0].scope.except[0]",
         "perhaps hotlist"),
        (THEN, THEN + "\nscope = { except = 3 }", "rules[0].scope.except", "names of lists"),
        ('stage = "amber"', 'stage = "watch"\ncanary_percent = 5', "rules[0].canary_percent",
         "never in force"),
        (THEN, "then = { challenge = 'pin', reason = 'x' }\non_error = 'maybe'",
         "rules[0].on_error", "decline, skip"),
        ('stage = "amber"', 'stage = "red"\nticket = "6200000000000000005"', "rules[0].ticket",
         "long number"),
        # counters: what history, totals and buckets can hold
        ('aggregate = "count"', 'aggregate = "last"', "features[0].field", "to read"),
        ('aggregate = "count"', 'aggregate = "last"\nfield = "tier"', "features[0].field",
         "terminal"),
        ('aggregate = "count"', 'aggregate = "distinct"\nfield = "kind"', "features[0].field",
         "to count"),
        ('aggregate = "count"', 'aggregate = "distinct"\nfield = "segment"', f"{FIRST}.value",
         "from 1 to 4, so this never holds"),
        ('window = "5m"', 'window = "calendar_week"', "features[0].key", "running totals"),
        ('window = "5m"', 'window = "lifetime"', "features[0].where", "no single events"),
        ('window = "5m"', 'window = "7d"', "features[0].window", '"calendar_week"'),
        ('key = "card"', 'key = "terminal"\nsame = "stop"', "features[0].same", "buckets"),
        ('aggregate = "count"\nbasis', 'aggregate = "distinct"\nfield = "stop"\nbasis',
         "features[0].aggregate", "count or sum"),
        ('window = "5m"', 'window = "90s"', "features[0].window", "whole minutes"),
        ('fact = "kind", op = "eq", value = "purchase"',
         'fact = "terminal", op = "ne", value = { current = "terminal" }',
         "features[0].where.value", "a constant, for a terminal"),
        ('fact = "kind", op = "eq", value = "purchase"',
         'fact = "card_id", op = "in_list", list = "hotlist"', "features[0].where.list", "no list"),
        ('op = "gt", value = 6', 'op = "lt", value = 6', f"{FIRST}.op", "against the card"),
        (LEAF, "{ not = " + LEAF + " }", f"{FIRST}.not.op", "against the card"),
        (LEAF, '{ fact = "amount", op = "gt", value = { feature = "attempts" } }', f"{FIRST}.value",
         "minor units of money"),
        # parts of an amount
        ("value = 6", 'value = { feature = "attempts", percent = 0 }', f"{FIRST}.value.percent",
         "1 to 1000"),
        ("value = 6", 'value = { fact = "tier", percent = 9 }', f"{FIRST}.value", "a count as"),
        ("value = 6", 'value = { feature = "attempts", percent = 9, plus = 1 }',
         f"{FIRST}.value.plus", "nothing beside percent"),
        # overlap
        (LEAF, LEAF + ', { feature = "attempts", op = "lt", value = 5 }', "rules[0].when.all[1]",
         "this never does"),
        (THEN, THEN + "\nscope = { tiers = ['named'] }\n" + SECOND, "rules[1].when.all[0]",
         "within the rule's scope"),
        (RULE, RULE + BEHIND, "rules[1].when", "rules[0] declines in all of these"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_place(
    settings_toml: str, old: str, new: str, path: str, expected: str
) -> None:
    sound = text(settings_toml)
    if expected in BUCKETED:
        sound = sound.replace('key = "card"', 'key = "terminal"', 1)
        old, new = (each.replace('"card"', '"terminal"') for each in (old, new))
        assert not [f for f in check(sound) if f.severity is Severity.ERROR]
    assert old in sound
    found = check(sound.replace(old, new, 1))
    assert [f for f in found if f.path == path and expected in f.sentence], found
    if any(f.severity is Severity.ERROR for f in found):
        with pytest.raises(RulesetError) as raised:
            load_ruleset(sound.replace(old, new, 1))
        assert raised.value.findings


@pytest.mark.parametrize("window", ["calendar_week", "calendar_month", "lifetime"])
def test_totals_that_the_ledger_keeps_are_accepted(settings_toml: str, window: str) -> None:
    week = FEATURE.replace('"card"', '"account"').replace('"attempts"\nwhere', '"approved"\nwhere')
    lines = [each for each in week.replace('"5m"', f'"{window}"').splitlines()
             if not each.startswith("where")]  # fmt: skip
    found = check(text(settings_toml, "\n".join(lines) + LIST + RULE))
    assert found == []


def test_a_costly_ruleset_is_warned_of(settings_toml: str) -> None:
    unequal = ", ".join(f'{{ fact = "amount", op = "ne", value = {n} }}' for n in range(18))
    slow = "".join(
        RULE.replace('"burst"', f'"r{n}"')
        .replace("value = 6", f"value = {500 - n}")
        .replace("{ not =", f"{unequal}, {{ not =")
        for n in range(240)
    )
    found = check(text(settings_toml, FEATURE + LIST + slow))
    assert any(f.path == "rules" and "1,000 µs" in f.sentence for f in found), found[:3]
    assert {f.severity for f in found} == {Severity.WARNING}


def test_several_faults_are_found_at_once(settings_toml: str) -> None:
    faulty = text(settings_toml).replace("version = 1", "version = 0").replace('"5m"', '"5w"')
    assert {f.path for f in check(faulty)} == {"rules[0].version", "features[0].window"}


def test_expired_rules_and_entries_are_warned_of(settings_toml: str) -> None:
    old = text(settings_toml) + "expires_at = 2026-01-15T00:00:00+08:00\n"
    found = check(old, now_us=1_780_000_000_000_000)
    assert {f.path for f in found} == {"rules[0].expires_at", "lists[0].entries[0].until"}
    assert {f.severity for f in found} == {Severity.WARNING}
    load_ruleset(old)


def test_more_than_twelve_features_of_a_key(settings_toml: str) -> None:
    many = "".join(FEATURE.replace('"attempts"\nkey', f'"f{n}"\nkey') for n in range(13))
    found = check(text(settings_toml, many))
    assert [f.path for f in found if f.severity is Severity.ERROR] == ["features[12].key"]


def test_more_than_twenty_leaves(settings_toml: str) -> None:
    many = "{ all = [" + ", ".join([LEAF] * 21) + "] }"
    found = check(text(settings_toml).replace(LEAF, many, 1))
    assert ("rules[0].when", "expected 1 to 20 comparisons; split the rule") in {
        (f.path, f.sentence) for f in found
    }


def test_a_calendar_day_where_clocks_change_is_warned_of(settings_toml: str) -> None:
    london = settings_toml.replace("Asia/Shanghai", "Europe/London")
    day = text(london).replace('"5m"', '"calendar_day"')
    assert [(f.path, f.severity) for f in check(day)] == [("settings.time_zone", Severity.WARNING)]


def test_a_card_number_in_a_hotlist_is_refused_and_not_repeated(settings_toml: str) -> None:
    pan = "6200000000000000005"
    body = (
        (FEATURE + LIST + RULE)
        .replace('"card_id"', '"medium"')
        .replace("value = 1,", f'value = "{pan}",')
    )
    found = check(text(settings_toml, body), f"rules-{pan}.toml")
    assert "lists[0].entries[0].value" in {f.path for f in found}
    with pytest.raises(RulesetError) as raised:
        load_ruleset(text(settings_toml, body), f"rules-{pan}.toml")
    for said in (*map(str, found), str(raised.value)):
        assert pan not in said


SHIPPED = resources.files("risk").joinpath("first_ruleset.toml").read_text(encoding="utf-8")
LONG_RUN = re.compile(r"\d(?:[ -]?\d){12,}")
WORDS = st.sampled_from(
    ["settings", "features", "rules", "lists", "id", "when", "all", "any", "not", "op", "fact",
     "feature", "value", "list", "plus", "then", "decline", "window", "where", "entries", "stage",
     "6200000000000000005"]
)  # fmt: skip
SCALARS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.booleans().map(lambda b: str(b).lower()),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(['"amount"', '"eq"', '"5m"', '"6200000000000000005"', '""', "2026-01-01"]),
)
VALUES: st.SearchStrategy[str] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(WORDS, inner, max_size=4).map(
            lambda table: "{ " + ", ".join(f"{k} = {v}" for k, v in table.items()) + " }"
        ),
    ),
    max_leaves=10,
)
GARBAGE = st.one_of(
    st.text(max_size=200),
    st.dictionaries(WORDS, VALUES, max_size=4).map(
        lambda table: "\n".join(f"{k} = {v}" for k, v in table.items())
    ),
    st.tuples(WORDS, st.dictionaries(WORDS, VALUES, max_size=6)).map(
        lambda pair: f"[[{pair[0]}]]\n" + "\n".join(f"{k} = {v}" for k, v in pair[1].items())
    ),
)


@settings(max_examples=300, deadline=None)
@given(GARBAGE)
def test_garbage_never_raises_anything_else(garbage: str) -> None:
    _check_or_refuse(garbage)


PARSED: dict[str, Any] = tomllib.loads(SHIPPED)
TABLES = [(name, n) for name in ("features", "rules") for n in range(len(PARSED[name]))]


def _written(value: Any) -> str:
    """A value as TOML on one line."""
    match value:
        case dict():
            return "{ " + ", ".join(f'"{k}" = {_written(v)}' for k, v in value.items()) + " }"
        case list():
            return "[" + ", ".join(map(_written, value)) + "]"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False)
        case datetime():
            return value.isoformat()
    return str(value)


def _nodes(value: Any, path: str) -> list[tuple[str, Any, Any]]:
    """(path, what holds it, its key) of every node under a table."""
    found: list[tuple[str, Any, Any]] = []
    for key, child in value.items() if isinstance(value, dict) else enumerate(value):
        at = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}"
        found.append((at, value, key))
        if isinstance(child, dict | list):
            found += _nodes(child, at)
    return found


NOWHERE_RIGHT = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([{"x": 1}, [[1]], -(10**15), date(2026, 1, 1)]),
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(TABLES), st.data())
def test_a_malformed_node_is_refused_with_its_path_and_what_was_expected(
    table: tuple[str, int], data: st.DataObject
) -> None:
    """One node of a shipped rule or counter replaced by what is right nowhere, or a strange key."""
    name, position = table
    one = copy.deepcopy(PARSED[name][position])
    at, holder, key = data.draw(st.sampled_from(_nodes(one, f"{name}[0]")))
    if isinstance(holder, dict) and data.draw(st.booleans()):
        holder["strange"] = holder.pop(key)
    else:
        holder[key] = data.draw(NOWHERE_RIGHT)
    whole = {each: PARSED[each] for each in ("settings", "lists", "features")} | {name: [one]}
    written = "\n".join(f"{each} = {_written(value)}" for each, value in whole.items())
    errors = [f for f in check(written) if f.severity is Severity.ERROR]
    assert all(finding.sentence.startswith("expected ") for finding in errors)
    beside = at[: -len(f"[{key}]")] if isinstance(holder, list) else at[: -len(f".{key}")]
    near = [f.path for f in errors if f.path.startswith(beside) or at.startswith(f.path)]
    assert [path for path in near if path.startswith(f"{name}[0]")], (at, errors)


@settings(max_examples=140, deadline=None)
@given(st.data())
def test_a_broken_ruleset_never_raises_anything_else(
    make_facts: Callable[..., Facts], data: st.DataObject
) -> None:
    """The shipped text with one piece replaced by a word or value from elsewhere.

    What still loads decides without a failed rule, and its sentence stays clean.
    """
    tokens = re.findall(r'"[^"]*"|[A-Za-z_0-9]+|\s+|.', SHIPPED.split("# ---- amber: limits")[0])
    at = data.draw(st.integers(0, len(tokens) - 1))
    tokens[at] = data.draw(st.one_of(st.sampled_from(tokens), VALUES, st.just("")))
    compiled = _check_or_refuse("".join(tokens))
    if compiled is None:
        return
    taps = [{"ago_s": 40 - n, "terminal": f"T{n}", "amount_minor": 60_000} for n in range(12)]
    for changed in ({}, {"tier": ""}, {"card_id": 2, "kind": Kind.LOAD}, {"amount_minor": 10**9}):
        found = compiled.assess(make_facts(*taps, **changed))
        assert Effect.FAILED not in {result.effect for result in found.results}
        assert not LONG_RUN.search(explain(found, "6200000000000000005"))


@pytest.mark.parametrize(
    "hostile",
    ["a = " + "[" * 5000, "a = " + "9" * 5000, "\ud800", "x" * (4 * 1024 * 1024 + 1),
     "[[rules]]\n" * 300, "a." * 5000 + "b = 1", "[[" + "6" * 19 + "]]\n[" + "6" * 19 + "]"],
)  # fmt: skip
def test_hostile_texts(hostile: str) -> None:
    found = check(hostile)
    assert 1 <= len(found) <= FINDINGS_MAX
    _check_or_refuse(hostile)


def _check_or_refuse(written: str) -> CompiledRuleset | None:
    found: list[Any] = check(written, now_us=0)
    for finding in found:
        said = str(finding)
        assert not LONG_RUN.search(said)
        assert mask_digit_runs(said) == said
    if any(finding.severity is Severity.ERROR for finding in found):
        with pytest.raises(RulesetError) as raised:
            load_ruleset(written)
        assert not LONG_RUN.search(str(raised.value))
        return None
    return compile_ruleset(load_ruleset(written))
