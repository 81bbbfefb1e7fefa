"""Files of list entries: taken whole or not at all, every bad line told by its number."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs
from switch.calendar import epoch_us
from switch.ledger import rule_list_file
from switch.ledger.rule_list_file import FileEntry, ListFileFaulty, read_entries

ZONE = "Asia/Shanghai"


def at(*when: int) -> int:
    return epoch_us(datetime(*when, tzinfo=ZoneInfo(ZONE)))  # type: ignore[misc,arg-type]


def test_a_file_says_what_from_when_and_until_when() -> None:
    octets = (
        "\ufeffvalue,reason,from,until\r\n"
        "V1,late bus,2026-03-31,2026-04-01T18:00\r\n\r\n"
        ' V2 ,"a, b",,2026-04-01T18:00+00:00\r\n'
    ).encode()
    first, second = read_entries(octets, ZONE)
    assert first == FileEntry(2, "V1", "late bus", at(2026, 3, 31), at(2026, 4, 1, 18))
    assert second == FileEntry(4, "V2", "a, b", None, at(2026, 4, 2, 2))


def test_the_columns_may_be_fewer_and_in_any_order() -> None:
    (entry,) = read_entries(b"until,value\n,V1\n", ZONE, reason="all of them")
    assert (entry.value, entry.reason, entry.until_us) == ("V1", "all of them", None)


@pytest.mark.parametrize(
    ("text", "lines", "says"),
    [
        ("reason,from\nx,\n", [1], "columns"),
        ("value,value\nx,y\n", [1], "columns"),
        ("value,colour\nx,y\n", [1], "columns"),
        ("", [1], "columns"),
        ("value,reason\n", [2], "give 1 to"),
        ("value,reason\nV1,ok\nV2\nV3,ok,more\n", [3, 4], "1 columns and not 2"),
        ("value,reason\nV1,\n,why\n", [2, 3], "1 to 120"),
        ("value,reason,from\nV1,ok,soon\nV2,ok,2026-02-30\n", [2, 3], "from is not a day"),
        ("value,reason,until\nV1,ok,3000-01-01\n", [2], "until is not a day"),
        ("value,reason\nV1,card 6212990000000007\n", [2], "long number"),
        ('value,reason\nV1,"open\n', [2], "not CSV"),
        ("value,reason\n\xffV1,ok\n", [2], "not UTF-8"),
    ],
)
def test_every_bad_line_is_named(text: str, lines: list[int], says: str) -> None:
    octets = text.encode("latin-1")
    with pytest.raises(ListFileFaulty, match=says) as refused:
        read_entries(octets, ZONE)
    assert [fault.line for fault in refused.value.faults] == lines
    assert "nothing was taken" in str(refused.value)


def test_a_file_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_list_file, "LIST_ENTRIES_MAX", 3)
    with pytest.raises(ListFileFaulty, match="give 1 to 3 entries"):
        read_entries(b"value\n" + b"V\n" * 4, ZONE, reason="r")
    with pytest.raises(ListFileFaulty) as refused:
        read_entries(b"value,reason\n" + b"V,\n" * 500, ZONE)
    assert len(refused.value.faults) == rule_list_file.FAULTS_MAX
    monkeypatch.setattr(rule_list_file, "FILE_BYTES_MAX", 8)
    with pytest.raises(ListFileFaulty, match="more than 8 bytes"):
        read_entries(b"value\nV1\n", ZONE, reason="r")


@given(
    octets=st.binary(max_size=200)
    | st.text(alphabet='0123456789,"\nvalue', max_size=200).map(str.encode)
)
def test_whatever_comes_is_read_or_refused_without_a_number(octets: bytes) -> None:
    try:
        entries = read_entries(b"value,reason,from,until\n" + octets, ZONE, reason="r")
    except ListFileFaulty as refused:
        said = [str(refused), *(fault.why for fault in refused.faults)]
    else:
        said = [entry.reason for entry in entries]
    assert all(mask_digit_runs(each) == each for each in said)
