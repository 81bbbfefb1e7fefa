"""Rulesets of the ledger as they are read: which there are, who wrote them, and their text."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import msgspec

from risk.ruleset import Ruleset, ruleset_from_bytes
from switch.ledger import sql
from switch.ledger.rules_trail import Rows

LIVE, CANARY = "live", "canary"
PREFIX_CHARACTERS_MIN = 6
RULESETS_MAX = 1_000
"""The newest so many are listed; any other is still found by its hash."""
_PREFIX = re.compile(r"[0-9a-f]{6,64}\Z")
_QUERIES = sql.queries("rulesets.sql")


class RulesetUnknown(LookupError):
    """No ruleset, or more than one, is meant by a reference; the text says what to do."""


class RulesetView(msgspec.Struct, frozen=True):
    """A ruleset without its text.

    `authors` wrote it or one of its ancestors since the last approved one; `approvers` approved
    it since it was last a draft. `forecast` is the share of requests, in parts per million, that
    each rule was to decline when it was promoted.
    """

    hash: str
    title: str
    state: str
    parent: str | None
    canary_percent: int | None
    authors: tuple[str, ...]
    approvers: tuple[str, ...]
    created_at: datetime
    was_live: bool
    forecast: dict[str, int]


class StoredRuleset(msgspec.Struct, frozen=True):
    """The text: canonical bytes, which the hash is of, and what the author wrote."""

    hash: str
    canonical: bytes
    source: str
    title: str

    def ruleset(self) -> Ruleset:
        """The typed ruleset. Raises `msgspec.ValidationError` where another version wrote it."""
        return ruleset_from_bytes(self.canonical)


async def listed(rows: Rows, *, count_max: int = RULESETS_MAX) -> list[RulesetView]:
    """The newest rulesets of the ledger, newest first."""
    count = max(1, min(count_max, RULESETS_MAX))
    return [_view(row) for row in await rows.fetch(_QUERIES["rulesets"], "", count)]


async def found(rows: Rows, reference: str) -> RulesetView:
    """The ruleset that a hash, its beginning, "live" or "canary" means. Raises RulesetUnknown."""
    if reference not in (LIVE, CANARY) and _PREFIX.match(reference) is None:
        raise RulesetUnknown(
            "that is no reference to a ruleset; give live, canary, or the first "
            f"{PREFIX_CHARACTERS_MIN} or more hex digits of a hash, as in the list of rulesets"
        )
    rows_found = await rows.fetch(_QUERIES["rulesets"], reference, 2)
    if len(rows_found) > 1:
        raise RulesetUnknown(f"several rulesets begin with {reference}; give more of the hash")
    if not rows_found:
        raise RulesetUnknown(
            f"there is no {reference} ruleset; look at the list of rulesets"
            if reference in (LIVE, CANARY)
            else f"no ruleset begins with {reference[:12]}; look at the list of rulesets"
        )
    return _view(rows_found[0])


async def text(rows: Rows, hash: str) -> StoredRuleset:
    """The text of a ruleset by its whole hash. Raises RulesetUnknown."""
    rows_found = await rows.fetch(_QUERIES["ruleset_text"], hash)
    if not rows_found:
        raise RulesetUnknown(f"no ruleset has the hash {hash[:12]}; look at the list of rulesets")
    return StoredRuleset(**dict(rows_found[0]))


def _view(row: Any) -> RulesetView:
    fields = dict(row)
    fields["authors"] = tuple(fields["authors"])
    fields["approvers"] = tuple(fields["approvers"])
    fields["forecast"] = msgspec.json.decode(fields["forecast"], type=dict[str, int])
    return RulesetView(**fields)
