"""What postings leave behind for rules: listings, reviews, tags, and counters of places."""

from __future__ import annotations

from typing import Any

import anyio
import msgspec
import pytest

from protocols.message import Outcome
from risk.buckets import Addition
from risk.lists import TAKES_EFFECT_US
from risk.record import (
    Assessment,
    Effect,
    Effects,
    ReviewRequest,
    RuleResult,
    Tagged,
)
from risk.rules import Stage
from switch.ledger import bridge, sql
from switch.ledger.audit import audit
from switch.ledger.bucket_follower import drop_old_buckets
from switch.ledger.effect_columns import bucket_columns, effect_column, spent_on_column
from switch.posting import Directed, Listing, Posting
from tests.simulation.model_ledger import NOON_US, purchase

SERIES, OTHER = b"\x01" * 8, b"\x02" * 8
NOON = NOON_US // 60_000_000
LISTED = {"list": "clones", "field": "card_id", "value": "7", "rule_id": "clone", "until_us": 99}
EFFECTS: dict[str, Any] = {
    "listings": [LISTED, LISTED | {"rule_id": "second"}],
    "reviews": [{"queue": "fraud", "rule_id": "clone"}, {"queue": "fraud", "rule_id": "second"}],
    "tags": [{"tag": "odd", "rule_id": "clone"}, {"tag": "force_online", "rule_id": "clone"}],
}


async def fetched(books: Any, table: str, order: str = "authorization_id") -> list[dict[str, Any]]:
    rows = await books.connection.fetch(f"select * from ledger.{table} order by {order}")
    return [dict(row) for row in rows]


async def clean(books: Any) -> None:
    report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []


async def test_effects_are_written_with_the_row_and_only_with_it(books: Any) -> None:
    first, second = await books.issue(2)
    marked = {"rule_results": b"{}", "effects": EFFECTS}
    plain, declined, late = (
        books.load(first, 100),
        books.decline(second, 5, **marked),
        books.decline(None, 5, remaining_us=0, **marked),
    )
    records = await books.post(plain, declined, late)
    assert [record["verdict"] for record in records] == ["posted", "posted", "expired"]
    authorization_id, posted_at_us = records[1]["authorization_id"], records[1]["posted_at_us"]
    assert await fetched(books, "listing") == [
        {
            "shard": 1, "authorization_id": authorization_id, "list": "clones", "value": "7",
            "field": "card_id", "rule_id": "clone", "until_us": 99,
            "from_us": declined.at_us + TAKES_EFFECT_US, "posted_at_us": posted_at_us,
        }
    ]  # fmt: skip
    (review,) = await fetched(books, "review")
    assert (review["authorization_id"], review["queue"], review["rule_id"], review["verdict"]) == (
        authorization_id, "fraud", "clone", "",
    )  # fmt: skip
    assert (review["business_date"], review["card_id"], review["at_us"]) == (
        books.day, second.card_id, declined.at_us,
    )  # fmt: skip
    tags = await fetched(books, "tag", "tag")
    assert [tag["tag"] for tag in tags] == ["force_online", "odd"]
    assert {tag["authorization_id"] for tag in tags} == {authorization_id}
    await clean(books)


async def test_nothing_of_a_row_that_conflicts_is_left_behind(books: Any) -> None:
    (card,) = await books.issue()
    row = books.decline(
        card, 5, rule_results=b"{}", effects=EFFECTS, additions=[(SERIES, "shops/T1", NOON, 1)]
    )
    (record,) = await books.post(row, versions={card.account_id: 77})
    assert record["verdict"] == "conflict"
    for table in ("listing", "review", "tag", "bucket"):
        assert not await books.count(table)


async def test_a_batch_adds_each_bucket_up_once(books: Any) -> None:
    first, second = await books.issue(2)
    here, there = (SERIES, "shops/T1", NOON, 1), (OTHER, "shops/M1", NOON, 250)
    await books.posted(
        books.decline(first, 1, additions=[here, there]),
        books.decline(second, 1, additions=[here]),
        books.decline(None, 1, additions=[(SERIES, "shops/T1", NOON - 1, 1)]),
        books.decline(first, 1),
    )
    await books.posted(books.decline(first, 1, additions=[(OTHER, "shops/M1", NOON, -100)]))
    await books.posted(books.decline(first, 1, additions=[here]), slot=3)
    rows = await fetched(books, "bucket", "minute, slot, series")
    assert [tuple(row.values()) for row in rows] == [
        (NOON - 1, 1, 0, SERIES, "shops/T1", 1),
        (NOON, 1, 0, SERIES, "shops/T1", 2),
        (NOON, 1, 0, OTHER, "shops/M1", 150),
        (NOON, 1, 3, SERIES, "shops/T1", 1),
    ]
    await clean(books)


async def test_a_busy_merchant_makes_no_worker_wait_for_another(books: Any, database: str) -> None:
    """One worker's posting stands uncommitted; the other's goes through beside it."""
    first, second = await books.issue(2)
    busy = [(SERIES, "shops/M1", NOON, 1)]
    holding = await bridge.connect(database)
    try:
        await holding.execute(sql.queries()["begin"])
        await books.posted(books.load(first, 100, additions=busy), slot=0, connection=holding)
        with anyio.fail_after(20):
            await books.posted(books.load(second, 100, additions=busy), slot=1)
        await holding.execute(sql.queries()["commit"])
    finally:
        holding.terminate()
    rows = await fetched(books, "bucket", "slot")
    assert [(row["slot"], row["amount"]) for row in rows] == [(0, 1), (1, 1)]
    await clean(books)


async def test_old_buckets_go_half_an_hour_at_a_time(books: Any) -> None:
    (card,) = await books.issue()
    kept, oldest = NOON - 25 * 60, NOON - 26 * 60
    minutes = [oldest, oldest + 1, oldest + 29, oldest + 30, kept - 1, kept, NOON]
    added = [(SERIES, "shops/T1", minute, 1) for minute in minutes]
    await books.posted(books.decline(card, 1, additions=added))
    dropped = [await drop_old_buckets(books.connection, NOON_US) for _ in range(4)]
    assert dropped == [3, 2, 0, 0]
    assert [row["minute"] for row in await fetched(books, "bucket", "minute")] == [kept, NOON]


ASKED = Directed(purchase(1), 1, 7, 9, b"m")


def decided(*, effects: Effects | None = None, **changed: Any) -> Posting:
    forced = RuleResult("offline", 2, Stage.AMBER, Effect.FORCED_ONLINE)
    assessment = Assessment(Outcome.APPROVED, "3fa9", results=(forced,), effects=effects)
    return Posting(ASKED, NOON_US, Outcome.APPROVED, **({"assessment": assessment} | changed))


def test_effects_are_sent_as_json_and_nothing_where_there_are_none() -> None:
    effects = Effects(
        reviews=(ReviewRequest("fraud", "clone"),), tags=(Tagged("odd", "clone"),),
        force_online=True,
    )  # fmt: skip
    listing = Listing("clones", "card_id", "7", "clone", 99)
    plain = Posting(ASKED, NOON_US, Outcome.APPROVED)
    quiet = decided(effects=Effects(challenge="pin"))
    assert effect_column([plain, decided(), quiet]) is None
    sent = effect_column([plain, decided(effects=effects, listings=(listing,))])
    assert sent is not None
    assert msgspec.json.decode(sent) == [
        {
            "n": 2,
            "listings": [LISTED],
            "reviews": [{"queue": "fraud", "rule_id": "clone"}],
            "tags": [
                {"tag": "odd", "rule_id": "clone"},
                {"tag": "force_online", "rule_id": "offline"},
            ],
        }
    ]


@pytest.mark.parametrize("count", [0, 2])
def test_additions_are_sent_as_columns(count: int) -> None:
    plain = Posting(ASKED, NOON_US, Outcome.APPROVED)
    counting = decided(additions=(Addition(SERIES, "shops/T1", NOON, 1),) * count)
    rows, series, keys, minutes, amounts = bucket_columns([plain, counting])
    if not count:
        assert rows is series is keys is minutes is amounts is None
        return
    assert (rows, series, keys) == ([2, 2], [SERIES] * 2, ["shops/T1"] * 2)
    assert (minutes, amounts) == ([NOON] * 2, [1, 1])
    assert spent_on_column([plain, counting]) is None
