"""The city: its rates, trips and figures, without a switch (see tests/whole/test_venues.py)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.city import main
from loadtest.city_lines import CityLine, CityTally
from loadtest.city_plan import Citizen, TapDoor, read_places
from loadtest.city_visits import FARE_DAY_START, FLOWS, trip, visit_rates
from loadtest.journal import Journal

ZONE = ZoneInfo("Asia/Shanghai")
LINE = CityLine("bus", "fare", "BUS0001-000001-1123010203-tap", 7, 200, 1, 5_000, "00")


def fare_day(at_ms: int) -> object:
    local = datetime.fromtimestamp(at_ms / 1000, ZONE)
    since = timedelta(hours=FARE_DAY_START.hour, minutes=FARE_DAY_START.minute)
    return (local - since).date()


@given(st.integers(0, 2 * 86_400_000), st.integers(1, 240))
def test_a_trip_is_over_and_within_one_fare_day(offset_ms: int, minutes: int) -> None:
    now_ms = 1_795_000_000_000 + offset_ms
    made = trip(now_ms, minutes, ZONE)
    assert made.ended_ms - made.began_ms == minutes * 60_000
    assert made.ended_ms <= now_ms
    assert fare_day(made.began_ms) == fare_day(made.ended_ms)


def test_all_venues_together_make_the_rate() -> None:
    rates = visit_rates(300.0)
    assert set(rates) == set(FLOWS)
    messages = sum(rate * FLOWS[code].messages for code, rate in rates.items())
    assert messages == pytest.approx(300.0)


def test_figures_by_venue(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    tally = CityTally(journal, {"bus": "transit", "water": "utility"})
    for code, latency_us in (("00", 5_000), ("10", 7_000), ("62", 9_000), ("", 11_000)):
        tally.over(CityLine("bus", "fare", code, 7, 200, 1, latency_us, code))
    tally.over(CityLine("water", "bill_pay", "bill-1", 7, 200, 1, 50_000, "00"))
    # nobody waited for a record of a chip
    tally.over(CityLine("bus", "offline_fare", "x", 7, 200, 1, 0, "00"))
    progress = tally.end_second()
    assert (progress.sent, progress.answered, progress.unanswered) == (6, 5, 1)
    assert progress.p99_ms == {"transit": 11.0, "utility": 50.0}
    summary = tally.summary(seconds=1.0, cpu_seconds=0.1)
    bus = summary.venues["bus"]
    assert (bus.messages, bus.approved, bus.declined, bus.unanswered) == (5, 3, 1, 1)
    assert bus.p50_ms == pytest.approx(7.0, rel=0.01)
    assert not summary.sound
    journal.close()
    assert len((tmp_path / "journal.jsonl").read_bytes().splitlines()) == 6


def test_a_run_is_sound_when_all_was_answered() -> None:
    tally = CityTally(Journal(None), {"bus": "transit"})
    assert not tally.summary(seconds=1.0, cpu_seconds=0.0).sound
    tally.over(LINE)
    assert tally.summary(seconds=1.0, cpu_seconds=0.0).sound
    tally.not_sent = 1
    assert not tally.summary(seconds=1.0, cpu_seconds=0.0).sound


def test_keys_are_not_shown() -> None:
    assert "ab" not in repr(TapDoor(1, "48031000", "ab" * 32))
    assert Citizen(3, "00" * 16).card.reveal()[:6] == "621234"


@pytest.mark.parametrize("written", [b"", b"{}", b"\xff", b"[1,2]"])
def test_a_file_of_places_that_no_stage_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: bytes
) -> None:
    file = tmp_path / "places.json"
    file.write_bytes(written)
    with pytest.raises(ValueError, match="stage it anew"):
        read_places(file)
    assert main(["--places", str(file)]) == 2
    assert capsys.readouterr().err.startswith("city: ")


def test_wrong_arguments_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--places", "nowhere", "--rate", "0"]) == 2
    assert main(["--places", "nowhere"]) == 2
    assert capsys.readouterr().err.count("city: ") == 2
