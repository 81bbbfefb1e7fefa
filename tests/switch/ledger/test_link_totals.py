"""Totals of a link as the ledger tells them, and the desk that asks it."""

from __future__ import annotations

from datetime import date, timedelta

import anyio
import pytest

from protocols.iso8583.dialect import Totals
from switch.clock import SystemClock
from switch.ledger import bridge, sql
from switch.ledger.link_totals import QUEUE_MAX, LinkTotals, open_for_totals

TODAY = date(2026, 7, 1)
LINK = "retail-1"
_QUERY = sql.queries()["link_totals"]


class Rows:
    """Writes authorizations as they stand in the ledger, without the money they moved."""

    def __init__(self, connection: bridge.Connection) -> None:
        self._connection = connection
        self._number = 0

    async def add(self, kind, approved_minor, *, original=0, day=TODAY, message_class="02", **more):
        """One row; its id. Columns that are not named here get what the type has for nothing."""
        self._number += 1
        columns = await self._connection.fetch(
            "select column_name, data_type, column_default, is_nullable"
            " from information_schema.columns"
            " where table_schema = 'ledger' and table_name = 'authorization'"
        )
        nothing = {"bigint": 0, "smallint": 0, "text": "", "bytea": b"", "boolean": False}
        values = {
            row["column_name"]: nothing[row["data_type"]]
            for row in columns
            if row["data_type"] in nothing
            and row["column_default"] is None
            and row["is_nullable"] == "NO"
        }
        values |= {
            "business_date": day, "shard": self._number % 2 if not original else original % 2,
            "authorization_id": self._number, "key": self._number.to_bytes(16, "big"),
            "kind": kind, "link": LINK, "terminal": "T1", "outcome": "approved",
            "approved_minor": approved_minor, "original_id": original,
            "message_class": message_class, "currency": "156",
        } | more  # fmt: skip
        names = ", ".join(values)
        marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        await self._connection.execute(
            f"insert into ledger.authorization ({names}) values ({marks})", *values.values()
        )
        return self._number


@pytest.fixture
async def ledger(connection):
    for day in (TODAY - timedelta(days=1), TODAY):
        await connection.fetch("select ledger.make_partitions($1)", day)
    return Rows(connection)


async def told(connection, terminal="", link=LINK, day=TODAY) -> Totals:
    rows = await connection.fetch(_QUERY, link, terminal, day)
    counted = {f"{row['side']}_count": row["entries"] for row in rows}
    return Totals(**counted, **{f"{row['side']}_minor": row["amount_minor"] for row in rows})


async def test_each_kind_stands_on_its_side(connection, ledger):
    for kind in ("purchase", "completion", "offline_sale", "adjustment"):
        await ledger.add(kind, 100)
    await ledger.add("refund", 30)
    await ledger.add("credit_adjustment", 7)
    for kind in ("load", "load_pending", "preauthorization", "inquiry", "repeat", "hold_expiry"):
        await ledger.add(kind, 1_000)
    await ledger.add("purchase", 0, outcome="insufficient_funds")
    assert await told(connection) == Totals(
        credit_count=2, credit_minor=37, debit_count=4, debit_minor=400
    )


async def test_what_is_taken_back_is_a_reversal_of_its_side(connection, ledger):
    sale = await ledger.add("purchase", 500)
    yesterday = await ledger.add("purchase", 900, day=TODAY - timedelta(days=1))
    refund = await ledger.add("refund", 200)
    hold = await ledger.add("preauthorization", 300)
    void = await ledger.add("void", 500, original=sale)
    await ledger.add("reversal", 900, original=yesterday, message_class="04")
    await ledger.add("reversal", 200, original=refund, message_class="04")
    await ledger.add("reversal", 300, original=hold, message_class="04")
    assert await told(connection) == Totals(
        credit_count=1, credit_minor=200, credit_reversal_count=1, credit_reversal_minor=200,
        debit_count=1, debit_minor=500, debit_reversal_count=2, debit_reversal_minor=1_400,
    )  # fmt: skip
    # taking the void back, the sale stands again
    await ledger.add("reversal", 500, original=void, message_class="04", shard=void % 2)
    totals = await told(connection)
    assert totals.debit_minor - totals.debit_reversal_minor == 500 - 900


async def test_an_approval_that_was_answered_too_late_counts_for_nobody(connection, ledger):
    late = await ledger.add("purchase", 500)
    await ledger.add("reversal", 500, original=late)
    await ledger.add("purchase", 1)
    assert await told(connection) == Totals(debit_count=1, debit_minor=1)


async def test_only_the_link_the_terminal_and_the_day_that_were_asked(connection, ledger):
    await ledger.add("purchase", 1)
    await ledger.add("purchase", 10, terminal="T2")
    await ledger.add("purchase", 100, link="hosts")
    await ledger.add("purchase", 1_000, day=TODAY - timedelta(days=1))
    assert (await told(connection)).debit_minor == 11
    assert (await told(connection, "T2")).debit_minor == 10
    assert (await told(connection, link="hosts")).debit_minor == 100
    assert (await told(connection, day=TODAY - timedelta(days=1))).debit_minor == 1_000
    assert await told(connection, day=date(2020, 1, 1)) == Totals()


# ---- the desk --------------------------------------------------------------------------------


async def test_the_desk_answers_one_after_the_other(connection, ledger, database):
    await ledger.add("purchase", 5)
    desk = LinkTotals(lambda: open_for_totals(database, 10), SystemClock())
    answers: list[Totals | None] = []
    for _ in range(QUEUE_MAX + 2):
        desk.ask(LINK, "", TODAY, answers.append)
    assert answers == [None, None], "more than the queue holds is refused at once"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.run)
        with anyio.fail_after(20):
            while len(answers) < QUEUE_MAX + 2:  # noqa: ASYNC110 - a callback tells
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert answers[2:] == [Totals(debit_count=1, debit_minor=5)] * QUEUE_MAX


async def test_a_desk_without_its_ledger_says_so_and_comes_back(connection, ledger, database):
    await ledger.add("purchase", 5)
    opened: list[bridge.Connection] = []

    async def open_connection() -> bridge.Connection:
        if not opened:
            opened.append(connection)
            raise ConnectionRefusedError
        opened.append(await open_for_totals(database, 10))
        return opened[-1]

    desk = LinkTotals(open_connection, SystemClock())
    answers: list[Totals | None] = []

    async def ask() -> None:
        before = len(answers)
        desk.ask(LINK, "", TODAY, answers.append)
        with anyio.fail_after(20):
            while len(answers) == before:  # noqa: ASYNC110 - a callback tells
                await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.run)
        await ask()
        await ask()
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name = 'citycard reconciliation' and datname = current_database()"
        )
        await ask()
        await ask()
        tasks.cancel_scope.cancel()
    assert answers[0] is None
    assert answers[1] == answers[3] == Totals(debit_count=1, debit_minor=5)


async def test_the_server_ends_a_total_that_takes_too_long(connection, ledger, database):
    """A lock held by another stands for a day too large to be added up."""
    blocked = await bridge.connect(database)
    await blocked.execute("begin; lock table ledger.authorization in access exclusive mode")
    opened: list[bridge.Connection] = []

    async def open_connection() -> bridge.Connection:
        opened.append(await open_for_totals(database, 10))
        await opened[-1].execute("set statement_timeout = 100")
        return opened[-1]

    desk = LinkTotals(open_connection, SystemClock())
    answers: list[Totals | None] = []
    desk.ask(LINK, "", TODAY, answers.append)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(desk.run)
        with anyio.fail_after(20):
            while not answers:  # noqa: ASYNC110 - a callback tells
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    blocked.terminate()
    assert answers == [None]
