"""Tables: exact in CSV, worded on the page, and safe in a spreadsheet and a file system."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date

from hypothesis import given
from hypothesis import strategies as st

from risk.vocabulary import Unit
from switch.backtest.tables import Column, Shown, Table, csv_text, shown_rows, slug
from switch.backtest.wording import printable

COLUMNS = (
    Column("name", "Name", Shown.NAME),
    Column("minor", "Money", Shown.MONEY),
    Column("count", "Count"),
    Column("ppm", "Share", Shown.SHARE),
    Column("thousandths", "A day", Shown.THOUSANDTHS),
    Column("limit", "Limit", Shown.MEASURE, Unit.SECONDS),
    Column("at", "When", Shown.MOMENT),
    Column("id", "Id", Shown.TEXT, on_page=False),
)
ROW = ("tap", 12_345, 1_000_000, 12_345, 1_234_567, 300, 0, 10**17)


def test_a_row_is_exact_for_programs_and_worded_for_people():
    table = Table("any", "Any", COLUMNS, (ROW, (date(2026, 11, 22), *(None,) * 7)))
    assert csv_text(table, UTC).splitlines() == [
        "name,minor,count,ppm,thousandths,limit,at,id",
        "tap,12345,1000000,12345,1234567,300,1970-01-01T00:00:00.000000+00:00,100000000000000000",
        "2026-11-22,,,,,,,",
    ]
    worded = ["tap", "123.45", "1,000,000", "1.23 %", "1,234.567", "300 s", "1970-01-01 00:00:00"]
    assert shown_rows(table, UTC, 9) == [worded, ["2026-11-22 Sun", *["–"] * 6]]
    assert shown_rows(table, UTC, 1) == [worded]


@given(st.lists(st.text(), min_size=1, max_size=5))
def test_any_text_comes_back_and_none_is_a_formula(texts):
    columns = tuple(Column(f"c{number}", "") for number in range(len(texts)))
    _, row = csv.reader(io.StringIO(csv_text(Table("a", "", columns, (tuple(texts),)), UTC)))
    for cell, text in zip(row, texts, strict=True):
        assert not cell.startswith(("=", "+", "-", "@"))
        assert cell.removeprefix("'") == printable(text).removeprefix("'")


@given(st.lists(st.text(max_size=80) | st.just("tap_burst"), max_size=12))
def test_file_names_are_plain_and_differ(names):
    taken: set[str] = set()
    slugs = [slug("sweep", name, taken) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"sweep[a-z0-9_-]{0,60}", each) for each in slugs)


def test_a_file_is_named_after_its_rule():
    assert slug("sweep", "tap_burst", set()) == "sweep-tap_burst"
