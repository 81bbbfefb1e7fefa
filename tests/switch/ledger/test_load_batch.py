"""load_batch hands over what a decision needs, a row a request, and no more than was asked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from switch.ledger import sql

LOAD_BATCH = sql.queries("lane.sql")["load_batch"]
NOBODY = (0, 0)


async def load(
    books: Any,
    *requests: Any,
    day: Any = None,
    since_us: int = 0,
    events_max: int = 512,
    keys: list[bytes] | None = None,
    originals: list[int] | None = None,
    shard: int = 1,
) -> list[Any]:
    """Facts for (account id, card id) pairs or issued cards."""
    pairs = [r if isinstance(r, tuple) else (r.account_id, r.card_id) for r in requests]
    records = await books.connection.fetch(
        LOAD_BATCH, shard, day or books.day, since_us, events_max,
        [account for account, _ in pairs], [card for _, card in pairs],
        keys or [b"no such key 0000"] * len(pairs), originals or [0] * len(pairs),
    )  # fmt: skip
    return list(records)


async def test_a_row_a_request_in_order(books: Any) -> None:
    first, second = await books.issue(2, tier="T1")
    rows = await load(books, second, NOBODY, first, second)
    assert [row["last4"] for row in rows] == [second.last4, None, first.last4, second.last4]
    assert [row["tier"] for row in rows] == ["T1", None, "T1", "T1"]


async def test_an_account_comes_with_its_version_status_and_purses(books: Any) -> None:
    (card,) = await books.issue(expires_yymm="2912", product="student")
    await books.posted(books.load(card, 500), books.purchase(card, 120))
    (row,) = await load(books, card)
    assert (row["account_version"], row["account_status"], row["card_status"]) == (
        1, "active", "active",
    )  # fmt: skip
    assert (row["product"], row["expires_yymm"]) == ("student", "2912")
    columns = ["purse", "balance_minor", "held_minor", "floor_minor", "month_count", "month_minor"]
    purses = sorted(zip(*(row[column] for column in columns), strict=True))
    assert purses == [(1, 0, 0, 0, 0, 0), (2, 380, 0, 0, 1, 120)]


async def test_the_totals_of_another_month_are_nothing(books: Any, tomorrow: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500), books.purchase(card, 120))
    (row,) = await load(books, card, day=tomorrow)
    assert row["month_count"] == row["month_minor"] == [0, 0]


async def test_an_unknown_account_or_another_shards_has_nothing(books: Any) -> None:
    (card,) = await books.issue(shard=2)
    for shard, request in ((1, card), (1, NOBODY), (1, (99, 99))):
        (row,) = await load(books, request, shard=shard)
        assert row["account_version"] is row["purse"] is row["at_us"] is row["last4"] is None


async def test_an_unknown_card_shares_no_history_with_other_unknown_cards(books: Any) -> None:
    await books.posted(books.decline(None, 5), books.decline(None, 6))
    (row,) = await load(books, NOBODY)
    assert row["at_us"] is None


async def test_history_is_newest_first_and_bounded_by_time_and_number(books: Any) -> None:
    card, other = await books.issue(2)
    yesterday = books.day - timedelta(days=1)
    await books.posted(books.load(card, 900, at_us=1_000), day=yesterday)
    await books.posted(books.load(other, 900, at_us=1_500))
    await books.posted(books.purchase(card, 10, at_us=2_000), books.decline(card, 7, at_us=3_000))
    (row,) = await load(books, card)
    assert row["at_us"] == [3_000, 2_000, 1_000]
    assert row["kind"] == ["purchase", "purchase", "load"]
    assert row["amount_minor"] == [7, 10, 900]
    assert row["outcome"] == ["insufficient_funds", "approved", "approved"]
    assert row["card_id"] == [card.card_id] * 3
    (row,) = await load(books, card, since_us=1_000)
    assert row["at_us"] == [3_000, 2_000]
    (row,) = await load(books, card, events_max=1)
    assert row["at_us"] == [3_000]


async def test_the_same_key_brings_what_is_stored_also_over_the_cut_off(
    books: Any, tomorrow: Any
) -> None:
    (card,) = await books.issue()
    stored = books.load(card, 500)
    (stored_id,) = await books.posted(stored)
    for day in (books.day - timedelta(days=1), books.day, tomorrow):
        known, unknown = await load(books, card, card, day=day, keys=[stored.key, b"x" * 16])
        assert known["stored_id"] == stored_id
        assert known["stored_payload_hash"] == b"h"
        assert (known["stored_outcome"], known["stored_approved_minor"]) == ("approved", 500)
        assert not known["stored_followed_by"]
        assert unknown["stored_id"] is None
    (later,) = await load(books, card, day=tomorrow + timedelta(days=1), keys=[stored.key])
    assert later["stored_id"] is None


async def test_an_original_comes_with_what_became_of_it(books: Any, tomorrow: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    row = books.purchase(card, 120)
    (bought,) = await books.posted(row)
    (before,) = await load(books, card, originals=[bought], day=tomorrow)
    assert before["original_account_id"] == card.account_id
    assert (before["original_kind"], before["original_outcome"]) == ("purchase", "approved")
    assert (before["original_approved_minor"], before["original_purse"]) == (120, 2)
    assert before["original_business_date"] == books.day
    assert (before["original_acquirer"], before["original_mcc"]) == ("metro", "5411")
    assert not before["original_followed_by"]
    await books.posted(books.reversal(card, bought, 120, spent_minor=0), day=tomorrow)
    (after,) = await load(books, card, originals=[bought], keys=[row.key], day=tomorrow)
    assert after["original_followed_by"] == ["reversal"]
    assert after["stored_followed_by"] == ["reversal"]


async def test_a_declined_reversal_is_not_a_follower(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (bought,) = await books.posted(books.purchase(card, 120))
    await books.posted(books.decline(card, 120, kind="reversal", original_id=bought))
    (row,) = await load(books, card, originals=[bought])
    assert not row["original_followed_by"]


@pytest.mark.parametrize("original", [0, 999_999])
async def test_no_original_no_record(books: Any, original: int) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (row,) = await load(books, card, originals=[original])
    assert row["original_account_id"] is None
