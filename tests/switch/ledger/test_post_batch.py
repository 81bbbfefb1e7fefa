"""post_batch writes a whole batch or nothing, and only what is still true."""

from __future__ import annotations

from typing import Any

import anyio
import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switch.ledger import bridge
from switch.ledger.audit import audit


async def test_an_approval_moves_money_position_totals_and_version(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 1000))
    await books.posted(books.purchase(card, 300), books.purchase(card, 200))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["month_count"], purse["month_minor"]) == (500, 2, 500)
    assert purse["month"] == books.day.replace(day=1)
    assert await books.versions(books.load(card, 1)) == {card.account_id: 2}
    positions = await books.connection.fetch(
        "select settlement_account_id, debit_minor, credit_minor, transfer_count"
        " from ledger.position order by 1"
    )
    assert {tuple(row) for row in positions} == {
        (books.trust, 1000, 0, 1),
        (books.acquirer, 0, 500, 2),
    }


async def test_rows_come_back_in_order_with_their_ids(books: Any) -> None:
    first, second = await books.issue(2)
    ids = await books.posted(books.load(second, 5), books.decline(None, 9), books.load(first, 7))
    rows = await books.connection.fetch(
        "select authorization_id, account_id, outcome from ledger.authorization order by 1"
    )
    assert [tuple(row) for row in rows] == [
        (ids[0], second.account_id, "approved"),
        (ids[1], 0, "insufficient_funds"),
        (ids[2], first.account_id, "approved"),
    ]


async def test_a_stale_version_conflicts_and_the_others_are_written(books: Any) -> None:
    stale, fresh = await books.issue(2)
    rows = books.load(stale, 100), books.load(fresh, 100)
    versions = await books.versions(*rows) | {stale.account_id: 7}
    records = await books.post(*rows, versions=versions)
    assert [record["verdict"] for record in records] == ["conflict", "posted"]
    assert (await books.purse(stale))["balance_minor"] == 0
    assert (await books.purse(fresh))["balance_minor"] == 100
    assert await books.count("authorization") == await books.count("transfer") == 1


async def test_an_account_that_was_not_locked_conflicts(books: Any) -> None:
    (card,) = await books.issue()
    (record,) = await books.post(books.load(card, 100), versions={})
    assert record["verdict"] == "conflict"
    assert await books.count("authorization") == 0


async def test_an_account_of_another_shard_conflicts(books: Any) -> None:
    (card,) = await books.issue(shard=2)
    (record,) = await books.post(books.load(card, 100), shard=1)
    assert record["verdict"] == "conflict"


async def test_a_spent_budget_expires_and_takes_its_account_with_it(books: Any) -> None:
    late, other = await books.issue(2)
    records = await books.post(
        books.load(late, 1), books.load(late, 2, remaining_us=0), books.load(other, 3)
    )
    assert [record["verdict"] for record in records] == ["conflict", "expired", "posted"]
    assert (await books.purse(late))["balance_minor"] == 0
    assert await books.count("transfer") == 1


async def test_what_is_posted_is_within_its_deadline(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 1, remaining_us=30_000_000))
    posted_at_us, deadline_at_us = await books.connection.fetchrow(
        "select posted_at_us, deadline_at_us from ledger.authorization"
    )
    assert 0 <= deadline_at_us - posted_at_us <= 30_000_000


async def test_a_purse_below_its_floor_raises_and_nothing_is_written(books: Any) -> None:
    poor, rich = await books.issue(2)
    await books.posted(books.load(rich, 100))
    with pytest.raises(asyncpg.CheckViolationError):
        await books.post(books.purchase(rich, 10), books.purchase(poor, 1))
    assert (await books.purse(rich))["balance_minor"] == 100
    assert await books.count("authorization") == 1


async def test_a_posting_must_move_exactly_what_it_approved(books: Any) -> None:
    (card,) = await books.issue()
    unequal = books.load(card, 100)
    unequal.approved_minor = 99
    without = books.load(card, 100)
    without.transfers = []
    declined = books.load(card, 100)
    declined.outcome, declined.approved_minor = "balance_cap", 0
    for wrong in (unequal, without, declined):
        with pytest.raises(asyncpg.CheckViolationError, match="another amount than it approved"):
            await books.post(books.load(card, 5), wrong)
    assert await books.count("authorization") == 0


async def test_a_purse_that_does_not_exist_raises(books: Any) -> None:
    card, other = await books.issue(2)
    row = books.load(card, 100)
    row.transfers = [(books.trust, other.account_id * 16 + 9, 100)]
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await books.post(row)


async def test_a_key_has_one_row_a_day(books: Any) -> None:
    (card,) = await books.issue()
    row = books.load(card, 100)
    await books.posted(row)
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.post(books.load(card, 100, key=row.key))
    assert (await books.purse(card))["balance_minor"] == 100


@pytest.mark.parametrize("table", ["authorization", "transfer"])
@pytest.mark.parametrize("change", ["delete from", "update"])
async def test_the_daily_tables_are_append_only(books: Any, table: str, change: str) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    rest = "" if change == "delete from" else "set amount_minor = 1"
    for name in (table, f"{table}_{books.day:%Y%m%d}"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await books.connection.execute(f"{change} ledger.{name} {rest}")


async def test_positions_of_two_processes_are_two_rows(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100), slot=0)
    await books.posted(books.load(card, 50), slot=1)
    rows = await books.connection.fetch("select slot, debit_minor from ledger.position order by 1")
    assert [tuple(row) for row in rows] == [(0, 100), (1, 50)]


async def test_a_purchase_of_nothing_is_counted(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.purchase(card, 0))
    assert (await books.purse(card))["month_count"] == 1


async def test_totals_begin_anew_with_the_month_and_never_go_back(
    books: Any, tomorrow: Any
) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 1000), books.purchase(card, 300))
    await books.posted(books.purchase(card, 10), day=tomorrow)
    # a batch of the old month that comes after the first of the new one
    await books.posted(books.purchase(card, 200), day=books.day)
    purse = await books.purse(card)
    assert purse["month"] == tomorrow
    assert (purse["month_count"], purse["month_minor"]) == (1, 10)
    assert purse["balance_minor"] == 490
    assert (await audit(books.connection)).clean


async def hold_rows(books: Any) -> list[tuple[Any, ...]]:
    rows = await books.connection.fetch(
        "select hold_id, status, purpose, amount_minor, authorization_id, resolved_by"
        " from ledger.hold order by hold_id"
    )
    return [tuple(row) for row in rows]


async def test_a_hold_sets_money_aside_and_a_completion_takes_less(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 1000))
    (held,) = await books.posted(books.preauthorization(card, 300))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"], purse["month_count"]) == (1000, 300, 0)
    (completed,) = await books.posted(books.completion(card, held, 250))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"], purse["month_minor"]) == (750, 0, 250)
    assert await hold_rows(books) == [
        (held, "completed", "preauthorization", 300, held, completed),
    ]
    assert (await audit(books.connection)).clean


async def test_what_is_held_cannot_be_spent(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100), books.preauthorization(card, 80))
    with pytest.raises(asyncpg.CheckViolationError):
        await books.post(books.purchase(card, 21))
    with pytest.raises(asyncpg.CheckViolationError):
        await books.post(books.preauthorization(card, 21))
    await books.posted(books.purchase(card, 20))
    assert (await audit(books.connection)).clean


async def test_a_hold_resolves_once(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    held, other = await books.posted(
        books.preauthorization(card, 30), books.preauthorization(card, 40)
    )
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="not open in its account"):
        await books.post(books.completion(card, held, 30), books.cancel(card, held, 30))
    await books.posted(books.cancel(card, held, 30))
    for again in (books.cancel(card, held, 30), books.completion(card, held, 10)):
        with pytest.raises(asyncpg.ForeignKeyViolationError, match="not open in its account"):
            await books.post(again)
    await books.posted(books.completion(card, other, 40))
    assert (await books.purse(card))["held_minor"] == 0
    assert (await audit(books.connection)).clean


async def test_a_hold_is_resolved_by_its_own_account_only(books: Any) -> None:
    first, second = await books.issue(2)
    await books.posted(books.load(first, 100), books.load(second, 100))
    (held,) = await books.posted(books.preauthorization(first, 30))
    with pytest.raises(asyncpg.ForeignKeyViolationError, match="not open in its account"):
        await books.post(books.cancel(second, held, 30))


async def test_a_hold_is_resolved_for_what_it_has(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    (held,) = await books.posted(books.preauthorization(card, 30))
    for wrong in (books.completion(card, held, 31), books.cancel(card, held, 29)):
        with pytest.raises(asyncpg.CheckViolationError, match="another amount than it has"):
            await books.post(wrong)
    unheld = books.preauthorization(card, 30)
    unheld.approved_minor = 29
    with pytest.raises(asyncpg.CheckViolationError, match="another amount than it approved"):
        await books.post(unheld)
    assert [row[1] for row in await hold_rows(books)] == ["open"]


async def test_a_hold_opened_again_keeps_the_words_of_the_first(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    (held,) = await books.posted(
        books.preauthorization(card, 30, rrn="first", auth_code="FIRST1", acquirer="bus")
    )
    (taken,) = await books.posted(books.completion(card, held, 25))
    back = books.reversal(card, taken, 25, opens=("preauthorization", 30, held))
    (reopened,) = await books.posted(back)
    rows = await books.connection.fetch(
        "select hold_id, authorization_id, rrn, auth_code, acquirer from ledger.hold order by 1"
    )
    assert [tuple(row) for row in rows] == [
        (held, held, "first", "FIRST1", "bus"),
        (reopened, held, "first", "FIRST1", "bus"),
    ]
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.post(books.preauthorization(card, 5, opens=("preauthorization", 5, held)))
    await books.posted(books.completion(card, reopened, 30, original_id=held))
    assert (await books.purse(card))["balance_minor"] == 70
    assert (await audit(books.connection)).clean


async def test_a_pending_load_holds_nothing_of_the_purse(books: Any) -> None:
    (card,) = await books.issue()
    (pending,) = await books.posted(books.load_pending(card, 60))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"]) == (0, 0)
    (confirmed,) = await books.posted(books.load_confirmed(card, pending, 60))
    purse = await books.purse(card)
    assert (purse["balance_minor"], purse["held_minor"]) == (60, 0)
    assert await hold_rows(books) == [(pending, "completed", "load", 60, pending, confirmed)]
    assert (await audit(books.connection)).clean


async def test_a_conflict_opens_resolves_and_counts_nothing(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    (held,) = await books.posted(books.preauthorization(card, 30))
    rows = [
        books.preauthorization(card, 5),
        books.cancel(card, held, 30),
        books.decline(card, 1, pin_tries=2),
    ]
    for row in rows:
        (record,) = await books.post(row, versions={card.account_id: 99})
        assert record["verdict"] == "conflict"
    assert await hold_rows(books) == [(held, "open", "preauthorization", 30, held, 0)]
    assert (await books.purse(card))["held_minor"] == 30
    assert await books.connection.fetchval("select max(pin_tries) from ledger.card") == 0


async def test_wrong_pins_are_counted_on_their_card(books: Any) -> None:
    first, second = await books.issue(2)
    await books.posted(
        books.decline(first, 1, pin_tries=1),
        books.decline(second, 1, pin_tries=1),
        books.decline(first, 1, pin_tries=2),
        books.decline(None, 1),
    )
    await books.posted(books.decline(second, 1, pin_tries=0), books.decline(first, 1))
    rows = await books.connection.fetch("select card_id, pin_tries from ledger.card")
    tries = {row["card_id"]: row["pin_tries"] for row in rows}
    assert (tries[first.card_id], tries[second.card_id]) == (2, 0)


async def test_a_waiting_batch_sees_what_the_one_before_it_did(books: Any, database: str) -> None:
    """Two batches of one account at once: the second waits, then conflicts."""
    (card,) = await books.issue()
    versions = await books.versions(books.load(card, 1))
    second = await bridge.connect(database)
    verdicts = []

    async def post_second() -> None:
        (record,) = await books.post(books.load(card, 7), versions=versions, connection=second)
        verdicts.append(record["verdict"])

    watching = await bridge.connect(database)
    await books.connection.execute("begin")
    await books.posted(books.load(card, 5), versions=versions)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(post_second)
        with anyio.fail_after(10):
            while not await watching.fetchval(
                "select exists (select from pg_locks where not granted"
                " and database = (select oid from pg_database where datname = current_database())"
                " or not granted and locktype = 'transactionid')"
            ):
                await anyio.lowlevel.checkpoint()
        await books.connection.execute("commit")
    assert verdicts == ["conflict"]
    assert (await books.purse(card))["balance_minor"] == 5
    await second.close()
    await watching.close()


async def test_two_connections_on_the_same_accounts_lose_nothing(books: Any, database: str) -> None:
    cards = await books.issue(3)
    await books.posted(*(books.load(card, 1000) for card in cards))
    conflicts = 0

    async def spend(order: int) -> None:
        nonlocal conflicts
        connection = await bridge.connect(database)
        due = [card for card in cards[::order] for _ in range(5)]
        while due:
            rows = [books.purchase(card, 1) for card in due[:4]]
            found = await connection.fetch("select account_id, version from ledger.account")
            known = {row["account_id"]: row["version"] for row in found}
            versions = {row.card.account_id: known[row.card.account_id] for row in rows}
            records = await books.post(*rows, versions=versions, connection=connection)
            conflicts += sum(record["verdict"] == "conflict" for record in records)
            kept = [r.card for r, done in zip(rows, records, strict=True) if done[0] != "posted"]
            due = kept + due[4:]
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for order in (1, -1, 1, -1):
            tasks.start_soon(spend, order)
    for card in cards:
        purse = await books.purse(card)
        assert (purse["balance_minor"], purse["month_count"]) == (1000 - 20, 20)
    assert (await audit(books.connection)).clean


STEPS = st.lists(
    st.tuples(
        st.lists(
            st.tuples(
                st.integers(0, 2),
                st.sampled_from(["load", "purchase", "decline"]),
                st.integers(1, 99),
            ),
            min_size=1,
            max_size=5,
        ),
        st.booleans(),
    ),
    max_size=6,
)
"""Batches, and whether each is decided on versions that are no more. Nothing is drawn later, in
the test: where Hypothesis then ends an example, it ends the loop that all tests share."""


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(batches=STEPS)
async def test_batches_agree_with_a_naive_model(books: Any, batches: Any) -> None:
    """A dictionary of balances, where a batch that would overdraw is refused as a whole."""
    cards = await books.issue(3)
    balances, counts = [0, 0, 0], [0, 0, 0]
    for batch, is_stale in batches:
        rows = []
        after, counted = list(balances), list(counts)
        for index, kind, minor in batch:
            rows.append(getattr(books, kind)(cards[index], minor))
            after[index] += {"load": minor, "purchase": -minor, "decline": 0}[kind]
            counted[index] += kind == "purchase"
        if is_stale:
            stale = {row.card.account_id: -1 for row in rows}
            records = await books.post(*rows, versions=stale)
            assert {record["verdict"] for record in records} == {"conflict"}
            continue
        if min(after) < 0:
            with pytest.raises(asyncpg.CheckViolationError):
                await books.post(*rows)
            continue
        await books.posted(*rows)
        balances, counts = after, counted
    for card, balance, count in zip(cards, balances, counts, strict=True):
        purse = await books.purse(card)
        assert (purse["balance_minor"], purse["month_count"]) == (balance, count)
    assert (await audit(books.connection)).clean
