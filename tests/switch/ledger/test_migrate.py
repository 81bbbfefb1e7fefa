"""A database becomes a ledger by the migrations alone, and unfit ones are refused."""

from __future__ import annotations

import re
import subprocess
from datetime import date
from pathlib import Path

import anyio
import asyncpg
import pytest

from switch.ledger import bridge, embedded, migrate, sql

TERMS = {
    "shards": 4,
    "time_zone": "Asia/Shanghai",
    "cut_off": "04:30",
    "currency": "156",
    "card_key_fingerprint": "feedc0de",
    "acquirers": ["metro", "bus"],
}


def catalogue(url: str) -> str:
    """The schema as pg_dump writes it: sorted by kind and name, without the dump's own keys."""
    shown = subprocess.run(
        [embedded.PROGRAMS / "pg_dump", "--schema-only", url],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "CREATE TABLE ledger.purse" in shown.stdout
    return re.sub(r"^\\(un)?restrict .*$", "", shown.stdout, flags=re.MULTILINE)


async def test_schema_and_migrations_make_the_same_catalogue(
    ledger_loop: None, database: str, empty_database: str
) -> None:
    connection = await bridge.connect(empty_database)
    await connection.execute(sql.script("schema.sql"))
    await migrate.make_functions(connection)
    await connection.close()
    assert catalogue(empty_database) == catalogue(database)


async def test_schema_and_migrations_bring_the_same_rows(
    connection: bridge.Connection, empty_database: str
) -> None:
    other = await bridge.connect(empty_database)
    await other.execute(sql.script("schema.sql"))
    chart = "select code, name, class, normal from ledger.chart order by code"
    assert await other.fetch(chart) == await connection.fetch(chart)
    await other.close()


async def test_migrating_again_does_nothing(ledger_loop: None, empty_database: str) -> None:
    connection = await bridge.connect(empty_database)
    newest = [f"{m.version:04}_{m.name}" for m in sql.migrations()]
    assert await migrate.migrate(connection) == [*newest, "functions"]
    assert await migrate.migrate(connection) == []
    await migrate.assert_migrated(connection)
    await connection.close()


async def test_workers_that_start_at_once_apply_each_migration_once(
    ledger_loop: None, empty_database: str
) -> None:
    applied: list[str] = []

    async def start() -> None:
        connection = await bridge.connect(empty_database)
        applied.extend(await migrate.migrate(connection))
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(start)
    assert sorted(applied) == sorted({*applied}), "each once"
    assert {*applied} == {*(f"{m.version:04}_{m.name}" for m in sql.migrations()), "functions"}


async def test_a_failing_migration_leaves_nothing_behind(
    connection: bridge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = sql.Migration(9999, "broken", "create table ledger.made (n integer); select 1 / 0")
    shipped = (*sql.migrations(), broken)
    monkeypatch.setattr(sql, "migrations", lambda: shipped)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(connection)
    assert await connection.fetchval("select to_regclass('ledger.made')") is None
    assert await connection.fetchval("select max(version) from ledger.migration") < 9999


async def test_changed_functions_are_replaced_and_removed_ones_dropped(
    connection: bridge.Connection,
) -> None:
    await connection.execute(
        "create function ledger.gone() returns integer language sql as 'select 1';"
        "drop function ledger.make_partitions(date);"
        "update ledger.setting set value = 'older' where name = 'functions_hash'"
    )
    with pytest.raises(migrate.LedgerNotMigrated, match="citycard init"):
        await migrate.assert_migrated(connection)
    assert await migrate.migrate(connection) == ["functions"]
    assert await connection.fetchval("select to_regproc('ledger.gone')") is None
    assert await connection.fetchval("select to_regproc('ledger.make_partitions') is not null")


async def test_a_newer_ledger_is_refused(connection: bridge.Connection) -> None:
    await connection.execute("insert into ledger.migration values (9999, 'from_the_future')")
    with pytest.raises(migrate.LedgerTooNew, match=r"is at migration 9999.*run the newer version"):
        await migrate.migrate(connection)


async def test_tables_without_a_record_of_migrations_are_refused(
    ledger_loop: None, empty_database: str
) -> None:
    connection = await bridge.connect(empty_database)
    await connection.execute(sql.script("schema.sql"))
    with pytest.raises(migrate.LedgerNotMigrated, match="empty database"):
        await migrate.migrate(connection)
    await connection.close()


async def test_initialise_writes_settings_and_opens_accounts(
    connection: bridge.Connection,
) -> None:
    await migrate.initialise(connection, **TERMS)
    stored = await migrate.settings(connection)
    assert stored == {
        "shards": "4",
        "time_zone": "Asia/Shanghai",
        "cut_off": "04:30",
        "currency": "156",
        "card_key_fingerprint": "feedc0de",
        "functions_hash": sql.functions_hash(),
    }
    accounts = await migrate.settlement_accounts(connection)
    assert accounts.keys() == {("BANK", "trust"), ("ACQ", "metro"), ("ACQ", "bus")}
    assert all(0 < account < 1_000_000 for account in accounts.values())


async def test_each_start_may_initialise_and_adds_only_new_acquirers(
    connection: bridge.Connection,
) -> None:
    await migrate.initialise(connection, **TERMS)
    before = await migrate.settlement_accounts(connection)
    for _ in range(3):
        await migrate.initialise(connection, **TERMS | {"acquirers": ["ferry", "bus"]})
    after = await migrate.settlement_accounts(connection)
    assert after == before | {("ACQ", "ferry"): max(before.values()) + 1}, "no id is used up"


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("shards", 8),
        ("time_zone", "UTC"),
        ("cut_off", "00:00"),
        ("currency", "344"),
        ("card_key_fingerprint", "00ff"),
    ],
)
async def test_a_setting_never_changes(
    connection: bridge.Connection, setting: str, wanted: object
) -> None:
    await migrate.initialise(connection, **TERMS)
    with pytest.raises(migrate.LedgerSettingMismatch) as caught:
        await migrate.initialise(connection, **TERMS | {setting: wanted, "acquirers": ["new"]})
    assert caught.value.setting == setting
    assert repr(str(TERMS[setting])) in str(caught.value)
    assert repr(str(wanted)) in str(caught.value)
    assert ("ACQ", "new") not in await migrate.settlement_accounts(connection)


async def test_starts_at_once_agree(connection: bridge.Connection, database: str) -> None:
    refused: list[str] = []

    async def start(shards: int) -> None:
        own = await bridge.connect(database)
        try:
            await migrate.initialise(own, **TERMS | {"shards": shards})
        except migrate.LedgerSettingMismatch as mismatch:
            refused.append(mismatch.wanted)
        await own.close()

    async with anyio.create_task_group() as tasks:
        for shards in (2, 4, 2, 4):
            tasks.start_soon(start, shards)
    stored = (await migrate.settings(connection))["shards"]
    assert refused == [{"2": "4", "4": "2"}[stored]] * 2


async def test_a_durable_server_is_accepted(connection: bridge.Connection) -> None:
    await migrate.assert_durable(connection)
    for value in ("local", "remote_write", "remote_apply"):
        await connection.execute(f"set synchronous_commit = {value}")
        await migrate.assert_durable(connection)


async def test_a_commit_that_may_be_lost_is_refused(connection: bridge.Connection) -> None:
    await connection.execute("set synchronous_commit = off")
    with pytest.raises(migrate.NotDurable, match="set synchronous_commit = on"):
        await migrate.assert_durable(connection)


async def test_an_old_server_is_refused(
    connection: bridge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "SERVER_VERSION_NUM_MIN", 990_000)
    with pytest.raises(migrate.ServerTooOld, match=r"the ledger needs 99 or newer; upgrade"):
        await migrate.assert_durable(connection)


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_forget_is_refused(switch_directory: Path, setting: str) -> None:
    """Such a server is started for real: a session cannot change these two."""

    async def forgetful(url: str) -> None:
        connection = await bridge.connect(url)
        await connection.execute(f"alter system set {setting} = off")
        await connection.close()

    async def check(url: str) -> None:
        connection = await bridge.connect(url)
        try:
            await migrate.assert_durable(connection)
        finally:
            await connection.close()

    with embedded.running(switch_directory) as server:
        bridge.run("asyncio", check, server.url)
        bridge.run("asyncio", forgetful, server.url)
    refused = pytest.raises(migrate.NotDurable, match=f"{setting} is off .*set {setting} = on")
    with embedded.running(switch_directory) as server, refused:
        bridge.run("asyncio", check, server.url)


async def test_a_transaction_is_rolled_back_when_its_body_is_cancelled(
    connection: bridge.Connection,
) -> None:
    with anyio.CancelScope() as scope:
        async with migrate.transaction(connection):
            await connection.execute("create table ledger.made (n integer)")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert await connection.fetchval("select to_regclass('ledger.made')") is None


async def test_a_ledger_of_the_first_version_keeps_its_month_totals(
    ledger_loop: None, empty_database: str
) -> None:
    """What each old message spent is worked out, through the append-only triggers, once.

    The totals of its week and life, which were not kept then, follow from it.
    """
    connection = await bridge.connect(empty_database)
    first = sql.migrations()[0]
    await connection.execute(first.script)
    await connection.fetch(sql.queries()["record_migration"], first.version, first.name)
    await connection.execute(
        "create table ledger.authorization_20260331 partition of ledger.authorization"
        " for values from ('2026-03-31') to ('2026-04-01')"
    )
    for number, kind, outcome, original_id in (
        (1, "load", "approved", 0),
        (2, "purchase", "approved", 0),
        (3, "purchase", "approved", 0),
        (4, "reversal", "approved", 3),
        (5, "purchase", "count_limit", 0),
    ):
        approved_minor = 70 if outcome == "approved" else 0
        await connection.fetch(
            "insert into ledger.authorization values ('2026-03-31', 1, $1, 1000001, 1, 1, 1, 1,"
            " decode(lpad(to_hex($1::bigint), 32, '0'), 'hex'), '', '02', $2, 'retail', 'l', 'm',"
            " 't', 'm', '5411', '071', '', '', '', '', '156', 70, $3, 2, $4, $5, 'r', '', '')",
            number, kind, approved_minor, outcome, original_id,
        )  # fmt: skip
    await connection.execute(
        "insert into ledger.purse (shard, account_id, purse) values (1, 1000001, 2)"
    )
    assert "0002_lifecycle" in await migrate.migrate(connection)
    purse = await connection.fetchrow("select * from ledger.purse")
    assert (purse["week"], purse["week_count"], purse["week_minor"]) == (date(2026, 3, 30), 2, 70)
    assert (purse["lifetime_count"], purse["lifetime_minor"]) == (2, 70)
    rows = await connection.fetch(
        "select spent_count, spent_minor from ledger.every_authorization order by authorization_id"
    )
    assert [tuple(row) for row in rows] == [(0, 0), (1, 70), (1, 70), (0, -70), (0, 0)]
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute("update ledger.authorization set spent_minor = 1")
    await connection.close()


async def test_what_was_spent_before_totals_were_kept_is_in_them(
    ledger_loop: None, empty_database: str
) -> None:
    """Of days attached, archived, and of one whose detaching was interrupted."""
    connection = await bridge.connect(empty_database)
    for migration in sql.migrations():
        if migration.name == "rules":
            break
        await connection.execute(migration.script)
        await connection.fetch(sql.queries()["record_migration"], migration.version, migration.name)
    await connection.execute(
        "insert into ledger.purse (shard, account_id, purse) values (1, 1000001, 2);"
        "create table ledger.authorization_20260331 partition of ledger.authorization"
        " for values from ('2026-03-31') to ('2026-04-01');"
        "create table ledger_archive.authorization_20260303 partition of"
        " ledger_archive.authorization for values from ('2026-03-03') to ('2026-03-04');"
        "create table ledger.authorization_20260324"
        " (like ledger.authorization including defaults including constraints)"
    )
    for number, (table, day) in enumerate(
        (
            ("ledger.authorization", date(2026, 3, 31)),
            ("ledger.authorization_20260324", date(2026, 3, 24)),
            ("ledger_archive.authorization", date(2026, 3, 3)),
        ),
        1,
    ):
        await connection.fetch(
            f"insert into {table} (business_date, shard, authorization_id, account_id, card_id,"
            " at_us, posted_at_us, deadline_at_us, key, payload_hash, message_class, kind, segment,"
            " link, acquirer, terminal, merchant, mcc, entry_mode, stan, local_at, rrn, auth_code,"
            " currency, amount_minor, approved_minor, purse, outcome, original_id, ruleset,"
            " rule_results, explanation, spent_count, spent_minor)"
            " values ($1, 1, $2, 1000001, 1, 1, 1, 1, decode(lpad(to_hex($2::bigint), 32, '0'),"
            " 'hex'), '', '02', 'purchase', 'retail', 'l', 'm', 't', 'm', '5411', '071', '', '',"
            " '', '', '156', 70, 70, 2, 'approved', 0, 'r', '', '', 1, 70)",
            day,
            number,
        )
    await migrate.migrate(connection)
    purse = await connection.fetchrow("select * from ledger.purse")
    assert (purse["week"], purse["week_count"], purse["week_minor"]) == (date(2026, 3, 30), 1, 70)
    assert (purse["lifetime_count"], purse["lifetime_minor"]) == (3, 210)
    await connection.close()
