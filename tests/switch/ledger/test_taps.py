"""Rides as stored: what a tap is charged is what moves, journeys are held, a fare day is told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from protocols.message import Fare, Kind, Mode
from switch.ledger.audit import audit
from switch.posting import Entitlement, FareFacts
from tests.switch.ledger.test_load_batch import Asked, load

HOUR_US = 3_600_000_000
CHECKS = ("tap_fare", "fare_day", "journey")


async def facts(books: Any, card: Any, **asked: Any) -> FareFacts | None:
    """What load_batch tells of the fare day of `books.day`, unless asked otherwise."""
    day = asked.pop("day", None)
    usual = {"fares": True, "fare_date": books.day}
    (row,) = await load(books, card, day=day, related=[Asked(**(usual | asked))])
    return None if row["fares"] is None else msgspec.json.decode(row["fares"], type=FareFacts)


def told(known: FareFacts | None) -> list[tuple[str, int]]:
    assert known is not None
    return [(tap.kind.value, tap.fare.charged_minor) for tap in known.taps]


async def clean(books: Any) -> None:
    report = await audit(books.connection)
    assert report.clean, [check for check in report.checks if check.findings]


async def rider(books: Any, minor: int = 1_000) -> Any:
    (card,) = await books.issue()
    await books.posted(books.load(card, minor))
    return card


async def test_a_day_of_rides_is_told_as_it_was_priced(books: Any, tomorrow: date) -> None:
    card, other = await rider(books), await rider(books)
    noon_us = books.hold_expires_us
    priced = {"nominal_minor": 300, "concession_minor": -100, "transfer_minor": -50,
              "cap_minor": -20, "recomputed_minor": -5, "event_at_us": noon_us,
              "fare_class": 2}  # fmt: skip
    (fare,) = await books.posted(books.fare(card, 125, tap=priced))
    (on,) = await books.posted(
        books.tap_on(card, 400, tap={"event_at_us": noon_us - 5, "line": "M1"})
    )
    assert (await books.purse(card))["held_minor"] == 400
    (off,) = await books.posted(
        books.tap_off(card, on, 90, tap={"event_at_us": noon_us + 5, "mode": "metro"}), day=tomorrow
    )
    await books.posted(books.fare(other, 7), books.fare(card, 8, tap={"fare_date": tomorrow}))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"]) == (1_000 - 125 - 90 - 8, 0)
    known = await facts(books, card, day=tomorrow)
    assert known is not None
    assert [tap.authorization_id for tap in known.taps] == [on, fare, off], "by event"
    begun, single, ended = known.taps
    assert single.fare == Fare(300, -100, -50, -20, -5, fare_class=2, fare_version=3)
    assert (single.kind, single.mode, single.line, single.stop, single.vehicle) == (
        Kind.FARE, Mode.BUS, "7", "12", "V1",
    )  # fmt: skip
    assert (begun.fare.charged_minor, ended.journey_id, ended.fare_date) == (0, on, books.day)
    await clean(books)


async def test_a_free_ride_moves_nothing_and_counts(books: Any) -> None:
    card = await rider(books)
    free = {"nominal_minor": 200, "concession_minor": -200, "fare_class": 1}
    await books.posted(books.fare(card, 0, tap=free))
    assert told(await facts(books, card)) == [("fare", 0)]
    purse = await books.purse(card)
    assert (purse["month_count"], purse["month_minor"]) == (1, 0)
    (on,) = await books.posted(books.tap_on(card, 0))
    await books.posted(books.tap_off(card, on, 0))
    await clean(books)


async def test_a_late_tap_gives_money_back(books: Any) -> None:
    card = await rider(books)
    await books.posted(books.fare(card, 300))
    await books.posted(books.fare(card, -100))
    assert sorted(told(await facts(books, card))) == [("fare", -100), ("fare", 300)]
    assert (await books.purse(card))["balance_minor"] == 800
    await clean(books)


async def test_an_incomplete_journey_is_told_with_the_day_of_its_tap_on(books: Any) -> None:
    card = await rider(books)
    day = books.day - timedelta(days=1)
    (on,) = await books.posted(books.tap_on(card, 400, tap={"fare_date": day}))
    known = await facts(books, card, fare_date=None, id=on)
    assert told(known) == [("tap_on", 0)]
    expired = books.tap_off(
        card, on, 400, kind="incomplete_fare", tap={"kind": "incomplete_fare", "fare_date": day}
    )
    expired.resolves = (on, "expired")
    await books.posted(expired)
    assert sorted(told(await facts(books, card, fare_date=day))) == [
        ("incomplete_fare", 400), ("tap_on", 0),
    ]  # fmt: skip
    assert await facts(books, card, fare_date=None, id=1) is None, "no such tap"
    await clean(books)


async def test_the_tap_on_of_a_journey_over_the_turn_of_the_day_is_told(books: Any) -> None:
    card = await rider(books)
    before = books.day - timedelta(days=1)
    early = {"fare_date": before, "event_at_us": 1}
    (on, _) = await books.posted(books.tap_on(card, 400, tap=early), books.fare(card, 3, tap=early))
    assert told(await facts(books, card)) == [("tap_on", 0)], "its journey is open"
    await books.posted(books.tap_off(card, on, 90))
    assert told(await facts(books, card)) == [("tap_on", 0), ("tap_off", 90)]
    await books.posted(books.tap_on(card, 400, tap=early | {"event_at_us": 2}))
    assert told(await facts(books, card, fare_date=before)) == [
        ("tap_on", 0), ("fare", 3), ("tap_on", 0),
    ]  # fmt: skip
    await clean(books)


async def test_a_reversed_tap_is_no_tap_of_its_day(books: Any) -> None:
    card = await rider(books)
    fare, _ = await books.posted(books.fare(card, 200), books.fare(card, 100))
    (on,) = await books.posted(books.tap_on(card, 400))
    await books.posted(books.reversal(card, fare, 200))
    undone = books.cancel(card, on, 0, kind="reversal", spent_minor=0)
    await books.posted(undone)
    assert told(await facts(books, card)) == [("fare", 100)]
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"]) == (900, 0)
    await clean(books)


async def test_a_tap_off_that_is_taken_back_opens_its_journey_again(books: Any) -> None:
    card = await rider(books)
    (on,) = await books.posted(books.tap_on(card, 400))
    (off,) = await books.posted(books.tap_off(card, on, 0))
    await books.posted(books.reversal(card, off, 0, opens=("journey", 400, on)))
    assert (await books.purse(card))["held_minor"] == 400
    assert told(await facts(books, card)) == [("tap_on", 0)]
    await clean(books)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"charged_minor": 90, "nominal_minor": 90},
        {"charged_minor": 100, "nominal_minor": 90},
        {"charged_minor": 100, "nominal_minor": 130, "cap_minor": -20},
        {"nominal_minor": 0, "recomputed_minor": 0, "concession_minor": 100},
        {"kind": "inspect"},
    ],
)
async def test_a_tap_that_is_charged_another_amount_is_refused(books: Any, wrong: Any) -> None:
    card = await rider(books)
    with pytest.raises(asyncpg.CheckViolationError):
        await books.post(books.fare(card, 100, tap=wrong))
    assert await books.count("tap") == 0
    (on,) = await books.posted(books.tap_on(card, 400))
    for badly in (
        books.tap_on(card, 400, approved_minor=400),
        books.tap_off(card, on, 0, approved_minor=400, tap={"nominal_minor": 0}),
        books.decline(card, 5, tap={}),
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await books.post(badly)
    with pytest.raises(asyncpg.CheckViolationError):
        await books.post(books.tap_on(card, 601))
    await clean(books)


async def test_a_conflict_writes_no_tap(books: Any) -> None:
    card = await rider(books)
    row = books.fare(card, 100)
    (record,) = await books.post(row, versions={card.account_id: 77})
    assert record["verdict"] == "conflict"
    assert await books.count("tap") == 0
    (record,) = await books.post(books.fare(card, 100, remaining_us=-1))
    assert record["verdict"] == "expired"
    assert await books.count("tap") == 0


async def test_rights_are_told_where_they_touch_the_day(books: Any) -> None:
    card = await rider(books)
    day_us = 24 * HOUR_US
    noon_us = books.hold_expires_us
    grant = "select ledger.grant_entitlement($1, $2, $3, $4, $5, 'counter')"
    for fare_class, since_us, until_us in (
        (1, noon_us, noon_us + HOUR_US),
        (2, noon_us - 90 * day_us, noon_us - 9 * day_us),
        (3, noon_us + 9 * day_us, noon_us + 90 * day_us),
        (4, noon_us - 90 * day_us, noon_us + 90 * day_us),
        (5, noon_us - 90 * day_us, noon_us + 90 * day_us),
    ):
        await books.connection.fetch(
            grant, card.shard, card.account_id, fare_class, since_us, until_us
        )
    revoke = "select * from ledger.revoke_entitlements($1, $2, $3, $4, 'counter')"
    for fare_class, at_us in ((4, noon_us), (4, noon_us + 1), (5, noon_us - 9 * day_us)):
        await books.connection.fetch(revoke, card.shard, card.account_id, fare_class, at_us)
    (version,) = (await books.versions(books.fare(card, 1))).values()
    assert version == 1 + 5 + 3, "a decision under way notices"
    known = await facts(books, card)
    assert known is not None
    assert known.entitlements == (
        Entitlement(4, noon_us - 90 * day_us, noon_us),
        Entitlement(1, noon_us, noon_us + HOUR_US),
    )
    await books.posted(books.fare(card, 1), books.tap_on(card, 1))
    await clean(books)


async def test_no_more_taps_are_told_than_can_be_ridden(books: Any) -> None:
    card = await rider(books)
    for _ in range(7):
        await books.posted(*(books.fare(card, 1) for _ in range(30)))
    known = await facts(books, card)
    assert known is not None
    assert len(known.taps) == 200
    assert await facts(books, (0, 0)) is None


async def test_a_message_says_where_it_was_made(books: Any) -> None:
    card = await rider(books)
    await books.posted(books.fare(card, 5, venue="bus", stop="7/12", vehicle="V1"))
    (row,) = await load(books, card)
    placed = list(zip(row["kind"], row["venue"], row["stop"], row["vehicle"], strict=True))
    assert placed == [("fare", "bus", "7/12", "V1"), ("load", "", "", "")]
    (row,) = await load(books, card, related=[Asked(holds=True)])
    assert row["holds"] is None
    await books.posted(books.tap_on(card, 50))
    (row,) = await load(books, card, related=[Asked(holds=True)])
    (hold,) = json.loads(row["holds"])
    assert (hold["purpose"], hold["terminal"], hold["mcc"]) == ("journey", "T1", "5411")


BROKEN: list[tuple[Sequence[str], str, str]] = [
    (
        ["tap_fare"],
        "update ledger.tap set charged_minor = 4, nominal_minor = 4 where charged_minor = 5",
        r"tap \d+ on 2026-03-31 is charged 4, .* are 4, its transfers 5",
    ),
    (["tap_fare"], "delete from ledger.tap where charged_minor = 5", r"fare and has no tap"),
    (
        ["tap_fare"],
        "update ledger.tap set kind = 'tap_on' where charged_minor = 5",
        r"is a tap_on of account \d+, and its authorization a fare of account \d+",
    ),
    (
        ["tap_fare"],
        "update ledger.tap set authorization_id = 9 where charged_minor = 5",
        r"tap 9 on 2026-03-31 belongs to no approved tap",
    ),
    (
        ["fare_day"],
        "update ledger.tap set fare_date = '2026-03-01' where charged_minor = -3",
        r"account \d+ is charged -3 for its fare day 2026-03-01",
    ),
    (
        ["journey"],
        "update ledger.tap set journey_id = journey_id + 5000 where kind = 'tap_off'",
        r"tap \d+ says that authorization \d+ began its journey, which is no tap-on",
    ),
    (
        ["purse_held"],
        "update ledger.hold set amount_minor = 10 where status = 'open'",
        r"purse 2 has 17 held, its open holds are 10",
    ),
    (
        ["hold_resolved_once"],
        "update ledger.hold set status = 'open', resolved_by = 0, amount_minor = 0"
        " where purpose = 'journey' and status = 'completed';"
        "update ledger.authorization set kind = 'fare' where kind = 'tap_on';"
        "update ledger.tap set kind = 'fare' where kind = 'tap_on'",
        r"which is no approved tap_on of account",
    ),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("checks", "script", "sentence"),
    BROKEN,
    ids=[f"{n}-{each[0][0]}" for n, each in enumerate(BROKEN)],
)
async def test_what_is_broken_is_found(
    books: Any, checks: Sequence[str], script: str, sentence: str
) -> None:
    card = await rider(books)
    ended, _ = await books.posted(books.tap_on(card, 19), books.tap_on(card, 17))
    await books.posted(books.tap_off(card, ended, 8), books.fare(card, 5), books.fare(card, -3))
    report = await audit(books.connection)
    assert report.clean, report
    assert all(check.examined for check in report.checks if check.name in CHECKS)
    await books.connection.execute(
        f"set session_replication_role = replica; {script}; set session_replication_role = origin"
    )
    report = await audit(books.connection)
    found = {check.name: check.first for check in report.checks if check.findings}
    assert set(checks) <= set(found), found
    assert any(re.search(sentence, text) for text in found[checks[0]]), found
