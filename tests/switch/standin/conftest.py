"""A spool in a folder of the test with offers for it; and processes over a real ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from protocols.message import Outcome, Reply, Request, Segment
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config, Ledger
from switch.config import Link as ConfiguredLink
from switch.config_trouble import Standin, StandinPolicy
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.demo import stage
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.cards import medium_of
from switch.ledger.directory import Directory
from switch.ledger.failures import LedgerLost
from switch.ledger.lanes import Lane
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from switch.standin import Drain, desk_of
from switch.standin.rows import Offer
from switch.standin.spool import Spool, summarised
from switch.terms import load_terms
from tests.simulation.model_ledger import ACQUIRER, purchase

ROOMY = StandinPolicy(
    enabled=True,
    amount_max_minor=1_000,
    card_amount_max_minor=1_000_000,
    card_count_max=1_000,
    total_max_minor=1_000_000_000,
)


@pytest.fixture
def spool_file(tmp_path: Path) -> Path:
    return tmp_path / "standin.sqlite"


@pytest.fixture
def spool(spool_file: Path) -> Iterator[Spool]:
    with closing(Spool(spool_file, slot=0, rows_max=1_000)) as opened:
        yield opened


@pytest.fixture
def offer() -> Callable[..., Offer]:
    """`offer(7, card=3)` is the sale number 7, of card 3; more arguments change it."""

    def made(number: int, *, card: int = 1, **changed: Any) -> Offer:
        usual: dict[str, Any] = {
            "key": number.to_bytes(16, "big"),
            "payload_hash": b"payload!",
            "kind": "purchase",
            "segment": "transit",
            "medium": card.to_bytes(16, "big"),
            "amount_minor": 200,
            "request": b"request %d" % number,
            "card": b"sealed",
            "auth_code": f"A{number:05}",
            "rrn": f"{number:012}",
            "at_us": 1_000_000 * number,
            "policy": ROOMY,
        }
        return Offer(**(usual | changed))

    return made


CARDS, BLOCKED, POOR = 24, 1, 1
"""Card 0 is blocked, card 1 has 3.00, the others have enough."""


class Gate:
    """The way to Postgres, which a test shuts and opens."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._open = True
        self._stores: list[Store] = []

    async def store(self) -> Store:
        if not self._open:
            raise LedgerLost("the test shut the gate")
        store = await Store.open(self._database, 10)
        self._stores.append(store)
        return store

    def shut(self) -> None:
        self._open = False
        for store in self._stores:
            store.terminate()
        self._stores.clear()

    def open(self) -> None:
        self._open = True


class Process:
    """One worker without its links: pipeline, desk and drain over a real ledger."""

    def __init__(self, bench: Bench, slot: int) -> None:
        config, key = bench.config, bench.key
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.gate = Gate(bench.database)
        calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self.lanes = [
            Lane(
                shard,
                slot=slot,
                batch_max=32,
                open_ledger=self.gate.store,
                terms=bench.terms,
                calendar=calendar,
                clock=self.clock,
                metrics=self.metrics,
            )
            for shard in range(config.ledger.shards)
        ]
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(
                lambda: MediumStore.open(bench.database, 10), 1_000, self.clock, self.metrics
            ),
            deadlines=DeadlineHeap(self.clock),
            medium_of=lambda card: medium_of(card, key=key),
            in_flight_max=1_000,
            lane_queue_max=1_000,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.desk = desk_of(
            config,
            key=key,
            slot=slot,
            terms=bench.terms,
            calendar=calendar,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.pipeline.standin = self.desk
        self.desk.ledger_is_up = lambda: self.pipeline.ledger_is_up
        self.drain = Drain(self.desk, self.pipeline, self.clock, self.metrics)

    def request(self, number: int, card: int, amount_minor: int = 200, **changed: Any) -> Request:
        """A tap by index of the card; `number` makes its key."""
        now_ns = self.clock.monotonic_ns()
        usual: dict[str, Any] = {
            "card": stage.new_card(card).card,
            "segment": Segment.TRANSIT,
            "mcc": "4111",
            "received_ns": now_ns,
            "deadline_ns": now_ns + 20_000_000_000,
        }
        return purchase(number, amount_minor, **(usual | changed))

    async def ask(self, *requests: Request) -> list[Reply]:
        """Their answers, in order."""
        heard: list[list[Reply]] = [[] for _ in requests]
        for request, one in zip(requests, heard, strict=True):
            self.pipeline.submit(request, one.append)
        await until(lambda: all(heard))
        assert all(len(one) == 1 for one in heard)
        return [one[0] for one in heard]

    async def tap(self, number: int, card: int, amount_minor: int = 200, **changed: Any) -> Outcome:
        (reply,) = await self.ask(self.request(number, card, amount_minor, **changed))
        return reply.outcome

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"citycard_{name}", labels) or 0.0


class Bench:
    """A ledger with cards, a spool file, and the processes that share them."""

    def __init__(self, database: str, config: Config, key: bytes, terms: Terms) -> None:
        self.database, self.config, self.key, self.terms = database, config, key, terms

    @property
    def spool_path(self) -> Path:
        return Path(self.config.standin.spool_file)

    def states(self) -> dict[str, int]:
        """Rows of the spool by state."""
        return {count.state: count.rows for count in summarised(self.spool_path).counts}

    @asynccontextmanager
    async def process(self, slot: int = 0, *, draining: bool = True) -> AsyncIterator[Process]:
        """A process that runs; in the end nothing of any request is left in it."""
        made = Process(self, slot)
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                await made.pipeline.run(started=lambda: None)

            tasks.start_soon(run)
            tasks.start_soon(made.desk.run)
            if draining:
                tasks.start_soon(made.drain.run)
            await until(lambda: made.pipeline.ledger_is_up)
            yield made
            assert await made.pipeline.finish(10) == 0
            tasks.cancel_scope.cancel()

    async def posted(self, spool_state: Callable[[dict[str, int]], bool] | None = None) -> None:
        """Until the spool has nothing open."""
        await until(lambda: not self.states().get("open"))
        if spool_state is not None:
            assert spool_state(self.states()), self.states()

    async def rows(self) -> list[Any]:
        """What the ledger holds but for the loads, in the order of writing."""
        connection = await bridge.connect(self.database)
        try:
            return list(
                await connection.fetch(
                    "select kind, outcome, approved_minor, stan, purse, auth_code, rrn, "
                    "original_id <> 0 as linked, explanation from ledger.authorization "
                    "where kind <> 'load' order by authorization_id"
                )
            )
        finally:
            await connection.close()


async def until(true: Callable[[], bool]) -> None:
    """Let the others run until something holds."""
    with anyio.fail_after(30):
        while not true():  # noqa: ASYNC110 - what is waited for is in a file or a database
            await anyio.sleep(0.005)


@pytest.fixture
async def bench(database: str, ledger_loop: None, tmp_path: Path) -> AsyncIterator[Bench]:
    """Cards on a real ledger, whose audit must be clean in the end."""
    standin = Standin(spool_file=str(tmp_path / "standin.sqlite"))
    links = (ConfiguredLink(acquirer=ACQUIRER, segment=Segment.TRANSIT, port=0),)
    config = Config(ledger=Ledger(shards=2), links=links, standin=standin)
    key_file = tmp_path / "card_number.key"
    make_key(key_file)
    key = read_key(key_file)
    await stage.set_stage(database, config, key, stage.Crowd(CARDS, BLOCKED, POOR), lambda _: None)
    connection = await bridge.connect(database)
    terms = load_terms(config, await settlement_accounts(connection))
    yield Bench(database, config, key, terms)
    report = await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
    await connection.close()
    assert report.clean, report
