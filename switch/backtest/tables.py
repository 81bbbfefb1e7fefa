"""A table of a report once, written twice: with exact figures for programs, worded for people.

Each plot is drawn from the same table, so that a picture, its CSV and its HTML cannot differ.
"""

from __future__ import annotations

import csv
import io
import re
from datetime import date, tzinfo
from enum import StrEnum
from typing import TypeAlias, assert_never

import msgspec

from protocols.money import display_minor
from risk.vocabulary import Unit
from switch.backtest.wording import counted, exact_moment, measured, moment, percent_of_ppm
from switch.backtest.wording import printable as printable_text

SLUG_CHARACTERS_MAX = 48
_UNSAFE = re.compile(r"[^a-z0-9_-]+")
_FORMULA = ("=", "+", "-", "@")

Cell: TypeAlias = int | str | date | None


class Shown(StrEnum):
    """How a cell is written for people."""

    TEXT = "text"
    SENTENCE = "sentence"
    NAME = "name"
    COUNT = "count"
    MONEY = "money"
    SHARE = "share"
    THOUSANDTHS = "thousandths"
    MOMENT = "moment"
    MEASURE = "measure"


class Column(msgspec.Struct, frozen=True):
    """`key` heads the CSV column, `label` the one on the page; `unit` is for a measure."""

    key: str
    label: str
    shown: Shown = Shown.COUNT
    unit: Unit | None = None
    on_page: bool = True

    @property
    def style(self) -> str:
        """The class of its cells on the page."""
        return "number" if self.is_number else self.shown.value

    @property
    def is_number(self) -> bool:
        return self.shown not in (Shown.TEXT, Shown.NAME, Shown.SENTENCE, Shown.MOMENT)


class Table(msgspec.Struct, frozen=True):
    """`slug` names its files; a cell is an integer, a text, a day, or None where unknown."""

    slug: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


def slug(kind: str, name: str, taken: set[str]) -> str:
    """A file name of plain characters for this, unlike all `taken`; it is added to them."""
    safe = _UNSAFE.sub("-", name.lower())[:SLUG_CHARACTERS_MAX].strip("-")
    stem = f"{kind}-{safe}" if safe else kind
    number, found = 1, stem
    while found in taken:
        number += 1
        found = f"{stem}-{number}"
    taken.add(found)
    return found


def csv_text(table: Table, zone: tzinfo) -> str:
    """Comma-separated, with a heading (RFC 4180); figures are those of the result, not rounded.

    A text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow(
            [_exact(cell, column, zone) for cell, column in zip(row, table.columns, strict=True)]
        )
    return out.getvalue()


def shown_rows(table: Table, zone: tzinfo, rows_max: int) -> list[list[str]]:
    """The first rows as people read them, without the columns that are for programs."""
    return [
        [
            shown_cell(cell, column, zone)
            for cell, column in zip(row, table.columns, strict=True)
            if column.on_page
        ]
        for row in table.rows[:rows_max]
    ]


def shown_cell(cell: Cell, column: Column, zone: tzinfo) -> str:
    """One cell for people; `–` where it is unknown."""
    match cell:
        case None:
            return "–"
        case int():
            return _shown_number(cell, column, zone)
        case date():
            return f"{cell.isoformat()} {cell:%a}"
        case str():
            return printable_text(cell)
        case _:
            assert_never(cell)


def _shown_number(number: int, column: Column, zone: tzinfo) -> str:
    match column.shown:
        case Shown.MONEY:
            return display_minor(number)
        case Shown.SHARE:
            return percent_of_ppm(number)
        case Shown.THOUSANDTHS:
            return f"{number // 1_000:,}.{number % 1_000:03}"
        case Shown.MOMENT:
            return moment(number, zone)
        case Shown.MEASURE:
            return measured(number, column.unit)
        case Shown.COUNT:
            return counted(number)
        case Shown.TEXT | Shown.NAME | Shown.SENTENCE:
            return str(number)
        case _:
            assert_never(column.shown)


def _exact(cell: Cell, column: Column, zone: tzinfo) -> Cell:
    match cell:
        case int() if column.shown is Shown.MOMENT:
            return exact_moment(cell, zone)
        case str():
            text = printable_text(cell)
            return f"'{text}" if text.startswith(_FORMULA) else text
        case date():
            return cell.isoformat()
        case _:
            return cell


def ppm(part: int, whole: int) -> int | None:
    """The share in parts per million, rounded down; None of nothing."""
    return part * 1_000_000 // whole if whole > 0 else None
