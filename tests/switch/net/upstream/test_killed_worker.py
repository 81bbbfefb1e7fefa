"""Real processes: a worker killed with -9 while a host thinks; the next one reverses."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from loadtest.wire import ASCII_FRAMING
from protocols.framing import Framer, frame
from protocols.iso8583 import decode, encode
from protocols.iso8583.client import Sale, sale_message
from switch.clock import SystemClock
from switch.config import Config, Ledger, Link, Server
from switch.config_trouble import LinkFraming, Standin, Upstream
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.prepare import prepare
from switch.worker import Assignment
from tests.switch.net.upstream.city import CARD, CITY_B

PATIENCE_SECONDS = 40.0
SILENT = 1_070


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def said(running: subprocess.Popen[bytes]) -> Any:
    assert running.stdout is not None
    return json.loads(running.stdout.readline())


@contextmanager
def worker(assignment: Assignment) -> Iterator[subprocess.Popen[bytes]]:
    with process("switch.worker") as running:
        assert running.stdin is not None
        running.stdin.write(msgspec.json.encode(assignment) + b"\n")
        running.stdin.flush()
        assert said(running)["slot"] == 0
        yield running


def sale(stan: int, amount_minor: int) -> bytes:
    message = sale_message(
        "iso87_ascii",
        Sale(
            card=CARD, amount_minor=amount_minor, stan=stan, terminal="T0000042",
            merchant="SHOP42", local_at=datetime.now(UTC), mcc="5411", acquirer="48021000",
        ),
    )  # fmt: skip
    return frame(ASCII_FRAMING, encode("iso87_ascii", message))


def pay(port: int, stan: int, amount_minor: int) -> str:
    """The code of one sale over a connection of its own."""
    framer = Framer(ASCII_FRAMING)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(sale(stan, amount_minor))
        while not (frames := framer.feed(connection.recv(4_096))):
            pass
    return decode("iso87_ascii", frames[0].payload).text(39)


async def fetch(database: str, text: str) -> list[Any]:
    connection = await bridge.connect(database)
    try:
        return list(await connection.fetch(text))
    finally:
        connection.terminate()


def states(database: str) -> list[str]:
    rows = bridge.run(
        "asyncio", fetch, database, "select state from ledger.forwarded order by stan"
    )
    return [row["state"] for row in rows]


def until(condition: Any) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


async def made_ready(database: str, config: Config, key: bytes) -> None:
    connection = await bridge.connect(database)
    await prepare(connection, config, key=key, now_us=SystemClock().now_us())
    await connection.close()


async def audited(database: str) -> bool:
    connection = await bridge.connect(database)
    report = await audit(connection)
    await connection.close()
    return report.clean


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_what_a_killed_worker_asked_is_reversed_by_the_next(database: str, tmp_path: Path) -> None:
    key_file = tmp_path / "card_number.key"
    make_key(key_file)
    with process("loadtest.host") as host:
        link = Link(
            name="retail-1", port=0, dialect="iso87_ascii", sign_on="none", budget_ms=1_000,
            framing=LinkFraming(length="ascii4", tpdu=False, header_bytes=0),
        )  # fmt: skip
        city_b = Upstream(
            name="city-b", host="127.0.0.1", port=said(host)["port"], bins=(CITY_B,),
            acquirer="48029999", timeout_ms=20_000,
        )  # fmt: skip
        config = Config(
            ledger=Ledger(shards=2), server=Server(metrics_port=0), links=(link,),
            upstreams=(city_b,), standin=Standin(enabled=False),
        )  # fmt: skip
        bridge.run("asyncio", made_ready, database, config, read_key(key_file))
        port = free_port()
        assignment = Assignment(
            slot=0, config=config, backend="asyncio", database=database,
            card_key_file=str(key_file), ports={"retail-1": port}, metrics_port=0,
        )  # fmt: skip
        with worker(assignment) as first:
            until(lambda: pay(port, int(time.monotonic() * 100) % 1_000_000, 1_800) == "00")
            until(lambda: set(states(database)) == {"approved"})
            approved = len(states(database))
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sale(999_001, SILENT))
                until(lambda: "sent" in states(database))
                os.kill(first.pid, 9)
                first.wait()
        with worker(assignment):
            until(lambda: states(database) == [*["approved"] * approved, "reversed"])
            assert pay(port, 999_002, 1_900) == "00"
    assert bridge.run("asyncio", audited, database)
