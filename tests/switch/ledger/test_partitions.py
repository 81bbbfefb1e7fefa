"""Days are made while others work, and put away without losing a row."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import anyio
import asyncpg
import pytest

from switch.ledger import bridge, partitions
from switch.ledger.audit import audit
from switch.ledger.partitions import DayInUse, PartitionsBusy

TODAY = date(2026, 5, 10)


def days(first: int, last: int) -> list[date]:
    return [TODAY + timedelta(days=n) for n in range(first, last + 1)]


async def test_what_is_missing_is_made(connection: bridge.Connection) -> None:
    assert await partitions.make_ahead(connection, TODAY, 3) == days(-1, 3)
    assert await partitions.make_ahead(connection, TODAY, 3) == []
    assert await partitions.make_ahead(connection, TODAY + timedelta(days=1), 3) == days(4, 4)
    assert await partitions.make_ahead(connection, TODAY, 0, 2) == days(-2, -2)
    assert await partitions.list_days(connection) == days(-2, 4)
    tables = {table.table_name for table in await partitions.list_tables(connection)}
    assert {"authorization_20260510", "transfer_20260510"} <= tables


@pytest.mark.parametrize(("ahead", "behind"), [(-1, 1), (1, -1), (367, 1)])
async def test_a_senseless_number_of_days_is_refused(
    connection: bridge.Connection, ahead: int, behind: int
) -> None:
    with pytest.raises(ValueError, match="0 to 366"):
        await partitions.make_ahead(connection, TODAY, ahead, behind)


async def test_workers_make_each_day_once(connection: bridge.Connection, database: str) -> None:
    made: list[date] = []

    async def work() -> None:
        own = await bridge.connect(database)
        made.extend(await partitions.make_ahead(own, TODAY, 2))
        await own.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(work)
    assert sorted(made) == days(-1, 2)


async def test_making_a_day_waits_for_no_reader_and_no_writer(books: Any, database: str) -> None:
    (card,) = await books.issue()
    await books.connection.execute("begin")
    await books.posted(books.load(card, 5))
    await books.connection.fetch("select count(*) from ledger.authorization")
    other = await bridge.connect(database)
    await other.execute("set lock_timeout = '2s'")
    assert await partitions.make_ahead(other, TODAY, 1) == days(-1, 1)
    await books.connection.execute("commit")
    await other.close()


async def test_a_new_day_has_what_its_parent_has(books: Any) -> None:
    """Attached, not created as a partition: indexes, checks and triggers must be the same."""
    for parent in ("authorization", "transfer", "tap"):
        child = f"{parent}_{books.day:%Y%m%d}"
        unattached = await books.connection.fetchval(
            "select count(*) from pg_index x where x.indrelid = $1::regclass and not exists"
            " (select from pg_inherits i where i.inhrelid = x.indexrelid)",
            f"ledger.{child}",
        )
        assert unattached == 0
        constraints = (
            "select contype, pg_get_constraintdef(oid) from pg_constraint"
            " where conrelid = $1::regclass order by 1, 2"
        )
        assert await books.connection.fetch(
            constraints, f"ledger.{child}"
        ) == await books.connection.fetch(constraints, f"ledger.{parent}")
        triggers = "select tgname from pg_trigger where tgrelid = $1::regclass"
        assert await books.connection.fetch(
            triggers, f"ledger.{child}"
        ) == await books.connection.fetch(triggers, f"ledger.{parent}")


async def traffic(books: Any, tomorrow: date) -> Any:
    (card,) = await books.issue()
    before = books.day - timedelta(days=1)
    await books.posted(books.load(card, 500), books.fare(card, 5), day=before)
    (bought,) = await books.posted(books.purchase(card, 100), day=books.day)
    await books.posted(books.reversal(card, bought, 100), day=books.day)
    await books.posted(books.purchase(card, 50), books.decline(card, 9), day=tomorrow)
    return card


async def test_detached_days_move_to_the_archive_and_still_count(
    books: Any, tomorrow: date
) -> None:
    await traffic(books, tomorrow)
    names = await partitions.detach_before(books.connection, books.day, today=tomorrow)
    assert names == ["authorization_20260330", "tap_20260330", "transfer_20260330"]
    assert (await partitions.list_days(books.connection))[0] == books.day
    assert await books.count("transfer") == 3
    assert await books.count("every_transfer") == 5
    report = await audit(books.connection)
    assert report.clean, report
    assert await partitions.detach_before(books.connection, books.day, today=tomorrow) == []
    # and the hot path goes on
    (card,) = await books.issue()
    await books.posted(books.load(card, 5), day=tomorrow)


async def test_an_archived_day_is_append_only(books: Any, tomorrow: date) -> None:
    await traffic(books, tomorrow)
    await partitions.detach_before(books.connection, books.day, today=tomorrow)
    for table in ("transfer", "transfer_20260330", "authorization_20260330", "tap_20260330"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await books.connection.execute(f"delete from ledger_archive.{table}")


async def test_an_archived_day_is_not_made_again(books: Any, tomorrow: date) -> None:
    await partitions.detach_before(books.connection, books.day, today=tomorrow)
    assert await partitions.make_ahead(books.connection, books.day, 0, 1) == []


async def test_the_last_two_days_stay(books: Any, tomorrow: date) -> None:
    for day in (tomorrow, tomorrow + timedelta(days=9)):
        with pytest.raises(DayInUse, match="from 2026-03-31 on are in use"):
            await partitions.detach_before(books.connection, day, today=tomorrow)
    assert len(await partitions.list_days(books.connection)) == 4


async def test_today_is_the_ledgers_own_unless_given(books: Any) -> None:
    """The server's clock in the ledger's time zone; these days are over, or far away."""
    now = await books.connection.fetchval("select (now() at time zone 'Asia/Shanghai')::date")
    with pytest.raises(DayInUse, match=str(now - timedelta(days=1))):
        await partitions.detach_before(books.connection, now)


async def test_an_interrupted_detaching_is_finished_by_the_next(books: Any, tomorrow: date) -> None:
    await traffic(books, tomorrow)
    await books.connection.execute(
        "alter table ledger.transfer detach partition ledger.transfer_20260330"
    )
    report = await audit(books.connection)
    loose = next(check for check in report.checks if check.name == "days_kept")
    assert loose.findings == 1
    names = await partitions.detach_before(books.connection, books.day, today=tomorrow)
    assert sorted(names) == ["authorization_20260330", "tap_20260330", "transfer_20260330"]
    assert (await audit(books.connection)).clean


async def test_a_long_reader_keeps_a_day_and_the_next_detaching_finishes(
    books: Any, tomorrow: date, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_SECONDS_MAX", 1)
    await traffic(books, tomorrow)
    reader = await bridge.connect(database)
    await reader.execute("begin isolation level repeatable read")
    await reader.fetch("select count(*) from ledger.every_transfer")
    with pytest.raises(PartitionsBusy, match="try again"):
        await partitions.detach_before(books.connection, books.day, today=tomorrow)
    # postings go on meanwhile
    (card,) = await books.issue()
    await books.posted(books.load(card, 5), day=tomorrow)
    await reader.execute("commit")
    await partitions.detach_before(books.connection, books.day, today=tomorrow)
    assert (await partitions.list_days(books.connection))[0] == books.day
    assert (await audit(books.connection)).clean
    await reader.close()


async def test_detaching_waits_for_an_audit(
    books: Any, tomorrow: date, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "LOCK_SECONDS_MAX", 1)
    auditing = await bridge.connect(database)
    locked = "select pg_advisory_lock_shared(hashtextextended('citycard.archive', 0))"
    await auditing.fetch(locked)
    with pytest.raises(PartitionsBusy):
        await partitions.detach_before(books.connection, books.day, today=tomorrow)
    await auditing.close()
    assert await partitions.detach_before(books.connection, books.day, today=tomorrow)
