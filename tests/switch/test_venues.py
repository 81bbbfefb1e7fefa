"""The table of venues: the shipped one is the domain's, a wrong one says what to mend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protocols.message import Mode
from switch.cli import main
from switch.config import ConfigError
from switch.venues import load_venues

ONE = """
[[venues]]
number = 1
code = "bus"
name = "Bus"
name_zh = "公交"
segment = "transit"
flow = "tap"
modes = ["bus"]
mccs = ["4131"]
purse_order = ["TRN"]
p99_ms = 50
hard_ms = 150
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    file = tmp_path / "venues.toml"
    file.write_text(ONE, encoding="utf-8")
    return file


def test_the_shipped_table_has_the_fifteen_of_the_city() -> None:
    shipped = load_venues("")
    assert [venue.number for venue in shipped.venues] == list(range(1, 16))
    assert len(shipped.by_code()) == 15
    assert set(shipped.by_mode()) == set(Mode)
    assert all(venue.p99_ms <= venue.hard_ms for venue in shipped.venues)


def test_a_category_leads_to_the_first_venue_that_has_it_and_never_to_a_bill() -> None:
    shipped = load_venues("")
    assert shipped.by_mcc()["4111"] == "metro"
    assert shipped.by_mcc(["ferry"]) == {"4111": "ferry"}
    assert "4900" not in shipped.by_mcc()
    assert shipped.by_mcc(["water"]) == {"4900": "water"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('segment = "transit"', 'segment = "rail"', "segment"),
        ('mccs = ["4131"]', "mccs = []", "mccs"),
        ("hard_ms = 150", "hard_ms = 0", "hard_ms"),
        ("hard_ms = 150", "hard_ms = 150\ncolour = 1", "colour"),
        ('purse_order = ["TRN"]', 'purse_order = ["CASH"]', "purse_order"),
        ("p99_ms = 50", "p99_ms = 50" + "\nhard_ms = 150\n" + ONE.partition("hard_ms")[0], "code"),
        ("[[venues]]", "[[venues", "TOML"),
    ],
)
def test_a_wrong_table_is_refused_with_its_path(
    table: Path, capsys: pytest.CaptureFixture[str], before: str, after: str, said: str
) -> None:
    table.write_text(ONE.replace(before, after, 1), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_venues(str(table))
    assert main(["venues", "--file", str(table)]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert told.out == ""


def test_a_table_is_shown_without_a_ledger(
    table: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["venues", "--file", str(table)]) == 0
    told = capsys.readouterr()
    assert "公交" in told.out
    assert "messages" not in told.out
    assert told.err == ""


def test_without_a_ledger_nothing_is_counted_and_none_is_made(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["venues", "--json", "--directory", str(tmp_path)]) == 0
    told = capsys.readouterr()
    shown = json.loads(told.out)
    assert shown["business_date"] == ""
    assert [each["day"] for each in shown["venues"]] == [None] * 15
    assert told.err.count("\n") == 1
    assert "nothing is counted" in told.err
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_is_away_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["venues", "--database", "postgresql://nobody@127.0.0.1:1/none"]) == 0
    told = capsys.readouterr()
    assert "影院" in told.out or "电影院" in told.out
    assert "nothing is counted" in told.err
    assert told.err.count("\n") == 1


def test_a_day_that_had_nothing(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["venues", "--json", "--database", database, "--day", "2026-01-31"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["business_date"] == "2026-01-31"
    nothing = {"messages": 0, "approved": 0, "declined": 0, "money_minor": 0}
    assert [each["day"] for each in shown["venues"]] == [nothing] * 15


def test_a_wrong_day_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["venues", "--day", "yesterday"]) == 2
    assert "YYYY-MM-DD" in capsys.readouterr().err
