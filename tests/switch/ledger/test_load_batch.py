"""load_batch hands over what a decision needs, a row a request, and no more than was asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from switch.ledger import sql
from switch.ledger.audit import audit

LOAD_BATCH = sql.queries("lane.sql")["load_batch"]
NOBODY = (0, 0)


class Asked(msgspec.Struct, kw_only=True):
    """What one request asks for beside its account."""

    id: int = 0
    key: bytes = b""
    rrn: str = ""
    code: str = ""
    kinds: str = "purchase completion offline_sale"
    holds: bool = False
    acquirer: str = "metro"
    terminal: str = ""
    since: date | None = None
    until: date | None = None
    fares: bool = False
    fare_date: date | None = None
    counter: int | None = None


async def load(
    books: Any,
    *requests: Any,
    day: Any = None,
    since_us: int = 0,
    events_max: int = 512,
    keys: list[bytes] | None = None,
    related: Sequence[Asked | None] | None = None,
    shard: int = 1,
) -> list[Any]:
    """Facts for (account id, card id) pairs or issued cards."""
    pairs = [r if isinstance(r, tuple) else (r.account_id, r.card_id) for r in requests]
    asked = related or [None] * len(pairs)
    rows = [each for each in asked if each is not None]
    places, place = [], 0
    for each in asked:
        place += each is not None
        places.append(place if each is not None else 0)
    today = day or books.day
    records = await books.connection.fetch(
        LOAD_BATCH, shard, today, since_us, events_max, 16,
        [account for account, _ in pairs], [card for _, card in pairs],
        keys or [b"no such key 0000"] * len(pairs),
        places, [row.holds for row in rows], [row.id for row in rows], [row.key for row in rows],
        [row.rrn for row in rows], [row.code for row in rows], [row.kinds for row in rows],
        [row.acquirer for row in rows], [row.terminal for row in rows],
        [row.since or today - timedelta(days=1) for row in rows],
        [row.until or today + timedelta(days=1) for row in rows],
        [row.fares for row in rows], [row.fare_date for row in rows], 200,
        [row.counter for row in rows], 64,
    )  # fmt: skip
    return list(records)


def original(row: Any) -> Any:
    """The original of a row as a dictionary, None where none was found."""
    return None if row["original"] is None else json.loads(row["original"])


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
        assert known["stored_followers"] is None
        assert unknown["stored_id"] is None
    (later,) = await load(books, card, day=tomorrow + timedelta(days=1), keys=[stored.key])
    assert later["stored_id"] is None


async def test_an_original_comes_with_what_became_of_it(books: Any, tomorrow: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    row = books.purchase(card, 120)
    (bought,) = await books.posted(row)
    asked = [Asked(id=bought)]
    (before,) = await load(books, card, related=asked, day=tomorrow)
    found = original(before)
    assert found.pop("event")["given_minor"] == -1, "see test_counted_event.py"
    assert found == {
        "account_id": card.account_id, "kind": "purchase", "outcome": "approved",
        "approved_minor": 120, "purse": 2, "business_date": books.day.isoformat(),
        "acquirer": "metro", "mcc": "5411", "followers": {}, "authorization_id": bought,
        "original_id": 0, "at_us": row.at_us, "currency": "156", "terminal": "T1",
        "merchant": "M1", "rrn": "r", "auth_code": "A", "spent_count": 1, "spent_minor": 120,
        "spent_on": None,
        "legs": [{
            "debit_account_id": card.account_id * 16 + 2,
            "credit_account_id": books.acquirer, "amount_minor": 120,
        }],
        "hold": None,
    }  # fmt: skip
    await books.posted(books.reversal(card, bought, 120, spent_minor=0), day=tomorrow)
    (after,) = await load(books, card, related=asked, keys=[row.key], day=tomorrow)
    told = {"reversed": True, "taken_back": False, "repeats": 0, "withdrawn": 0, "changes": []}
    assert original(after)["followers"] == told
    assert json.loads(after["stored_followers"]) == told
    assert (await audit(books.connection)).clean


async def test_a_declined_reversal_is_not_a_follower(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (bought,) = await books.posted(books.purchase(card, 120))
    await books.posted(books.decline(card, 120, kind="reversal", original_id=bought))
    (row,) = await load(books, card, related=[Asked(id=bought)])
    assert original(row)["followers"] == {}


@pytest.mark.parametrize("asked", [None, Asked(), Asked(id=999_999), Asked(rrn="another")])
async def test_no_original_no_record(books: Any, asked: Asked | None) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (row,) = await load(books, card, related=[asked])
    assert row["original"] is None


async def test_an_original_is_found_by_key_on_the_days_asked_only(
    books: Any, tomorrow: date
) -> None:
    (card,) = await books.issue()
    row = books.load(card, 500)
    (stored,) = await books.posted(row)
    for since, until, found in (
        (books.day, books.day, stored),
        (books.day - timedelta(days=1), tomorrow, stored),
        (tomorrow, tomorrow, None),
    ):
        asked = Asked(key=row.key, since=since, until=until)
        (facts,) = await load(books, card, related=[asked], day=tomorrow)
        assert (original(facts) or {}).get("authorization_id") == found


async def test_by_rrn_the_right_kind_the_approved_and_the_newest_come_first(books: Any) -> None:
    card, other = await books.issue(2)
    await books.posted(books.load(card, 500, rrn="R1"), books.load(other, 500))
    (first,) = await books.posted(books.purchase(card, 10, rrn="R1", auth_code="AAAAAA"))
    (second,) = await books.posted(books.purchase(card, 20, rrn="R1", auth_code="BBBBBB"))
    await books.posted(
        books.decline(card, 30, rrn="R1", auth_code=""),
        books.preauthorization(card, 40, rrn="R1", auth_code="AAAAAA"),
        books.purchase(other, 50, rrn="R1", auth_code="AAAAAA"),
    )

    async def found(**asked: Any) -> Any:
        (row,) = await load(books, card, related=[Asked(**asked)])
        told = original(row)
        return None if told is None else told["authorization_id"]

    assert await found(rrn="R1") == second
    assert await found(rrn="R1", code="AAAAAA") == first
    assert await found(code="AAAAAA") == first
    assert await found(rrn="R9", code="BBBBBB") == second
    assert await found(rrn="R1", kinds="preauthorization") > second
    assert await found(rrn="R9") is None
    assert await found(id=first, rrn="R9") == first
    assert await found(id=999_999, rrn="R1") is None, "who knows the id means that one"


async def test_a_card_of_another_issuer_is_found_by_its_rrn_only(books: Any) -> None:
    stranger = books.decline(None, 14, approved_minor=14, rrn="U1", auth_code="CCCCCC")
    stranger.outcome, stranger.transfers = "approved", [(books.intercity, books.acquirer, 14)]
    (posted,) = await books.posted(stranger)
    by_rrn, by_code = await load(
        books, NOBODY, NOBODY, related=[Asked(rrn="U1"), Asked(code="CCCCCC")]
    )
    assert original(by_rrn)["authorization_id"] == posted
    assert by_code["original"] is None


async def test_followers_say_what_each_is_worth_and_what_was_undone(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (sold,) = await books.posted(books.purchase(card, 100))
    (refund,) = await books.posted(books.given_back(card, sold, 30))
    (void,) = await books.posted(books.given_back(card, sold, 70, kind="void"))
    part = books.purchase(card, 10, kind="reversal", original_id=refund)
    whole = books.purchase(card, 70, kind="reversal", original_id=void)
    part.spent_count = whole.spent_count = 0
    await books.posted(part, whole)
    adjusted = books.purchase(card, 5, kind="adjustment", original_id=sold)
    adjusted.spent_count = 0
    (tip,) = await books.posted(adjusted)
    (taken,) = await books.posted(books.reversal(card, sold, 25))

    async def followers() -> Any:
        (row,) = await load(books, card, related=[Asked(id=sold)])
        return original(row)["followers"]

    told = await followers()
    changes = [(c["authorization_id"], c["approved_minor"], c["undone"]) for c in told["changes"]]
    assert changes == [(refund, 20, False), (void, 70, True), (tip, 5, False), (taken, 25, False)]
    assert not told["reversed"]
    await books.posted(books.reversal(card, sold, 60))
    told = await followers()
    assert told["reversed"]
    assert [change["kind"] for change in told["changes"]] == ["refund", "void", "adjustment"]
    assert (await audit(books.connection)).clean


async def test_open_holds_are_oldest_first_and_bounded(books: Any) -> None:
    card, other = await books.issue(2)
    await books.posted(books.load(card, 500), books.load(other, 500))
    held = await books.posted(*(books.preauthorization(card, minor) for minor in range(1, 20)))
    (pending,) = await books.posted(books.load_pending(other, 7))
    await books.posted(books.completion(card, held[0], 1), books.cancel(card, held[2], 3))
    mine, others, nobody = await load(
        books, card, other, NOBODY, related=[Asked(holds=True), Asked(holds=True), None]
    )
    expected = [held[1], *held[3:]][:16]
    assert [hold["hold_id"] for hold in json.loads(mine["holds"])] == expected
    (hold,) = json.loads(others["holds"])
    assert (hold["purpose"], hold["amount_minor"], hold["authorization_id"]) == ("load", 7, pending)
    assert nobody["holds"] is None


async def test_the_hold_of_an_original_comes_whatever_became_of_it(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    (held,) = await books.posted(books.preauthorization(card, 30))
    (taken,) = await books.posted(books.completion(card, held, 25))
    rows = await load(books, card, card, related=[Asked(id=held), Asked(id=taken)])
    for row in rows:
        hold = original(row)["hold"]
        assert (hold["hold_id"], hold["amount_minor"]) == (held, 30)


async def test_only_the_days_asked_for_are_touched(books: Any, tomorrow: date) -> None:
    """A search of one day must not read the index of every other attached day."""
    (card,) = await books.issue()
    await books.posted(books.load(card, 500))
    far = tomorrow + timedelta(days=1)

    async def scans() -> dict[str, int]:
        await books.connection.fetch("select pg_stat_force_next_flush()")
        rows = await books.connection.fetch(
            "select relname, coalesce(idx_scan, 0) from pg_stat_user_tables"
            " where relname like 'authorization\\_2%'"
        )
        return {row[0]: row[1] for row in rows}

    asked = [
        Asked(key=b"no such key 0000", rrn="R", since=books.day, until=books.day),
        Asked(id=5, since=books.day, until=books.day),
    ]
    before = await scans()
    await load(books, card, NOBODY, related=asked, day=far)
    after = await scans()
    yesterday = f"authorization_{books.day - timedelta(days=1):%Y%m%d}"
    assert after[yesterday] == before[yesterday]
    today = f"authorization_{books.day:%Y%m%d}"
    assert after[today] > before[today]


async def test_pins_come_with_their_card(books: Any) -> None:
    (card,) = await books.issue()
    (row,) = await load(books, card)
    assert (row["pin_reference"], row["pin_tries"]) == (b"", 0)
    await books.connection.execute(
        "update ledger.card set pin_reference = '0123456789abcdef', pin_tries = 2"
    )
    (row,) = await load(books, card)
    assert (row["pin_reference"], row["pin_tries"]) == (b"0123456789abcdef", 2)
