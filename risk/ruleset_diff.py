"""What one ruleset has that another has not: rules and features by id, fields, and sentences.

An approver signs what has changed, so nothing that changes a decision is left out: settings,
features, rules, lists and places, each with the fields that differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from protocols.card_number import mask_digit_runs
from risk.lists import NamedList
from risk.ruleset import Ruleset
from risk.sentences import Language, ruleset_sentences

VALUE_CHARACTERS_MAX = 200
FIELDS_SHOWN_MAX = 20


class Sort(StrEnum):
    """How something changed."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


class FieldChange(msgspec.Struct, frozen=True):
    """One field; values as JSON, cut off where they are long, "" where there is none."""

    path: str
    before: str
    after: str


class Change(msgspec.Struct, frozen=True):
    """`what` is setting, feature, rule, list or place. Sentences are of rules only."""

    sort: Sort
    what: str
    id: str
    before: str = ""
    after: str = ""
    fields: tuple[FieldChange, ...] = ()


def diff(
    before: Ruleset, after: Ruleset, language: Language = Language.ENGLISH
) -> tuple[Change, ...]:
    """Every change from one to the other, in the order of the ruleset's text.

    Both must have passed the checks. Rules are judged together within a stage, so their order
    is no change.
    """
    said_before = ruleset_sentences(before, language)
    said_after = ruleset_sentences(after, language)
    changes = [*_changes("setting", {"settings": before.settings}, {"settings": after.settings})]
    changes += _changes("feature", *map(_features, (before, after)))
    rules = {change.id: change for change in _changes("rule", *map(_rules, (before, after)))}
    for name in dict.fromkeys((*said_before, *said_after)):
        old, new = said_before.get(name, ""), said_after.get(name, "")
        change = rules.get(name)
        if change is None and old != new:
            # the same words about a counter that is another one now
            change = Change(Sort.CHANGED, "rule", name)
        if change is not None:
            changes.append(msgspec.structs.replace(change, before=old, after=new))
    changes += _changes("list", _lists(before.lists), _lists(after.lists))
    changes += _changes("place", before.places, after.places)
    return tuple(changes)


def _features(ruleset: Ruleset) -> dict[str, Any]:
    return {feature.id: feature for feature in ruleset.features}


def _rules(ruleset: Ruleset) -> dict[str, Any]:
    return {rule.id: rule for rule in ruleset.rules}


def _lists(lists: tuple[NamedList, ...]) -> dict[str, Any]:
    """A list as its fact and its entries by value, so that one more entry is one field."""
    return {
        named.name: {
            "field": named.field,
            "entries": {
                f"{number}:{entry.value}": msgspec.to_builtins(entry)
                for number, entry in _numbered(named)
            },
        }
        for named in lists
    }


def _numbered(named: NamedList) -> Iterator[tuple[int, Any]]:
    """Entries with how often their value came before: a value may be there more than once."""
    seen: dict[object, int] = {}
    for entry in named.entries:
        number = seen.get(entry.value, 0)
        seen[entry.value] = number + 1
        yield number, entry


def _changes(what: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*before, *after)):
        shown = mask_digit_runs(name)
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if old is None:
            yield Change(Sort.ADDED, what, shown)
        elif new is None:
            yield Change(Sort.REMOVED, what, shown)
        else:
            yield Change(Sort.CHANGED, what, shown, fields=_fields(old, new))


def _fields(old: Any, new: Any) -> tuple[FieldChange, ...]:
    found = list(_differing("", msgspec.to_builtins(old), msgspec.to_builtins(new)))
    shown = found[:FIELDS_SHOWN_MAX]
    if len(found) > len(shown):
        shown.append(FieldChange(f"and {len(found) - len(shown)} more", "", ""))
    return tuple(shown)


def _differing(path: str, old: Any, new: Any) -> Iterator[FieldChange]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            at = f"{path}.{key}" if path else str(key)
            if key in old and key in new:
                yield from _differing(at, old[key], new[key])
            else:
                yield FieldChange(mask_digit_runs(at), _shown(old, key), _shown(new, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differing(f"{path}[{position}]", one, other)
    else:
        yield FieldChange(mask_digit_runs(path), _json(old), _json(new))


def _shown(holder: dict[str, Any], key: str) -> str:
    return _json(holder[key]) if key in holder else ""


def _json(value: Any) -> str:
    text = mask_digit_runs(msgspec.json.encode(value).decode())
    if len(text) <= VALUE_CHARACTERS_MAX:
        return text
    return text[: VALUE_CHARACTERS_MAX - 1] + "…"
