"""A debit file is read as it was written, whatever the chunks, and anything else is refused."""

from __future__ import annotations

import re
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.ledger.debits import DebitRow, ResultRow
from switch.net.debits.file_format import (
    RESULT_CODES,
    DebitFileError,
    DebitFileReader,
    debit_lines,
    result_code,
    result_line,
)

ROWS = [
    DebitRow(date(2026, 11, 5), "W0001", "C-4711", 12_500, "01", "M"),
    DebitRow(date(2026, 11, 5), "W0002", "C-4712", 12_250, "", "ARR"),
]
WHOLE = b"".join(debit_lines(ROWS, 2, 24_750))


def read(octets: bytes, *cuts: int, rows_max: int = 100) -> tuple[list[DebitRow], bytes]:
    reader, rows, at = DebitFileReader(rows_max), [], 0
    for cut in (*sorted(cuts), len(octets)):
        rows += reader.feed(octets[at:cut])
        at = cut
    return rows, reader.finish()


def test_a_file_reads_as_documented():
    assert WHOLE.splitlines()[:3] == [
        b"2|24750", b"20261105|W0001|C-4711|12500|01|M", b"20261105|W0002|C-4712|12250||ARR",
    ]  # fmt: skip
    assert read(WHOLE)[0] == ROWS
    assert read(WHOLE[:-1])[0] == ROWS, "the last line feed may be missing"


NAMES = st.from_regex(r"[0-9A-Za-z-]{1,32}", fullmatch=True)
ANY_ROW = st.builds(
    DebitRow,
    st.dates(date(1000, 1, 1)),
    NAMES,
    NAMES,
    st.integers(1, 999_999_999_999),
    st.from_regex(r"[0-9A-Za-z]{0,8}", fullmatch=True),
    st.from_regex(r"[0-9A-Za-z]{1,4}", fullmatch=True),
)


@given(st.lists(ANY_ROW, min_size=1, max_size=8), st.lists(st.integers(0, 400), max_size=8))
def test_what_was_written_is_read_whatever_the_chunks(rows, cuts):
    octets = b"".join(debit_lines(rows, len(rows), sum(row.amount_minor for row in rows)))
    assert read(octets, *(min(cut, len(octets)) for cut in cuts))[0] == rows


@given(st.integers(0, len(WHOLE) - 2), st.binary(max_size=3), st.integers(0, len(WHOLE)))
def test_no_changed_byte_is_accepted_and_nothing_else_is_raised(at, put, cut):
    changed = WHOLE[:at] + put + WHOLE[at + 1 :]
    if changed == WHOLE:
        return
    with pytest.raises(DebitFileError) as refused:
        read(changed, min(cut, len(changed)))
    assert re.search(r"[0-9]{13}", str(refused.value)) is None


@given(st.binary(max_size=600), st.integers(0, 600))
def test_nonsense_is_refused_by_the_documented_error(octets, cut):
    with pytest.raises(DebitFileError):
        read(octets, min(cut, len(octets)))


def lines(*middle: str, header: str = "2|24750") -> bytes:
    return "".join(f"{line}\n" for line in (header, *middle)).encode()


@pytest.mark.parametrize(
    ("octets", "where"),
    [
        (b"", "line 1, header"),
        (WHOLE[:-80], "line 4, trailer|line 3"),
        (WHOLE[: WHOLE.index(b"sha256")], "line 4, trailer: the file ends without it"),
        (WHOLE.replace(b"2|24750", b"3|24750", 1), r"line 1, header.count: it says 3 rows, and 2"),
        (WHOLE.replace(b"2|24750", b"1|24750", 1), r"line 3, header.count: there are more rows"),
        (WHOLE.replace(b"2|24750", b"2|24751", 1), r"line 1, header.total"),
        (WHOLE.replace(b"W0001", b"W0003"), "line 4, trailer: it is not the SHA-256"),
        (WHOLE + b"\n", "line 5, line: something follows"),
        (WHOLE + WHOLE, "line 5, line: something follows"),
        (lines("20261131|W1|C|5|01|M"), "line 2, date: there is no such day"),
        (lines("20261105|W1|C|05|01|M"), "line 2, amount: .*write 1 to 12 digits"),
        (lines("20261105|W 1|C|5|01|M"), "line 2, serial"),
        (lines("20261105|W1|C|5|01|M\r"), "line 2, type"),
        (lines("20261105|W1|C|5|01"), "line 2, line: it has 5 fields"),
        (lines(header="0|0"), "line 1, header"),
        (lines(header="101|5"), r"header.count: a file may have 100 rows; send it in parts"),
        (b"9" * 300, "longer than 256 bytes"),
        (lines() + b"sha256|" + b"A" * 64, "line 2, trailer: it is not sha256"),
    ],
)
def test_each_fault_is_told_with_its_line_and_field(octets, where):
    with pytest.raises(DebitFileError, match=where):
        read(octets)


def test_results_have_codes_and_every_code_is_its_own():
    assert result_line(ResultRow(ROWS[0], "approved", 12_500)).endswith("|01|M|00|12500")
    assert result_line(ResultRow(ROWS[0], "insufficient_funds", 0)).endswith("|51|0")
    assert result_line(ResultRow(ROWS[1], "", 0)).endswith("|P0|0")
    assert (result_code("no_mandate"), result_code("duplicate")) == ("N1", "D1")
    assert len(set(RESULT_CODES.values())) == len(RESULT_CODES)
