"""Fare tables: what a line costs, who pays less, which table and which day an instant is of."""

from __future__ import annotations

from datetime import date

import pytest

from protocols.message import Mode
from switch.fares.book import (
    EMPTY_FARE_BOOK,
    NO_TABLE,
    FareClass,
    Parking,
    Transfer,
    Zones,
    fare_date,
)
from switch.fares.reading import parse_fares
from tests.switch.fares.days import at, book


@pytest.mark.parametrize(
    ("on_stop", "off_stop", "seconds", "fare_minor"),
    [
        ("S01", "S02", 600, 200),  # one zone
        ("S01", "S07", 600, 500),  # three borders
        ("S07", "S01", 600, 500),  # the other way
        ("S01", "S09", 600, 500),  # the pair stands before the rule, which says 600
        ("S01", "S01", 120, 0),  # out again at once
        ("S01", "S01", 121, 200),
        ("S01", "S99", 600, 700),  # a stop that no table knows
    ],
)
def test_zones(on_stop: str, off_stop: str, seconds: int, fare_minor: int) -> None:
    tariff = book().tables[0].tariff(Mode.METRO, "M2")
    assert isinstance(tariff, Zones)
    assert tariff.fare_between(on_stop, off_stop, seconds) == fare_minor


def test_no_journey_costs_more_than_is_set_aside() -> None:
    far = Zones({"A": 1, "B": 9}, 200, 100, {}, 600, 2, 240)
    assert far.fare_between("A", "B", 600) == 600


@pytest.mark.parametrize(
    ("minutes", "fare_minor"), [(0, 0), (15, 0), (16, 500), (60, 500), (61, 1_000), (1_439, 5_000)]
)
def test_parking_by_hours_begun(minutes: int, fare_minor: int) -> None:
    assert Parking(15, 500, 5_000, 1_440).fare_of(minutes * 60) == fare_minor


def test_half_a_fen_goes_to_the_holder() -> None:
    half = FareClass(1, 50, frozenset({Mode.BUS}))
    paid = [half.fare_minor(minor, Mode.BUS) for minor in (200, 201, 3, 1, 0)]
    assert paid == [100, 100, 1, 0, 0]
    assert half.fare_minor(201, Mode.METRO) == 201
    third = Transfer(frozenset(), frozenset(), 60, 0, 35)
    assert [third.fare_minor(minor) for minor in (200, 201, 10)] == [130, 131, 6]


def test_the_line_before_its_mode_and_neither_leaves_it_to_the_reader() -> None:
    table = book().tables[0]
    assert [table.tariff(Mode.BUS, line) for line in ("K1", "77")] == [
        table.tariffs[Mode.BUS, "K1"],
        table.tariffs[Mode.BUS, ""],
    ]
    assert table.tariff(Mode.TAXI, "") is None


def test_the_table_of_an_instant() -> None:
    text = b"""
    [[tables]]
    version = 2
    effective_from = "2028-03-01T00:00"
    [[tables]]
    version = 1
    effective_from = "2028-02-29T00:00"
    """
    two = parse_fares(text, "test")
    instants = [at("00:00") - 1, at("00:00"), at("23:59"), at("00:00", "2028-03-01")]
    assert [two.table_at(instant).version for instant in instants] == [0, 1, 1, 2]
    assert EMPTY_FARE_BOOK.table_at(at("12:00")) is NO_TABLE


@pytest.mark.parametrize(
    ("clock", "day", "fare_day"),
    [
        ("04:29", "2028-02-29", date(2028, 2, 28)),
        ("04:30", "2028-02-29", date(2028, 2, 29)),
        ("04:29", "2028-03-01", date(2028, 2, 29)),
        ("04:30", "2028-03-01", date(2028, 3, 1)),
        ("00:10", "2027-01-01", date(2026, 12, 31)),
    ],
)
def test_the_fare_day_begins_before_the_first_train(clock: str, day: str, fare_day: date) -> None:
    assert fare_date(book(), at(clock, day)) == fare_day
