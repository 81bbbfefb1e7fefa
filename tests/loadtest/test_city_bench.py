"""The city's benchmark without a switch: its debit file, and its table."""

from __future__ import annotations

import hashlib

from loadtest.city_bench import BILL_MINOR, CityAtWork, CityBench, TapsBeside, city_table
from loadtest.city_plan import ApiDoor, Citizen, IsoDoor, Places, TapDoor
from loadtest.staged import Ended

DOOR, READERS = IsoDoor(1, "48021000", "unionpay_pos"), TapDoor(1, "48031000", "00" * 32)
PLACES = Places(
    shops=DOOR, counters=DOOR, taxis=DOOR, transit=READERS, sites=READERS, api=ApiDoor(1, ""),
    tac_key="00" * 32, citizens=[Citizen(index, "00" * 16, index < 2) for index in range(5)],
    blocked=[], poor=[],
)  # fmt: skip


def test_a_debit_file_says_what_is_in_it() -> None:
    at_work = CityAtWork(PLACES, 300.0, records=10, rows=7)
    *lines, trailer = at_work._file().splitlines(keepends=True)
    assert lines[0] == f"7|{7 * BILL_MINOR}\n".encode()
    assert len(lines) == 8
    assert trailer == b"sha256|%s\n" % hashlib.sha256(b"".join(lines)).hexdigest().encode()
    # every customer is one who has a mandate: a rider without a chip
    assert {line.split(b"|")[2] for line in lines[1:]} == {b"C-0", b"C-1", b"C-2"}


def test_the_table_says_whether_the_budget_was_kept() -> None:
    def bench(p99_ms: float, *, clean: bool) -> str:
        each = TapsBeside("upload", 10.0, 3_000, 9.0, p99_ms, 1.2, 0, 0, p99_ms, {"records": 812.0})
        ended = Ended(clean, 20, {} if clean else {"balance": 1})
        return city_table(CityBench(300.0, 100, 100, [each], ended))

    kept = bench(49.0, clean=True)
    assert "ms kept" in kept
    assert "812 records" in kept
    assert "audit clean" in kept
    missed = bench(51.0, clean=False)
    assert "NOT kept" in missed
    assert "balance" in missed
