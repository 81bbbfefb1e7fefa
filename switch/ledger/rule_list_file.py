"""A file of list entries as people keep it: CSV, taken whole or not at all.

The first line names the columns: `value`, and where there are any `reason`, `from` and `until`.
Every line that cannot be is told by its number, never by what stands in it, which may be a
card number.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from risk.lists import LIST_ENTRIES_MAX
from switch.calendar import epoch_us
from switch.ledger.list_acts import ActRejected, words

FILE_BYTES_MAX = 33_554_432
"""A full list with 160 bytes a line."""
COLUMNS = ("value", "reason", "from", "until")
FAULTS_MAX = 100
_INSTANT_CHARACTERS_MAX = 40
_YEARS = (1971, 2999)


class FileEntry(NamedTuple):
    """One line: what it names, and from when until when (epoch microseconds; None: open)."""

    line: int
    value: str
    reason: str
    from_us: int | None
    until_us: int | None


class Fault(NamedTuple):
    """A line that cannot be, and why."""

    line: int
    why: str


class ListFileFaulty(ActRejected):
    """Lines that cannot be; nothing of the file is taken. `faults` has at most FAULTS_MAX."""

    def __init__(self, faults: list[Fault]) -> None:
        first = faults[0]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        super().__init__(f"line {first.line}: {first.why}{more}; nothing was taken, mend the file")
        self.faults = faults


def instant_of(text: str, time_zone: str) -> int:
    """A day (its start), or a day and a time, in epoch microseconds. Raises ValueError.

    In the ledger's zone, unless the text names its own.
    """
    given = datetime.fromisoformat(text if len(text) <= _INSTANT_CHARACTERS_MAX else "")
    if not _YEARS[0] <= given.year <= _YEARS[1]:
        raise ValueError
    return epoch_us(given if given.tzinfo else given.replace(tzinfo=ZoneInfo(time_zone)))


def read_entries(octets: bytes, time_zone: str, *, reason: str = "") -> list[FileEntry]:
    """The entries of a CSV file; `reason` is that of lines without one. Raises ListFileFaulty."""
    if len(octets) > FILE_BYTES_MAX:
        raise ListFileFaulty([Fault(1, f"the file has more than {FILE_BYTES_MAX:,} bytes")])
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets[: error.start].count(b"\n") + 1
        raise ListFileFaulty([Fault(line, "this is not UTF-8")]) from None
    entries: list[FileEntry] = []
    faults: list[Fault] = []
    for each in _lines(text, time_zone, reason):
        if isinstance(each, Fault):
            faults.append(each)
        else:
            entries.append(each)
        if len(faults) >= FAULTS_MAX or len(entries) > LIST_ENTRIES_MAX:
            break
    if faults:
        raise ListFileFaulty(faults)
    if not 1 <= len(entries) <= LIST_ENTRIES_MAX:
        raise ListFileFaulty([Fault(2, f"give 1 to {LIST_ENTRIES_MAX:,} entries")])
    return entries


def _lines(text: str, time_zone: str, reason: str) -> Iterator[FileEntry | Fault]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        if "value" not in columns or len(set(columns)) < len(columns) or set(columns) - {*COLUMNS}:
            yield Fault(1, f"the columns are not value and some of {', '.join(COLUMNS[1:])}")
            return
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _entry(reader.line_num, cells, columns, time_zone, reason)
    except csv.Error:
        yield Fault(max(reader.line_num, 1), "this is not CSV")


def _entry(
    line: int, cells: list[str], columns: list[str], time_zone: str, reason: str
) -> FileEntry | Fault:
    if len(cells) != len(columns):
        return Fault(line, f"{len(cells)} columns and not {len(columns)}")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    try:
        said = words(given.get("reason") or reason, "reason")
    except ActRejected as error:
        return Fault(line, str(error))
    instants: list[int | None] = []
    for name in ("from", "until"):
        try:
            instants.append(instant_of(given[name], time_zone) if given.get(name) else None)
        except ValueError:
            return Fault(line, f"{name} is not a day or a time, such as 2026-03-31T18:00")
    if not given["value"]:
        return Fault(line, "there is no value")
    return FileEntry(line, given["value"], said, instants[0], instants[1])
