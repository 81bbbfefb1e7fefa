"""Who is spared from a rule for a while, and which cards a canary is in force for.

Both are asked only of a rule that has fired, so neither costs anything while nothing fires,
and the counters run on whoever is spared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Annotated

import msgspec

from protocols.card_number import mask_digit_runs
from risk.conditions import Name
from risk.facts import Facts
from risk.findings import Finding, error, one_of
from risk.moments import microseconds
from risk.rules import Stage
from risk.ruleset import Ruleset

SNOOZES_MAX = 10_000
"""Each was given by a person; a city's desk doesn't come near."""

Snoozed = dict[tuple[str, int], tuple[tuple[int, int], ...]]
"""(rule id, card id) → from when (included) until when (excluded), in epoch microseconds."""

_ALWAYS_US = -(2**63)


class Snooze(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """This rule does nothing about this card from then (None: from ever) until then.

    The end is excluded; a rule that fires meanwhile is still recorded.
    """

    rule_id: Name
    card_id: int
    until: Annotated[datetime, msgspec.Meta(tz=True)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
    author: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


def compile_snoozes(snoozes: Iterable[Snooze]) -> Snoozed:
    """By rule and card; several of one card are in force each in its own time."""
    spans: Snoozed = {}
    for snooze in snoozes:
        key = (snooze.rule_id, snooze.card_id)
        since_us = _ALWAYS_US if snooze.since is None else microseconds(snooze.since)
        span = (since_us, microseconds(snooze.until))
        spans[key] = (*spans.get(key, ()), span)
    return spans


def snooze_findings(ruleset: Ruleset, snoozes: Iterable[Snooze]) -> Iterator[Finding]:
    """What is wrong with snoozes; a rule of an earlier ruleset may have gone since."""
    stages = {rule.id: rule.stage for rule in ruleset.rules}
    for position, snooze in enumerate(snoozes):
        at = f"snoozes[{position}]"
        if position >= SNOOZES_MAX:
            yield error("snoozes", f"expected at most {SNOOZES_MAX:,}; change the rule instead")
            return
        if snooze.rule_id not in stages:
            yield error(f"{at}.rule_id", f"expected {one_of(stages, snooze.rule_id)}")
        elif stages[snooze.rule_id] is Stage.RED:
            yield error(f"{at}.rule_id", "expected no red rule: red is never overridden")
        for field in ("reason", "author"):
            written = getattr(snooze, field)
            if mask_digit_runs(written) != written:
                yield error(f"{at}.{field}", "expected words, without a long number")


def in_canary(rule_id: str, percent: int, facts: Facts) -> bool:
    """Whether the card is among the percent that a canary is in force for.

    The hash is of rule and medium, so each rule has its own cards and a greater share keeps
    those of a smaller one. A card without a medium is known by its id.
    """
    return share_of(rule_id, facts) < percent


def share_of(name: str, facts: Facts) -> int:
    """0 to 99: where the card lies among all cards, for what goes by this name."""
    who = f"{name}:{facts.medium or facts.card_id}"
    digest = hashlib.blake2b(who.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100
