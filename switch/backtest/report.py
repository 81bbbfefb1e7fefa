"""Writes a backtest's report: a page, the result as JSON, and each table and plot as a file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, tzinfo
from pathlib import Path

import msgspec

from risk.backtest_result import BacktestResult
from switch.backtest.result_tables import result_tables
from switch.backtest.tables import csv_text

PAGE = "index.html"
RESULT = "result.json"


class ReportUnwritable(Exception):
    """A file of the report cannot be written; the message says which and what to do."""


def write_report(result: BacktestResult, directory: Path, *, zone: tzinfo = UTC) -> list[Path]:
    """Write the report into a directory, made if need be; the paths, the page first.

    Files of the same names are written over, nothing else is touched, and the same result gives
    the same bytes. `zone` is that of the instants shown; calendar hours and business days are
    the ruleset's already. Raises `ReportUnwritable`. Drawing takes about a tenth of a second of
    processor time a plot.
    """
    written: list[Path] = []
    for name, content in _files(result, zone):
        path = directory / name
        try:
            directory.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except OSError as error:
            raise ReportUnwritable(
                f"{path} cannot be written ({error.strerror}); choose another directory"
            ) from None
        written.append(path)
    return [written[-1], *written[:-1]]


def _files(result: BacktestResult, zone: tzinfo) -> Iterator[tuple[str, bytes]]:
    """Every file of the report. The page is last: whoever sees it has all that it links to."""
    # Matplotlib takes a fifth of a second to load, which a command without --report need not wait.
    from switch.backtest.drawing import render
    from switch.backtest.page import drawn, page
    from switch.backtest.plots import plots

    yield RESULT, msgspec.json.format(msgspec.json.encode(result), indent=2)
    tables = result_tables(result)
    for table in tables.values():
        yield f"{table.slug}.csv", csv_text(table, zone).encode()
    on_page = []
    for plot in plots(result):
        table = plot.table
        rendered = render(plot.figure, table.slug)
        on_page.append(drawn(plot.section, table, rendered.inline, zone))
        yield f"{table.slug}.csv", csv_text(table, zone).encode()
        yield f"{table.slug}.svg", rendered.svg
        yield f"{table.slug}.png", rendered.png
    yield PAGE, page(result, tables, on_page, zone).encode()
