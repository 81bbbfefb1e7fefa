"""How a debit file is spelt, read as it comes and written as it goes (domain §3.4).

    3|24750                              header: rows | total in minor units
    20261105|W0001|C-4711|12500|01|M     date | serial | customer | amount | sub-channel | type
    …
    sha256|9f86d0…                       trailer: of all bytes before it, in hex

ASCII, one line each, ended by a line feed. A result file has the rows of its debit file with
`|code|collected` behind each, and `rows|collected rows|collected total` as its header. What
cannot be a debit file is refused with the line and the field, never with what stands there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import date
from enum import StrEnum

from protocols.message import Outcome, response_code
from switch.ledger.debits import DebitRow, ResultRow

LINE_BYTES_MAX = 256
TRAILER = b"sha256|"
FIELDS = ("date", "serial", "customer", "amount", "sub_channel", "type")
_FIELD_RULES = (
    (rb"[0-9]{8}", "8 digits, YYYYMMDD, a day of the calendar"),
    (rb"[0-9A-Za-z-]{1,32}", "1 to 32 letters, digits or hyphens"),
    (rb"[0-9A-Za-z-]{1,32}", "1 to 32 letters, digits or hyphens"),
    (rb"[1-9][0-9]{0,11}", "1 to 12 digits of minor units, without leading zeros"),
    (rb"[0-9A-Za-z]{0,8}", "up to 8 letters or digits"),
    (rb"[0-9A-Za-z]{1,4}", "1 to 4 letters or digits"),
)
_ROW = re.compile(rb"\|".join(b"(%s)" % rule for rule, _ in _FIELD_RULES))
_HEADER = re.compile(rb"([1-9][0-9]{0,7})\|([1-9][0-9]{0,14})")
_TRAILER_LINE = re.compile(rb"sha256\|([0-9a-f]{64})")


class DebitFileError(Exception):
    """No debit file. The sentence names the line and the field, and what to do."""

    def __init__(self, line: int, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"line {line}, {field}: {problem}; {remedy}")
        self.line = line
        self.field = field


class DebitCode(StrEnum):
    """What becomes of a row without the ledger's being asked, as a result file spells it."""

    NO_MANDATE = "no_mandate"
    ABOVE_MANDATE = "above_mandate"
    DUPLICATE = "duplicate"
    CANCELLED = "cancelled"
    OPEN = ""


RESULT_CODES = {
    DebitCode.NO_MANDATE: "N1",
    DebitCode.ABOVE_MANDATE: "N2",
    DebitCode.DUPLICATE: "D1",
    DebitCode.CANCELLED: "C1",
    DebitCode.OPEN: "P0",
}
"""Of a result file. Every other code is a response code (DE39); 00 is collected."""


def result_code(result: str) -> str:
    """The code of a result as it stands in the ledger."""
    if result in set(DebitCode):
        return RESULT_CODES[DebitCode(result)]
    return response_code(Outcome(result))


class DebitFileReader:
    """Reads a file from chunks of any size: `feed` gives the rows that are whole by now.

    `rows_max` is how many a file may have. Nothing of the rows is kept.
    """

    def __init__(self, rows_max: int) -> None:
        self.row_count = 0
        """As the header says, 0 before it was read."""
        self.total_minor = 0
        self.rows_read = 0
        self._rows_max = rows_max
        self._summed_minor = 0
        self._digest = hashlib.sha256()
        self._rest = b""
        self._trailer: bytes | None = None
        self._days: dict[bytes, date] = {}

    def feed(self, chunk: bytes) -> list[DebitRow]:
        """The rows of the lines that this chunk completes. Raises DebitFileError."""
        self._rest += chunk
        end = self._rest.rfind(b"\n") + 1
        whole, self._rest = self._rest[:end], self._rest[end:]
        rows = self._read(whole) if whole else []
        if len(self._rest) > LINE_BYTES_MAX:
            raise DebitFileError(
                self._line, "line", f"it is longer than {LINE_BYTES_MAX} bytes", "end it earlier"
            )
        return rows

    def finish(self) -> bytes:
        """The SHA-256 of a file that has come to its end and is proven. Raises DebitFileError."""
        if self._rest:
            # Only a trailer may lack its line feed.
            self._read(self._rest)
        if not self.row_count:
            raise DebitFileError(1, "header", "the file is empty", "send it whole")
        if self._trailer is None:
            raise DebitFileError(
                self._line, "trailer", "the file ends without it", "send the file whole"
            )
        if self.rows_read != self.row_count:
            problem = f"it says {self.row_count} rows, and {self.rows_read} came"
            raise DebitFileError(1, "header.count", problem, "send the file whole")
        if self._summed_minor != self.total_minor:
            problem = "the amounts do not add up to it"
            raise DebitFileError(1, "header.total", problem, "mend the total or the amounts")
        if self._digest.digest() != self._trailer:
            problem = "it is not the SHA-256 of all bytes before it"
            raise DebitFileError(self._line, "trailer", problem, "send the file as it was written")
        return self._trailer

    @property
    def _line(self) -> int:
        return 1 + bool(self.row_count) + self.rows_read

    def _read(self, whole: bytes) -> list[DebitRow]:
        if self._trailer is not None:
            raise DebitFileError(
                self._line + 1, "line", "something follows the trailer", "end the file there"
            )
        at = 0 if whole.startswith(TRAILER) else whole.find(b"\n" + TRAILER) + 1
        if at or whole.startswith(TRAILER):
            body, trailer = whole[:at], whole[at:]
        else:
            body, trailer = whole, b""
        self._digest.update(body)
        lines = body.split(b"\n")
        lines.pop()
        if not self.row_count and lines:
            self._read_header(lines.pop(0))
        rows = [self._row(line) for line in lines]
        if trailer:
            self._read_trailer(trailer)
        return rows

    def _read_header(self, line: bytes) -> None:
        found = _HEADER.fullmatch(line)
        if found is None:
            raise DebitFileError(1, "header", "it is not rows|total", "write two numbers above 0")
        count = int(found[1])
        if count > self._rows_max:
            problem = f"a file may have {self._rows_max} rows"
            raise DebitFileError(1, "header.count", problem, "send it in parts")
        self.row_count, self.total_minor = count, int(found[2])

    def _row(self, line: bytes) -> DebitRow:
        found = _ROW.fullmatch(line)
        if found is None:
            raise self._at_fault(line)
        if self.rows_read >= self.row_count:
            raise DebitFileError(
                self._line, "header.count", "there are more rows than it says", "mend the header"
            )
        day, serial, customer, amount, sub_channel, kind = found.groups()
        due_on = self._days.get(day) or self._day(day)
        amount_minor = int(amount)
        self.rows_read += 1
        self._summed_minor += amount_minor
        return DebitRow(
            due_on,
            serial.decode("ascii"),
            customer.decode("ascii"),
            amount_minor,
            sub_channel.decode("ascii"),
            kind.decode("ascii"),
        )

    def _day(self, digits: bytes) -> date:
        try:
            day = date.fromisoformat(digits.decode("ascii"))
        except ValueError:
            raise DebitFileError(
                self._line, "date", "there is no such day", "write YYYYMMDD"
            ) from None
        if len(self._days) < 1_000:
            self._days[digits] = day
        return day

    def _read_trailer(self, line: bytes) -> None:
        line, _, after = line.partition(b"\n")
        found = _TRAILER_LINE.fullmatch(line)
        if found is None:
            problem = "it is not sha256| and 64 hex digits"
            raise DebitFileError(self._line, "trailer", problem, "write it in small letters")
        if after:
            raise DebitFileError(
                self._line + 1, "line", "something follows the trailer", "end the file there"
            )
        self._trailer = bytes.fromhex(found[1].decode("ascii"))

    def _at_fault(self, line: bytes) -> DebitFileError:
        """Which field of a line is no field."""
        fields = line.split(b"|")
        if len(fields) != len(FIELDS):
            problem = f"it has {len(fields)} fields instead of {len(FIELDS)}"
            return DebitFileError(self._line, "line", problem, "separate them by |, end with LF")
        for name, (rule, remedy), value in zip(FIELDS, _FIELD_RULES, fields, strict=True):
            if re.fullmatch(rule, value) is None:
                return DebitFileError(self._line, name, "it cannot be read", f"write {remedy}")
        raise AssertionError("a line of six good fields is a row")


class Seal:
    """Writes lines and proves them: `line` for each, then `trailer`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def line(self, text: str) -> bytes:
        """One line as it goes out."""
        octets = text.encode("ascii") + b"\n"
        self._digest.update(octets)
        return octets

    def trailer(self) -> bytes:
        """The last line, which proves those before it."""
        return TRAILER + self._digest.hexdigest().encode("ascii") + b"\n"


def debit_lines(rows: Iterable[DebitRow], count: int, total_minor: int) -> Iterator[bytes]:
    """A debit file, line by line; the twin of the reader."""
    seal = Seal()
    yield seal.line(f"{count}|{total_minor}")
    for row in rows:
        yield seal.line(_spelt(row))
    yield seal.trailer()


def result_header(row_count: int, collected_count: int, collected_minor: int) -> str:
    """The first line of a result file."""
    return f"{row_count}|{collected_count}|{collected_minor}"


def result_line(row: ResultRow) -> str:
    """A row of a result file, without its line feed."""
    return f"{_spelt(row.row)}|{result_code(row.result)}|{row.collected_minor}"


def _spelt(row: DebitRow) -> str:
    return (
        f"{row.due_on:%Y%m%d}|{row.serial}|{row.customer}|{row.amount_minor}"
        f"|{row.sub_channel}|{row.type}"
    )
