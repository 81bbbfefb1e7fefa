"""A counter: a real ledger, a worker's pipeline and HTTP API, two real billers, and a client."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from loadtest.biller import BillerHost, Plan, bound, serve
from protocols.card_number import numbered_card
from switch.clock import SystemClock
from switch.config import Config, Ledger
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

PATIENCE_SECONDS = 20.0
CARDS = [numbered_card("621234", number) for number in range(1, 4)]
WATER, BANK = "48041000", "48051000"
LOADED_MINOR = 50_000


class Counter:
    """What a test may do and look at."""

    def __init__(self, database: str, worker: Worker, hosts: dict[str, BillerHost]) -> None:
        self.database, self.worker, self.hosts = database, worker, hosts
        self.port = 0
        self.keys: dict[str, str] = {}
        self.card = CARDS[0].reveal()
        self._numbers = iter(range(1, 1_000))

    def client(self, acquirer: str = BANK, **headers: str) -> httpx.AsyncClient:
        """A client of an acquirer, with its key; "" is nobody."""
        if acquirer:
            headers["authorization"] = f"Bearer {self.keys[acquirer]}"
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}", headers=headers, trust_env=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip

    def unheard(self) -> dict[str, str]:
        """The header with an idempotency key that was never used."""
        return {"idempotency-key": f"key-{next(self._numbers)}"}

    async def inquiry(self, client: httpx.AsyncClient, bill_no: str, biller: str = "water") -> Any:
        asked = {"biller": biller, "bill_no": bill_no, "card": self.card}
        answer = await client.post("/v1/bills/inquiries", json=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def held(
        self, client: httpx.AsyncClient, bill_no: str, biller: str = "water", minor: int = 0
    ) -> Any:
        """A payment whose money is set aside."""
        inquired = await self.inquiry(client, bill_no, biller)
        asked = {
            "inquiry_id": inquired["inquiry_id"], "card": self.card,
            "amount_minor": minor or inquired["amount_minor"],
        }  # fmt: skip
        answer = await client.post("/v1/bills/payments", json=asked, headers=self.unheard())
        assert (answer.status_code, answer.json()["state"]) == (201, "held"), answer.text
        return answer.json()

    async def state(self, client: httpx.AsyncClient, payment_id: str) -> Any:
        answer = await client.get(f"/v1/bills/payments/{payment_id}")
        assert answer.status_code in (200, 202), answer.text
        return answer.json()

    async def until_state(self, client: httpx.AsyncClient, payment_id: str, wanted: str) -> Any:
        with anyio.fail_after(PATIENCE_SECONDS):
            while (payment := await self.state(client, payment_id))["state"] != wanted:  # noqa: ASYNC110
                await anyio.sleep(0.05)
        return payment

    async def fetch(self, text: str, *args: object) -> list[Any]:
        connection = await bridge.connect(self.database)
        try:
            return list(await connection.fetch(text, *args))
        finally:
            connection.terminate()

    async def purse(self) -> tuple[int, int]:
        """Balance and held of the card's GEN purse, minor units."""
        (row,) = await self.fetch(
            "select p.balance_minor, p.held_minor from ledger.purse p"
            " join ledger.card c using (account_id) where p.purse = 2 and c.last4 = $1"
            " order by c.card_id limit 1",
            CARDS[0].last4,
        )
        return row["balance_minor"], row["held_minor"]

    def believe_nobody(self) -> None:
        """Let the time pass for which a key that was good is believed."""
        assert self.worker.http is not None
        for port in self.worker.http._ports:
            port._app._gate._believed.clear()

    def posted_minor(self, biller: str = "water") -> int:
        """What a biller's own book says was paid."""
        payments = self.hosts[biller].book.payments.values()
        return sum(one.amount_minor for one in payments if one.state == "paid")


@asynccontextmanager
async def _counter(
    database: str, folder: Path, terms: dict[str, Any], plans: dict[str, Plan]
) -> AsyncIterator[Counter]:
    hosts = {name: BillerHost(plan) for name, plan in plans.items()}
    sockets = {name: bound() for name in hosts}
    for each in sockets.values():
        each.listen(128)
    usual = {"timeout_ms": 1_000, "venue": "water", "acquirer": WATER, "circuit_failures": 1_000}
    billers = tuple(
        Biller(
            **(
                usual
                | {"name": name, "url": f"http://127.0.0.1:{sockets[name].getsockname()[1]}"}
                | ({"kind": "prepaid", "venue": "electricity"} if name == "power" else {})
                | terms
            )
        )
        for name in hosts
    )
    config = Config(
        ledger=Ledger(shards=2), billers=billers, links=(), apis=(Api(name="bills-1", port=0),)
    )
    key_file = folder / "card_number.key"
    make_key(key_file)
    key = read_key(key_file)
    connection = await bridge.connect(database)
    await prepare(connection, config, key=key, now_us=SystemClock().now_us())
    await connection.execute(
        "insert into ledger.settlement_account (chart_code, owner)"
        f" values ('ACQ', '{BANK}'), ('AGENT', '{BANK}'), ('PENDING', '{BANK}')"
    )
    issued = await cards.issue(
        connection, [cards.NewCard(card, tier="T2") for card in CARDS], shards=2, key=key,
        overdraft_minor=0,
    )  # fmt: skip
    keys = {
        each: (await api_keys.add(connection, each, "test", os.urandom))[0]
        for each in (BANK, WATER)
    }
    accounts = await settlement_accounts(connection)
    assignment = Assignment(0, config, "asyncio", database, str(key_file), {"bills-1": 0}, 0)
    terms_ = load_terms(config, accounts)
    worker = Worker(assignment, terms_, SystemClock())
    store = await Store.open(database, 10)
    orders = [
        LoadOrder(each.shard, each.account_id, each.card_id, "GEN", LOADED_MINOR)
        for each in issued[:2]
    ]
    loaded = await load_purses(
        store, orders, terms=terms_, currency="156", calendar=worker.calendar,
        clock=SystemClock(), entropy=os.urandom,
    )  # fmt: skip
    assert all(reply.outcome.approved for reply in loaded)
    store.terminate()
    await connection.close()
    counter = Counter(database, worker, hosts)
    counter.keys = keys
    stop = anyio.Event()
    assert worker.http is not None
    async with anyio.create_task_group() as tasks:
        for name, host in hosts.items():
            tasks.start_soon(serve, host, sockets[name], stop.wait)

        async def run_pipeline() -> None:
            await worker.pipeline.run(started=lambda: None)

        async with anyio.create_task_group() as inner:
            inner.start_soon(run_pipeline)
            with anyio.fail_after(PATIENCE_SECONDS):
                while any(lane.down for lane in worker.lanes):  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            counter.port = worker.http.open("127.0.0.1", {"bills-1": 0})["bills-1"]
            worker.http.start(inner)
            try:
                yield counter
            finally:
                with anyio.CancelScope(shield=True):
                    await worker.http.leave(1.0)
                inner.cancel_scope.cancel()
        stop.set()
    connection = await bridge.connect(database)
    report = await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
    await connection.close()
    assert report.clean, report


Staged = Callable[..., Any]


@pytest.fixture
def staged(database: str, ledger_loop: None, tmp_path: Path) -> Staged:
    """`async with staged(**terms of the billers) as counter`; ends with the audit."""

    def make(plans: dict[str, Plan] | None = None, **terms: Any) -> Any:
        shipped = {"water": Plan(), "power": Plan(kind="prepaid")}
        return _counter(database, tmp_path, terms, plans or shipped)

    return make


@pytest.fixture
async def counter(staged: Staged) -> AsyncIterator[Counter]:
    async with staged() as made:
        yield made


Step = Callable[[], Awaitable[None]]
