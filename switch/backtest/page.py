"""A backtest as one page: no script and nothing to fetch, so it can be mailed, printed and kept.

Jinja escapes whatever comes from the result; the only markup that is passed through is what
Matplotlib drew, which escapes the texts in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from functools import cache
from importlib.resources import files
from itertools import groupby

import msgspec
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from risk.backtest_result import BacktestResult
from switch.backtest.result_tables import examples_table
from switch.backtest.tables import Table, shown_rows
from switch.backtest.verdict import Line, tested, verdict
from switch.backtest.wording import printable, short_hash, shortened

ROWS_MAX = 400
"""Of one table on the page, a year of days; its CSV has all."""
TITLE_SHOWN = 120


class Head(msgspec.Struct, frozen=True):
    """A column's heading, and the class of its cells."""

    label: str
    style: str


class ShownTable(msgspec.Struct, frozen=True):
    """A table as it stands on the page; `notes` are sentences under the first cell of rows."""

    slug: str
    title: str
    caption: str
    heads: tuple[Head, ...]
    rows: list[list[str]]
    left_out: int
    notes: tuple[str, ...] = ()


class Drawn(msgspec.Struct, frozen=True):
    """A plot on the page, with the table it was drawn from."""

    section: str
    table: ShownTable
    svg: Markup


class Section(msgspec.Struct, frozen=True):
    """Plots under one heading."""

    title: str
    anchor: str
    plots: tuple[Drawn, ...]


def shown(table: Table, zone: tzinfo, notes: Sequence[str] = ()) -> ShownTable:
    """A table in words, cut where the page would not be read any more."""
    return ShownTable(
        slug=table.slug,
        title=printable(table.title),
        caption=printable(table.caption),
        heads=tuple(Head(each.label, each.style) for each in table.columns if each.on_page),
        rows=shown_rows(table, zone, ROWS_MAX),
        left_out=max(0, len(table.rows) - ROWS_MAX),
        notes=tuple(printable(note) for note in notes),
    )


def drawn(section: str, table: Table, inline_svg: str, zone: tzinfo) -> Drawn:
    """A plot for the page; `inline_svg` comes from `drawing.render` and from nowhere else."""
    return Drawn(section, shown(table, zone), Markup(inline_svg))  # noqa: S704 - drawn here


def page(
    result: BacktestResult, tables: dict[str, Table], plots: Sequence[Drawn], zone: tzinfo
) -> str:
    """The HTML of a result; `tables` by slug are rules, affected, gained, lost and so on."""
    by_slug = {name: shown(table, zone) for name, table in tables.items()}
    by_slug["rules"] = shown(tables["rules"], zone, [rule.sentence for rule in result.rules])
    sections = [
        Section(title, title.lower().replace(" ", "-"), tuple(group))
        for title, group in groupby(plots, key=lambda each: each.section)
    ]
    return (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=shortened(result.title, TITLE_SHOWN) or "untitled",
            hash=short_hash(result.hash),
            result=result,
            zone=str(zone),
            verdict=_clean(verdict(result)),
            tested=_clean(tested(result)),
            tables=by_slug,
            rule_examples=_rule_examples(result, zone),
            sections=sections,
        )
    )


def _clean(lines: tuple[Line, ...]) -> list[Line]:
    return [msgspec.structs.replace(line, value=printable(line.value)) for line in lines]


def _rule_examples(result: BacktestResult, zone: tzinfo) -> list[ShownTable]:
    return [
        shown(examples_table("examples", rule.rule_id, "", rule.examples), zone)
        for rule in result.rules
        if rule.examples
    ]


@cache
def _environment() -> Environment:
    return Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> str:
    return files("switch.backtest").joinpath(name).read_text(encoding="utf-8")
