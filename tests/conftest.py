"""One real PostgreSQL for the whole run, and both async backends for every async test.

- `async def test_…` runs twice, on asyncio and on trio, without a mark. On trio it runs
  inside an asyncio loop that is trio's guest (`ledger_loop`), as the switch itself does,
  so anything in the ledger's bridge just works. anyio runs the fixtures and the test in
  one task, so the loop that a fixture opens is current in the test. A fixture that talks
  to the ledger asks for `ledger_loop` or `connection`.
- `database` is the URL of a fresh migrated database, a copy of a template; dropped later.
- `connection` is a bridge connection to it. More: `await bridge.connect(database)`.
- `postgres` is the server. All workers share it through `embedded.running`, in a folder
  that the next run finds again, so initdb runs once a machine; databases left behind by
  killed runs are dropped by their number. The folder is in memory where that is large, for
  every drop of a database is a checkpoint, which costs seconds on a busy disk.
- `switch_directory` is where a test starts a switch, or an embedded server, of its own.
- With CI set, a skipped test fails: a tool that is missing there is a broken build.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sniffio
import trio_asyncio  # noqa: TID251 - the tests start backends as the bridge does

from switch.ledger import bridge, embedded, migrate, sql

CHECKOUT = Path(__file__).parents[1]
TEMPLATES_KEPT = 5
DROPPED_AT_ONCE = 16
MEMORY_BYTES_MIN = 6 * 1024**3


class Databases:
    """Fresh databases, dropped a batch at a time: a drop is a checkpoint of the whole server."""

    def __init__(self, server: embedded.EmbeddedServer) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._finished: list[str] = []

    @contextmanager
    def fresh(self, template: str) -> Iterator[str]:
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._psql(f'create database "{name}" template "{template}"')
        try:
            yield self._server.url_for(name)
        finally:
            self._finished.append(name)
            if len(self._finished) >= DROPPED_AT_ONCE:
                self.drop_finished()

    def drop_finished(self) -> None:
        self._psql(*(f'drop database "{name}" with (force)' for name in self._finished))
        self._finished.clear()

    def _psql(self, *statements: str) -> None:
        where = ["-h", str(self._server.socket_directory), "-p", str(embedded.PORT)]
        command = [embedded.PROGRAMS / "psql", "-Xq", *where, "-U", embedded.ROLE, "-d", "postgres"]
        spoken = [argument for statement in statements for argument in ("-c", statement)]
        if spoken:
            subprocess.run([*command, *spoken], check=True, timeout=120)


def pytest_configure(config: pytest.Config) -> None:
    config.option.anyio_mode = "auto"


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> None:
    """Every coroutine test gets the loop under it; anyio's own hook gives it a backend."""
    if isinstance(collector, pytest.Module | pytest.Class) and collector.istestfunction(obj, name):
        inner = getattr(getattr(obj, "hypothesis", None), "inner_test", obj)
        if inspect.iscoroutinefunction(inner):
            pytest.mark.usefixtures("ledger_loop")(obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be (CI is set): {report.longrepr}"
    return report


@pytest.fixture(scope="module", params=bridge.BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
async def ledger_loop(anyio_backend: str) -> AsyncIterator[None]:
    """On trio, an asyncio loop for asyncpg; nothing on asyncio."""
    if sniffio.current_async_library() == "asyncio":
        yield
        return
    async with trio_asyncio.open_loop():
        yield


@pytest.fixture
def switch_directory() -> Iterator[Path]:
    """A folder for a switch with an embedded ledger, or for what root shares with others.

    Not `tmp_path`: each pytest that starts closes the parent of those to everybody else, and
    a server that root runs is somebody else. Its path is short enough for a socket.
    """
    made = Path(tempfile.mkdtemp(prefix="citycard-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="session")
def postgres() -> Iterator[embedded.EmbeddedServer]:
    """The server of this run."""
    name = hashlib.sha256(os.fsencode(CHECKOUT)).hexdigest()[:12]
    directory = _roomy() / f"citycard-tests-{os.getuid()}-{name}"
    with embedded.running(directory) as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: embedded.EmbeddedServer) -> str:
    """The name of a database with the shipped schema and functions, to be copied."""
    shipped = "".join(migration.script for migration in sql.migrations()) + sql.functions_hash()
    name = f"template_{hashlib.sha256(shipped.encode()).hexdigest()[:12]}"
    # In a thread of its own: a backend may be running in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(bridge.run, "asyncio", _make_template, postgres, name).result()
    return name


async def _make_template(server: embedded.EmbeddedServer, name: str) -> None:
    connection = await bridge.connect(server.url_for("postgres"))
    try:
        await connection.fetch("select pg_advisory_lock(1)")
        rows = await connection.fetch("select datname from pg_database order by oid")
        names = [row["datname"] for row in rows]
        templates = [known for known in names if known.startswith("template_")]
        stale = [known for known in names if _left_behind(known)]
        if name not in names:
            stale += [known for known in names if known == f"building_{name}"]
            stale += templates[:-TEMPLATES_KEPT]
        for known in stale:
            await connection.execute(f'drop database if exists "{known}" with (force)')
        if name not in names:
            await connection.execute(f'create database "building_{name}"')
            fresh = await bridge.connect(server.url_for(f"building_{name}"))
            await migrate.migrate(fresh)
            await fresh.close()
            await connection.execute(f'alter database "building_{name}" rename to "{name}"')
    finally:
        await connection.close()


def _roomy() -> Path:
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= MEMORY_BYTES_MIN:
        return memory
    return Path(tempfile.gettempdir())


def _left_behind(database: str) -> bool:
    """Whether this is a test's database whose process (its number is in the name) is gone."""
    prefix, _, rest = database.partition("_")
    if prefix != "test":
        return False
    try:
        os.kill(int(rest.partition("_")[0]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@pytest.fixture(scope="session")
def databases(postgres: embedded.EmbeddedServer) -> Iterator[Databases]:
    """Makes the databases of this worker's tests."""
    made = Databases(postgres)
    yield made
    made.drop_finished()


@pytest.fixture
def database(databases: Databases, template: str) -> Iterator[str]:
    """The URL of a fresh ledger."""
    with databases.fresh(template) as url:
        yield url


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[str]:
    """The URL of a database with nothing in it."""
    with databases.fresh("template0") as url:
        yield url


@pytest.fixture
async def connection(database: str, ledger_loop: None) -> AsyncIterator[bridge.Connection]:
    """A connection to the test's fresh ledger."""
    opened = await bridge.connect(database)
    try:
        yield opened
    finally:
        opened.terminate()
