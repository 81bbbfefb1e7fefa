"""What each assessed row adds to a backtest's tally: declines, rules, counters, agreement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from protocols.message import Outcome
from risk.backtest_probes import Probes
from risk.backtest_result import Difference, Example
from risk.backtest_tally import (
    DayTally,
    RuleTally,
    Tally,
    binned,
    count_affected,
    keep_difference,
    keep_example,
)
from risk.explain import explain
from risk.facts import Facts
from risk.record import Assessment, Effect, RuleResult, decode_results
from risk.ruleset import Ruleset
from risk.vocabulary import Unit

if TYPE_CHECKING:
    from risk.backtest import StoredAssessment, Verdict

CARDS_MAX = 1_000_000
"""Cards that are told apart for one rule in one process; beyond, the number is at least that."""
VALUES_MAX = 20_000
"""Different values of features that are counted before they are put into histograms."""
_TOLD_CHARACTERS_MAX = 200
_HOUR_SECONDS = 3_600
_APPROVED = Outcome.APPROVED
_IDLE = frozenset({Effect.CUT_OUT, Effect.PAUSED})
_DECLINING = frozenset({Effect.DECLINED, Effect.CHALLENGED})
_SPARED = frozenset({Effect.SNOOZED, Effect.HELD, Effect.OVERRIDDEN})
_NOT_FIRED = _IDLE | {Effect.UNKNOWN, Effect.FAILED}


class Seen(NamedTuple):
    """One assessed row: itself, what was stored with it, the facts, what is said now."""

    row: Sequence[Any]
    stored: StoredAssessment
    facts: Facts
    assessment: Assessment


class Counting:
    """Adds rows to a tally."""

    def __init__(
        self, tally: Tally, ruleset: Ruleset, labels: Mapping[int, Verdict], *, closed_loop: bool
    ) -> None:
        self._tally = tally
        self._labels = labels
        self._closed = closed_loop
        self._rule_ids = [rule.id for rule in ruleset.rules]
        tally.rules.update({rule_id: RuleTally() for rule_id in self._rule_ids})
        self._cards: dict[str, set[int]] = {rule_id: set() for rule_id in self._rule_ids}
        numeric = [each.id for each in ruleset.features if each.unit is not Unit.TEXT]
        tally.features.update({name: {} for name in numeric})
        self._values: dict[tuple[str, int | str | None], int] = {}
        self._day = date.min
        self._of_day = DayTally()

    def row(self, day: date) -> None:
        """A row of the days that are reported, assessed or not."""
        self._tally.rows += 1
        if day != self._day:
            self._day = day
            self._of_day = self._tally.days.setdefault(day, DayTally())
        self._of_day.authorizations += 1

    def assessed(self, seen: Seen, *, same: bool) -> None:
        """A row that was put to rules; `same` tells that it was to the tested ruleset."""
        tally, row, stored, assessment = self._tally, seen.row, seen.stored, seen.assessment
        tally.assessed += 1
        hashes = tally.hashes
        hashes[row[18]] = hashes.get(row[18], 0) + 1
        values = self._values
        for value in assessment.features.items():
            values[value] = values.get(value, 0) + 1
        if len(values) > VALUES_MAX:
            self._settle()
        declines = assessment.decision is not _APPROVED
        if row[16] == "approved":
            tally.approved += 1
            if declines:
                tally.approved_declined += 1
                self._affected(seen)
        label = self._labels.get(row[1]) if self._labels else None
        if label is not None:
            tally.labelled += 1
            tally.fraud += label == "fraud"
        if assessment.results:
            self._results(seen, label)
        if declines or stored.decision is not _APPROVED:
            self._declines(seen)
        if same and not self._closed:
            self._agreement(seen)

    def finish(self, probes: Probes) -> None:
        """What the rules noted themselves, and what is not in the tally yet."""
        self._settle()
        for rule_id, evaluated in zip(self._rule_ids, probes.evaluated, strict=True):
            self._tally.rules[rule_id].evaluated = evaluated
            self._tally.rules[rule_id].cards = len(self._cards[rule_id])
        self._tally.sweeps.update(probes.bins)

    def _settle(self) -> None:
        """Put what was counted by feature and value into the histograms."""
        histograms, unknown = self._tally.features, self._tally.unknown
        for (name, value), count in self._values.items():
            if value is None:
                unknown[name] = unknown.get(name, 0) + count
            elif not isinstance(value, str):
                place = binned(value)
                counts = histograms[name]
                counts[place] = counts.get(place, 0) + count
        self._values.clear()

    def _declines(self, seen: Seen) -> None:
        tally, facts = self._tally, seen.facts
        answered = seen.stored.decision is not _APPROVED
        tested = seen.assessment.decision is not _APPROVED
        hour = (facts.weekday - 1) * 24 + facts.local_second_of_day // _HOUR_SECONDS
        day = self._of_day
        if answered:
            tally.hours_answered[hour] += 1
            day.answered_declines += 1
        if tested:
            tally.hours_tested[hour] += 1
            day.tested_declines += 1
        if tested and not answered:
            tally.gained += 1
            day.gained += 1
            tally.gained_minor += facts.amount_minor
            keep_example(tally.gained_examples, self._example(seen, seen.assessment))
        elif answered and not tested:
            tally.lost += 1
            day.lost += 1
            tally.lost_minor += facts.amount_minor
            keep_example(tally.lost_examples, self._example(seen, decode_results(seen.row[19])))

    def _results(self, seen: Seen, label: Verdict | None) -> None:
        rules, results = self._tally.rules, seen.assessment.results
        declining = [result.rule_id for result in results if _declines(result)]
        fired: list[str] = []
        for result in results:
            rule, effect = rules[result.rule_id], result.effect
            if effect is Effect.UNKNOWN:
                rule.unknown += 1
            elif effect is Effect.FAILED:
                rule.failed += 1
            elif effect not in _NOT_FIRED:
                rule.fired += 1
                rule.spared += effect in _SPARED
                rule.fraud += label == "fraud"
                rule.genuine += label == "genuine"
                fired.append(result.rule_id)
        for rule_id in declining:
            self._declined(seen, rule_id, alone=len(declining) == 1)
        if len(fired) > 1:
            self._overlaps(fired)

    def _declined(self, seen: Seen, rule_id: str, *, alone: bool) -> None:
        rule, cards = self._tally.rules[rule_id], self._cards[rule_id]
        rule.declined += 1
        rule.alone += alone
        rule.declined_minor += seen.facts.amount_minor
        if len(cards) < CARDS_MAX:
            cards.add(seen.row[3])
        if seen.assessment.rule_id == rule_id:
            keep_example(rule.examples, self._example(seen, seen.assessment))

    def _overlaps(self, fired: list[str]) -> None:
        overlaps = self._tally.overlaps
        for position, one in enumerate(fired):
            for other in fired[position + 1 :]:
                pair = f"{one}|{other}" if one < other else f"{other}|{one}"
                overlaps[pair] = overlaps.get(pair, 0) + 1

    def _affected(self, seen: Seen) -> None:
        row, affected = seen.row, self._tally.affected
        acquirer, terminal, merchant = row[8], row[9], row[10]
        names = {
            "card": str(row[3]),
            "stop": row[24],
            "merchant": f"{acquirer}/{merchant}" if merchant else "",
            "terminal": f"{acquirer}/{terminal}" if terminal else "",
        }
        for what, name in names.items():
            if name:
                count_affected(affected.setdefault(what, {}), name, 1, seen.facts.amount_minor)

    def _example(self, seen: Seen, speaking: Assessment) -> Example:
        """`speaking` is who declines: the tested ruleset, or what was answered."""
        row = seen.row
        state = "backtest" if speaking is seen.assessment else "then"
        return Example(
            authorization_id=row[1],
            at_us=row[4],
            rrn=row[13],
            kind=row[6],
            amount_minor=seen.facts.amount_minor,
            answered=row[16],
            decided=seen.assessment.decision.value,
            rule_id=speaking.rule_id,
            sentence=explain(speaking, row[27], state),
        )

    def _agreement(self, seen: Seen) -> None:
        tally, stored, assessment = self._tally, seen.stored, seen.assessment
        tally.agreement_rows += 1
        if (
            assessment.decision is stored.decision
            and assessment.features == stored.features
            and assessment.results == stored.results
            and assessment.rule_id == stored.rule_id
            and assessment.rule_version == stored.rule_version
        ):
            tally.agreement_equal += 1
            return
        what = _what_differs(stored, assessment)
        if what is None:
            tally.agreement_equal += 1
            return
        name, one, other = what
        difference = Difference(seen.row[1], seen.row[4], name, _told(one), _told(other))
        keep_difference(tally.differences, difference)


def _declines(result: RuleResult) -> bool:
    failed = result.effect is Effect.FAILED and result.outcome is not None
    return failed or result.effect in _DECLINING


def _what_differs(
    stored: StoredAssessment, assessment: Assessment
) -> tuple[str, object, object] | None:
    """The first thing that differs; rules that were not evaluated may stand in any order."""
    if assessment.decision is not stored.decision:
        return "decision", stored.decision, assessment.decision
    one, other = stored.rule_id, assessment.rule_id
    if (one, stored.rule_version) != (other, assessment.rule_version):
        return "rule", f"{one} v{stored.rule_version}", f"{other} v{assessment.rule_version}"
    if _in_order(stored.results) != _in_order(assessment.results):
        return "results", stored.results, assessment.results
    if stored.features != assessment.features:
        return "features", stored.features, assessment.features
    return None


def _in_order(results: tuple[RuleResult, ...]) -> tuple[RuleResult, ...]:
    idle = sorted((r for r in results if r.effect in _IDLE), key=lambda r: (r.effect, r.rule_id))
    return (*(r for r in results if r.effect not in _IDLE), *idle)


def _told(value: object) -> str:
    return msgspec.json.encode(value).decode()[:_TOLD_CHARACTERS_MAX]
