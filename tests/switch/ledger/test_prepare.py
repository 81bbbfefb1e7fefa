from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import anyio
import pytest

from risk.check import first_ruleset
from risk.findings import RulesetError
from risk.ruleset import ruleset_hash
from switch.calendar import epoch_us
from switch.config import Config, ConfigError, parse
from switch.ledger import bridge, migrate, partitions, rulesets
from switch.ledger.prepare import Prepared, prepare
from switch.terms import ruleset_text

KEY = bytes(range(32))
NOON_US = epoch_us(datetime(2026, 3, 1, 12, tzinfo=UTC))
LATE_US = epoch_us(datetime(2026, 3, 1, 16, 30, tzinfo=UTC))  # 00:30 of 2 March in Shanghai


async def test_a_fresh_database_becomes_a_ledger_and_stays_one(
    empty_database: str, ledger_loop: None
) -> None:
    connection = await bridge.connect(empty_database)
    first = await prepare(connection, Config(), key=KEY, now_us=NOON_US)
    assert first.migrations[0] == "0001_initial"
    assert first.days == [date(2026, 2, 28), *(date(2026, 3, day) for day in range(1, 9))]
    assert await prepare(connection, Config(), key=KEY, now_us=NOON_US) == Prepared([], [])
    assert ("ACQ", "48021000") in await migrate.settlement_accounts(connection)
    assert await partitions.list_days(connection) == first.days
    await connection.close()


async def test_today_is_the_ledgers_business_day(connection: bridge.Connection) -> None:
    config = parse("[ledger]\npartitions_ahead_days = 1", "test.toml")
    prepared = await prepare(connection, config, key=KEY, now_us=LATE_US)
    assert prepared.days == [date(2026, 3, day) for day in (1, 2, 3)]


async def test_a_new_acquirer_gets_its_account(connection: bridge.Connection) -> None:
    await prepare(connection, Config(), key=KEY, now_us=NOON_US)
    more = parse(
        '[[links]]\n[[links]]\nname = "fuel-1"\nport = 1\nacquirer = "48029999"', "test.toml"
    )
    await prepare(connection, more, key=KEY, now_us=NOON_US)
    assert {("ACQ", "48021000"), ("ACQ", "48029999")} <= set(
        await migrate.settlement_accounts(connection)
    )


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("[ledger]\nshards = 8", "shards"),
        ('[ledger]\ntime_zone = "UTC"', "time_zone"),
        ('[ledger]\ncut_off = "04:00"', "cut_off"),
        ('[ledger]\ncurrency = "344"\n[[links]]\ncurrencies = ["344"]', "currency"),
    ],
)
async def test_what_a_ledger_was_begun_with_stays(
    connection: bridge.Connection, text: str, setting: str
) -> None:
    await prepare(connection, Config(), key=KEY, now_us=NOON_US)
    with pytest.raises(migrate.LedgerSettingMismatch, match=setting):
        await prepare(connection, parse(text, "test.toml"), key=KEY, now_us=NOON_US)


async def test_another_key_is_refused(connection: bridge.Connection) -> None:
    await prepare(connection, Config(), key=KEY, now_us=NOON_US)
    with pytest.raises(migrate.LedgerSettingMismatch, match="card_key_fingerprint"):
        await prepare(connection, Config(), key=bytes(32), now_us=NOON_US)


async def test_several_processes_may_start_at_once(empty_database: str, ledger_loop: None) -> None:
    done: list[Prepared] = []

    async def start() -> None:
        connection = await bridge.connect(empty_database)
        done.append(await prepare(connection, Config(), key=KEY, now_us=NOON_US))
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(start)
    assert sorted(len(each.days) for each in done) == [0, 0, 9]
    assert sorted("0001_initial" in each.migrations for each in done) == [False, False, True]


async def test_a_fresh_ledger_begins_with_a_live_ruleset_and_keeps_it(
    connection: bridge.Connection, tmp_path: Path
) -> None:
    first = await prepare(connection, Config(), key=KEY, now_us=NOON_US)
    live = await rulesets.found(connection, "live")
    assert first.ruleset == live.hash == ruleset_hash(first_ruleset())
    assert (live.authors, live.was_live) == (("init",), True)
    file = tmp_path / "rules.toml"
    config = parse(f'[rules]\nfile = "{file}"', "test.toml")
    file.write_text(ruleset_text(Config()) + "\n# other words, the same ruleset\n")
    again = await prepare(connection, config, key=KEY, now_us=NOON_US)
    assert (again.ruleset, again.notices) == (None, ())
    for other in (ruleset_text(Config()).replace('"00:00"', '"04:00"'), "[settings]"):
        file.write_text(other)
        (notice,) = (await prepare(connection, config, key=KEY, now_us=NOON_US)).notices
        assert live.hash[:8] in notice
    assert [view.hash for view in await rulesets.listed(connection)] == [live.hash]


async def test_a_ledger_is_not_begun_with_a_ruleset_that_cannot_be_used(
    connection: bridge.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "rules.toml"
    config = parse(f'[rules]\nfile = "{file}"', "test.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        await prepare(connection, config, key=KEY, now_us=NOON_US)
    file.write_text("[settings]")
    with pytest.raises(RulesetError, match="settings"):
        await prepare(connection, config, key=KEY, now_us=NOON_US)
    assert await rulesets.listed(connection) == []


async def test_a_live_ruleset_of_a_newer_version_is_told_before_any_worker_starts(
    connection: bridge.Connection,
) -> None:
    await connection.execute(
        "insert into ledger.ruleset (hash, canonical, source, title, state, was_live)"
        " values (repeat('ab', 32), '{\"settings\": {\"moons\": 2}}', '', 'newer', 'live', true)"
    )
    with pytest.raises(migrate.LedgerUnfit, match="cannot use the live ruleset abababababab;"):
        await prepare(connection, Config(), key=KEY, now_us=NOON_US)
