"""What a backtest reads beside the rows, and days that it must not pass over in silence."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from protocols.card_number import numbered_card
from protocols.message import Outcome
from risk.backtest import Replay, Subject
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.ruleset import Ruleset
from switch.backtest.beside import read_book
from switch.backtest.failures import HistoryUnreadable
from switch.backtest.history import HistoryReader
from switch.config import parse
from switch.ledger import bridge, cards, migrate, partitions
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.store import Store
from switch.terms import load_terms
from tests.simulation.model_ledger import CALENDAR, FakeClock
from tests.switch.backtest.conftest import DAY, KEY, SHARDS

HALF = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "04:00"
currency = "156"

[[rules]]
id = "loads"
version = 1
name = "Loads of half the cards"
stage = "amber"
when = { fact = "kind", op = "eq", value = "load" }
then = { decline = "do_not_honour", reason = "no loads" }
canary_percent = 50
"""


async def test_a_day_on_its_way_to_the_archive_is_not_taken_for_an_empty_one(
    connection: bridge.Connection,
) -> None:
    await partitions.make_ahead(connection, DAY, 1, 0)
    reader = HistoryReader(connection, shards=range(SHARDS), until_us=2**62, timeout_seconds=20)
    assert [chunk async for chunk in reader.days(DAY, DAY, DAY)] == []
    await connection.execute(
        f"alter table ledger.authorization detach partition ledger.authorization_{DAY:%Y%m%d}"
    )
    with pytest.raises(HistoryUnreadable, match=f"^{DAY} is on its way to the archive"):
        _ = [chunk async for chunk in reader.days(DAY, DAY, DAY)]


async def test_a_list_holds_what_the_ledger_says_or_else_the_text(
    connection: bridge.Connection, tight: Ruleset
) -> None:
    """Rules of other rulesets may have listed something else under its name."""
    await connection.execute(
        "insert into ledger.rule_list (name, field, created_by) values ('stopped', 'medium', 'ann')"
    )
    listed = [("stopped", "terminal", "T1"), ("watched", "terminal", "T1"),
              ("watched", "card_id", "7"), ("stopped", "medium", "ab")]  # fmt: skip
    for number, (name, field, value) in enumerate(listed):
        await connection.fetch(
            "insert into ledger.listing values (0, $1, $2, $3, $4, 'a_rule', 10, 20, 5)",
            number, name, value, field,
        )  # fmt: skip
    book = await read_book(connection, tight)
    assert book.fields == {"stopped": "medium", "watched": "card_id"}
    assert book.lookup("watched")(7, 10)
    assert book.lookup("stopped")("ab", 10)
    assert not book.lookup("stopped")("T1", 10)


async def test_loads_at_the_counter_are_replayed_without_a_medium(
    city_of: Callable[[], Any], connection: bridge.Connection, database: str
) -> None:
    """They find the card by its id, and so does the canary that they were decided by."""
    half = load_ruleset(HALF)
    async with city_of():
        new = [cards.NewCard(numbered_card("621299", n), tier="T2") for n in range(1, 13)]
        issued = await cards.issue(connection, new, shards=SHARDS, key=KEY, overdraft_minor=0)
        terms = load_terms(parse("", "defaults"), await migrate.settlement_accounts(connection))
        store = await Store.open(database, 10)
        numbers = itertools.count(1)
        replies = await load_purses(
            store,
            [LoadOrder(card.shard, card.account_id, card.card_id, "GEN", 100) for card in issued],
            terms=msgspec.structs.replace(
                terms, rules=compile_ruleset(half), rule_settings=half.settings
            ),
            currency="156",
            calendar=CALENDAR,
            clock=FakeClock(),
            entropy=lambda size: next(numbers).to_bytes(size, "big"),
        )
        store.terminate()
    assert {reply.outcome for reply in replies} == {Outcome.APPROVED, Outcome.DO_NOT_HONOUR}
    reader = HistoryReader(connection, shards=range(SHARDS), until_us=2**62, timeout_seconds=20)
    replay = Replay(Subject(half), from_date=DAY)
    async for chunk in reader.days(DAY, DAY, DAY):
        replay.rows(chunk)
    tally = replay.finished()
    assert tally.agreement_equal == tally.agreement_rows == len(issued)
