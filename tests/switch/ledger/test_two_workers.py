"""Two workers on one PostgreSQL, the same cards, at their limits: never one too many.

Each worker is a whole pipeline with lanes, directory and connections of its own; nothing
is shared but the ledger, so every limit is kept by its version check alone.
"""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Outcome, Reply, Request
from switch.clock import SystemClock
from switch.config import parse
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.ledger import bridge, migrate
from switch.ledger.audit import audit
from switch.ledger.cards import NewCard, issue, medium_of
from switch.ledger.directory import Directory
from switch.ledger.lanes import Lane
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from switch.terms import load_terms
from tests.simulation.model_ledger import CALENDAR, NOON_US, purchase

CARDS = 50
ATTEMPTS_A_MINUTE = 10
SHED = (Outcome.NO_BUDGET, Outcome.OVERLOADED)
BUDGET_NS = 60_000_000_000
"""Long, so that every request is decided by the ledger however busy this machine is."""


class TodayIsThen(SystemClock):
    """This machine's clocks, with a wall clock that starts on the ledger's business day."""

    def __init__(self) -> None:
        self._offset_us = NOON_US - SystemClock().now_us()

    def now_us(self) -> int:
        return super().now_us() + self._offset_us


class Worker:
    """A process of the switch without its links."""

    def __init__(self, database: str, slot: int, terms: Terms, clock: TodayIsThen, books: Any):
        metrics = Metrics()
        self.lanes = [
            Lane(
                shard,
                slot=slot,
                batch_max=16,
                open_ledger=functools.partial(Store.open, database, 20),
                terms=terms,
                calendar=CALENDAR,
                clock=clock,
                metrics=metrics,
            )
            for shard in range(books.shards)
        ]
        self.metrics = metrics
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(
                functools.partial(MediumStore.open, database, 20), 1_000, clock, metrics
            ),
            deadlines=DeadlineHeap(clock),
            medium_of=functools.partial(medium_of, key=books.key),
            in_flight_max=10_000,
            lane_queue_max=10_000,
            clock=clock,
            metrics=metrics,
        )

    @property
    def conflicts(self) -> float:
        return self.metrics.registry.get_sample_value("citycard_posting_conflicts_total") or 0


class City:
    """Two workers and their answers."""

    def __init__(self, workers: list[Worker], clock: TodayIsThen, books: Any) -> None:
        self.workers = workers
        self.clock = clock
        self.books = books
        self.sent: list[tuple[Request, list[Reply]]] = []
        self._workers_of: list[Worker] = []

    async def issue(self, balances_minor: list[int], tier: str = "T1") -> list[CardNumber]:
        cards = [numbered_card("621299", 500_000 + n) for n in range(len(balances_minor))]
        issued = await issue(
            self.books.connection,
            [NewCard(card, tier=tier) for card in cards],
            shards=self.books.shards,
            key=self.books.key,
            overdraft_minor=0,
        )
        for card, balance_minor in zip(issued, balances_minor, strict=True):
            if balance_minor:
                # early, so that it is no event of the minute that follows
                row = self.books.load(card, balance_minor, at_us=NOON_US - 3_600_000_000)
                await self.books.posted(row, shard=card.shard)
        return cards

    def submit(self, worker: Worker, number: int, card: CardNumber, amount_minor: int) -> None:
        now_ns = self.clock.monotonic_ns()
        request = purchase(
            number,
            amount_minor,
            card=card,
            acquirer="metro",
            received_ns=now_ns,
            deadline_ns=now_ns + BUDGET_NS,
        )
        heard: list[Reply] = []
        self.sent.append((request, heard))
        self._workers_of.append(worker)
        worker.pipeline.submit(request, heard.append)

    async def answered(self) -> None:
        """All of them decided: what a busy machine made a worker refuse is sent once more."""
        with anyio.fail_after(50):
            again = [-1]
            while again:
                while not all(heard for _, heard in self.sent):  # noqa: ASYNC110
                    await anyio.sleep(0.005)
                again = [n for n, (_, heard) in enumerate(self.sent) if heard[0].outcome in SHED]
                for number in again:
                    heard = []
                    now_ns = self.clock.monotonic_ns()
                    request = msgspec.structs.replace(
                        self.sent[number][0], received_ns=now_ns, deadline_ns=now_ns + BUDGET_NS
                    )
                    self.sent[number] = (request, heard)
                    self._workers_of[number].pipeline.submit(request, heard.append)
            for worker in self.workers:
                assert await worker.pipeline.finish(10) == 0
        assert all(len(heard) == 1 for _, heard in self.sent)

    async def rows(self) -> dict[int, list[Any]]:
        """The purchases of each account as they were written."""
        found = await self.books.connection.fetch(
            "select account_id, at_us, outcome, amount_minor, approved_minor, authorization_id,"
            " key from ledger.authorization where kind = 'purchase' and account_id <> 0"
            " order by account_id, at_us"
        )
        by_account: dict[int, list[Any]] = defaultdict(list)
        for row in found:
            by_account[row["account_id"]].append(row)
        return by_account


@asynccontextmanager
async def two_workers(books: Any, database: str) -> AsyncIterator[City]:
    clock = TodayIsThen()
    terms = load_terms(parse("", "defaults"), await migrate.settlement_accounts(books.connection))
    workers = [Worker(database, slot, terms, clock, books) for slot in range(2)]
    async with anyio.create_task_group() as tasks:
        for worker in workers:
            tasks.start_soon(functools.partial(worker.pipeline.run, started=lambda: None))
        with anyio.fail_after(30):
            while any(lane.down for worker in workers for lane in worker.lanes):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        yield City(workers, clock, books)
        tasks.cancel_scope.cancel()


def naive_outcomes(rows: list[Any], balance_minor: int) -> list[str]:
    """What a person with a notebook would answer to the same attempts in the same order."""
    outcomes: list[str] = []
    for index, row in enumerate(rows):
        recent = [other for other in rows[:index] if other["at_us"] > row["at_us"] - 60_000_000]
        if len(recent) + 1 > ATTEMPTS_A_MINUTE:
            outcomes.append(Outcome.COUNT_LIMIT.value)
        elif row["amount_minor"] > balance_minor:
            outcomes.append(Outcome.INSUFFICIENT_FUNDS.value)
        else:
            outcomes.append(Outcome.APPROVED.value)
            balance_minor -= row["amount_minor"]
    return outcomes


@pytest.mark.parametrize("seed", [1, 2])
async def test_fifty_cards_at_their_limits(books: Any, database: str, seed: int) -> None:
    dice = random.Random(seed)
    async with two_workers(books, database) as city:
        # half are limited by count, half by what is on them
        balances = [dice.choice((100_000, 1_000)) for _ in range(CARDS)]
        cards = await city.issue(balances)
        plan = [
            (dice.choice(city.workers), card, dice.choice((1, 100, 250)))
            for card in cards
            for _ in range(14)
        ]
        dice.shuffle(plan)
        for number, (worker, card, amount_minor) in enumerate(plan, 1):
            city.submit(worker, number, card, amount_minor)
            if number % 25 == 0:
                await anyio.sleep(0.001)
        await city.answered()
        rows = await city.rows()
        assert sum(worker.conflicts for worker in city.workers) > 0, "the two never met"
        report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []
    balance_of = {
        row["account_id"]: row["opening"]
        for row in await books.connection.fetch(
            "select account_id, approved_minor as opening from ledger.authorization"
            " where kind = 'load'"
        )
    }
    assert len(rows) == CARDS
    for account_id, attempts in rows.items():
        assert len(attempts) == 14
        outcomes = [row["outcome"] for row in attempts]
        assert outcomes == naive_outcomes(attempts, balance_of[account_id])
    told = sorted(
        (reply.authorization_id, reply.approved_minor)
        for _, heard in city.sent
        for reply in heard
        if reply.outcome.approved
    )
    written = sorted(
        (row["authorization_id"], row["approved_minor"])
        for attempts in rows.values()
        for row in attempts
        if row["outcome"] == "approved"
    )
    assert told == written


async def test_one_message_on_both_workers_is_one_posting(books: Any, database: str) -> None:
    """The same card, the same keys, at the same moment, each key twice on each worker."""
    async with two_workers(books, database) as city:
        (card, *others) = await city.issue([100_000] * 12)
        for number in range(1, 9):
            for worker in city.workers * 2:
                city.submit(worker, number, card, 100)
        for number, other in enumerate(others, 100):
            for worker in city.workers * 2:
                city.submit(worker, number, other, 100)
        stranger = numbered_card("621299", 999_999)
        for number in range(200, 230):
            for worker in city.workers:
                city.submit(worker, number, stranger, 100)
        await city.answered()
        rows = await city.rows()
        report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []
    ids: dict[bytes, set[tuple[Outcome, int]]] = defaultdict(set)
    for request, heard in city.sent:
        ids[request.key].add((heard[0].outcome, heard[0].authorization_id))
    assert all(len(answers) == 1 for answers in ids.values()), "every repeat is told the same"
    outcomes = {outcome for answers in ids.values() for outcome, _ in answers}
    assert outcomes == {Outcome.APPROVED, Outcome.UNKNOWN_CARD}
    assert sum(len(attempts) for attempts in rows.values()) == 8 + len(others)
    unknown = await books.connection.fetchval(
        "select count(*) from ledger.authorization where outcome = 'unknown_card'"
    )
    assert unknown == 30


async def test_a_backend_ended_in_the_middle_loses_and_doubles_nothing(
    books: Any, database: str
) -> None:
    """The server ends the workers' connections again and again while they post."""
    async with two_workers(books, database) as city:
        cards = await city.issue([100_000] * 20)
        watching = await bridge.connect(database)
        for number in range(1, 161):
            worker = city.workers[number % 2]
            city.submit(worker, number, cards[number % 20], 100)
            if number % 20 == 0:
                await anyio.sleep(0.002)
                await watching.fetch(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname ="
                    " current_database() and application_name = 'citycard lane'"
                )
        await city.answered()
        watching.terminate()
        rows = await city.rows()
        report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []
    written = {
        bytes(row["key"]): row["authorization_id"]
        for attempts in rows.values()
        for row in attempts
        if row["outcome"] == "approved"
    }
    told = {
        request.key: heard[0].authorization_id
        for request, heard in city.sent
        if heard[0].outcome.approved
    }
    assert told == written
