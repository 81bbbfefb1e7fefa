"""A ledger that is away, hangs, or comes back: said so in time, and no connection is left over."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import anyio
import httpx
import pytest

from switch.clock import SystemClock
from switch.config import Config
from switch.console.assembly import console
from switch.console.ledger import CONNECTIONS_MAX, ConsoleLedger, console_ledger
from switch.console.serving import serve
from switch.ledger import bridge
from switch.ledger.failures import LedgerLost, LedgerRefused
from tests.switch.console.conftest import PATIENCE_SECONDS

TOKEN = f"cco_{'0' * 12}_{'A' * 43}"


async def test_without_a_ledger_every_request_is_told_to_come_back(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    built = console(Config(), database=nowhere, reports=tmp_path, clock=SystemClock())
    port = built.open("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(built.run)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}", trust_env=False
        ) as asking:
            answer = await asking.get("/v1/me", headers={"authorization": f"Bearer {TOKEN}"})
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert answer.json()["type"] == "urn:citycard:problem:away"
            assert (await asking.get("/docs")).status_code == 200
        await built.leave(1.0)


async def test_a_connection_that_is_lost_is_replaced(database: str) -> None:
    ledger = console_ledger(database, PATIENCE_SECONDS)
    ((first,),) = await ledger.fetch("select pg_backend_pid()")
    ((again,),) = await ledger.fetch("select pg_backend_pid()")
    assert first == again, "one is enough where nobody waits"
    other = await bridge.connect(database)
    await other.fetch("select pg_terminate_backend($1, 20000)", first)
    with suppress(LedgerLost):  # nobody may have noticed yet
        await ledger.fetch("select 1")
    ((replaced,),) = await ledger.fetch("select pg_backend_pid()")
    assert replaced != first
    await other.close()
    ledger.close()


async def test_what_fails_leaves_no_transaction_and_no_turn_behind(database: str) -> None:
    async def fail_half_way() -> None:
        async with ledger.connection() as connection:
            await connection.execute("begin")
            await connection.execute(
                "insert into ledger.rule_list (name, field, created_by) values ('x', 'stop', 'me')"
            )
            raise ValueError("half-way")

    ledger = console_ledger(database, PATIENCE_SECONDS)
    for _ in range(2 * CONNECTIONS_MAX):
        with pytest.raises(ValueError, match="half-way"):
            await fail_half_way()
        with pytest.raises(LedgerRefused):
            await ledger.fetch("select 1 / 0")
    assert (await ledger.fetch("select count(*) from ledger.rule_list"))[0][0] == 0
    ledger.close()


async def test_who_waits_too_long_for_a_turn_is_told(database: str) -> None:
    async def connect() -> bridge.Connection:
        return await bridge.connect(database)

    ledger = ConsoleLedger(connect, connections_max=1, wait_seconds=0.05)
    async with ledger.connection():
        with pytest.raises(LedgerLost):
            await ledger.fetch("select 1")
    assert await ledger.fetch("select 1")
    ledger.close()


def test_a_console_does_not_start_without_its_ledger(tmp_path: Path, empty_database: str) -> None:
    ready = tmp_path / "ready.json"
    for database, code in (("postgresql://nobody@127.0.0.1:1/none", 3), (empty_database, 2)):
        found = serve(
            Config(), backend="asyncio", database=database, reports=tmp_path, ready_file=ready
        )
        assert found == code
        assert not ready.exists()
