"""Workers take what people do about rules: soon, whole, and without a restart.

Two workers without links on one PostgreSQL, each with all that it has of rules.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Outcome, Reply
from risk.rules import ForceOnline
from switch.clock import SystemClock
from switch.config import Rules, parse
from switch.deadline import DeadlineHeap
from switch.ledger import bridge, migrate, rule_lists, rulesets
from switch.ledger.audit import audit
from switch.ledger.cards import NewCard, issue, medium_of
from switch.ledger.directory import Directory
from switch.ledger.lanes import Lane
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from switch.rules_desk import RulesDesk
from switch.terms import load_terms
from tests.simulation.model_ledger import CALENDAR, NOON_US, purchase
from tests.switch.ledger.ruled import APPROVER, begin, dear_above, draft

BUDGET_NS = 60_000_000_000
SOON_SECONDS = 20
one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio"])
SHED = (Outcome.NO_BUDGET, Outcome.OVERLOADED)


class TodayIsThen(SystemClock):
    """This machine's clocks, with a wall clock that starts on the ledger's business day."""

    def __init__(self) -> None:
        self._offset_us = NOON_US - SystemClock().now_us()

    def now_us(self) -> int:
        return super().now_us() + self._offset_us


class StandsIn:
    """A desk of stand-in that notes what it is to go by."""

    hotlisted: Any = None
    terms: Any = None

    def __init__(self) -> None:
        self.forgotten: list[bytes] = []

    def forget(self, medium: bytes) -> None:
        self.forgotten.append(medium)

    def follow(self, terms: Any, hotlisted: Any) -> None:
        self.terms, self.hotlisted = terms, hotlisted


class Worker:
    """A process of the switch without its links."""

    def __init__(self, database: str, slot: int, clock: TodayIsThen, books: Any, terms: Any):
        self.metrics = metrics = Metrics()
        self.clock = clock
        self.standin = StandsIn()
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
        self.rules = RulesDesk(
            functools.partial(bridge.connect, database),
            Rules(),
            slot=slot,
            pauses=slot == 0,
            terms=terms,
            lanes=self.lanes,
            standin=self.standin,  # type: ignore[arg-type]
            clock=clock,
            metrics=metrics,
        )
        self._number = slot * 1_000_000

    @property
    def hash(self) -> str:
        return self.lanes[0].terms.rules.hash

    async def pay(self, card: CardNumber, amount_minor: int) -> Reply:
        """Pay, and hear what became of it."""
        while True:
            self._number += 1
            now_ns = self.clock.monotonic_ns()
            heard: list[Reply] = []
            answered = anyio.Event()

            def hear(reply: Reply, heard: Any = heard, answered: Any = answered) -> None:
                heard.append(reply)
                answered.set()

            request = purchase(
                self._number,
                amount_minor,
                card=card,
                acquirer="metro",
                received_ns=now_ns,
                deadline_ns=now_ns + BUDGET_NS,
            )
            self.pipeline.submit(request, hear)
            await answered.wait()
            if heard[0].outcome not in SHED:
                return heard[0]

    def shown(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"citycard_{name}", labels) or 0


@pytest.fixture
async def live(books: Any) -> str:
    """The hash of the first live ruleset: nothing above 10.00."""
    return await begin(books.connection, dear_above(1_000))


@asynccontextmanager
async def working(database: str, books: Any, count: int = 2) -> AsyncIterator[list[Worker]]:
    config = parse(
        '[[links]]\nname = "a"\nacquirer = "48021000"\n[limits]\nbatches_at_once = 2\n', "test"
    )
    accounts = await migrate.settlement_accounts(books.connection)
    terms = load_terms(config, accounts)
    clock = TodayIsThen()
    workers = [Worker(database, slot, clock, books, terms) for slot in range(count)]
    async with anyio.create_task_group() as tasks:
        for worker in workers:
            await worker.rules.load(SOON_SECONDS)
            worker.rules.start(tasks)
            tasks.start_soon(functools.partial(worker.pipeline.run, started=lambda: None))
        await until(lambda: not any(lane.down for w in workers for lane in w.lanes))
        yield workers
        for worker in workers:
            await worker.rules.finish()
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(SOON_SECONDS):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


async def comes_to(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    """Ask again and again until it is this."""
    found = await ask()
    with anyio.move_on_after(SOON_SECONDS):
        while found != wanted:
            await anyio.sleep(0.02)
            found = await ask()
    assert found == wanted


async def cards_of(books: Any, count: int) -> list[CardNumber]:
    cards = [numbered_card("621299", 700_000 + n) for n in range(count)]
    new = [NewCard(card, tier="T1") for card in cards]
    issued = await issue(
        books.connection, new, shards=books.shards, key=books.key, overdraft_minor=0
    )
    for card in issued:
        row = books.load(card, 400_000, at_us=NOON_US - 3_600_000_000)
        await books.posted(row, shard=card.shard)
    return cards


async def test_a_promotion_under_traffic_changes_every_worker_between_two_batches(
    books: Any, database: str, live: str
) -> None:
    cards = await cards_of(books, 12)
    async with working(database, books) as workers:
        assert [worker.hash for worker in workers] == [live, live]
        heard: dict[tuple[Worker, Outcome], int] = Counter()
        stopped = False

        async def keep_paying(worker: Worker, mine: list[CardNumber]) -> None:
            while not stopped:
                for card in mine:
                    heard[worker, (await worker.pay(card, 60)).outcome] += 1

        def each_heard(outcome: Outcome) -> bool:
            return all(heard[worker, outcome] > 30 for worker in workers)

        async with anyio.create_task_group() as traffic:
            for part in range(6):
                for worker in workers:
                    traffic.start_soon(keep_paying, worker, cards[part::6])
            await until(lambda: each_heard(Outcome.APPROVED))
            promoted = await draft(books.connection, dear_above(50), "submit", "approve", "promote")
            await until(lambda: each_heard(Outcome.AMOUNT_LIMIT))
            stopped = True
        assert {worker.hash for worker in workers} == {promoted}
        revisions = {worker.shown("rules_revision") for worker in workers}
        assert revisions == {worker.shown("rules_newest_revision") for worker in workers}
        assert len(revisions) == 1
        report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []
    rows = await books.connection.fetch(
        "select shard, posted_at_us, authorization_id, ruleset, outcome"
        " from ledger.authorization where kind = 'purchase' order by shard, authorization_id"
    )
    assert {row["ruleset"] for row in rows} == {live, promoted}
    # Every row was decided by the ruleset that it names ...
    by = {live: "approved", promoted: "amount_limit"}
    assert all(row["outcome"] == by[row["ruleset"]] for row in rows)
    # ... every batch by one, ...
    batches: dict[Any, set[str]] = {}
    for row in rows:
        batches.setdefault((row["shard"], row["posted_at_us"]), set()).add(row["ruleset"])
    assert all(len(names) == 1 for names in batches.values())
    # ... and what came before the promotion was heard of, by the one before.
    counted = await books.connection.fetch(
        "select hash, sum(requests)::bigint as requests, sum(declined)::bigint as declined"
        " from ledger.rule_statistic where rule_id = '' and mode = 'live' group by hash"
    )
    assert {row["hash"]: row["requests"] for row in counted} == {
        name: sum(row["ruleset"] == name for row in rows) for name in (live, promoted)
    }
    assert {row["hash"]: row["declined"] for row in counted}[live] == 0


@one_backend
async def test_lists_snoozes_and_pauses_reach_a_worker(
    books: Any, database: str, live: str
) -> None:
    (card,) = await cards_of(books, 1)
    connection = books.connection
    card_id = await connection.fetchval("select max(card_id) from ledger.card")
    async with working(database, books, 1) as (worker,):
        now_us = worker.clock.now_us

        async def answer(amount_minor: int = 700) -> Outcome:
            return (await worker.pay(card, amount_minor)).outcome

        assert await answer() is Outcome.APPROVED
        await rule_lists.add_entries(
            connection, "blocked", "card_id", [str(card_id)],
            reason="tests", author="ada", now_us=now_us(),
        )  # fmt: skip
        await comes_to(answer, Outcome.HOTLISTED)
        await connection.execute(
            "insert into ledger.snooze (rule_id, card_id, from_us, until_us, reason, author)"
            f" values ('blocked_card', {card_id}, {now_us()}, {now_us() + 10**12}, 'r', 'ada');"
            " select ledger.rules_changed();"
        )
        await comes_to(answer, Outcome.APPROVED)
        await connection.execute(
            "update ledger.snooze set until_us = from_us; select ledger.rules_changed();"
        )
        await comes_to(answer, Outcome.HOTLISTED)
        await rule_lists.remove_entries(
            connection, "blocked", [str(card_id)], reason="tests", author="ada", now_us=now_us()
        )
        await comes_to(answer, Outcome.APPROVED)

        assert await answer(1_500) is Outcome.AMOUNT_LIMIT
        await rulesets.pause_rule(connection, "dear", actor="bob", reason="wrong")
        await comes_to(lambda: answer(1_500), Outcome.APPROVED)
        assert worker.shown("rules_paused", paused_by="person") == 1
        await rulesets.lift_pause(connection, "dear", actor="bob", reason="right")
        await comes_to(lambda: answer(1_500), Outcome.AMOUNT_LIMIT)
        await until(lambda: worker.shown("rules_paused", paused_by="person") == 0)


@one_backend
async def test_a_card_that_must_be_asked_online_is_forgotten_by_stand_in(
    books: Any, database: str
) -> None:
    ruleset = dear_above(1_000)
    rule = msgspec.structs.replace(ruleset.rules[0], then=ForceOnline())
    await begin(
        books.connection, msgspec.structs.replace(ruleset, rules=(rule, *ruleset.rules[1:]))
    )
    (card,) = await cards_of(books, 1)
    async with working(database, books, 1) as (worker,):
        assert (await worker.pay(card, 900)).outcome is Outcome.APPROVED
        assert worker.standin.forgotten == []
        assert (await worker.pay(card, 1_100)).outcome is Outcome.APPROVED
        await until(lambda: worker.standin.forgotten == [medium_of(card, books.key)])
    tags = await books.connection.fetch("select tag, rule_id from ledger.tag")
    assert [tuple(row) for row in tags] == [("force_online", "dear")]


async def test_stand_in_goes_by_the_hotlist_of_the_ledger(
    books: Any, database: str, live: str
) -> None:
    medium = "ab" * 16
    async with working(database, books, 1) as (worker,):
        assert worker.standin.terms is worker.lanes[0].terms
        assert worker.standin.hotlisted is None
        await rule_lists.create(books.connection, "hotlist", "medium", author="ada")
        await until(lambda: worker.standin.hotlisted is not None)
        now_us = worker.clock.now_us()
        await rule_lists.add_entries(
            books.connection, "hotlist", "medium", [medium],
            reason="lost", author="ada", now_us=now_us,
        )  # fmt: skip
        await until(lambda: worker.standin.hotlisted(medium, now_us + 10_000_000))
        assert not worker.standin.hotlisted(medium, now_us)


@one_backend
async def test_what_a_rule_listed_reaches_the_other_worker(
    books: Any, database: str, live: str
) -> None:
    (card,) = await cards_of(books, 1)
    card_id = await books.connection.fetchval("select max(card_id) from ledger.card")
    async with working(database, books, 1) as (worker,):
        now_us = worker.clock.now_us()
        await books.connection.execute(
            "insert into ledger.listing (shard, authorization_id, list, value, field, rule_id,"
            " from_us, until_us, posted_at_us) values"
            f" (0, 1, 'blocked', '{card_id}', 'card_id', 'r', {now_us}, {now_us + 10**12},"
            f" {now_us})"
        )

        async def answer() -> Outcome:
            return (await worker.pay(card, 700)).outcome

        await comes_to(answer, Outcome.HOTLISTED)


@one_backend
async def test_shadow_and_canary_are_counted_and_shadow_declines_nobody(
    books: Any, database: str, live: str
) -> None:
    cards = await cards_of(books, 12)
    connection = books.connection
    async with working(database, books, 1) as (worker,):
        shadow = await draft(connection, dear_above(300), "shadow")
        canary = await draft(connection, dear_above(200), "submit", "approve", "canary", percent=50)
        rules = lambda: worker.lanes[0].terms.rules  # noqa: E731
        await until(lambda: len(rules().shadows) == 1 and rules().canary is not None)
        outcomes = [(await worker.pay(card, 700)).outcome for card in cards]
        outcomes += [(await worker.pay(card, 1_500)).outcome for card in cards]
        outcomes += [(await worker.pay(card, 100)).outcome for card in cards]
    rows = await connection.fetch(
        "select authorization_id, ruleset, outcome, amount_minor from ledger.authorization"
        " where kind = 'purchase'"
    )
    held = [row for row in rows if row["ruleset"] == canary]
    assert len(held) in range(3, 34, 3), "a card is in the canary or it is not"
    assert sum(outcome.approved for outcome in outcomes) == 24 - len(held) // 3
    statistic = {
        (row["mode"], row["rule_id"]): dict(row)
        for row in await connection.fetch("select * from ledger.rule_statistic")
    }
    seen = statistic["shadow", ""]
    by_shadow = statistic["shadow", "dear"]
    gained = [row for row in rows if row["amount_minor"] > 300 and row["outcome"] == "approved"]
    assert seen["hash"] == shadow
    assert (seen["requests"], seen["declined"], seen["lost"]) == (36, 24, 0)
    assert seen["gained"] == by_shadow["gained"] == len(gained)
    assert seen["gained_minor"] == sum(row["amount_minor"] for row in gained)
    assert by_shadow["requests"] == 36
    assert statistic["shadow", "burst"]["fired"] == 0
    assert statistic["canary", ""]["requests"] == len(held)
    assert statistic["live", ""]["requests"] == 36 - len(held)
    examples = await connection.fetch("select * from ledger.shadow_example")
    assert {row["authorization_id"] for row in examples} == {
        row["authorization_id"] for row in gained
    }
    assert all(row["sentence"].startswith("Declined 61: dear v1 (shadow") for row in examples)
    assert worker.shown("shadow_evaluations_total") == 36
    assert worker.shown("shadow_differences_total", difference="gained") == len(gained)


@one_backend
async def test_a_ruleset_of_another_version_leaves_the_one_before_in_force(
    books: Any, database: str, live: str
) -> None:
    (card,) = await cards_of(books, 1)
    connection = books.connection
    strange = b'{"settings": {"moons": 2}}'
    async with working(database, books, 1) as (worker,):
        # No act would do this: it is what a newer version would leave behind.
        await connection.execute("set session_replication_role = replica")
        await connection.execute("update ledger.ruleset set state = 'retired'")
        await connection.execute(
            "insert into ledger.ruleset (hash, canonical, source, title, state)"
            " values ($1, $2, '', 'from another version', 'live')",
            "ab" * 32,
            strange,
        )
        await connection.execute("set session_replication_role = origin")
        await connection.execute("select ledger.rules_changed()")
        await until(lambda: worker.shown("rules_load_failures_total") == 1)
        revision = worker.shown("rules_revision")
        assert worker.shown("rules_newest_revision") > revision, "the drift shows"
        assert (await worker.pay(card, 700)).outcome is Outcome.APPROVED
        assert worker.hash == live
        await rulesets.act(connection, live, "rollback", actor=APPROVER, reason="of no use")
        await until(lambda: worker.shown("rules_revision") > revision)
        assert worker.shown("rules_load_failures_total") == 1


async def test_a_lost_connection_is_made_again(books: Any, database: str, live: str) -> None:
    async with working(database, books, 1) as (worker,):
        await until(lambda: worker.shown("rules_revision") > 0)
        await books.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        promoted = await draft(books.connection, dear_above(50), "submit", "approve", "promote")
        await until(lambda: worker.hash == promoted)


@one_backend
async def test_without_a_live_ruleset_the_configured_one_decides(books: Any, database: str) -> None:
    (card,) = await cards_of(books, 1)
    async with working(database, books, 1) as (worker,):
        before = worker.hash
        assert (await worker.pay(card, 700)).outcome is Outcome.APPROVED
        first = await begin(books.connection, dear_above(500))
        await until(lambda: worker.hash == first)
        assert before != first
