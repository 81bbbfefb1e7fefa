"""asyncpg over both backends: the same answers, the same errors, and clean ends."""

from __future__ import annotations

import anyio
import asyncpg
import pytest
import sniffio

from switch.ledger import bridge, embedded, sql


async def test_a_query_answers_on_either_backend(
    connection: bridge.Connection, anyio_backend: str
) -> None:
    assert sniffio.current_async_library() == anyio_backend
    assert await connection.fetchval("select 40 + $1::integer", 2) == 42


async def test_prepared_statements_and_scripts(connection: bridge.Connection) -> None:
    await connection.execute("create temp table t (n integer); insert into t values (1), (2)")
    prepared = await connection.prepare("select n from t where n > $1")
    assert [row["n"] for row in await prepared.fetch(1)] == [2]
    assert await connection.fetchrow("select n from t where n > 5") is None


async def test_a_failing_script_leaves_nothing_behind(connection: bridge.Connection) -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.execute("create table made (n integer); select * from missing")
    assert await connection.fetchval("select to_regclass('made')") is None


async def test_errors_of_the_database_cross_the_bridge(connection: bridge.Connection) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await connection.fetchval("select 1 / 0")
    assert await connection.fetchval("select 1") == 1


async def test_a_lost_connection_is_one_of_the_named_errors(
    connection: bridge.Connection, database: str
) -> None:
    other = await bridge.connect(database)
    pid = await other.fetchval("select pg_backend_pid()")
    await connection.fetchval("select pg_terminate_backend($1, 10000)", pid)
    with pytest.raises(bridge.CONNECTION_LOST):
        await other.fetchval("select 1")
    assert other.closed


async def test_no_server_is_one_of_the_named_errors(
    ledger_loop: None, postgres: embedded.EmbeddedServer
) -> None:
    nowhere = postgres.url.replace(str(postgres.socket_directory), "/nonexistent")
    with pytest.raises((*bridge.CONNECTION_LOST, TimeoutError)):
        await bridge.connect(nowhere, timeout_seconds=2)


async def test_two_connections_work_at_once(connection: bridge.Connection, database: str) -> None:
    """One waits for a lock that the other holds, and the loop carries both."""
    other = await bridge.connect(database)
    got: list[str] = []

    async def wait() -> None:
        await other.fetchval("select pg_advisory_lock(7)")
        got.append("lock")

    await connection.fetchval("select pg_advisory_lock(7)")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        with anyio.fail_after(10):
            while not await connection.fetchval(
                "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
            ):
                pass
        assert got == []
        await connection.fetchval("select pg_advisory_unlock(7)")
    assert got == ["lock"]
    await other.close()
    assert other.closed


@pytest.mark.parametrize("backend", bridge.BACKENDS)
def test_run_starts_either_backend_with_a_loop_for_the_ledger(
    database: str, backend: bridge.Backend
) -> None:
    async def main(answer: int) -> tuple[str, int]:
        connection = await bridge.connect(database)
        found: int = await connection.fetchval("select $1::integer", answer)
        await connection.close()
        return sniffio.current_async_library(), found

    assert bridge.run(backend, main, 42) == (backend, 42)


async def test_the_arrays_that_are_told_are_those_of_the_server(
    connection: bridge.Connection,
) -> None:
    rows = await connection.fetch(
        "select typname, oid::bigint, typelem::bigint, typdelim::text from pg_type"
        " where typname::text = any ($1::text[]) and typnamespace = 'pg_catalog'::regnamespace",
        list(bridge.ARRAYS),
    )
    told = {row["typname"]: (row["oid"], row["typelem"]) for row in rows}
    assert told == bridge.ARRAYS
    assert {row["typdelim"] for row in rows} == {","}


async def test_a_new_connection_does_not_ask_what_an_array_is(
    connection: bridge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def asked(*_args: object) -> None:
        raise AssertionError("the driver looked a type up")

    monkeypatch.setattr(asyncpg.Connection, "_introspect_types", asked)
    numbers = await connection.fetchval("select array[$1::bigint[], $2::bigint[]]", [1], [2])
    assert numbers == [[1], [2]]
    for query in sql.queries("lane.sql").values():
        await connection.prepare(query)


async def test_where_arrays_cannot_be_told_the_driver_asks(
    database: str, ledger_loop: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "_TYPE_ROWS", [{}])
    connection = await bridge.connect(database)
    try:
        assert await connection.fetchval("select $1::bigint[]", [1, 2]) == [1, 2]
    finally:
        await connection.close()


async def test_who_listens_is_told_of_each_notification(database, connection):
    other = await bridge.connect(database)
    try:
        news = anyio.Event()
        await other.listen("citycard_rules", lambda: news.set())
        await connection.execute("select pg_notify('somebody_else', '')")
        await connection.execute("select ledger.rules_changed()")
        with anyio.fail_after(20):
            await news.wait()
    finally:
        other.terminate()
