"""From a tally to a result: quantiles, bins, sweeps and the first of each sort."""

from __future__ import annotations

from datetime import date
from itertools import accumulate
from typing import NamedTuple

from risk.backtest_probes import (
    Swept,
    children_of,
    declines_at,
    operand_words,
    swept_of,
    terms_of,
)
from risk.backtest_result import (
    AFFECTED_MAX,
    BINS_MAX,
    Affected,
    Agreement,
    BacktestResult,
    DayReport,
    FeatureReport,
    Labels,
    Overlap,
    Recount,
    RuleReport,
    Sweep,
)
from risk.backtest_tally import DAY_HOURS, RuleTally, Tally
from risk.conditions import Compare, Constant, FeatureOperand
from risk.features import Feature
from risk.rules import Rule
from risk.ruleset import Ruleset, ruleset_hash
from risk.sentences import rule_sentence

OVERLAPS_MAX = 40


class Ran(NamedTuple):
    """What a backtest ran over, beside what it found."""

    title: str
    from_date: date
    to_date: date
    closed_loop: bool
    seconds: float
    shards: int
    warm_up_from: date


def report(ruleset: Ruleset, tally: Tally, ran: Ran, live: Ruleset | None = None) -> BacktestResult:
    """The result of a whole tally. `live` is what its limits are compared with."""
    return BacktestResult(
        hash=ruleset_hash(ruleset),
        title=ran.title,
        from_date=ran.from_date,
        to_date=ran.to_date,
        closed_loop=ran.closed_loop,
        rows=tally.rows,
        assessed=tally.assessed,
        seconds=round(ran.seconds, 3),
        shards=ran.shards,
        warm_up_from=ran.warm_up_from,
        live_hashes=tuple(sorted(tally.hashes, key=lambda each: (-tally.hashes[each], each))),
        agreement=Agreement(tally.agreement_rows, tally.agreement_equal, tuple(tally.differences)),
        approved=tally.approved,
        approved_declined=tally.approved_declined,
        gained=tally.gained,
        lost=tally.lost,
        gained_minor=tally.gained_minor,
        lost_minor=tally.lost_minor,
        labelled=tally.labelled,
        rules=tuple(_rule(rule, ruleset, tally) for rule in ruleset.rules),
        days=tuple(_days(tally)),
        hours_answered=_week(tally.hours_answered),
        hours_tested=_week(tally.hours_tested),
        overlaps=_overlaps(tally),
        features=tuple(
            told
            for feature in ruleset.features
            if (told := _feature(feature, ruleset, tally)) is not None
        ),
        sweeps=_sweeps(ruleset, tally, live),
        affected=_affected(tally),
        gained_examples=tuple(tally.gained_examples),
        lost_examples=tuple(tally.lost_examples),
        recounts=tuple(
            Recount(name, told.rows, told.differing, told.furthest)
            for name, told in sorted(tally.recounts.items())
        ),
        cancelled=tally.cancelled,
    )


def _rule(rule: Rule, ruleset: Ruleset, tally: Tally) -> RuleReport:
    told = tally.rules.get(rule.id, RuleTally())
    return RuleReport(
        rule_id=rule.id,
        version=rule.version,
        stage=rule.stage.value,
        sentence=rule_sentence(rule, ruleset),
        evaluated=told.evaluated,
        fired=told.fired,
        declined=told.declined,
        alone=told.alone,
        unknown=told.unknown,
        spared=told.spared,
        failed=told.failed,
        declined_minor=told.declined_minor,
        cards=told.cards,
        labels=Labels(told.fraud, told.genuine, tally.fraud - told.fraud),
        examples=tuple(told.examples),
    )


def _days(tally: Tally) -> list[DayReport]:
    return [
        DayReport(
            day,
            told.authorizations,
            told.answered_declines,
            told.tested_declines,
            told.gained,
            told.lost,
        )
        for day, told in sorted(tally.days.items())
    ]


def _week(hours: list[int]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(hours[at : at + DAY_HOURS]) for at in range(0, len(hours), DAY_HOURS))


def _overlaps(tally: Tally) -> tuple[Overlap, ...]:
    most = sorted(tally.overlaps.items(), key=lambda each: (-each[1], each[0]))[:OVERLAPS_MAX]
    found = [(pair.partition("|"), both) for pair, both in most]
    return tuple(Overlap(one, other, both) for (one, _, other), both in found)


def _affected(tally: Tally) -> tuple[Affected, ...]:
    found: list[Affected] = []
    for what in sorted(tally.affected):
        names = tally.affected[what]
        most = sorted(names, key=lambda name: (-names[name][0], -names[name][1], name))
        found += [Affected(what, name, *names[name]) for name in most[:AFFECTED_MAX]]
    return tuple(found)


def _sweeps(ruleset: Ruleset, tally: Tally, live: Ruleset | None) -> tuple[Sweep, ...]:
    live_rules = {rule.id: rule for rule in live.rules} if live is not None else {}
    swept = [(rule, swept_of(rule, live_rules.get(rule.id))) for rule in ruleset.rules]
    return tuple(
        _sweep(rule, each, tally.sweeps[rule.id])
        for rule, each in swept
        if each is not None and rule.id in tally.sweeps
    )


def _sweep(rule: Rule, swept: Swept, bins: list[int]) -> Sweep:
    return Sweep(
        rule_id=rule.id,
        operand=operand_words(swept),
        relation=swept.leaf.op.value,
        limits=swept.limits,
        declines=declines_at(swept, bins),
        tested_limit=swept.limit,
        live_limit=swept.live_limit,
    )


def _feature(feature: Feature, ruleset: Ruleset, tally: Tally) -> FeatureReport | None:
    """None for a counter that is no number, or that no request asked for."""
    counts = tally.features.get(feature.id)
    unknown = tally.unknown.get(feature.id, 0)
    if counts is None or not (counts or unknown):
        return None
    values = sorted(counts)
    known = sum(counts.values())
    limits = _limits(feature.id, ruleset)
    edges = bin_edges(values, [limit for _, limit in limits])
    return FeatureReport(
        feature_id=feature.id,
        unit=feature.unit.value,
        known=known,
        unknown=unknown,
        p50=quantile(counts, values, 50),
        p95=quantile(counts, values, 95),
        p99=quantile(counts, values, 99),
        highest=values[-1] if values else 0,
        edges=edges,
        counts=_bins(counts, edges),
        limits=limits,
    )


def quantile(counts: dict[int, int], values: list[int], percent: int) -> int:
    """The least value that so many hundredths of all reach or stay below; 0 of nothing."""
    if not values:
        return 0
    wanted = -(-sum(counts.values()) * percent // 100)
    reached = accumulate(counts[value] for value in values)
    return next(value for value, sum_ in zip(values, reached, strict=True) if sum_ >= wanted)


def bin_edges(values: list[int], limits: list[int]) -> tuple[int, ...]:
    """Edges of at most `BINS_MAX` bins over the values and the limits; equal steps."""
    if not values:
        return (0, 1)
    low = min(values[0], 0)
    high = max(values[-1], *limits, low + 1) if limits else max(values[-1], low + 1)
    step = max(1, -(-(high - low + 1) // BINS_MAX))
    count = -(-(high - low + 1) // step)
    return tuple(low + step * position for position in range(count + 1))


def _bins(counts: dict[int, int], edges: tuple[int, ...]) -> tuple[int, ...]:
    bins = [0] * (len(edges) - 1)
    step = edges[1] - edges[0]
    for value, count in counts.items():
        bins[min((value - edges[0]) // step, len(bins) - 1)] += count
    return tuple(bins)


def _limits(name: str, ruleset: Ruleset) -> tuple[tuple[str, int], ...]:
    """The limits of the feature itself: of "count + 1 > 6" it is 5."""
    found: list[tuple[str, int]] = []
    for rule in ruleset.rules:
        for leaf in children_of(rule.when):
            if not isinstance(leaf, Compare) or not isinstance(leaf.right, Constant):
                continue
            terms = terms_of(leaf.left)
            if not any(isinstance(t, FeatureOperand) and t.id == name for t in terms):
                continue
            added = [t.value for t in terms if isinstance(t, Constant) and isinstance(t.value, int)]
            if isinstance(leaf.right.value, int):
                found.append((rule.id, leaf.right.value - sum(added)))
    return tuple(found)
