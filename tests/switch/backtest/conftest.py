"""Two workers on one ledger with a ruleset of tight limits, and traffic that meets all of them."""

from __future__ import annotations

import functools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Any

import anyio
import msgspec
import pytest

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Kind, Mode, OriginalReference, Reply, Request, Segment, Tap
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.deployment import Deployment, in_force
from risk.lists import TAKES_EFFECT_US, ListBook
from risk.ruleset import Ruleset, canonical_bytes, ruleset_hash
from risk.snooze import Snoozed
from switch.clock import SystemClock
from switch.config import parse
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.ledger import bridge, cards, migrate, partitions, sql
from switch.ledger.directory import Directory
from switch.ledger.lanes import Lane
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from switch.posting import Posting
from switch.terms import load_terms
from tests.simulation.model_ledger import ACQUIRER, CALENDAR, NOON_US, purchase

DAY = date(2026, 3, 31)
SHARDS = 2
KEY = b"a key of thirty-two bytes, tests"
BUDGET_NS = 60_000_000_000
PATIENCE_SECONDS = 30
RULESET = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "04:00"
currency = "156"

[[features]]
id = "attempts_5m"
key = "card"
aggregate = "count"
basis = "attempts"
window = "5m"

[[features]]
id = "spent_day"
key = "account"
aggregate = "sum"
basis = "approved"
where = { fact = "kind", op = "in", value = ["purchase", "preauthorization", "fare"] }
window = "calendar_day"

[[features]]
id = "terminals_1h"
key = "card"
aggregate = "distinct"
field = "terminal"
basis = "approved"
on_reversal = "restore"
window = "1h"

[[features]]
id = "since_tap"
key = "card"
aggregate = "seconds_since_last"
basis = "attempts"
where = { fact = "kind", op = "eq", value = "fare" }
window = "10m"

[[features]]
id = "spent_month"
key = "account"
aggregate = "sum"
basis = "approved"
window = "calendar_month"

[[features]]
id = "terminal_attempts_10m"
key = "terminal"
aggregate = "count"
basis = "attempts"
window = "10m"

[[lists]]
name = "stopped"
field = "card_id"
entries = []

[[lists]]
name = "watched"
field = "card_id"
entries = []

[[rules]]
id = "stopped"
version = 1
name = "Stopped cards"
stage = "red"
when = { fact = "card_id", op = "in_list", list = "stopped" }
then = { decline = "hotlisted", reason = "the card is stopped" }

[[rules]]
id = "small_spared"
version = 1
name = "Small payments pass"
stage = "green"
when = { fact = "amount", op = "lt", value = 20 }
then = { allow = true, reason = "a small payment" }
expires_at = 2040-01-01T00:00:00+08:00

[[rules]]
id = "burst"
version = 3
name = "Too many attempts"
stage = "amber"
scope = { kinds = ["purchase", "fare", "preauthorization"] }
when = { feature = "attempts_5m", plus = 1, op = "gt", value = 7 }
then = { decline = "count_limit", reason = "too many attempts" }
also = [{ add_to_list = "watched", ttl = "1h" }]

[[rules]]
id = "day"
version = 1
name = "Spending of a day"
stage = "amber"
when = { feature = "spent_day", plus = "amount", op = "gt", value = 4000 }
then = { decline = "amount_limit", reason = "above the limit of a day" }

[[rules]]
id = "month"
version = 1
name = "Spending of a month"
stage = "amber"
when = { feature = "spent_month", plus = "amount", op = "gt", value = 4000 }
then = { decline = "amount_limit", reason = "above the limit of a month" }

[[rules]]
id = "roaming"
version = 1
name = "Many terminals"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { all = [
    { feature = "terminals_1h", op = "ge", value = 4 },
    { fact = "amount", op = "gt", value = 300 },
] }
then = { decline = "suspected_fraud", reason = "many terminals" }

[[rules]]
id = "busy_terminal"
version = 1
name = "A busy terminal"
stage = "amber"
when = { feature = "terminal_attempts_10m", op = "gt", value = 12 }
then = { decline = "do_not_honour", reason = "a busy terminal" }

[[rules]]
id = "tapped_twice"
version = 1
name = "Tapped twice"
stage = "amber"
scope = { kinds = ["fare"] }
when = { feature = "since_tap", op = "lt", value = 60 }
then = { decline = "count_limit", reason = "just tapped" }

[[rules]]
id = "watched"
version = 1
name = "Cards that were listed by a rule"
stage = "watch"
when = { fact = "card_id", op = "in_list", list = "watched" }
then = { tag = "watched" }
"""


@pytest.fixture(scope="session")
def tight() -> Ruleset:
    return load_ruleset(RULESET)


class Clock(SystemClock):
    """This machine's clocks; the wall clock starts at noon of the ledger's day and is moved."""

    def __init__(self, ahead_us: int = 0) -> None:
        self._offset_us = NOON_US + ahead_us - SystemClock().now_us()

    def now_us(self) -> int:
        return super().now_us() + self._offset_us

    def advance(self, seconds: int) -> None:
        self._offset_us += seconds * 1_000_000


class Worker:
    """A process of the switch without its links."""

    def __init__(self, database: str, slot: int, terms: Terms, clock: Clock) -> None:
        metrics = Metrics()
        self.clock = clock
        self.metrics = metrics
        self.lanes = [
            Lane(
                shard, slot=slot, batch_max=16,
                open_ledger=functools.partial(Store.open, database, 20),
                terms=terms, calendar=CALENDAR, clock=clock, metrics=metrics,
            )
            for shard in range(SHARDS)
        ]  # fmt: skip
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(
                functools.partial(MediumStore.open, database, 20), 1_000, clock, metrics
            ),
            deadlines=DeadlineHeap(clock),
            medium_of=functools.partial(cards.medium_of, key=KEY),
            in_flight_max=10_000,
            lane_queue_max=10_000,
            clock=clock,
            metrics=metrics,
        )

    @property
    def conflicts(self) -> float:
        return self.metrics.registry.get_sample_value("citycard_posting_conflicts_total") or 0


class City:
    """Cards, two workers whose clocks differ, and what was sent."""

    def __init__(
        self, connection: bridge.Connection, workers: list[Worker], ruleset: Ruleset, terms: Terms
    ) -> None:
        self.connection = connection
        self.workers = workers
        self.ruleset = ruleset
        self.book = ListBook()
        self.book.declare("stopped", "card_id")
        self.book.declare("watched", "card_id")
        self.snoozed: Snoozed = {}
        self.numbers: list[CardNumber] = []
        self.card_ids: list[int] = []
        self.sent: list[Request] = []
        self._terms = terms
        self._dice = random.Random(7)
        for worker in workers:
            for lane in worker.lanes:
                lane.on_posted = self._posted
        self.deploy()

    def _posted(self, posting: Posting, _authorization_id: int) -> None:
        """What a follower of the ledger would know by the time it is in force."""
        for listing in posting.listings:
            from_us = posting.at_us + TAKES_EFFECT_US
            self.book.put(listing.list, int(listing.value), from_us, listing.until_us)

    def deploy(self, *paused: str, cut_out: str = "") -> None:
        """Decide by the ruleset from now on, in all lanes; counters of places are made up."""
        compiled = compile_ruleset(self.ruleset, book=self.book).with_snoozes(self.snoozed)
        compiled = compiled.without([cut_out] if cut_out else []).paused(paused)

        def read(_series: bytes, _key: str, _first_minute: int) -> int | None:
            return self._dice.choice([None, 0, 0, 3, 11, 12, 12, 13])

        rules = Deployment(in_force(self.ruleset, compiled), read=read)
        terms = msgspec.structs.replace(
            self._terms, rules=rules, rule_settings=self.ruleset.settings
        )
        for worker in self.workers:
            for lane in worker.lanes:
                lane.terms = terms

    async def issue(self, count: int) -> None:
        self.numbers = [numbered_card("621299", n) for n in range(1, count + 1)]
        issued = await cards.issue(
            self.connection, [cards.NewCard(card, tier="T2") for card in self.numbers],
            shards=SHARDS, key=KEY, overdraft_minor=0,
        )  # fmt: skip
        self.card_ids = [card.card_id for card in issued]

    async def list_(self, name: str, card: int, from_s: int, until_s: int) -> None:
        """An entry in force for so many seconds of noon on, in the ledger and in the book."""
        from_us, until_us = NOON_US + from_s * 1_000_000, NOON_US + until_s * 1_000_000
        self.book.put(name, self.card_ids[card], from_us, until_us)
        await self.connection.fetch(
            "insert into ledger.rule_list (name, field, created_by) values ($1, 'card_id', 'ann')"
            " on conflict do nothing", name,
        )  # fmt: skip
        await self.connection.fetch(
            "insert into ledger.rule_list_entry (list, value, reason, author, from_us, until_us)"
            " values ($1, $2, 'a test', 'ann', $3, $4)",
            name, str(self.card_ids[card]), from_us, until_us,
        )  # fmt: skip

    async def snooze(self, rule_id: str, card: int, from_s: int, until_s: int) -> None:
        span = (NOON_US + from_s * 1_000_000, NOON_US + until_s * 1_000_000)
        self.snoozed = self.snoozed | {(rule_id, self.card_ids[card]): (span,)}
        await self.connection.fetch(
            "insert into ledger.snooze (rule_id, card_id, from_us, until_us, reason, author)"
            " values ($1, $2, $3, $4, 'a test', 'ann')",
            rule_id, self.card_ids[card], *span,
        )  # fmt: skip

    async def answered(self, requests: list[tuple[int, Request]]) -> list[Reply]:
        """Each sent to a worker, all at once; their answers."""
        heard: list[list[Reply]] = []
        for number, request in requests:
            replies: list[Reply] = []
            heard.append(replies)
            worker = self.workers[number]
            now_ns = worker.clock.monotonic_ns()
            worker.pipeline.submit(
                msgspec.structs.replace(
                    request, received_ns=now_ns, deadline_ns=now_ns + BUDGET_NS
                ),
                replies.append,
            )
        with anyio.fail_after(PATIENCE_SECONDS):
            while not all(heard):  # noqa: ASYNC110
                await anyio.sleep(0.002)
        return [replies[0] for replies in heard]

    def advance(self, seconds: int) -> None:
        for worker in self.workers:
            worker.clock.advance(seconds)


class Traffic:
    """Random messages: payments, taps, loads, repeats, reversals before and after, voids."""

    def __init__(self, city: City, seed: int) -> None:
        self._city = city
        self._dice = random.Random(seed)
        self._number = 0
        self._sent: list[Request] = []

    def burst(self, count: int) -> list[tuple[int, Request]]:
        """Messages to be sent at once, each with the worker it goes to."""
        made = [self._message() for _ in range(count)]
        early = [n for n in range(count) if self._dice.random() < 0.03]
        for n in early:
            # Its reversal is there first.
            sale = self._sale()
            made[n] = self._linked(Kind.REVERSAL, sale)
            made.append(sale)
        self._sent += made
        return [(self._dice.randrange(2), request) for request in made]

    def openers(self) -> list[list[tuple[int, Request]]]:
        """Step by step: money for each card, a ride and a sale of each, and the sale voided."""
        cards = self._city.numbers
        loads = [
            self._request(Kind.LOAD, 500, purse=purse, card=card)
            for card in cards
            for purse in ("GEN", "TRN")
        ]
        sales = [self._request(Kind.PURCHASE, 100, card=card) for card in cards]
        voids = [self._linked(Kind.VOID, sale, terminal=sale.terminal) for sale in sales]
        steps = [loads, [self._tap(card=card) for card in cards], sales, voids]
        return [[(number % 2, request) for request in step] for number, step in enumerate(steps)]

    def _message(self) -> Request:
        what = self._dice.random()
        if what < 0.50 or len(self._sent) < 20:
            return self._sale()
        if what < 0.62:
            return self._tap()
        if what < 0.70:
            purse = self._dice.choice(("GEN", "GEN", "TRN"))
            return self._request(Kind.LOAD, self._dice.choice((500, 3_000)), purse=purse)
        if what < 0.76:
            return self._request(Kind.PREAUTHORIZATION, self._amount())
        if what < 0.82:
            return self._dice.choice(self._sent[-60:])
        kind = self._dice.choice((Kind.REVERSAL, Kind.REVERSAL, Kind.VOID, Kind.REFUND))
        sales = [r for r in self._sent[-60:] if r.kind in (Kind.PURCHASE, Kind.VOID)]
        target = self._dice.choice(sales)
        return self._linked(Kind.REVERSAL if target.kind is Kind.VOID else kind, target)

    def _amount(self) -> int:
        return self._dice.choice((1, 15, 100, 250, 700, 1_500))

    def _sale(self) -> Request:
        return self._request(Kind.PURCHASE, self._amount())

    def _tap(self, **said: Any) -> Request:
        now_us = self._city.workers[0].clock.now_us()
        stop = self._dice.choice(("S01", "S02", ""))
        tap = Tap(Mode.BUS, "7", stop, self._dice.choice(("V1", "V2")), now_us)
        return self._request(
            Kind.FARE, 200, segment=Segment.TRANSIT, mcc="4111", tap=tap, venue="bus", **said
        )

    def _linked(self, kind: Kind, target: Request, **said: Any) -> Request:
        minor = target.amount.amount_minor
        original = OriginalReference(key=target.key)
        return self._request(kind, minor, card=target.card, original=original, **said)

    def _request(self, kind: Kind, amount_minor: int, **said: Any) -> Request:
        self._number += 1
        # A few cards have most of the traffic, so that one batch has several of their requests.
        card = min(self._dice.randrange(len(self._city.numbers)) for _ in range(2))
        at = CALENDAR.local(self._city.workers[0].clock.now_us())
        usual: dict[str, Any] = {
            "card": self._city.numbers[card],
            "terminal": f"T000000{self._dice.randrange(6)}",
            "local_at": f"{at:%m%d%H%M%S}",
        }
        return purchase(self._number, amount_minor, kind=kind, **(usual | said))


@asynccontextmanager
async def _city(
    database: str, connection: bridge.Connection, tight: Ruleset
) -> AsyncIterator[City]:
    await migrate.initialise(
        connection, shards=SHARDS, time_zone="Asia/Shanghai", cut_off="00:00", currency="156",
        card_key_fingerprint=cards.card_key_fingerprint(KEY), acquirers=[ACQUIRER],
    )  # fmt: skip
    config = parse("", "defaults")
    await connection.fetch(
        sql.queries()["open_settlement_accounts"],
        ["AGENT", "PENDING", "SUSPENSE"],
        [ACQUIRER, ACQUIRER, config.standin.transit.suspense_owner],
    )
    await partitions.make_ahead(connection, DAY, 2, 1)
    await connection.fetch(
        "insert into ledger.ruleset (hash, canonical, source, title) values ($1, $2, '', 'tight')",
        ruleset_hash(tight), canonical_bytes(tight),
    )  # fmt: skip
    terms = load_terms(config, await migrate.settlement_accounts(connection))
    workers = [
        Worker(database, slot, terms, Clock(ahead_us))
        for slot, ahead_us in enumerate((0, 3_000_000))
    ]
    async with anyio.create_task_group() as tasks:
        for worker in workers:
            tasks.start_soon(functools.partial(worker.pipeline.run, started=lambda: None))
        with anyio.fail_after(PATIENCE_SECONDS):
            while any(lane.down for worker in workers for lane in worker.lanes):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        yield City(connection, workers, tight, terms)
        for worker in workers:
            assert await worker.pipeline.finish(10) == 0
        tasks.cancel_scope.cancel()


@pytest.fixture
def city_of(database: str, connection: bridge.Connection, tight: Ruleset) -> Any:
    """An open city, to be entered by the test (its tasks belong to the test's own)."""
    return functools.partial(_city, database, connection, tight)
