"""Real processes: a worker killed with -9 after the biller was paid and before it knew."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from protocols.card_number import numbered_card
from switch.clock import SystemClock
from switch.config import Config, Ledger, Server
from switch.config_city import Api, Biller
from switch.keys import make_key, read_key
from switch.ledger import api_keys, bridge, cards
from switch.ledger.audit import audit
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.migrate import settlement_accounts
from switch.ledger.prepare import prepare
from switch.ledger.store import Store
from switch.terms import load_terms
from switch.worker import Assignment, Worker

PATIENCE_SECONDS = 40.0
CARD = numbered_card("621234", 5)


@contextmanager
def process(*words: str, line: bytes = b"") -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A process and the JSON line that it says when it is ready."""
    with subprocess.Popen(
        [sys.executable, "-m", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        try:
            assert running.stdin is not None
            assert running.stdout is not None
            running.stdin.write(line)
            running.stdin.flush()
            yield running, json.loads(running.stdout.readline())
        finally:
            running.kill()


async def made_ready(database: str, config: Config, key_file: str) -> str:
    """A ledger with one card that has 500.00; the API key of an acquirer."""
    key = read_key(Path(key_file))
    connection = await bridge.connect(database)
    await prepare(connection, config, key=key, now_us=SystemClock().now_us())
    (card,) = await cards.issue(
        connection, [cards.NewCard(CARD, tier="T2")], shards=2, key=key, overdraft_minor=0
    )
    terms = load_terms(config, await settlement_accounts(connection))
    store = await Store.open(database, 10)
    order = LoadOrder(card.shard, card.account_id, card.card_id, "GEN", 50_000)
    assignment = Assignment(0, config, "asyncio", database, key_file, {"bills-1": 0}, 0)
    (reply,) = await load_purses(
        store, [order], terms=terms, currency="156", clock=SystemClock(), entropy=os.urandom,
        calendar=Worker(assignment, terms, SystemClock()).calendar,
    )  # fmt: skip
    assert reply.outcome.approved
    store.terminate()
    made, _ = await api_keys.add(connection, "48051000", "a bank", os.urandom)
    await connection.close()
    return made


async def clean(database: str) -> bool:
    connection = await bridge.connect(database)
    report = await audit(connection)
    await connection.close()
    return report.clean


async def due_at_once(database: str) -> None:
    """Nobody has to wait until the budget of the killed request is over."""
    connection = await bridge.connect(database)
    await connection.execute("update ledger.bill_payment set next_at = now()")
    await connection.close()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.parametrize("backend", bridge.BACKENDS)
def test_a_payment_survives_its_worker(
    database: str, switch_directory: Path, backend: bridge.Backend
) -> None:
    key_file = switch_directory / "card_number.key"
    make_key(key_file)
    port = free_port()
    with process("loadtest.biller", "--slow-seconds", "8") as (_, listening):
        url = f"http://127.0.0.1:{listening['port']}"
        config = Config(
            ledger=Ledger(shards=2),
            server=Server(workers=1),
            links=(),
            apis=(Api(name="bills-1", port=port),),
            billers=(Biller("city-water", url, "48041000", "water", timeout_ms=10_000),),
        )
        key = bridge.run("asyncio", made_ready, database, config, str(key_file))
        line = msgspec.json.encode(
            Assignment(0, config, backend, database, str(key_file), {"bills-1": port}, 0)
        )
        client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"},
            trust_env=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        with process("switch.worker", line=line + b"\n") as (worker, _):
            asked = {"biller": "city-water", "bill_no": "SLOW-1-8320", "card": CARD.reveal()}
            inquired = client.post("/v1/bills/inquiries", json=asked).json()
            held = client.post(
                "/v1/bills/payments",
                json={
                    "inquiry_id": inquired["inquiry_id"], "amount_minor": 8_320,
                    "card": CARD.reveal(),
                },
                headers={"idempotency-key": "once"},
            ).json()  # fmt: skip
            assert held["state"] == "held"
            path = f"/v1/bills/payments/{held['payment_id']}"
            confirming = socket.create_connection(("127.0.0.1", port), timeout=10)
            confirming.sendall(
                f"POST {path}/confirm HTTP/1.1\r\nhost: citycard\r\n"
                f"authorization: Bearer {key}\r\ncontent-length: 0\r\n\r\n".encode()
            )
            until(lambda: httpx.get(f"{url}/book", trust_env=False).json()["payments"])
            assert client.get(path).json()["state"] == "confirming"
            worker.kill()
            worker.wait()
            confirming.close()
        bridge.run("asyncio", due_at_once, database)
        with process("switch.worker", line=line + b"\n"):
            until(lambda: client.get(path).json()["state"] == "paid")
            assert client.post(f"{path}/confirm").json()["payment"]["state"] == "paid"
            book = httpx.get(f"{url}/book", trust_env=False).json()
        client.close()
    assert [one["serial"] for one in book["payments"]] == [held["payment_id"]]
    assert bridge.run("asyncio", clean, database)
