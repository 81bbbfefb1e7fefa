"""A worker's pipeline on a real ledger before a real TCP host of another city, and requests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec

from loadtest.host import IssuerHost
from protocols.card_number import CardNumber, numbered_card
from protocols.message import Kind, OriginalReference, Reply, Request, Segment
from protocols.money import Money
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config
from switch.deadline import DeadlineHeap
from switch.ledger import bridge
from switch.ledger.cards import medium_of
from switch.ledger.directory import Directory
from switch.ledger.lanes import Lane
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.net.upstream.assembly import upstreams_of
from switch.pipeline import Pipeline
from switch.terms import load_terms

CITY_B = "622848"
CARD = numbered_card(CITY_B, 7)
ACQUIRER = "48021000"
CARD_KEY = bytes(range(32))
LOCAL_AT = f"{datetime.now(UTC):%m%d%H%M%S}"
PATIENCE_SECONDS = 20.0
BUDGET_MS = 3_000


def request(
    amount_minor: int = 1_800,
    stan: int = 1,
    *,
    kind: Kind = Kind.PURCHASE,
    card: CardNumber = CARD,
    budget_ms: int = BUDGET_MS,
    original: Request | None = None,
    **more: Any,
) -> Request:
    """What an acquirer asks; the same arguments are the same message, repeated."""
    now_ns = SystemClock().monotonic_ns()
    message_class = "04" if kind is Kind.REVERSAL else "02"
    said: dict[str, Any] = {
        "kind": kind,
        "segment": Segment.RETAIL,
        "acquirer": ACQUIRER,
        "link": "retail-1",
        "message_class": message_class,
        "card": card,
        "amount": Money(amount_minor, "156"),
        "terminal": "T0000042",
        "merchant": "SHOP42",
        "mcc": "5411",
        "stan": f"{stan:06}",
        "local_at": LOCAL_AT,
        "rrn": "",
        "entry_mode": "071",
        "expiry": "3012",
        "key": int(LOCAL_AT).to_bytes(4, "big") + message_class.encode() + stan.to_bytes(10, "big"),
        "payload_hash": amount_minor.to_bytes(8, "big"),
        "received_ns": now_ns,
        "deadline_ns": now_ns + budget_ms * 1_000_000,
    }
    if original is not None:
        said["original"] = OriginalReference(key=original.key, mmdd=LOCAL_AT[:4])
    return Request(**(said | more))


def reversal_of(original: Request, stan: int = 9_001, **more: Any) -> Request:
    """An acquirer's reversal of a request."""
    amount_minor = original.amount.amount_minor
    return request(amount_minor, stan, kind=Kind.REVERSAL, original=original, **more)


class City:
    """One worker's pipeline and upstreams, and the host they talk to."""

    def __init__(self, config: Config, database: str, host: IssuerHost, grace: float) -> None:
        self.config, self.database, self.host = config, database, host
        self.metrics = Metrics(["retail-1"], [each.name for each in config.upstreams])
        self.clock = SystemClock()
        self.calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self._grace = grace
        self.replies: list[Reply] = []

    async def start(self, tasks: Any) -> None:
        connection = await bridge.connect(self.database)
        terms = load_terms(self.config, await settlement_accounts(connection))
        await connection.close()
        turns = anyio.Semaphore(2)
        lanes = [
            Lane(
                shard, slot=0, batch_max=32, turns=turns, terms=terms, calendar=self.calendar,
                open_ledger=lambda: Store.open(self.database, 10), clock=self.clock,
                metrics=self.metrics,
            )
            for shard in range(self.config.ledger.shards)
        ]  # fmt: skip
        self.pipeline = Pipeline(
            lanes=lanes,
            directory=Directory(
                lambda: MediumStore.open(self.database, 10), 100, self.clock, self.metrics
            ),
            deadlines=DeadlineHeap(self.clock),
            medium_of=lambda card: medium_of(card, key=CARD_KEY),
            in_flight_max=1_000,
            lane_queue_max=1_000,
            clock=self.clock,
            metrics=self.metrics,
        )
        routes = upstreams_of(
            self.config, database=self.database, key=CARD_KEY, pipeline=self.pipeline,
            calendar=self.calendar, clock=self.clock, metrics=self.metrics,
            entropy=os.urandom, orphan_grace_seconds=self._grace,
        )  # fmt: skip
        assert routes is not None
        self.routes = self.pipeline.routes = routes
        tasks.start_soon(self._run_pipeline)
        tasks.start_soon(routes.run)
        await self.until(lambda: self.pipeline.ledger_is_up and self.book_open)

    async def _run_pipeline(self) -> None:
        await self.pipeline.run(started=lambda: None)

    @property
    def link(self) -> Any:
        return self.routes.hosts["city-b"].link

    @property
    def book_open(self) -> bool:
        return bool(self.routes._book.connected)

    async def up(self) -> None:
        await self.until(lambda: self.link.up)

    def submit(self, asked: Request) -> list[Reply]:
        """Submit; the answer is appended to what is returned, when it comes."""
        replies: list[Reply] = []
        self.pipeline.submit(asked, replies.append)
        return replies

    async def ask(self, asked: Request) -> Reply:
        replies = self.submit(asked)
        await self.until(lambda: replies)
        return replies[0]

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - many conditions, none of them an event
                await anyio.sleep(0.005)

    async def rows(self) -> list[Any]:
        return await query(
            self.database, "select * from ledger.forwarded order by created_at, stan"
        )

    async def states(self) -> list[str]:
        return [row["state"] for row in await self.rows()]

    async def until_states(self, *wanted: str) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while (states := await self.states()) != list(wanted):
                assert len(states) <= len(wanted), states
                await anyio.sleep(0.02)

    async def owed_minor(self) -> int:
        """What the other city owes by our ledger."""
        (row,) = await query(
            self.database,
            "select coalesce(sum(debit_minor - credit_minor), 0)::bigint as owed "
            "from ledger.position p join ledger.settlement_account a using (settlement_account_id) "
            "where a.chart_code = 'INTERCITY'",
        )
        return int(row["owed"])

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def query(database: str, text: str) -> list[Any]:
    connection = await bridge.connect(database)
    try:
        return list(await connection.fetch(text))
    finally:
        connection.terminate()


class Outage:
    """Takes a test's ledger away from everybody, and gives it back."""

    def __init__(self, admin: bridge.Connection, name: str) -> None:
        self._admin, self._name = admin, name

    @classmethod
    async def of(cls, database: str, admin_url: str) -> Outage:
        (row,) = await query(database, "select current_database() as name")
        return cls(await bridge.connect(admin_url), row["name"])

    async def begin(self) -> None:
        await self._admin.execute(f'alter database "{self._name}" allow_connections false')
        await self._admin.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1", self._name
        )

    async def end(self) -> None:
        await self._admin.execute(f'alter database "{self._name}" allow_connections true')

    def close(self) -> None:
        self._admin.terminate()


class Stage:
    """A prepared ledger and a listening host; starts and kills workers on them."""

    def __init__(
        self, database: str, host: IssuerHost, config: Config, listen: Callable[[], None]
    ) -> None:
        self.database, self.host, self.config, self.listen = database, host, config, listen

    @asynccontextmanager
    async def worker(self, grace: float = 60.0) -> AsyncIterator[City]:
        """A worker until the body ends; then it is gone, as if killed."""
        async with anyio.create_task_group() as tasks:
            city = City(self.config, self.database, self.host, grace)
            await city.start(tasks)
            yield city
            tasks.cancel_scope.cancel()


def renewed(asked: Request, budget_ms: int = BUDGET_MS) -> Request:
    """The same message once more, with a budget of its own."""
    now_ns = SystemClock().monotonic_ns()
    return msgspec.structs.replace(
        asked, received_ns=now_ns, deadline_ns=now_ns + budget_ms * 1_000_000
    )
