"""Chips as stored: each counter once, gaps that open and fill, and what a load proves."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switch.ledger.audit import audit
from switch.posting import ChipFacts, ChipGap
from tests.switch.ledger.test_load_batch import Asked, load

TWIN = "\\xffffffffffffffff"
CHECKS = ("chip_record", "chip_purse", "chip_gap", "chip_proof")


async def facts(books: Any, card: Any, counter: int = 0) -> ChipFacts:
    (row,) = await load(books, card, related=[Asked(counter=counter)])
    return msgspec.json.decode(row["chip"], type=ChipFacts)


async def findings(books: Any) -> dict[str, list[str]]:
    report = await audit(books.connection)
    return {check.name: check.first for check in report.checks if check.findings}


async def holder(books: Any, minor: int = 500) -> Any:
    """A card whose chip was loaded."""
    (card,) = await books.issue(chip=True)
    await books.posted(books.chip_load(card, minor))
    return card


async def chip_minor(books: Any, card: Any) -> int:
    balance: int = (await books.purse(card, 3))["balance_minor"]
    return balance


async def test_only_a_card_with_a_purse_on_its_chip_gets_one(books: Any) -> None:
    (plain,) = await books.issue()
    assert await books.purse(plain, 3) is None
    card = await holder(books)
    purse = await books.purse(card, 3)
    assert (purse["balance_minor"], purse["floor_minor"]) == (500, 0)
    assert await facts(books, card) == ChipFacts(), "nothing is known before the first record"
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await books.post(books.chip_load(plain, 5))


async def test_records_out_of_order_open_and_fill_gaps(books: Any) -> None:
    card = await holder(books)
    await books.posted(books.record(card, 4, 10))
    known = await facts(books, card, 4)
    assert (known.highest, known.gaps) == (4, (ChipGap(0, 3),))
    assert (known.stored_digest, known.stored_batch) == (bytes(7) + b"\4", bytes(7) + b"\1")
    await books.posted(books.record(card, 9, 20))
    await books.posted(books.record(card, 1, 5))
    known = await facts(books, card, 2)
    assert (known.highest, known.gaps) == (9, (ChipGap(0, 0), ChipGap(2, 3), ChipGap(5, 8)))
    assert known.stored_digest == b""
    assert await chip_minor(books, card) == 500 - 35
    for counter in (0, 2, 3, 5, 6, 7, 8):
        await books.posted(books.record(card, counter, 1))
    assert (await facts(books, card)).gaps == ()
    assert not await findings(books)


async def test_a_counter_is_taken_once(books: Any) -> None:
    card = await holder(books)
    (first,) = await books.posted(books.record(card, 0, 10))
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.post(books.record(card, 0, 10))
    twin = books.record(card, 0, 10, chip={"digest": TWIN, "suspense": True})
    await books.posted(twin)
    known = await facts(books, card)
    assert (known.stored_digest, known.stored_suspense) == (bytes(8), False)
    assert known.other_digests == (b"\xff" * 8,)
    assert (await facts(books, card, 1)).other_digests == ()
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.post(books.record(card, 0, 10, chip={"digest": TWIN, "suspense": True}))
    assert (
        await books.connection.fetchval("select authorization_id from ledger.chip_record") == first
    )
    assert await chip_minor(books, card) == 490
    # One that no purse can pay takes its counter, and stands in suspense too.
    await books.posted(books.record(card, 1, 9_000, chip={"suspense": True}))
    known = await facts(books, card, 1)
    assert (known.stored_suspense, known.highest, known.gaps) == (True, 1, ())
    assert await chip_minor(books, card) == 490
    assert not await findings(books)


async def test_a_conflict_writes_nothing_of_a_chip(books: Any) -> None:
    card = await holder(books)
    (record,) = await books.post(books.record(card, 0, 10), versions={card.account_id: 77})
    assert record["verdict"] == "conflict"
    assert (await books.count("chip"), await books.count("chip_record")) == (0, 0)


@pytest.mark.parametrize(("came_minor", "sound"), [(7, True), (8, False)])
async def test_what_a_load_proved_is_checked_when_the_gaps_are_filled(
    books: Any, came_minor: int, sound: bool
) -> None:
    card = await holder(books)
    await books.posted(books.record(card, 0, 4))
    await books.posted(books.record(card, 3, 5))
    await books.posted(books.chip_load(card, 50, chip={"counter": 4, "missing_minor": 12}))
    known = await facts(books, card, 4)
    assert (known.proven_counter, known.proven_missing_minor, known.highest) == (4, 12, 3)
    await books.posted(books.record(card, 6, 100), books.record(card, 1, 2))
    await books.posted(books.record(card, 2, 3))
    assert not await findings(books), "counter 4 has not come, so nothing is said yet"
    await books.posted(books.record(card, 4, came_minor))
    found = await findings(books)
    assert (not found) is sound
    if not sound:
        assert re.search(r"had spent 12 up to counter 4 .* and 13 came", found["chip_proof"][0])
        # The next load proves anew.
        await books.posted(books.chip_load(card, 1, chip={"counter": 6, "missing_minor": 0}))
        assert not await findings(books)


@given(st.permutations(range(9)).flatmap(lambda order: st.integers(1, 9).map(lambda n: order[:n])))
@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_gaps_are_what_has_not_come_whatever_the_order(books: Any, order: list[int]) -> None:
    card = await holder(books)
    came: set[int] = set()
    for start in range(0, len(order), 3):
        chunk = order[start : start + 3]
        came |= {*chunk}
        await books.posted(*(books.record(card, counter, 1) for counter in chunk))
        known = await facts(books, card)
        missing = {n for gap in known.gaps for n in range(gap.first, gap.last + 1)}
        assert known.highest == max(came)
        assert missing == {*range(max(came))} - came


BROKEN: list[tuple[str, str, str]] = [
    (
        "chip_record",
        "update ledger.chip_record set amount_minor = 5 where counter = 0",
        r"record 0 of card \d+ \(5\) is posted as offline fare \d+ of 4 from purse 3",
    ),
    (
        "chip_record",
        "delete from ledger.chip_record where counter = 0",
        r"offline fare \d+ on 2026-03-31 is no record of card \d+",
    ),
    (
        "chip_record",
        "update ledger.chip_record set authorization_id = 9 where counter = 0",
        r"record 0 of card \d+ belongs to no approved offline fare",
    ),
    (
        "chip_purse",
        "update ledger.chip_record set amount_minor = 5 where counter = 0",
        r"the chip purse of account \d+ has \d+, its loads are \d+ and its records \d+",
    ),
    (
        "chip_gap",
        "update ledger.chip set missing = '{}'",
        r"the chip of card \d+ is at 2 without \{\}, its records give 2 without \{\[1,2\)\}",
    ),
    ("chip_gap", "delete from ledger.chip", r"records of card \d+ came and nothing is known"),
    ("chip_gap", "update ledger.chip set highest = 5", r"is at 5 .*, its records give 2 "),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    ("check", "script", "sentence"), BROKEN, ids=[f"{n}-{each[0]}" for n, each in enumerate(BROKEN)]
)
async def test_what_is_broken_is_found(books: Any, check: str, script: str, sentence: str) -> None:
    card = await holder(books)
    await books.posted(books.record(card, 0, 4), books.record(card, 2, 6))
    await books.posted(books.chip_load(card, 10, chip={"counter": 2, "missing_minor": 5}))
    report = await audit(books.connection)
    assert report.clean, report
    assert all(each.examined for each in report.checks if each.name in CHECKS)
    await books.connection.execute(
        f"set session_replication_role = replica; {script}; set session_replication_role = origin"
    )
    found = await findings(books)
    assert any(re.search(sentence, text) for text in found[check]), found
