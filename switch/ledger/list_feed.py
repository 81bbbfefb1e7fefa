"""Keeps a process's lists as the ledger has them: what people wrote and what rules put there.

    at first            each list whole
    a list was changed  the values that were touched lately, each with all its entries
    twice a second      what rules listed lately

What is read again changes nothing: a value's entries are replaced, never added to, and what a
rule listed is told apart by its key. So each look goes back further than need be, and neither
the order of commits nor a clock that differs a little loses an entry. A large list is put in by
slices, for a gate must not wait for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import anyio.lowlevel

from risk.lists import LIST_ENTRIES_MAX, ListBook, ListField
from switch.ledger import sql
from switch.ledger.failures import guarded

CALL_SECONDS_MAX = 30.0
"""When a silent ledger counts as lost; a whole list is some twelve megabytes."""
CHANGED_SINCE_US = 600_000_000
"""How far back a look at a changed list goes: beyond any import and any difference of clocks."""
LISTED_SINCE_US = 60_000_000
"""How far back a look at what rules listed goes: twice what a posting may take."""
REVISIONS_MAX = 500
"""After more of them every list is read whole."""
SLICE = 1_000
"""Entries read and put in at a time; they take two milliseconds."""
PAGES_AT_ONCE = 20
"""Slices of a large list after which what rules listed meanwhile is taken."""
CHANGED_MAX = 2_000
"""Where more values of a list were touched, the list is read anew."""

_QUERIES = sql.queries("rules_follower.sql")
_OPEN_US = 2**63

Span = tuple[int, int]
Spans = dict[int | str, list[Span]]
ListingKey = tuple[int, int, str, str]
"""Shard, authorization, list and value: what tells one rule-made entry from another."""


class Rows(Protocol):
    """A connection to the ledger."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]: ...


class ListFeed:
    """Fills `book`, which every compiled ruleset of the process looks into."""

    def __init__(self) -> None:
        self.book = ListBook()
        self._standing: dict[str, Spans] = {}
        """What the book has: the very same dicts, changed in place."""
        self._made: dict[str, Spans] = {}
        self._seen: dict[ListingKey, int] = {}
        self._written: set[str] = set()
        self._looked_us = 0
        self._listed_us = 0
        self._revision = -1

    def declare(self, fields: Mapping[str, ListField], *, live: bool = False) -> None:
        """Have the lists of a ruleset's text too, so that what rules put there is found.

        What a list of the ledger holds stays as it is; of the others, it is what the text of the
        `live` ruleset says, whatever that of a draft or of an earlier one said.
        """
        for name, field in fields.items():
            known = self.book.fields.get(name)
            if known is None:
                self.book.fields[name] = field
                self._spans(name)
            elif live and known != field and name not in self._written:
                self.book.fields[name] = field
                self._begin_anew(name)

    def _begin_anew(self, name: str) -> None:
        """Empty a list that holds something else now; the next look takes what rules put there."""
        self._standing.pop(name, None)
        self._made.pop(name, None)
        self._spans(name)
        self._seen = {key: until_us for key, until_us in self._seen.items() if key[2] != name}
        self._listed_us = 0

    async def follow(self, rows: Rows, revision: int, now_us: int) -> None:
        """Take what changed in the lists up to a revision of the ledger's rules."""
        lists = await _asked(rows, "lists")
        recent = self._recent(revision, now_us)
        changed: set[str] = set()
        if recent:
            found = await _asked(rows, "changed_lists", self._revision)
            changed = {row["name"] for row in found}
        for row in lists:
            name = row["name"]
            if name not in self._written or not recent:
                self.book.fields[name] = row["field"]
                await self._take_whole(rows, name, now_us)
                self._written.add(name)
            elif name in changed:
                await self._take_changed(rows, name, now_us)
        self._looked_us, self._revision = now_us, revision

    def unchanged(self, now_us: int) -> None:
        """The ledger's revision is still that which was followed last.

        So the next change is looked for from now on, and not by reading every list whole.
        """
        self._looked_us = now_us

    async def listings(self, rows: Rows, now_us: int) -> None:
        """Take what rules listed since the last look."""
        since_us = self._listed_us - LISTED_SINCE_US if self._listed_us else 0
        found = await _asked(rows, "listings", since_us, now_us, LIST_ENTRIES_MAX)
        for number, row in enumerate(found, start=1):
            key = (row["shard"], row["authorization_id"], row["list"], row["value"])
            if key not in self._seen:
                self._seen[key] = row["until_us"]
                self._put(row)
            if number % SLICE == 0:
                await anyio.lowlevel.checkpoint()
        self._listed_us = now_us
        if len(self._seen) > LIST_ENTRIES_MAX:
            self._forget_ended(now_us)

    def _put(self, row: Any) -> None:
        """An entry that a rule made; a list that holds something else now can't have it."""
        name = row["list"]
        self.declare({name: row["field"]})
        if self.book.fields[name] == row["field"]:
            value, span = self._value(name, row["value"]), (row["from_us"], row["until_us"])
            self._made.setdefault(name, {}).setdefault(value, []).append(span)
            self._spans(name).setdefault(value, []).append(span)

    def _recent(self, revision: int, now_us: int) -> bool:
        """Whether what changed since the last look can be told from when it was written."""
        few = 0 <= self._revision <= revision <= self._revision + REVISIONS_MAX
        return few and now_us - self._looked_us < CHANGED_SINCE_US // 2

    async def _take_whole(self, rows: Rows, name: str, now_us: int) -> None:
        spans: Spans = {}
        after: tuple[str, int] = ("", 0)
        for page in itertools.count(1):
            found = await _asked(rows, "entries", name, now_us, *after, SLICE)
            for row in found:
                spans.setdefault(self._value(name, row["value"]), []).append(_span(row))
            if len(found) < SLICE:
                break
            after = found[-1]["value"], found[-1]["entry_id"]
            if self._listed_us and page % PAGES_AT_ONCE == 0:
                # What rules list is in force in two seconds, however long this list takes.
                await self.listings(rows, now_us)
        for value, made in self._made.get(name, {}).items():
            spans.setdefault(value, []).extend(made)
        before = self._standing.get(name, {})
        self._standing[name] = spans
        self.book.replace(name, spans)
        while before:  # To free two hundred thousand entries at once takes thirty milliseconds.
            for _ in range(min(SLICE, len(before))):
                before.popitem()
            await anyio.lowlevel.checkpoint()

    async def _take_changed(self, rows: Rows, name: str, now_us: int) -> None:
        since_us = now_us - CHANGED_SINCE_US
        found = await _asked(rows, "changed_values", name, since_us, CHANGED_MAX + 1)
        if len(found) > CHANGED_MAX:
            await self._take_whole(rows, name, now_us)
            return
        made = self._made.get(name, {})
        standing = self._spans(name)
        for start in range(0, len(found), SLICE):
            values = [row["value"] for row in found[start : start + SLICE]]
            changed: Spans = {self._value(name, value): [] for value in values}
            for row in await _asked(rows, "entries_of", name, values, now_us):
                changed[self._value(name, row["value"])].append(_span(row))
            for value, spans in changed.items():
                spans += made.get(value, ())
                if spans:
                    standing[value] = spans
                else:
                    standing.pop(value, None)

    def _spans(self, name: str) -> Spans:
        """A list's entries as the book has them."""
        known = self._standing.get(name)
        if known is None:
            known = self._standing[name] = {}
            self.book.replace(name, known)
        return known

    def _value(self, name: str, value: str) -> int | str:
        """As facts have it: a card id is a number, everything else text."""
        return int(value) if self.book.fields[name] == "card_id" else value

    def _forget_ended(self, now_us: int) -> None:
        """Let go of what rules listed and what has ended; what stands is bounded by its ends."""
        self._seen = {key: until_us for key, until_us in self._seen.items() if until_us > now_us}
        for name, made in self._made.items():
            standing = self._spans(name)
            for value in list(made):
                made[value] = left = _unended(made[value], now_us)
                standing[value] = both = _unended(standing.get(value, ()), now_us)
                if not left:
                    del made[value]
                if not both:
                    del standing[value]


def _span(row: Any) -> Span:
    return row["from_us"], _OPEN_US if row["until_us"] is None else row["until_us"]


def _unended(spans: Iterable[Span], now_us: int) -> list[Span]:
    return [span for span in spans if span[1] > now_us]


async def _asked(rows: Rows, query: str, *args: object) -> Sequence[Any]:
    return await guarded(rows.fetch, _QUERIES[query], *args, seconds=CALL_SECONDS_MAX)
