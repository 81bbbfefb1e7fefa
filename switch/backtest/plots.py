"""The plots of a backtest, each drawn from the table that stands beside it.

What is answered is blue with circles, what the tested ruleset says is orange with squares, in
every plot. A plot of nothing is a sentence. Counts, limits and money come as integers and turn
to floats only where ink is put on paper.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date

import msgspec
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, SymmetricalLogLocator

from risk.backtest_result import BacktestResult, FeatureReport, Sweep
from risk.vocabulary import Unit
from switch.backtest.drawing import (
    ANSWERED,
    BAR,
    GRID,
    HEIGHT,
    INK,
    LEGEND_LINE,
    MUTED,
    TESTED,
    TITLE,
    WIDTH,
    axes,
    label,
    legend,
    paper,
    places,
    sentence,
)
from switch.backtest.plot_tables import (
    days_table,
    feature_table,
    feature_unit,
    hours_table,
    is_week,
    overlaps_table,
    sweep_table,
    sweep_unit,
    tested_days,
    worst_overlaps,
)
from switch.backtest.tables import Table, slug
from switch.backtest.wording import (
    WEEKDAYS,
    axis_unit,
    counted,
    measured,
    relation_sign,
    shortened,
    tick,
)

TICKS_MAX = 5
DAYS_NAMED_MAX = 4
LIMITS_SHOWN_MAX = 4
"""Of a feature; all of them are in its table."""
MARKERS_MAX = 62
NAME_SHOWN = 30
LEGEND_HALF = 26
"""Characters of a legend that leave room for another beside them."""
LOGARITHMIC_FROM = 1_000
"""A bin this high hides those of a few, which are what a limit is about."""
HOURS_HEIGHT = 316
HOUR_STEPS_MAX = 8
SPREAD_LOGARITHMIC_FROM = 200


class Plot(msgspec.Struct, frozen=True):
    """A figure and the table it shows; `what` it means is the table's caption."""

    section: str
    table: Table
    figure: Figure


def plots(result: BacktestResult) -> Iterator[Plot]:
    """Every plot of a result, one at a time: by day, by hour, overlaps, sweeps, features."""
    yield Plot("Days, hours, overlaps", table := days_table(result), _days(result, table))
    yield Plot("Days, hours, overlaps", table := hours_table(result), _hours(result, table))
    yield Plot("Days, hours, overlaps", table := overlaps_table(result), _overlaps(result, table))
    taken: set[str] = set()
    for sweep in sorted(result.sweeps, key=_interest):
        table = sweep_table(result, sweep, slug("sweep", sweep.rule_id, taken))
        yield Plot("Other limits", table, _sweep(result, sweep, table))
    for feature in result.features:
        table = feature_table(feature, slug("feature", feature.feature_id, taken))
        yield Plot("Features", table, _feature(feature, table))


def _interest(sweep: Sweep) -> tuple[bool, int, str]:
    """What changed first, then what declines most."""
    return (
        sweep.live_limit in (None, sweep.tested_limit),
        -max(sweep.declines, default=0),
        sweep.rule_id,
    )


def _days(result: BacktestResult, table: Table) -> Figure:
    if not result.days:
        return sentence(table.title, "No day was read.")
    days = sorted(result.days, key=lambda day: day.day)
    figure = paper(table.title)
    ax = axes(figure, top=TITLE + LEGEND_LINE + 28)
    at = [day.day.toordinal() for day in days]
    _line(ax, at, [day.answered_declines for day in days], "answered", ANSWERED, "o", "--")
    _line(ax, at, [day.tested_declines for day in days], "tested ruleset", TESTED, "s", "-")
    shown = places(range(at[0], at[-1] + 1), DAYS_NAMED_MAX)
    ax.set_xticks(shown, [date.fromordinal(each).isoformat() for each in shown])
    if len(at) == 1:
        ax.set_xlim(at[0] - 1, at[0] + 1)
    _counts_upward(ax)
    label(ax, x="business day", y="declines by rules (count a day)")
    legend(figure, ax, lines=1)
    return figure


def _line(
    ax: Axes, x: Sequence[float], y: Sequence[float], name: str, colour: str, mark: str, style: str
) -> None:
    ax.plot(
        x,
        y,
        style,
        color=colour,
        label=name or None,
        linewidth=1.6,
        marker=mark if len(x) <= MARKERS_MAX else None,
        markersize=4.5,
        clip_on=False,
    )


def _counts_upward(ax: Axes) -> None:
    ax.set_ylim(0, max(1.0, ax.get_ylim()[1]))
    ax.yaxis.set_major_locator(MaxNLocator(TICKS_MAX, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(round(y), None)))


def _hours(result: BacktestResult, table: Table) -> Figure:
    panels = (("answered", result.hours_answered), ("tested ruleset", result.hours_tested))
    if not all(is_week(hours) for _, hours in panels):
        return sentence(table.title, "No hour was counted.")
    highest = max(count for _, hours in panels for row in hours for count in row)
    if highest == 0:
        return sentence(table.title, "Nobody was declined in any hour.")
    steps = _steps(highest)
    colours = colormaps["cividis"].resampled(len(steps) - 1)
    norm = BoundaryNorm(steps, colours.N)
    figure = paper(table.title, height=HOURS_HEIGHT)
    for (name, hours), (top, bottom) in zip(panels, ((46, 174), (180, 40)), strict=True):
        ax = axes(figure, top=top, bottom=bottom, left=40, right=66)
        ax.grid(visible=False)
        drawn = ax.pcolormesh(
            range(25), range(8), hours, cmap=colours, norm=norm, edgecolors="face", linewidth=0.3
        )
        ax.set_yticks([row + 0.5 for row in range(7)], WEEKDAYS)
        ax.set_xticks(
            [hour + 0.5 for hour in range(0, 24, 3)], [f"{h:02}" for h in range(0, 24, 3)]
        )
        ax.invert_yaxis()
        ax.tick_params(labelsize=8.5)
        label(ax, x="hour of the day" if bottom < 100 else "", y=name)
    scale = figure.add_axes(
        ((WIDTH - 52) / WIDTH, 40 / HOURS_HEIGHT, 10 / WIDTH, 230 / HOURS_HEIGHT)
    )
    bar = figure.colorbar(drawn, cax=scale, ticks=steps, spacing="uniform")
    bar.ax.set_yticklabels([tick(step, None) for step in steps])
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, colors=MUTED)
    bar.ax.set_title("declines", fontsize=8.5, color=MUTED, pad=6)
    bar.outline.set_visible(False)
    return figure


def _steps(highest: int) -> list[int]:
    """Whole numbers from 0 to the highest, at most `HOUR_STEPS_MAX` steps apart."""
    step = max(1, -(-highest // HOUR_STEPS_MAX))
    return list(range(0, highest + step, step))


def _overlaps(result: BacktestResult, table: Table) -> Figure:
    worst = worst_overlaps(result)
    if not worst:
        return sentence(table.title, "No two rules fired on the same request.")
    line = 27
    figure = paper(table.title, height=TITLE + 54 + line * len(worst))
    ax = axes(figure, top=TITLE + 8, left=14)
    at = range(len(worst))
    ax.barh(at, [each.both for each in worst], height=0.34, color=TESTED)
    for row, each in enumerate(worst):
        names = f"{shortened(each.one, NAME_SHOWN)} + {shortened(each.other, NAME_SHOWN)}"
        both = counted(each.both)
        room = NAME_SHOWN * 2 - len(both)
        ax.text(
            0,
            row - 0.28,
            f"{shortened(names, room)}: {both}",
            fontsize=9,
            color=INK,
            va="bottom",
        )
    ax.set_ylim(len(worst) - 0.6, -0.9)
    ax.set_yticks([])
    ax.set_xlim(left=0)
    ax.grid(axis="x", color=GRID, linewidth=0.8)
    ax.xaxis.set_major_locator(MaxNLocator(TICKS_MAX, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(round(x), None)))
    label(ax, x="requests on which both fired (count)")
    return figure


def _sweep(result: BacktestResult, sweep: Sweep, table: Table) -> Figure:
    points = sorted(zip(sweep.limits, sweep.declines, strict=False))
    if not points:
        return sentence(table.title, "No other limit was tried: it never came near one.")
    unit = sweep_unit(result, sweep)
    days = tested_days(result)
    figure = paper(table.title)
    ax = axes(figure, top=TITLE + LEGEND_LINE + 28)
    limits = [limit for limit, _ in points]
    _line(ax, limits, [count / days for _, count in points], "", INK, "o", "-")
    marked = {"tested": sweep.tested_limit, "live": sweep.live_limit}
    if sweep.live_limit == sweep.tested_limit:
        marked = {"tested and live": sweep.tested_limit}
    for name, limit in marked.items():
        if limit is not None:
            style, colour = ("--", ANSWERED) if name == "live" else ("-", TESTED)
            said = f"{name}: limit {measured(limit, unit)}"
            ax.axvline(limit, color=colour, linestyle=style, linewidth=1.8, label=said)
    logarithmic = _spread(sweep.declines) >= SPREAD_LOGARITHMIC_FROM
    if logarithmic:
        least = min(count for count in sweep.declines if count > 0) / days
        ax.set_yscale("symlog", linthresh=least)
        locator = SymmetricalLogLocator(base=10, linthresh=least)
        locator.set_params(numticks=TICKS_MAX + 1)
        ax.yaxis.set_major_locator(locator)
        ax.minorticks_off()
    else:
        ax.yaxis.set_major_locator(MaxNLocator(TICKS_MAX))
    ax.set_ylim(bottom=0)
    ax.set_ylim(top=max(ax.get_ylim()[1], 1 / days))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _a_day(y)))
    ax.xaxis.set_major_locator(MaxNLocator(TICKS_MAX, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(round(x), unit)))
    where = f"{shortened(sweep.operand, NAME_SHOWN)} {relation_sign(sweep.relation)} limit"
    label(
        ax,
        x=f"{where} ({axis_unit(unit)})",
        y=f"declines (count a day{', log scale' if logarithmic else ''})",
    )
    legend(figure, ax, lines=1)
    return figure


def _spread(counts: Sequence[int]) -> int:
    """How many times the least that is not nothing goes into the most."""
    some = [count for count in counts if count > 0]
    return max(some) // min(some) if some else 0


def _a_day(declines: float) -> str:
    return tick(round(declines), None) if declines >= 10 else f"{declines:.4g}"


def _feature(feature: FeatureReport, table: Table) -> Figure:
    if not any(feature.counts) or len(feature.edges) != len(feature.counts) + 1:
        return sentence(table.title, "It was never known, so there is no distribution.")
    unit = feature_unit(feature)
    marks = _marks(feature, unit)
    columns = 2 if all(len(said) <= LEGEND_HALF for _, said, _, _ in marks) else 1
    lines = -(-len(marks) // columns)
    figure = paper(table.title, height=HEIGHT + LEGEND_LINE * lines)
    ax = axes(figure, top=TITLE + LEGEND_LINE * lines + 28, bottom=58)
    logarithmic = max(feature.counts) >= LOGARITHMIC_FROM
    bins = len(feature.counts)
    ax.bar(range(bins), feature.counts, width=0.94, align="edge", color=BAR)
    if logarithmic:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5)
        ax.minorticks_off()
    else:
        ax.yaxis.set_major_locator(MaxNLocator(TICKS_MAX, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(round(y), None)))
    for at, said, colour, style in marks:
        ax.axvline(at, color=colour, linestyle=style, linewidth=1.7, label=said)
    ax.set_xlim(0, bins)
    shown = places(range(bins), TICKS_MAX)
    ax.set_xticks(shown, [tick(feature.edges[each], unit) for each in shown])
    scale = ", log scale" if logarithmic else ""
    last = tick(feature.edges[-2], unit)
    label(
        ax,
        x=f"{shortened(feature.feature_id, NAME_SHOWN)} ({axis_unit(unit)})\n"
        f"last bin: {last} and more, at most {measured(feature.highest, unit)}",
        y=f"requests (count{scale})",
    )
    legend(figure, ax, lines=lines, columns=columns)
    return figure


def _marks(feature: FeatureReport, unit: Unit | None) -> list[tuple[float, str, str, str]]:
    """Lines at percentiles and limits: place, words, colour, style; those that coincide joined."""
    percentiles: dict[int, list[str]] = defaultdict(list)
    for name, value in (("p50", feature.p50), ("p95", feature.p95), ("p99", feature.p99)):
        percentiles[value].append(name)
    styles = {"p50": ":", "p95": "-.", "p99": "--"}
    found = [
        (
            _place(feature.edges, value),
            f"{' = '.join(names)} = {measured(value, unit)}",
            MUTED,
            styles[names[-1]],
        )
        for value, names in percentiles.items()
    ]
    limits: dict[int, list[str]] = defaultdict(list)
    for rule_id, limit in feature.limits:
        limits[limit].append(rule_id)
    for limit, rules in sorted(limits.items())[:LIMITS_SHOWN_MAX]:
        who = shortened(rules[0], 20) + (f" +{len(rules) - 1}" if len(rules) > 1 else "")
        said = f"{who}: limit {measured(limit, unit)}"
        found.append((_place(feature.edges, limit), said, TESTED, "-"))
    return found


def _place(edges: Sequence[int], value: int) -> float:
    """Where a value stands when each bin is drawn equally wide; the ends hold what is beyond."""
    if value <= edges[0]:
        return 0.0
    if value >= edges[-1]:
        return len(edges) - 1.0
    low = bisect.bisect_right(edges, value) - 1
    width = edges[low + 1] - edges[low]
    return low + (value - edges[low]) / max(1, width)
