"""A console as it runs: its own thread and backend, a real ledger, and operators of each role."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from risk.backtest_result import Agreement, BacktestResult
from switch.clock import SystemClock
from switch.config import Config
from switch.console.assembly import console
from switch.console.endpoint import ROLES
from switch.ledger import bridge, operators
from switch.ledger.prepare import prepare

PATIENCE_SECONDS = 20.0
PEOPLE = {role: (role,) for role in ROLES} | {"both": ("author", "approver")}
"""An operator of each role by itself, and one with two."""
FIRST_TOML = (Path(__file__).parents[3] / "risk" / "first_ruleset.toml").read_text("utf-8")


class Served:
    """A console that answers, and the tokens of its people."""

    def __init__(self, database: str, tokens: dict[str, str]) -> None:
        self.database, self.tokens = database, tokens
        self.port = 0
        self.live = ""
        self._numbers = iter(range(1, 1_000))

    def client(self, who: str = "", **headers: str) -> httpx.Client:
        """A client with the token of somebody; "" is nobody."""
        if who:
            headers["authorization"] = f"Bearer {self.tokens[who]}"
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip

    def draft_toml(self) -> str:
        """The shipped ruleset with another version of tap_burst, each time another one."""
        head = 'id = "tap_burst"\nversion = '
        before, after = FIRST_TOML.split(head, 1)
        _, rest = after.split("\n", 1)
        return f"{before}{head}{next(self._numbers) + 100}\n{rest}"

    def drafted(self, who: str = "author") -> str:
        """A new draft; its hash."""
        with self.client(who) as client:
            asked = {"title": "another version", "toml": self.draft_toml()}
            answer = client.post("/v1/rulesets", json=asked)
        assert answer.status_code == 201, answer.text
        hash_: str = answer.json()["hash"]
        return hash_

    def fetch(self, text: str, *args: object) -> list[Any]:
        """Rows of the ledger, past the console."""

        async def fetched() -> list[Any]:
            connection = await bridge.connect(self.database)
            try:
                return list(await connection.fetch(text, *args))
            finally:
                await connection.close()

        return in_thread(fetched)


def empty_result(hash_: str, *, cancelled: bool = False) -> BacktestResult:
    """What comes of a day without any authorization."""
    day, hours = date(2026, 1, 1), tuple((0,) * 24 for _ in range(7))
    return BacktestResult(
        hash_, "nothing", day, day, False, 0, 0, 0.0, 1, day, (), Agreement(),
        0, 0, 0, 0, 0, 0, 0, (), (), hours, hours, cancelled=cancelled,
    )  # fmt: skip


def in_thread(body: Any) -> Any:
    """What `body` returns, run on a loop of its own; a backend may be running in this thread."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(bridge.run("asyncio", body)))
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert found, "it raised, or did not end"
    return found[0]


def staffed(database: str) -> Served:
    """A ledger with its first ruleset live and with the people, and nothing that serves yet."""

    async def body() -> Served:
        connection = await bridge.connect(database)
        try:
            now_us = SystemClock().now_us()
            live = (await prepare(connection, Config(), key=bytes(32), now_us=now_us)).ruleset
            tokens = {
                name: await operators.add(connection, f"{name}.one", roles, "test", os.urandom)
                for name, roles in PEOPLE.items()
            }
        finally:
            await connection.close()
        served = Served(database, tokens)
        assert live is not None
        served.live = live
        return served

    made: Served = in_thread(body)
    return made


@contextmanager
def serving(database: str, backend: Any, reports: Path) -> Iterator[Served]:
    """A console in a thread of its own, until the body ends."""
    made = staffed(database)
    stop, ready = threading.Event(), threading.Event()

    async def main() -> None:
        built = console(Config(), database=database, reports=reports, clock=SystemClock())
        made.port = built.open("127.0.0.1", 0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(built.run)
            ready.set()
            await anyio.to_thread.run_sync(stop.wait)
            await built.leave(5.0)

    thread = threading.Thread(target=bridge.run, args=(backend, main))
    thread.start()
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while not ready.wait(0.05):
            assert thread.is_alive(), "the console did not start"
            assert time.monotonic() < until, "the console does not start"
        yield made
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive(), "the console does not end"


@pytest.fixture(scope="session")
def consoles(
    databases: Any, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Served]]:
    """The console of a backend, started when it is first asked for; tests share it."""
    started: dict[str, Served] = {}
    with ExitStack() as stack:

        def of(backend: str) -> Served:
            if backend not in started:
                database = stack.enter_context(databases.fresh(template))
                reports = tmp_path_factory.mktemp("reports")
                started[backend] = stack.enter_context(serving(database, backend, reports))
            return started[backend]

        yield of


@pytest.fixture(scope="module")
def served(consoles: Callable[[str], Served], anyio_backend: str) -> Served:
    """A console that answers, on each backend."""
    return consoles(anyio_backend)
