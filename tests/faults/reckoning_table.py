"""The table that `make faults` ends with: each fault, how often, and what became of the money.

A test calls `fault_row` with what it injected and found. Rows travel to the end of the run in
each test's report, so that they arrive from whatever process ran it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

PROPERTY = "citycard_fault"


class FaultRow(msgspec.Struct, frozen=True):
    """One fault under traffic. `lost`: told approved and not in the ledger; `double`: in it
    more than once, or moved though refused; `unresolved`: nobody knows 5 s after it was over."""

    fault: str
    injected: int
    acknowledged: int
    lost: int
    double: int
    unresolved: int
    note: str = ""


Record = Callable[[FaultRow], None]


@pytest.fixture
def fault_row(request: pytest.FixtureRequest) -> Record:
    """Record one row of the table; several rows of one fault are added up."""

    def record(row: FaultRow) -> None:
        request.node.user_properties.append((PROPERTY, msgspec.json.encode(row).decode()))

    return record


def rows_of(reports: list[Any]) -> list[FaultRow]:
    """The rows of all reports, one for each fault, in the order of their names."""
    summed: dict[str, FaultRow] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name != PROPERTY:
                continue
            row = msgspec.convert(json.loads(value), FaultRow)
            before = summed.get(row.fault)
            summed[row.fault] = row if before is None else _added(before, row)
    return [summed[name] for name in sorted(summed)]


def _added(one: FaultRow, other: FaultRow) -> FaultRow:
    notes = [note for note in (one.note, other.note) if note]
    return FaultRow(
        one.fault,
        one.injected + other.injected,
        one.acknowledged + other.acknowledged,
        one.lost + other.lost,
        one.double + other.double,
        one.unresolved + other.unresolved,
        "; ".join(dict.fromkeys(notes)),
    )


def table(rows: list[FaultRow]) -> str:
    """The rows as text."""
    width = max((len(row.fault) for row in rows), default=5)
    lines = [
        f"{'fault':<{width}}{'injected':>10}{'answered':>10}{'lost':>6}{'double':>8}"
        f"{'unresolved':>12}"
    ]
    lines += [
        f"{row.fault:<{width}}{row.injected:>10}{row.acknowledged:>10}{row.lost:>6}{row.double:>8}"
        f"{row.unresolved:>12}  {row.note}".rstrip()
        for row in rows
    ]
    return "\n".join(lines)
