"""Named lists: who is on the hotlist, from when, until when and why.

A list is matched by medium (the keyed hash of a card number), card or place, never by card
number: a replacement card must not inherit the block of the lost one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from risk.conditions import Name, Value
from risk.moments import microseconds

TAKES_EFFECT_US = 2_000_000
"""How long after it was written an entry (or a snooze, or its end) is in force: by then every
worker knows of it, so what was decided depends on its instants and not on who heard when."""
LISTS_MAX = 64
LIST_ENTRIES_MAX = 200_000
"""A city's hotlist; compiled it takes about 55 MB at this size in each worker (275 bytes each)."""

ListField = Literal[
    "card_id",
    "medium",
    "merchant",
    "terminal",
    "mcc",
    "acquirer",
    "product",
    "tier",
    "venue",
    "line",
    "stop",
    "vehicle",
]


class ListEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """In force from `from_` (included) until `until` (excluded); a missing end is open."""

    value: Value
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    from_: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class NamedList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Entries of one fact under one name. Entries are looked up by exact value."""

    name: Name
    field: ListField
    entries: Annotated[tuple[ListEntry, ...], msgspec.Meta(max_length=LIST_ENTRIES_MAX)] = ()


Lookup = Callable[[int | str, int], bool]
"""(value, now_us) → whether an entry is in force."""


def compile_list(named: NamedList) -> Lookup:
    """A hash lookup, then the dates of the few entries of that value."""
    spans: dict[int | str, list[tuple[int, int]]] = {}
    for entry in named.entries:
        begin = microseconds(entry.from_) if entry.from_ else _ALWAYS[0]
        end = microseconds(entry.until) if entry.until else _ALWAYS[1]
        spans.setdefault(entry.value, []).append((begin, end))

    def listed(value: int | str, now_us: int) -> bool:
        found = spans.get(value)
        return found is not None and any(begin <= now_us < end for begin, end in found)

    return listed


_ALWAYS = (-(2**63), 2**63)


class ListBook:
    """The lists of a process beside those of a ruleset's text; they change while rulesets stand.

    Compiled rules look into it, so a change is seen at once by all of them: change it between
    two batches. Values are as facts have them: card_id is a number, everything else text.
    """

    __slots__ = ("_spans", "fields")

    def __init__(self) -> None:
        self.fields: dict[str, ListField] = {}
        self._spans: dict[str, dict[int | str, list[tuple[int, int]]]] = {}

    def declare(self, name: str, field: ListField) -> None:
        """Have a list of this name, which may be empty."""
        self.fields[name] = field
        self._spans.setdefault(name, {})

    def put(self, name: str, value: int | str, from_us: int, until_us: int | None) -> None:
        """Add an entry, in force from an instant until before another (None: open)."""
        spans = self._spans.setdefault(name, {}).setdefault(value, [])
        spans.append((from_us, _ALWAYS[1] if until_us is None else until_us))

    def replace(self, name: str, spans: dict[int | str, list[tuple[int, int]]]) -> None:
        """Have these entries and no others: value → (from, until) in epoch microseconds."""
        self._spans[name] = spans

    def lookup(self, name: str) -> Lookup:
        """A lookup that sees what the book has when it is asked."""

        def listed(value: int | str, now_us: int) -> bool:
            entries = self._spans.get(name)
            if not entries:
                return False
            found = entries.get(value)
            return found is not None and any(begin <= now_us < end for begin, end in found)

        return listed


def merged(own: Iterable[NamedList], given: Iterable[NamedList]) -> dict[str, NamedList]:
    """Lists by name; a list given from outside replaces the ruleset's own of that name."""
    return {named.name: named for named in (*own, *given)}


def list_fields(
    named: Mapping[str, NamedList], outside: Mapping[str, ListField]
) -> dict[str, ListField]:
    """What each list holds; where the text has one of that name too, the text says what."""
    return {**outside, **{name: each.field for name, each in named.items()}}


def compile_lists(named: Mapping[str, NamedList], book: ListBook | None) -> dict[str, Lookup]:
    """Lookups of the text's lists and of the book's; of one that both have, in either.

    A list that holds another fact in the book than in the text is not looked for in the book.
    """
    lookups = {name: compile_list(each) for name, each in named.items()}
    if book is None:
        return lookups
    for name, field in book.fields.items():
        own = named.get(name)
        if own is None or (own.field == field and not own.entries):
            lookups[name] = book.lookup(name)
        elif own.field == field:
            lookups[name] = _either(lookups[name], book.lookup(name))
    return lookups


def _either(one: Lookup, other: Lookup) -> Lookup:
    return lambda value, now_us: one(value, now_us) or other(value, now_us)
