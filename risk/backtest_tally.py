"""What a replay adds up, in a form that adds up again: shards together are the whole.

Everything here is a sum, a bounded list in an order of its own, or a bounded table, so the
tallies of several processes come to the same as one over all rows. It travels as JSON.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from datetime import date

import msgspec

from risk.backtest_result import DIFFERENCES_MAX, EXAMPLES_MAX, Difference, Example

EXACT_MAX = 4_096
"""Values below are counted one by one; above, by their first `_DIGITS` binary digits: a quantile
is at most 0.4 % too low there."""
_DIGITS = 9
NAMES_MAX = 20_000
"""Names of one sort that are counted at once; then the rarer half is forgotten."""
DAY_HOURS = 24
WEEK_HOURS = 7 * DAY_HOURS


class RuleTally(msgspec.Struct):
    """One rule; see `RuleReport`. `cards` is how many different cards it declined."""

    evaluated: int = 0
    fired: int = 0
    declined: int = 0
    alone: int = 0
    unknown: int = 0
    spared: int = 0
    failed: int = 0
    declined_minor: int = 0
    fraud: int = 0
    genuine: int = 0
    cards: int = 0
    examples: list[Example] = []

    def add(self, other: RuleTally) -> None:
        for name in self.__struct_fields__:
            if name != "examples":
                setattr(self, name, getattr(self, name) + getattr(other, name))
        for example in other.examples:
            keep_example(self.examples, example)


class DayTally(msgspec.Struct):
    """One business day; see `DayReport`."""

    authorizations: int = 0
    answered_declines: int = 0
    tested_declines: int = 0
    gained: int = 0
    lost: int = 0


class RecountTally(msgspec.Struct):
    """A feature of places: values on rows, those that a recount differs from, how far at most."""

    rows: int = 0
    differing: int = 0
    furthest: int = 0


class Tally(msgspec.Struct):
    """All of a replay so far.

    `features` are counts by value (`binned`), `unknown` how often one was unknown; `sweeps` the
    bins of `backtest_probes`; `overlaps` how often two rules fired together, "one|other";
    `affected` by sort and name: [declines gained, minor units].
    """

    rows: int = 0
    assessed: int = 0
    approved: int = 0
    approved_declined: int = 0
    gained: int = 0
    lost: int = 0
    gained_minor: int = 0
    lost_minor: int = 0
    labelled: int = 0
    fraud: int = 0
    agreement_rows: int = 0
    agreement_equal: int = 0
    cancelled: bool = False
    hashes: dict[str, int] = {}
    differences: list[Difference] = []
    rules: dict[str, RuleTally] = {}
    days: dict[date, DayTally] = {}
    hours_answered: list[int] = msgspec.field(default_factory=lambda: [0] * WEEK_HOURS)
    hours_tested: list[int] = msgspec.field(default_factory=lambda: [0] * WEEK_HOURS)
    overlaps: dict[str, int] = {}
    features: dict[str, dict[int, int]] = {}
    unknown: dict[str, int] = {}
    sweeps: dict[str, list[int]] = {}
    affected: dict[str, dict[str, list[int]]] = {}
    gained_examples: list[Example] = []
    lost_examples: list[Example] = []
    recounts: dict[str, RecountTally] = {}

    def add(self, other: Tally) -> None:
        """Add what another replay found in other rows."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.cancelled = self.cancelled or other.cancelled
        for mine, others in (
            (self.hashes, other.hashes),
            (self.overlaps, other.overlaps),
            (self.unknown, other.unknown),
        ):
            _add_counts(mine, others)
        for feature, counts in other.features.items():
            _add_counts(self.features.setdefault(feature, {}), counts)
        for rule, tally in other.rules.items():
            self.rules.setdefault(rule, RuleTally()).add(tally)
        for day, told in other.days.items():
            mine_of_day = self.days.setdefault(day, DayTally())
            for name in told.__struct_fields__:
                setattr(mine_of_day, name, getattr(mine_of_day, name) + getattr(told, name))
        for bins, others_bins in (
            (self.hours_answered, other.hours_answered),
            (self.hours_tested, other.hours_tested),
        ):
            _add_bins(bins, others_bins)
        for rule, others_bins in other.sweeps.items():
            _add_bins(self.sweeps.setdefault(rule, [0] * len(others_bins)), others_bins)
        self._add_names(other)
        self._add_lists(other)

    def _add_names(self, other: Tally) -> None:
        for what, names in other.affected.items():
            for name, (gained, minor) in names.items():
                count_affected(self.affected.setdefault(what, {}), name, gained, minor)
        for feature, recount in other.recounts.items():
            mine = self.recounts.setdefault(feature, RecountTally())
            mine.rows += recount.rows
            mine.differing += recount.differing
            mine.furthest = max(mine.furthest, recount.furthest)

    def _add_lists(self, other: Tally) -> None:
        for example in other.gained_examples:
            keep_example(self.gained_examples, example)
        for example in other.lost_examples:
            keep_example(self.lost_examples, example)
        for difference in other.differences:
            keep_difference(self.differences, difference)


_SUMS = (
    "rows",
    "assessed",
    "approved",
    "approved_declined",
    "gained",
    "lost",
    "gained_minor",
    "lost_minor",
    "labelled",
    "fraud",
    "agreement_rows",
    "agreement_equal",
)


def _add_counts(mine: dict[str, int] | dict[int, int], others: Iterable[object]) -> None:
    counts: dict[object, int] = mine  # type: ignore[assignment]
    for name, count in others.items():  # type: ignore[attr-defined]
        counts[name] = counts.get(name, 0) + count


def _add_bins(mine: list[int], others: list[int]) -> None:
    for position, count in enumerate(others):
        mine[position] += count


def binned(value: int) -> int:
    """The value that stands for it in a histogram: itself while it is small, else a little less."""
    if -EXACT_MAX < value < EXACT_MAX:
        return value
    shift = abs(value).bit_length() - _DIGITS
    return -((-value >> shift) << shift) if value < 0 else (value >> shift) << shift


def keep_example(examples: list[Example], example: Example) -> None:
    """Keep the first ones by instant and id, whichever order they come in."""
    if len(examples) >= EXAMPLES_MAX and _place(example) >= _place(examples[-1]):
        return
    insort(examples, example, key=_place)
    del examples[EXAMPLES_MAX:]


def keep_difference(differences: list[Difference], difference: Difference) -> None:
    """Likewise."""
    if len(differences) >= DIFFERENCES_MAX and _place(difference) >= _place(differences[-1]):
        return
    insort(differences, difference, key=_place)
    del differences[DIFFERENCES_MAX:]


def _place(each: Example | Difference) -> tuple[int, int]:
    return each.at_us, each.authorization_id


def count_affected(names: dict[str, list[int]], name: str, gained: int, minor: int) -> None:
    """Count for a name; among too many of them the rarest are forgotten, the rest is exact."""
    found = names.get(name)
    if found is not None:
        found[0] += gained
        found[1] += minor
        return
    if len(names) >= NAMES_MAX:
        for forgotten in sorted(names, key=lambda each: names[each][0])[: NAMES_MAX // 2]:
            del names[forgotten]
    names[name] = [gained, minor]
