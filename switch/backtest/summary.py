"""A backtest in a terminal: the verdict and the rules, as wide as the terminal is."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from risk.backtest_result import BacktestResult, RuleReport
from switch.backtest.verdict import Line, Tone, tested, verdict
from switch.backtest.wording import counted, percent, printable, shortened

NARROW_BELOW = 72
"""Columns; below that a rule keeps only what decides about it."""
RULES_MAX = 60
TITLE_SHOWN = 80
_STYLES = {Tone.PLAIN: "", Tone.GOOD: "green", Tone.WARNING: "bold yellow"}


class LinesSummary:
    """Figures with their names; notes stand beside them, or under them where it is narrow."""

    def __init__(self, title: str, lines: tuple[Line, ...]) -> None:
        self._title = title
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        narrow = options.max_width < NARROW_BELOW
        table = Table(title=Text(self._title), title_justify="left", box=None, show_header=False)
        for _ in range(1 if narrow else 3):
            table.add_column(overflow="fold")
        for line in self._lines:
            name = Text(line.name, style="dim")
            value = Text(f"{line.sign} {printable(line.value)}".strip(), _STYLES[line.tone])
            note = Text(line.note, style="dim")
            if not narrow:
                table.add_row(name, value, note)
                continue
            table.add_row(Text.assemble(name, "  ", value))
            if line.note:
                table.add_row(Text.assemble("  ", note))
        yield table


class RulesSummary:
    """The rules that fired, most declines first."""

    def __init__(self, result: BacktestResult) -> None:
        self._fired = sorted(
            (rule for rule in result.rules if rule.fired or rule.failed),
            key=lambda rule: (-rule.declined, -rule.fired, rule.rule_id),
        )
        self._rules = len(result.rules)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        narrow = options.max_width < NARROW_BELOW
        table = Table(
            title=Text("Rules"),
            title_justify="left",
            box=SIMPLE_HEAD,
            caption=self._caption(),
            caption_justify="left",
        )
        table.add_column("Rule", overflow="fold", ratio=1 if narrow else None)
        names = ("Fired", "Declined") if narrow else _WIDE
        for name in names:
            table.add_column(name, justify="right", overflow="fold")
        for rule in self._fired[:RULES_MAX]:
            cells = _cells(rule)
            table.add_row(Text(printable(rule.rule_id)), *(cells[name] for name in names))
        yield table

    def _caption(self) -> str:
        silent = self._rules - len(self._fired)
        parts = [f"Of {counted(self._rules, 'rule')}, never fired: {counted(silent)}."]
        if len(self._fired) > RULES_MAX:
            parts.append(f"{counted(len(self._fired) - RULES_MAX, 'more rule')} in the report.")
        return " ".join(parts)


_WIDE = ("Fired", "Rate", "Declined", "Alone", "Unknown", "Failed")


def _cells(rule: RuleReport) -> dict[str, str]:
    return {
        "Fired": counted(rule.fired),
        "Rate": percent(rule.fired, rule.evaluated),
        "Declined": counted(rule.declined),
        "Alone": counted(rule.alone),
        "Unknown": counted(rule.unknown),
        "Failed": counted(rule.failed),
    }


def summary_tables(result: BacktestResult) -> list[LinesSummary | RulesSummary]:
    """What to print of a result, in order: what it comes to, the rules, what was tested.

    Each can be given to a rich console of any width.
    """
    title = f"Backtest of {shortened(result.title, TITLE_SHOWN) or 'untitled'}"
    if result.cancelled:
        title += " (stopped before its end: only what was read until then)"
    return [
        LinesSummary(title, verdict(result)),
        RulesSummary(result),
        LinesSummary("What was tested", tested(result)),
    ]
