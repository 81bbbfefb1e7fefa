"""What a request asks for beside its account: its original on which days, a fare day, a chip."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.message import (
    ChipRecord,
    ChipState,
    ChipVerdict,
    Kind,
    Mode,
    OriginalReference,
    Request,
    Tap,
)
from switch.ledger.related import (
    ORIGINAL_KINDS,
    OWN_DAYS_MAX,
    day_named,
    original_days,
    related,
    related_columns,
)
from switch.posting import Directed
from tests.simulation.model_ledger import ACQUIRER, purchase

TODAY = date(2026, 3, 1)
DAY = timedelta(days=1)
FARE_DATE = date(2026, 2, 28)


def fare_date_of(event_at_us: int) -> date:
    return FARE_DATE + timedelta(days=event_at_us)


def ask(batch: list[Directed]) -> tuple[Any, ...]:
    return related_columns(batch, TODAY, 30, fare_date_of)


def linked(kind: Kind, mmdd: str = "", **said: Any) -> Request:
    return purchase(kind=kind, original=OriginalReference(rrn="R1", mmdd=mmdd), **said)


@pytest.mark.parametrize(
    ("mmdd", "day"),
    [
        ("0301", TODAY),
        ("0302", date(2026, 3, 2)),
        ("0303", date(2025, 3, 3)),
        ("1231", date(2025, 12, 31)),
        ("0229", date(2024, 2, 29)),
        ("0230", None),
        ("1301", None),
        ("", None),
        ("301", None),
        ("0x01", None),
        ("٠٣٠١", None),
    ],
)
def test_the_nearest_such_day_that_is_not_after_tomorrow(mmdd: str, day: date | None) -> None:
    assert day_named(mmdd, TODAY) == day


def test_new_year_belongs_to_the_year_that_begins() -> None:
    assert day_named("0101", date(2025, 12, 31)) == date(2026, 1, 1)


@given(today=st.dates(date(2000, 1, 1), date(2400, 1, 1)), days_ago=st.integers(-1, 364))
def test_every_day_of_the_last_year_is_meant_by_its_date(today: date, days_ago: int) -> None:
    day = today - days_ago * DAY
    named = day_named(f"{day:%m%d}", today)
    assert named == day or (named is not None and named - day >= 365 * DAY)


@pytest.mark.parametrize(
    ("request_", "since", "until"),
    [
        (linked(Kind.VOID, "0228"), date(2026, 2, 27), TODAY),
        (linked(Kind.REFUND, "0103"), date(2026, 1, 2), date(2026, 1, 4)),
        (linked(Kind.REFUND), TODAY - 30 * DAY, TODAY + DAY),
        (linked(Kind.REFUND, "9999"), TODAY - 30 * DAY, TODAY + DAY),
        (linked(Kind.VOID), TODAY - DAY, TODAY + DAY),
        (purchase(kind=Kind.REVERSAL, original_id=7), TODAY - DAY, TODAY + DAY),
        (
            purchase(kind=Kind.HOLD_EXPIRY, original_id=7),
            TODAY - OWN_DAYS_MAX * DAY,
            TODAY + DAY,
        ),
    ],
)
def test_the_days_of_an_original(request_: Request, since: date, until: date) -> None:
    assert original_days(request_, TODAY, 30) == (since, until)


def test_a_message_for_itself_asks_for_nothing() -> None:
    for kind in (Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.INQUIRY):
        assert related(purchase(kind=kind), TODAY, 30, fare_date_of) is None


def test_a_preauthorization_asks_for_holds_and_no_original() -> None:
    asked = related(purchase(kind=Kind.PREAUTHORIZATION), TODAY, 30, fare_date_of)
    assert asked is not None
    assert (asked.wants_holds, asked.key, asked.rrn, asked.original_id) == (True, b"", "", 0)


def test_places_count_from_one_and_only_those_that_ask_have_a_row() -> None:
    requests = [
        purchase(1),
        linked(Kind.REFUND),
        purchase(2),
        purchase(3, kind=Kind.PREAUTHORIZATION),
    ]
    batch = [Directed(request, 0, 1, 1, b"") for request in requests]
    places, holds, *_, kinds, acquirers, terminals, since, until = ask(batch)[:11]
    assert places == [0, 1, 0, 2]
    assert holds == [False, True]
    assert kinds == ["purchase completion offline_sale", ""]
    assert acquirers == [ACQUIRER, ACQUIRER]
    assert terminals == ["", ""], "a refund may come from another terminal"
    assert since[1] is until[1] is None, "who is about no other looks for none"


def test_a_void_or_reversal_is_of_the_terminal_of_its_original() -> None:
    batch = [Directed(linked(kind), 0, 1, 1, b"") for kind in (Kind.VOID, Kind.REVERSAL)]
    terminals = ask(batch)[8]
    assert terminals == [batch[0].request.terminal] * 2


def test_nothing_is_about_what_only_the_switch_writes() -> None:
    written = {Kind.REPEAT, Kind.TOMBSTONE, Kind.REVERSAL, Kind.HOLD_EXPIRY}
    for kinds in ORIGINAL_KINDS.values():
        assert written.isdisjoint(kinds)


@pytest.mark.parametrize("kind", [Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT])
def test_a_tap_asks_for_the_fare_day_of_its_event(kind: Kind) -> None:
    said = Tap(Mode.BUS, "7", "12", "V1", 3)
    asked = related(purchase(kind=kind, tap=said), TODAY, 30, fare_date_of)
    assert asked is not None
    assert (asked.wants_fares, asked.fare_date) == (True, date(2026, 3, 3))
    assert (asked.chip_counter, asked.since) == (None, None)
    assert asked.wants_holds is (kind in (Kind.TAP_ON, Kind.TAP_OFF))


def test_an_expiry_asks_for_the_fare_day_of_its_original() -> None:
    asked = related(purchase(kind=Kind.HOLD_EXPIRY, original_id=7), TODAY, 30, fare_date_of)
    assert asked is not None
    assert (asked.wants_fares, asked.fare_date, asked.original_id) == (True, None, 7)


def test_a_record_and_a_load_of_a_chip_ask_what_is_known_of_it() -> None:
    record = ChipRecord(5, 0, b"d" * 8, b"b" * 8, ChipVerdict.GENUINE)
    fare = Tap(Mode.BUS, "7", "", "V1", 3, record=record)
    load = Tap(Mode.BUS, "7", "", "V1", 3, chip=ChipState(9, 100))
    for request, counter in (
        (purchase(kind=Kind.OFFLINE_FARE, tap=fare), 5),
        (purchase(kind=Kind.LOAD, tap=load, purse="CHIP"), 9),
        (purchase(kind=Kind.LOAD_PENDING, tap=load, purse="CHIP"), 9),
    ):
        asked = related(request, TODAY, 30, fare_date_of)
        assert asked is not None
        assert (asked.chip_counter, asked.wants_fares) == (counter, False)
