"""The tables that the plots of a backtest are drawn from: the same figures, in words and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from risk.backtest_result import BacktestResult, FeatureReport, Overlap, Sweep
from risk.vocabulary import Unit
from switch.backtest.tables import Cell, Column, Shown, Table
from switch.backtest.wording import (
    WEEKDAYS,
    counted,
    measured,
    relation_sign,
    shortened,
    unit_named,
    unit_of,
)

OVERLAPS_MAX = 12
"""Pairs drawn; the table has all."""


def tested_days(result: BacktestResult) -> int:
    """Days with traffic in the range, at least one: what "a day" is a mean over."""
    return max(1, len(result.days))


def days_table(result: BacktestResult) -> Table:
    """One row a business day: what was answered, and what the tested ruleset says."""
    return Table(
        slug="days",
        title="Declines by day",
        caption="What rules declined when it happened, and what the tested ruleset declines.",
        columns=(
            Column("day", "Day", Shown.NAME),
            Column("authorizations", "Authorizations"),
            Column("answered_declines", "Answered"),
            Column("tested_declines", "Tested"),
            Column("gained", "Newly declined"),
            Column("lost", "No longer declined"),
        ),
        rows=tuple(
            (
                day.day,
                day.authorizations,
                day.answered_declines,
                day.tested_declines,
                day.gained,
                day.lost,
            )
            for day in sorted(result.days, key=lambda day: day.day)
        ),
    )


def is_week(hours: Sequence[Sequence[int]]) -> bool:
    """Seven days of 24 hours."""
    return len(hours) == 7 and all(len(row) == 24 for row in hours)


def hours_table(result: BacktestResult) -> Table:
    """Two rows a weekday, one of what was answered and one of the tested ruleset."""
    rows: list[tuple[Cell, ...]] = []
    if is_week(result.hours_answered) and is_week(result.hours_tested):
        for weekday, answered, tested in zip(
            WEEKDAYS, result.hours_answered, result.hours_tested, strict=True
        ):
            rows += [(weekday, "answered", *answered), (weekday, "tested", *tested)]
    return Table(
        slug="hours",
        title="Declines by hour and weekday",
        caption="Local hours of the ruleset's time zone; both halves have the same scale.",
        columns=(
            Column("weekday", "Day", Shown.NAME),
            Column("declines", "Declines", Shown.TEXT),
            *(Column(f"hour_{hour:02}", f"{hour:02}") for hour in range(24)),
        ),
        rows=tuple(rows),
    )


def worst_overlaps(result: BacktestResult) -> list[Overlap]:
    """The pairs that are drawn: those that fire together most."""
    return _by_size(result)[:OVERLAPS_MAX]


def _by_size(result: BacktestResult) -> list[Overlap]:
    together = [each for each in result.overlaps if each.both > 0]
    return sorted(together, key=lambda each: (-each.both, each.one, each.other))


def overlaps_table(result: BacktestResult) -> Table:
    """How often two rules fire together, with how often each fires at all."""
    fired = {rule.rule_id: rule.fired for rule in result.rules}
    together = _by_size(result)
    more = len(together) - OVERLAPS_MAX
    drawn = f" The {OVERLAPS_MAX} largest of these {len(together)} are drawn." if more > 0 else ""
    return Table(
        slug="overlaps",
        title="Rules that fire together",
        caption=f"A rule that never fires without another changes nothing by itself.{drawn}",
        columns=(
            Column("one", "Rule", Shown.NAME),
            Column("other", "Other rule", Shown.NAME),
            Column("both", "Both fired"),
            Column("one_fired", "Rule fired"),
            Column("other_fired", "Other fired"),
        ),
        rows=tuple(
            (each.one, each.other, each.both, fired.get(each.one), fired.get(each.other))
            for each in together
        ),
    )


def sweep_unit(result: BacktestResult, sweep: Sweep) -> Unit | None:
    """The unit of the limit, from the features and facts that the operand names."""
    return unit_of(sweep.operand, {each.feature_id: each.unit for each in result.features})


def sweep_table(result: BacktestResult, sweep: Sweep, slug: str) -> Table:
    """One row a limit: declines in the whole range, and a day (in thousandths in the CSV)."""
    unit = sweep_unit(result, sweep)
    days = tested_days(result)
    limits = [f"tested with {measured(sweep.tested_limit, unit)}"]
    if sweep.live_limit is not None:
        limits.append(f"live with {measured(sweep.live_limit, unit)}")
    return Table(
        slug=slug,
        title=f"{shortened(sweep.rule_id, 40)} at other limits",
        caption=f"Where {sweep.operand} {relation_sign(sweep.relation)} the limit: what this "
        f"rule alone would decline, with counters as history had them; {', '.join(limits)}. "
        f"Means over {counted(days, 'day')} with traffic.",
        columns=(
            Column("limit", "Limit", Shown.MEASURE, unit),
            Column("declines", "Declines"),
            Column("declines_a_day_thousandths", "A day", Shown.THOUSANDTHS),
            Column("is", "", Shown.TEXT),
        ),
        rows=tuple(
            (limit, declines, declines * 1_000 // days, _whose(limit, sweep))
            for limit, declines in sorted(zip(sweep.limits, sweep.declines, strict=False))
        ),
    )


def _whose(limit: int, sweep: Sweep) -> str:
    names = (("tested", sweep.tested_limit), ("live", sweep.live_limit))
    return " and ".join(name for name, its in names if its == limit)


def feature_unit(feature: FeatureReport) -> Unit | None:
    """The unit of a feature, if it has one of the model's."""
    return unit_named(feature.unit)


def feature_table(feature: FeatureReport, slug: str) -> Table:
    """One row a bin, then percentiles and limits, told apart by the first column."""
    unit = feature_unit(feature)
    rows: list[tuple[Cell, ...]] = []
    last = len(feature.counts) - 1
    for number, count in enumerate(feature.counts[: max(0, len(feature.edges) - 1)]):
        below = None if number == last else feature.edges[number + 1]
        rows.append(("bin", "", feature.edges[number], below, count))
    for name, value in (("p50", feature.p50), ("p95", feature.p95), ("p99", feature.p99)):
        rows.append(("percentile", name, value, None, None))
    rows.append(("percentile", "highest", feature.highest, None, None))
    rows += [("limit", rule_id, limit, None, None) for rule_id, limit in feature.limits]
    return Table(
        slug=slug,
        title=shortened(feature.feature_id, 44),
        caption=f"Known on {counted(feature.known, 'request')}, unknown on "
        f"{counted(feature.unknown)}. Bins are drawn equally wide and the last is open.",
        columns=(
            Column("row", "Row", Shown.NAME),
            Column("name", "Name", Shown.TEXT),
            Column("value", "From, or value", Shown.MEASURE, unit),
            Column("below", "Below", Shown.MEASURE, unit),
            Column("requests", "Requests"),
        ),
        rows=tuple(rows) if feature.known else (),
    )
