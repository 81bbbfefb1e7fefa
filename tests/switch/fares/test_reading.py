"""Fare files: the shipped one is usable, and whatever is wrong is told with its place."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.message import Mode
from switch.config import ConfigError
from switch.fares.book import Flat, Peak
from switch.fares.reading import load_fares, parse_fares

TABLE = '[[tables]]\nversion = 1\neffective_from = "2026-01-01T00:00"\n'
METRO = '[[tables.zones]]\nmode = "metro"\nfare_minor = 200\nmaximum_minor = 700\n'


def problems_of(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        parse_fares(text.encode(), "fares.toml")
    assert all(each.remedy for each in refused.value.problems)
    return {each.key: each.problem for each in refused.value.problems}


def test_the_shipped_tables() -> None:
    shipped = load_fares("", "Asia/Shanghai")
    (table,) = shipped.tables
    assert shipped.fare_day_start == "04:30"
    assert table.tariff(Mode.BUS, "K2") == Flat(300)
    assert table.fare_class(2).peaks == (Peak(450, 540),)
    assert table.fare_class(77).percent == 100
    assert {Mode.BUS, Mode.METRO, Mode.FERRY} == table.capped_modes


def test_a_file_of_the_operators_own(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(TABLE + '[[tables.flat]]\nmode = "bus"\nfare_minor = 1\n')
    assert load_fares(str(own)).tables[0].tariff(Mode.BUS, "") == Flat(1)
    with pytest.raises(ConfigError, match="it cannot be read"):
        load_fares(str(tmp_path / "none.toml"))
    own.write_bytes(b"#" * 5_000_000)
    with pytest.raises(ConfigError, match="larger than"):
        load_fares(str(own))


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (TABLE + TABLE, "tables[1].version", "tables[0] has the same"),
        (TABLE.replace("01-01T", "02-30T"), "tables[0].effective_from", "no such date"),
        (
            TABLE + '[[tables.flat]]\nmode = "metro"\nfare_minor = 1\n' + METRO,
            "tables[0].zones[0].lines",
            "tables[0].flat[0] has the same",
        ),
        (
            TABLE + METRO.replace("700", "100"),
            "tables[0].zones[0].maximum_minor",
            "less than fare_minor",
        ),
        (
            TABLE + METRO + "[[tables.zones.pairs]]\nzones = [1, 2]\nfare_minor = 1\n",
            "tables[0].zones[0].pairs[0].zones",
            "no two zones",
        ),
        (
            TABLE
            + METRO
            + "stops = { A = 1, B = 2 }\n"
            + "[[tables.zones.pairs]]\nzones = [1, 2]\nfare_minor = 701\n",
            "tables[0].zones[0].pairs[0].fare_minor",
            "more than maximum_minor",
        ),
        (
            TABLE + '[[tables.classes]]\nnumber = 1\npeaks = ["09:00-07:30"]\n',
            "tables[0].classes[0].peaks[0]",
            "ends before it begins",
        ),
        (
            TABLE + "[[tables.classes]]\nnumber = 0\npercent = 50\n",
            "tables[0].classes[0].percent",
            "class 0 is the full fare",
        ),
        (
            TABLE + "[[tables.classes]]\nnumber = 3\nday_cap_minor = 5\n",
            "tables[0].classes[0].day_cap_minor",
            "no mode is capped",
        ),
        (
            TABLE + "[[tables.classes]]\nnumber = 100\n",
            "tables[0].classes[0].number",
            "not allowed",
        ),
        ('fare_day_start = "4:30"', "fare_day_start", "not allowed"),
        ("tariff = 1", "tariff", "no such key"),
        ("tables = [", "fares.file", "not TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, key: str, problem: str) -> None:
    found = problems_of(text)
    assert problem in found[key]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_file_breaks_the_reader(octets: bytes) -> None:
    with contextlib.suppress(ConfigError):
        parse_fares(octets, "fuzz")
