"""Whether a ruleset may be used: every fault with its place, before any card meets it.

`check` is what an editor shows while an officer writes; `load_ruleset` is what a process does
at start, and it refuses a ruleset with an error in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from importlib import resources
from zoneinfo import ZoneInfo

import msgspec

from protocols.card_number import mask_digit_runs
from risk.check_features import feature_findings
from risk.check_leaf import Names, condition_findings
from risk.conditions import FeatureOperand, InList, leaves, operands
from risk.cost import RULE_NS_MAX, RULESET_NS_MAX, estimate
from risk.features import FEATURES_PER_KEY_MAX, TRAVEL, CalendarDay, Key
from risk.findings import (
    FINDINGS_MAX,
    Finding,
    RulesetError,
    Severity,
    error,
    holds_digit_run,
    one_of,
    warning,
)
from risk.lists import ListField, NamedList, list_fields, merged
from risk.moments import Settings, microseconds
from risk.overlap import out_of_scope, shadowing
from risk.places import SPAN_DEGREES_MAX, spread_too_far
from risk.read import read_ruleset
from risk.rules import (
    RULE_OUTCOMES,
    AddToList,
    Allow,
    Challenge,
    Decline,
    OnError,
    Rule,
    Stage,
)
from risk.ruleset import Ruleset
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS

_MEDIUM = re.compile(r"\A(?:[0-9a-f]{2}){16,64}\Z")
"""Hex of 128 bits or more: no card number is that long, so none can be listed by accident."""


_NONE_OUTSIDE: Mapping[str, ListField] = {}
"""No list is kept beside rulesets; where some are, it is their names and what each holds."""


def check(
    text: str,
    path: str = "",
    *,
    now_us: int | None = None,
    outside: Mapping[str, ListField] = _NONE_OUTSIDE,
) -> list[Finding]:
    """Every finding about a ruleset's text (TOML), at most `FINDINGS_MAX`.

    `path` is the file it came from, for the reader of the findings; with `now_us` (epoch
    microseconds) expired rules and list entries are warned of. `outside` are the lists that
    are kept beside rulesets (`ListBook.fields`): a text may use them without declaring them.
    """
    ruleset, found = read_ruleset(text)
    if ruleset is not None:
        found = ruleset_findings(ruleset, now_us=now_us, outside=outside)
    source = mask_digit_runs(path)
    return [msgspec.structs.replace(finding, source=source) for finding in found]


def load_ruleset(
    text: str, path: str = "", *, outside: Mapping[str, ListField] = _NONE_OUTSIDE
) -> Ruleset:
    """The ruleset of a TOML text; raises `RulesetError` with the findings if one is an error."""
    ruleset, found = read_ruleset(text)
    if ruleset is None:
        raise RulesetError(_sourced(found, path))
    require_sound(ruleset, path=path, outside=outside)
    return ruleset


def require_sound(
    ruleset: Ruleset,
    lists: Iterable[NamedList] = (),
    path: str = "",
    *,
    outside: Mapping[str, ListField] = _NONE_OUTSIDE,
) -> None:
    """Raise `RulesetError` unless the ruleset, with these lists in place, has no error."""
    found = ruleset_findings(ruleset, lists, outside=outside)
    if any(finding.severity is Severity.ERROR for finding in found):
        raise RulesetError(_sourced(found, path))


def first_ruleset() -> Ruleset:
    """The ruleset that ships with the switch: tier limits, burst, hotlist."""
    shipped = resources.files("risk").joinpath("first_ruleset.toml")
    return load_ruleset(shipped.read_text(encoding="utf-8"), "first_ruleset.toml")


def ruleset_findings(
    ruleset: Ruleset,
    lists: Iterable[NamedList] = (),
    *,
    now_us: int | None = None,
    outside: Mapping[str, ListField] = _NONE_OUTSIDE,
) -> list[Finding]:
    """What is wrong with the meaning of a typed ruleset; `lists` replace its own by name."""
    given = list(lists)
    unfit = list(_given_list_findings(ruleset, given))
    if unfit:
        return unfit[:FINDINGS_MAX]
    features = {feature.id: feature for feature in ruleset.features}
    by_name = list_fields(merged(ruleset.lists, given), outside)
    past = Names(PAST_FACTS, {}, by_name, past=True)
    current = Names(CURRENT_FACTS, features, by_name, past=False)
    found: list[Finding] = []
    found += _settings_findings(ruleset)
    for position, feature in enumerate(ruleset.features):
        found += feature_findings(feature, f"features[{position}]", past)
    for position, rule in enumerate(ruleset.rules):
        found += _rule_findings(rule, f"rules[{position}]", current, now_us)
    for position, named in enumerate(ruleset.lists):
        found += _list_findings(named, f"lists[{position}]", now_us)
        found += _outside_findings(named, f"lists[{position}]", outside)
    found += _cost_findings(ruleset)
    found += _whole_findings(ruleset)
    return found[:FINDINGS_MAX]


def _sourced(found: Iterable[Finding], path: str) -> list[Finding]:
    source = mask_digit_runs(path)
    return [msgspec.structs.replace(finding, source=source) for finding in found]


def _settings_findings(ruleset: Ruleset) -> Iterator[Finding]:
    changes = _clock_changes(ruleset.settings)
    if changes is None:
        yield error("settings.time_zone", "expected an IANA time zone, such as Asia/Shanghai")
    elif changes and any(isinstance(f.window, CalendarDay) for f in ruleset.features):
        yield warning(
            "settings.time_zone",
            "expected a zone without clock changes: on the day of 25 hours the first hour "
            "is out of the history and calendar_day counts miss it",
        )


def _clock_changes(settings: Settings) -> bool | None:
    """Whether the zone's offset varies over the year; None if there is no such zone."""
    try:
        zone = ZoneInfo(settings.time_zone)
    except (ValueError, KeyError, OSError):
        return None
    return len({datetime(2026, month, 15, tzinfo=zone).utcoffset() for month in range(1, 13)}) > 1


def _rule_findings(rule: Rule, path: str, names: Names, now_us: int | None) -> Iterator[Finding]:
    yield from _effect_findings(rule, path)
    for field in ("name", "owner", "ticket"):
        if holds_digit_run(getattr(rule, field)):
            yield error(f"{path}.{field}", "expected words, without a long number")
    if now_us is not None and rule.expires_at and microseconds(rule.expires_at) <= now_us:
        yield warning(f"{path}.expires_at", "expected a time to come; the rule has expired")
    yield from _list_uses(rule, path, names)
    at = f"{path}.when"
    found = list(condition_findings(rule.when, at, names, spares=isinstance(rule.then, Allow)))
    yield from found
    if not any(finding.severity is Severity.ERROR for finding in found):
        for place in out_of_scope(rule, at):
            yield error(place, "expected what can hold within the rule's scope; this never does")


def _list_uses(rule: Rule, path: str, names: Names) -> Iterator[Finding]:
    """Lists that a rule names outside its condition."""
    used = [
        (f"{path}.scope.except[{position}]", name)
        for position, name in enumerate(rule.scope.except_lists)
    ]
    used += [
        (f"{path}.{at}.add_to_list", mark.list)
        for at, mark in (("then", rule.then), *((f"also[{n}]", m) for n, m in enumerate(rule.also)))
        if isinstance(mark, AddToList)
    ]
    for at, name in used:
        if name not in names.lists:
            known = f"a declared list: {one_of(names.lists, name)}"
            yield error(at, f"expected {known if names.lists else 'a list under [[lists]]'}")


def _effect_findings(rule: Rule, path: str) -> Iterator[Finding]:
    then = rule.then
    if rule.stage is Stage.RED and not isinstance(then, Decline):
        yield error(f"{path}.then", "expected decline, which is all that a red rule does")
    if rule.stage is Stage.GREEN and not isinstance(then, Allow):
        yield error(f"{path}.then", "expected allow, which is all that a green rule does")
    if rule.stage is Stage.AMBER and isinstance(then, Allow):
        yield error(
            f"{path}.then", "expected decline, challenge or a mark; an allow is a green rule"
        )
    if rule.stage is Stage.WATCH and rule.canary_percent is not None:
        yield error(f"{path}.canary_percent", "expected nothing: a watch rule is never in force")
    if rule.stage is Stage.GREEN and rule.expires_at is None:
        yield error(f"{path}.expires_at", "expected an end, for an allow must not be forgotten")
    if rule.stage in (Stage.GREEN, Stage.WATCH) and rule.on_error is OnError.DECLINE:
        yield error(f"{path}.on_error", "expected skip: a green or watch rule never declines")
    if isinstance(then, Decline) and then.outcome not in RULE_OUTCOMES:
        yield error(f"{path}.then.decline", f"expected {one_of(RULE_OUTCOMES)}")
    if isinstance(then, Decline | Allow | Challenge) and holds_digit_run(then.reason):
        yield error(f"{path}.then.reason", "expected words, without a long number")


def _list_findings(named: NamedList, path: str, now_us: int | None) -> Iterator[Finding]:
    for position, entry in enumerate(named.entries):
        at = f"{path}.entries[{position}]"
        if isinstance(entry.value, int) is not (named.field == "card_id"):
            expected = "a whole number" if named.field == "card_id" else "a text in quotes"
            yield error(f"{at}.value", f"expected {expected}, for the list holds {named.field}")
        elif named.field == "medium" and not _MEDIUM.match(str(entry.value)):
            yield error(
                f"{at}.value",
                "expected the hash of a medium, 32 small hex digits or more; never a card number",
            )
        if holds_digit_run(entry.reason):
            yield error(f"{at}.reason", "expected words, without a long number")
        if entry.from_ and entry.until and entry.until <= entry.from_:
            yield error(f"{at}.until", "expected a time after from")
        elif now_us is not None and entry.until and microseconds(entry.until) <= now_us:
            yield warning(f"{at}.until", "expected a time to come; the entry has expired")


def _outside_findings(
    named: NamedList, path: str, outside: Mapping[str, ListField]
) -> Iterator[Finding]:
    """A warning: a list made later, under a name in use, must not keep a switch from starting."""
    field = outside.get(named.name, named.field)
    if field != named.field:
        yield warning(
            f"{path}.field",
            f"expected {field}, which is what the list kept under this name holds; none of its "
            "entries is looked for",
        )


def _given_list_findings(ruleset: Ruleset, given: list[NamedList]) -> Iterator[Finding]:
    declared = {named.name: named.field for named in ruleset.lists}
    for position, named in enumerate(given):
        if declared.get(named.name) != named.field:
            yield error(
                f"given_lists[{position}]",
                "expected a list that the ruleset declares under that name for that fact",
            )
        yield from _list_findings(named, f"given_lists[{position}]", None)


def _whole_findings(ruleset: Ruleset) -> Iterator[Finding]:
    yield from _repeated("features", [feature.id for feature in ruleset.features], "id")
    yield from _repeated("rules", [rule.id for rule in ruleset.rules], "id")
    yield from _repeated("lists", [named.name for named in ruleset.lists], "name")
    for key in Key:
        of_key = [n for n, feature in enumerate(ruleset.features) if feature.key is key]
        for position in of_key[FEATURES_PER_KEY_MAX:]:
            yield error(
                f"features[{position}].key",
                f"expected at most {FEATURES_PER_KEY_MAX} features of one key",
            )
    yield from _place_findings(ruleset)
    yield from _unused(ruleset)
    yield from _shadowed(ruleset.rules)


def _place_findings(ruleset: Ruleset) -> Iterator[Finding]:
    if any(holds_digit_run(stop) for stop in ruleset.places):
        yield error("places", "expected stops as line/stop, without a long number")
    if spread_too_far(ruleset.places.values()):
        yield error(
            "places",
            f"expected the stops of one city, at most {SPAN_DEGREES_MAX} degrees apart: "
            "distances are measured as on flat ground",
        )
    for position, feature in enumerate(ruleset.features):
        if feature.aggregate in TRAVEL and not ruleset.places:
            yield warning(
                f"features[{position}].aggregate",
                "expected [places], where each stop is; without them it is always unknown",
            )


def _repeated(table: str, words: list[str], field: str) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for position, word in enumerate(words):
        if word in first:
            yield error(
                f"{table}[{position}].{field}",
                f"expected a name of its own; {table}[{first[word]}] has the same",
            )
        first.setdefault(word, position)


def _unused(ruleset: Ruleset) -> Iterator[Finding]:
    conditions = [rule.when for rule in ruleset.rules]
    conditions += [feature.where for feature in ruleset.features if feature.where is not None]
    found = [leaf for condition in conditions for _, leaf in leaves(condition, "")]
    features = {op.id for leaf in found for op in operands(leaf) if isinstance(op, FeatureOperand)}
    lists = {leaf.list for leaf in found if isinstance(leaf, InList)}
    for rule in ruleset.rules:
        lists |= {*rule.scope.except_lists}
    for position, feature in enumerate(ruleset.features):
        if feature.id not in features:
            yield warning(f"features[{position}]", "expected a rule that uses it; none does")
    for position, named in enumerate(ruleset.lists):
        if named.name not in lists:
            yield warning(f"lists[{position}]", "expected a rule that uses it; none does")


def _shadowed(rules: tuple[Rule, ...]) -> Iterator[Finding]:
    first: dict[bytes, int] = {}
    for position, rule in enumerate(rules):
        same = msgspec.json.encode([rule.stage, rule.scope, rule.when])
        if same in first:
            yield warning(
                f"rules[{position}].when",
                f"expected a condition of its own; rules[{first[same]}] fires in the same cases",
            )
        first.setdefault(same, position)
    repeats = set(range(len(rules))) - set(first.values())
    for behind, before in shadowing(rules):
        if behind not in repeats and before not in repeats:
            yield warning(
                f"rules[{behind}].when",
                f"expected cases of its own; rules[{before}] declines in all of these already",
            )


def _cost_findings(ruleset: Ruleset) -> Iterator[Finding]:
    """Only an estimate, so that an officer sees early what the cut-out would do later."""
    found = estimate(ruleset)
    if found.worst_kind_ns > RULESET_NS_MAX:
        yield warning(
            "rules",
            f"expected at most {RULESET_NS_MAX // 1000:,} µs for one request; an estimate of this "
            f"is {found.worst_kind_ns // 1000:,}",
        )
    for position, cost_ns in enumerate(found.rules_ns):
        if cost_ns > RULE_NS_MAX:
            yield warning(
                f"rules[{position}].when",
                f"expected at most {RULE_NS_MAX // 1000} µs for one rule; an estimate of this is "
                f"{cost_ns // 1000}",
            )
