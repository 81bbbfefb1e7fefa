"""What a backtest comes to, in a few lines that stand before everything else.

The page and the terminal show the same lines, so neither can be kinder than the other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

import msgspec

from protocols.money import display_minor
from risk.backtest_result import Agreement, BacktestResult
from switch.backtest.wording import counted, percent, short_hash


class Tone(StrEnum):
    """Whether a line asks for anything."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"


class Line(msgspec.Struct, frozen=True):
    """A figure with its name and what it is of."""

    name: str
    value: str
    note: str = ""
    tone: Tone = Tone.PLAIN

    @property
    def sign(self) -> str:
        """What says the tone where there is no colour."""
        match self.tone:
            case Tone.PLAIN:
                return ""
            case Tone.GOOD:
                return "✓"
            case Tone.WARNING:
                return "⚠"
            case _:
                assert_never(self.tone)


def verdict(result: BacktestResult) -> tuple[Line, ...]:
    """What is gained and lost, what it costs the honest, and whether it can be believed."""
    return (
        Line(
            "Newly declined",
            counted(result.gained),
            f"{display_minor(result.gained_minor)} in money that was not declined by rules",
        ),
        Line(
            "No longer declined",
            counted(result.lost),
            f"{display_minor(result.lost_minor)} in money that rules declined",
        ),
        Line(
            "Approved payments it declines",
            percent(result.approved_declined, result.approved),
            f"{counted(result.approved_declined)} of {counted(result.approved)} approved",
        ),
        _agreement(result.agreement),
        _recounts(result),
        _failures(result),
    )


def _agreement(agreement: Agreement) -> Line:
    name = "Same as decided live"
    if agreement.rows == 0:
        return Line(name, "–", "no row of these days was decided by this very ruleset")
    equal = percent(agreement.equal, agreement.rows)
    of = f"{counted(agreement.equal)} of {counted(agreement.rows, 'row')} of this ruleset"
    if agreement.equal == agreement.rows:
        return Line(name, equal, of, Tone.GOOD)
    return Line(name, equal, f"{of}: find out why before you rely on the rest", Tone.WARNING)


def _recounts(result: BacktestResult) -> Line:
    name = "Recounted features of places"
    if not result.recounts:
        return Line(name, "none", "each value is the one that was stored on the row")
    rows = sum(each.rows for each in result.recounts)
    differing = sum(each.differing for each in result.recounts)
    note = f"{counted(differing)} of {counted(rows, 'value')} differ from the row's"
    return Line(
        name, counted(len(result.recounts)), note, Tone.WARNING if differing else Tone.PLAIN
    )


def _failures(result: BacktestResult) -> Line:
    failed = sum(rule.failed for rule in result.rules)
    silent = sum(rule.fired == 0 for rule in result.rules)
    note = f"never fired: {counted(silent)}"
    if failed:
        failures = counted(failed, "failed evaluation")
        return Line("Rules", counted(len(result.rules)), f"{note}; {failures}", Tone.WARNING)
    return Line("Rules", counted(len(result.rules)), note)


def tested(result: BacktestResult) -> tuple[Line, ...]:
    """What was tested on what, and how."""
    rate = f"{int(result.rows / result.seconds):,} rows a second" if result.seconds > 0 else ""
    loop = (
        Line("Loop", "closed", "what the ruleset declines leaves later counters")
        if result.closed_loop
        else Line("Loop", "open", "counters as history had them")
    )
    live = ", ".join(short_hash(each) for each in result.live_hashes) or "none"
    days = f"with traffic on {counted(len(result.days), 'day')}"
    labelled = f"{percent(result.labelled, result.assessed)} of what was put to rules"
    return (
        Line("Ruleset", short_hash(result.hash)),
        Line("Business days", f"{result.from_date} to {result.to_date}", days),
        Line("Counters warmed up from", result.warm_up_from.isoformat()),
        loop,
        Line("Rows read", counted(result.rows), f"put to rules: {counted(result.assessed)}"),
        Line("Live in that time", live),
        Line("Labelled", counted(result.labelled), labelled),
        Line("Took", f"{result.seconds:,.1f} s", rate),
        Line("Shards", counted(result.shards)),
    )
