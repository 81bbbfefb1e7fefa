"""A worker's lists equal what the ledger has, whatever was written in whatever order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from switch.ledger import rule_lists, sql
from switch.ledger.list_feed import CHANGED_SINCE_US, ListFeed

NOW_US = 1_774_929_600_000_000
SECOND_US = 1_000_000
QUERIES = sql.queries("rules_follower.sql")
pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


async def revision(connection: Any) -> int:
    found: int = await connection.fetchval("select revision from ledger.rules_head")
    return found


async def listed(connection: Any, name: str, at_us: int) -> set[Any]:
    """What the ledger has in force on a list of cards at an instant."""
    rows = await connection.fetch(
        "select value from ledger.rule_list_entry where list = $1 and from_us <= $2"
        " and (until_us is null or until_us > $2) union"
        " select value from ledger.listing where list = $1 and from_us <= $2 and until_us > $2",
        name,
        at_us,
    )
    return {int(row["value"]) for row in rows}


def by_rule(authorization_id: int, value: int, now_us: int, ttl_us: int) -> str:
    return (
        "insert into ledger.listing (shard, authorization_id, list, value, field, rule_id, from_us,"
        f" until_us, posted_at_us) values (0, {authorization_id}, 'blocked', '{value}', 'card_id',"
        f" 'r', {now_us + 2 * SECOND_US}, {now_us + ttl_us}, {now_us})"
    )


@pytest.mark.parametrize("seed", [1, 2])
async def test_any_sequence_of_acts_and_looks_comes_to_what_the_ledger_has(
    connection: Any, seed: int
) -> None:
    dice = random.Random(seed)
    now_us = NOW_US
    names = ("blocked", "groups")
    for name in names:
        await rule_lists.create(connection, name, "card_id", author="ada")
    early, late = ListFeed(), ListFeed()
    for number in range(60):
        now_us += dice.choice((SECOND_US // 2, 3 * SECOND_US, 40 * SECOND_US))
        name, value = dice.choice(names), str(dice.randint(1, 12))
        match dice.randint(0, 3):
            case 0 | 1:
                until_us = (
                    now_us + dice.choice((10, 100)) * SECOND_US if dice.random() < 0.5 else None
                )
                await rule_lists.add_entries(
                    connection, name, "card_id", [value, "99"],
                    reason="tests", author="ada", until_us=until_us, now_us=now_us,
                )  # fmt: skip
            case 2:
                await rule_lists.remove_entries(
                    connection, name, [value], reason="tests", author="ada", now_us=now_us
                )
            case _:
                ttl_us = dice.randint(3, 60) * SECOND_US
                await connection.execute(by_rule(number, int(value), now_us, ttl_us))
        feeds = [early, late] if dice.random() < 0.2 else [early]
        for feed in feeds:
            await feed.follow(connection, await revision(connection), now_us)
            await feed.listings(connection, now_us)
            for name in names:
                for at_us in (now_us, now_us + 3 * SECOND_US):
                    look = feed.book.lookup(name)
                    found = {value for value in (*range(1, 13), 99) if look(value, at_us)}
                    assert found == await listed(connection, name, at_us)


async def test_a_long_absence_reads_every_list_anew(connection: Any) -> None:
    await rule_lists.create(connection, "blocked", "card_id", author="ada")
    feed = ListFeed()
    await feed.follow(connection, await revision(connection), NOW_US)
    for value in range(1, 4):
        await rule_lists.add_entries(
            connection, "blocked", "card_id", [str(value)],
            reason="tests", author="ada", now_us=NOW_US + value * SECOND_US,
        )  # fmt: skip
    back_us = NOW_US + 3 * CHANGED_SINCE_US
    await feed.follow(connection, await revision(connection), back_us)
    look = feed.book.lookup("blocked")
    assert [look(value, back_us) for value in range(1, 5)] == [True, True, True, False]


async def test_a_list_that_holds_something_else_in_the_next_ruleset_takes_what_rules_put_there(
    connection: Any,
) -> None:
    medium = "ab" * 16
    await connection.execute(by_rule(1, 7, NOW_US, 60 * SECOND_US))
    feed = ListFeed()
    feed.declare({"blocked": "card_id"}, live=True)
    await feed.listings(connection, NOW_US)
    look, then_us = feed.book.lookup("blocked"), NOW_US + 3 * SECOND_US
    assert look(7, then_us)
    await connection.execute(
        "insert into ledger.listing (shard, authorization_id, list, value, field, rule_id,"
        " from_us, until_us, posted_at_us)"
        f" values (0, 2, 'blocked', '{medium}', 'medium', 'r', {NOW_US}, {2 * NOW_US}, {NOW_US})"
    )
    feed.declare({"blocked": "medium"})
    await feed.listings(connection, NOW_US)
    assert (look(7, then_us), look(medium, then_us)) == (True, False), "a draft changes nothing"
    feed.declare({"blocked": "medium"}, live=True)
    await feed.listings(connection, NOW_US)
    assert (look(7, then_us), look(medium, then_us)) == (False, True)


class Asking:
    """A connection that counts how many times each query was asked."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.asked: Counter[str] = Counter()

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        self.asked[query] += 1
        found: Sequence[Any] = await self._connection.fetch(query, *args)
        return found


async def test_after_a_quiet_hour_one_entry_does_not_have_every_list_read_whole(
    connection: Any,
) -> None:
    """A large list takes longer to read than an entry takes to be in force."""
    for name in ("blocked", "groups"):
        await rule_lists.create(connection, name, "card_id", author="ada")
    feed, rows = ListFeed(), Asking(connection)
    await feed.follow(rows, await revision(connection), NOW_US)
    assert rows.asked[QUERIES["entries"]] == 2
    now_us = NOW_US
    for _ in range(60):
        now_us += 60 * SECOND_US
        feed.unchanged(now_us)
    await rule_lists.add_entries(
        connection, "groups", "card_id", ["7"], reason="r", author="ada", now_us=now_us
    )
    await feed.follow(rows, await revision(connection), now_us)
    assert rows.asked[QUERIES["entries"]] == 2
    assert feed.book.lookup("groups")(7, now_us + 3 * SECOND_US)


async def test_a_change_is_found_behind_thousands_of_other_events(connection: Any) -> None:
    await rule_lists.create(connection, "blocked", "card_id", author="ada")
    feed = ListFeed()
    await feed.follow(connection, await revision(connection), NOW_US)
    await rule_lists.add_entries(
        connection, "blocked", "card_id", ["7"], reason="r", author="ada", now_us=NOW_US
    )
    await connection.execute(
        "insert into ledger.rules_event (actor, act, subject, revision)"
        " select 'ada', 'review_close', 'authorization ' || n, revision"
        " from ledger.rules_head, generate_series(1, 3000) n"
    )
    await feed.follow(connection, await revision(connection), NOW_US)
    assert feed.book.lookup("blocked")(7, NOW_US + 3 * SECOND_US)


async def test_a_list_of_another_field_takes_nothing_that_rules_listed(connection: Any) -> None:
    await rule_lists.create(connection, "blocked", "medium", author="ada")
    await connection.execute(by_rule(1, 7, NOW_US, 60 * SECOND_US))
    feed = ListFeed()
    await feed.follow(connection, await revision(connection), NOW_US)
    await feed.listings(connection, NOW_US)
    look = feed.book.lookup("blocked")
    assert not look(7, NOW_US + 3 * SECOND_US)
    assert not look("7", NOW_US + 3 * SECOND_US)


async def test_a_large_list_lets_others_run(connection: Any) -> None:
    """Others have their turn many times while it is put in, and look into the old one."""
    await connection.execute(
        "insert into ledger.rule_list (name, field, created_by) values ('large', 'card_id', 'a');"
        "insert into ledger.rule_list_entry (list, value, reason, author, from_us)"
        " select 'large', n::text, 'r', 'a', 0 from generate_series(1, 30000) n"
    )
    feed = ListFeed()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await anyio.lowlevel.checkpoint()
            turns += not feed.book.fields or not feed.book.lookup("large")(1, NOW_US)

    rows = Asking(connection)
    await feed.listings(rows, NOW_US)
    await connection.execute(by_rule(1, 70_000, NOW_US, 60 * SECOND_US))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count_turns)
        await feed.follow(rows, 1, NOW_US)
        tasks.cancel_scope.cancel()
    assert turns > 30_000 // 2_000
    assert feed.book.lookup("large")(30_000, NOW_US)
    assert rows.asked[QUERIES["listings"]] == 2
    assert feed.book.lookup("blocked")(70_000, NOW_US + 3 * SECOND_US), "listed meanwhile"
