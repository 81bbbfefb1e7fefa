"""Any authorization is told from its row: decided by a real pipeline, gone through once more."""

from __future__ import annotations

import functools
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Kind, Outcome, Reply
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.deployment import Deployment, in_force
from risk.lists import ListBook
from risk.record import Effect
from risk.snooze import Snoozed
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.commands.explain import COLUMNS, explanation_lines
from switch.config import Config, Ledger, Rules
from switch.deadline import DeadlineHeap
from switch.ledger import (
    bridge,
    cards,
    explaining,
    list_acts,
    partitions,
    rule_lists,
    snoozes,
)
from switch.ledger.audit import audit
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.directory import Directory
from switch.ledger.explained import Explained
from switch.ledger.explained_trace import traced
from switch.ledger.explaining import ReferenceUnfit, SearchTooLong, explained
from switch.ledger.lanes import Lane
from switch.ledger.migrate import settlement_accounts
from switch.ledger.prepare import prepare
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from switch.terms import load_terms
from tests.simulation.model_ledger import purchase

PATIENCE_SECONDS = 20
KEY = b"a key of thirty-two bytes, tests"
ZONE = "Asia/Shanghai"
LOADED_MINOR = 90_000
LONG_AGO_US = 10_000_000
SPARED, LISTED, USUAL, BLOCKED = (numbered_card("621299", number) for number in range(1, 5))
RULES = """
settings = { time_zone = "Asia/Shanghai", service_day_start = "00:00", currency = "156" }

[[features]]
id = "paid_10m"
key = "card"
aggregate = "sum"
basis = "approved"
where = { fact = "kind", op = "eq", value = "purchase" }
window = "10m"

[[lists]]
name = "suspects"
field = "card_id"

[[lists]]
name = "seen"
field = "terminal"

[[rules]]
id = "suspected"
version = 3
name = "Cards that are suspected"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { fact = "card_id", op = "in_list", list = "suspects" }
then = { decline = "suspected_fraud", reason = "suspected" }

[[rules]]
id = "much_in_a_row"
version = 2
name = "Much in a row"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { feature = "paid_10m", plus = "amount", op = "gt", value = 10000 }
then = { decline = "amount_limit", reason = "much in a row" }
also = [{ tag = "night" }, { review = "desk" }, { add_to_list = "seen", ttl = "48h" }]

[[rules]]
id = "at_a_stop"
version = 1
name = "At a stop"
stage = "watch"
scope = { kinds = ["purchase"] }
when = { fact = "stop", op = "eq", value = "7/12" }
then = { tag = "stop" }
"""


class Shop:
    """A worker's pipeline over a ledger whose live ruleset is `RULES`."""

    def __init__(self, connection: bridge.Connection, pipeline: Pipeline, clock: SystemClock):
        self.connection, self.pipeline, self.clock = connection, pipeline, clock
        self.card_ids: dict[CardNumber, int] = {}
        self.held: dict[str, bool | None] = {}
        """Which rules held of the one that was told last."""
        self._number = 0

    async def pay(self, card: CardNumber, amount_minor: int, **changed: Any) -> Reply:
        """The answer to a purchase, which is posted."""
        self._number += 1
        now_ns = self.clock.monotonic_ns()
        request = purchase(
            self._number, amount_minor, card=card, acquirer="metro", received_ns=now_ns,
            deadline_ns=now_ns + PATIENCE_SECONDS * 10**9,
            **({"rrn": f"{self._number:012}"} | changed),
        )  # fmt: skip
        heard: list[Reply] = []
        self.pipeline.submit(request, heard.append)
        with anyio.fail_after(PATIENCE_SECONDS):
            while not heard:  # noqa: ASYNC110
                await anyio.sleep(0.002)
        return heard[0]

    async def told(self, reply: Reply) -> Explained:
        """The one authorization, which goes through again as it did and is told in lines."""
        (found,) = await explained(self.connection, str(reply.authorization_id))
        trace = await traced(self.connection, found)
        assert trace is None or trace.agrees, trace
        lines = list(explanation_lines(found, trace, ZONE))
        assert all(len(line) <= COLUMNS for line in lines)
        self.held = {rule.rule_id: rule.holds for rule in trace.rules} if trace else {}
        said = "\n".join(lines)
        assert not any(card.reveal() in said for card in self.card_ids)
        encoded = msgspec.json.encode([found, trace])
        assert not any(card.reveal().encode() in encoded for card in self.card_ids)
        return found


@asynccontextmanager
async def _shop(database: str, folder: Path) -> AsyncIterator[Shop]:
    clock, connection = SystemClock(), await bridge.connect(database)
    file = folder / "rules.toml"
    file.write_text(RULES)
    config = Config(ledger=Ledger(shards=2), rules=Rules(file=str(file)), links=(), apis=())
    await prepare(connection, config, key=KEY, now_us=clock.now_us())
    await connection.execute(
        "insert into ledger.settlement_account (chart_code, owner) values ('ACQ', 'metro')"
        " on conflict do nothing"
    )
    new = [cards.NewCard(card, tier="T2") for card in (SPARED, LISTED, USUAL, BLOCKED)]
    issued = await cards.issue(connection, new, shards=2, key=KEY, overdraft_minor=0)
    # long ago, so that what takes effect soon after it was written is in force now
    before_us = clock.now_us() - LONG_AGO_US
    who: dict[str, Any] = {"reason": "the officers know", "author": "ann", "now_us": before_us}
    await snoozes.add(
        connection, rule_id="much_in_a_row", card_id=issued[0].card_id,
        until_us=clock.now_us() + 3_600_000_000, **who,
    )  # fmt: skip
    values = [str(issued[1].card_id)]
    await rule_lists.add_entries(connection, "suspects", "card_id", values, **who)
    await cards.set_status(connection, issued[3].card_id, cards.CardStatus.BLOCKED, "found")
    terms = load_terms(config, await settlement_accounts(connection))
    terms = msgspec.structs.replace(terms, rules=await _deployment(connection, before_us))
    calendar = BusinessCalendar(ZONE, "00:00")
    store = await Store.open(database, PATIENCE_SECONDS)
    await load_purses(
        store,
        [LoadOrder(one.shard, one.account_id, one.card_id, "GEN", LOADED_MINOR) for one in issued],
        terms=terms, currency="156", calendar=calendar, clock=clock,
        entropy=secrets.token_bytes,
    )  # fmt: skip
    store.terminate()
    metrics = Metrics()
    lanes = [
        Lane(
            shard, slot=0, batch_max=16, terms=terms, calendar=calendar, clock=clock,
            open_ledger=functools.partial(Store.open, database, PATIENCE_SECONDS), metrics=metrics,
        )
        for shard in range(2)
    ]  # fmt: skip
    pipeline = Pipeline(
        lanes=lanes,
        directory=Directory(
            functools.partial(MediumStore.open, database, PATIENCE_SECONDS), 100, clock, metrics
        ),
        deadlines=DeadlineHeap(clock),
        medium_of=functools.partial(cards.medium_of, key=KEY),
        in_flight_max=100, lane_queue_max=100, clock=clock, metrics=metrics,
    )  # fmt: skip
    shop = Shop(connection, pipeline, clock)
    shop.card_ids = {each.card: one.card_id for each, one in zip(new, issued, strict=True)}
    async with anyio.create_task_group() as tasks:
        started = anyio.Event()
        tasks.start_soon(functools.partial(pipeline.run, started=started.set))
        with anyio.fail_after(PATIENCE_SECONDS):
            await started.wait()
            while any(lane.down for lane in lanes):  # noqa: ASYNC110
                await anyio.sleep(0.005)
        yield shop
        tasks.cancel_scope.cancel()
    report = await audit(connection)
    assert report.clean, report
    connection.terminate()


async def _deployment(connection: bridge.Connection, since_us: int) -> Deployment:
    """The live ruleset with the lists and snoozes of the ledger, as a worker has it."""
    book = ListBook()
    for name, field in (await rule_lists.book_fields(connection)).items():
        book.declare(name, field)
    for row in await rule_lists.book_rows(connection):
        book.put(row.list, row.value, row.from_us, row.until_us)
    spans: Snoozed = {
        (each.rule_id, each.card_id): ((each.from_us, each.until_us),)
        for each in await snoozes.standing(connection, since_us)
    }
    ruleset = load_ruleset(RULES)
    return Deployment(in_force(ruleset, compile_ruleset(ruleset, book=book).with_snoozes(spans)))


@pytest.fixture
async def shop(
    database: str, ledger_loop: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Shop]:
    monkeypatch.setattr(list_acts, "WRITTEN_WITHIN_PERCENT", 10**6)
    async with _shop(database, tmp_path) as made:
        yield made


def effects(told: Explained) -> list[tuple[str, str, bool]]:
    return [(each.rule_id, each.effect, each.decided) for each in told.rules]


async def test_each_way_of_being_decided_is_told(shop: Shop) -> None:
    approved = await shop.told(await shop.pay(USUAL, 4_000))
    assert approved.answered.outcome == Outcome.APPROVED
    assert effects(approved) == [("at_a_stop", Effect.UNKNOWN, False)]
    assert shop.held == {"suspected": False, "much_in_a_row": False, "at_a_stop": None}
    assert approved.rules[0].why == "stop is missing"
    assert (approved.features[0].shown, approved.features[0].value) == ("0.00", 0)
    assert approved.features[0].limits == ("much_in_a_row: paid_10m + amount > 100.00",)
    assert approved.decider is not None
    assert (approved.decider.state, approved.asked.last4) == ("live", USUAL.last4)

    declined = await shop.told(await shop.pay(USUAL, 6_001))
    assert declined.answered.response_code == "61"
    assert effects(declined)[0] == ("much_in_a_row", Effect.DECLINED, True)
    assert declined.features[0].shown == "40.00"
    assert declined.answered.sentence.startswith("Declined 61: much_in_a_row v2 (live, ruleset ")
    assert declined.because.startswith("100.01 approved in 10 min on card ••")
    assert declined.facts is not None
    assert declined.facts.balance_minor == LOADED_MINOR - 4_000

    spared = await shop.told(await shop.pay(SPARED, 20_000))
    assert spared.answered.outcome == Outcome.APPROVED
    assert effects(spared)[0] == ("much_in_a_row", Effect.SNOOZED, False)

    listed = await shop.told(await shop.pay(LISTED, 100))
    assert effects(listed)[0] == ("suspected", Effect.DECLINED, True)
    assert shop.held == {"suspected": True, "much_in_a_row": False, "at_a_stop": None}

    unasked = await shop.told(await shop.pay(BLOCKED, 100))
    assert (unasked.facts, unasked.rules, unasked.features) == (None, (), ())
    assert unasked.answered.outcome == Outcome.CARD_BLOCKED


async def test_it_is_found_by_each_of_its_names(shop: Shop) -> None:
    connection = shop.connection
    reply = await shop.pay(USUAL, 100, rrn="000000000777")
    told = await shop.told(reply)
    for reference in ("000000000777", told.key, told.key.upper(), str(reply.authorization_id)):
        assert await explained(connection, reference) == [told]
        assert await explained(connection, reference, day=told.business_date) == [told]
        own = shop.card_ids[USUAL]
        assert await explained(connection, reference, card_id=own) == [told]
        assert await explained(connection, reference, card_id=own + 1) == []
    await shop.pay(LISTED, 100, rrn="000000000777")
    assert len(await explained(connection, "000000000777")) == 2
    found = await explained(connection, "000000000777", card_id=shop.card_ids[LISTED])
    assert [each.asked.last4 for each in found] == [LISTED.last4]
    assert await explained(connection, "000000000778") == []
    assert await explained(connection, "9" * 18) == []
    for reference in ("", "12345678901x3", "f" * 31, "9" * 19, "no\nreference"):
        with pytest.raises(ReferenceUnfit):
            await explained(connection, reference)


async def test_what_became_of_it_and_what_does_not_agree_is_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = shop.connection
    sold = await shop.pay(USUAL, 3_000)
    after = await shop.told(await shop.pay(USUAL, 9_000))
    assert [(each.tag, each.rule_id) for each in after.became.tags] == [("night", "much_in_a_row")]
    assert [(each.queue, each.verdict) for each in after.became.reviews] == [("desk", "")]
    (listing,) = after.became.listings
    assert (listing.list, listing.value) == ("seen", "T0000001")
    lines = "\n".join(explanation_lines(after, None, ZONE))
    assert "review in desk by much_in_a_row: open" in lines
    told = await shop.told(sold)
    reversal = {"kind": Kind.REVERSAL, "original_id": sold.authorization_id}
    assert (await shop.pay(USUAL, 3_000, **reversal)).outcome is Outcome.APPROVED
    (followed,) = (await shop.told(sold)).became.followers
    assert (followed.kind, followed.approved_minor) == ("reversal", 3_000)
    # what came later is no part of what was decided on
    assert await shop.told(await shop.pay(USUAL, 1)) is not None

    # a history that is another one than the decision was made on
    await connection.execute(
        "alter table ledger.authorization disable trigger all;"
        "update ledger.authorization set amount_minor = 2_999, approved_minor = 2_999"
        " where amount_minor = 3_000"
    )
    trace = await traced(connection, after)
    await connection.execute(
        "update ledger.authorization set amount_minor = 3_000, approved_minor = 3_000"
        " where amount_minor = 2_999;"
        "alter table ledger.authorization enable trigger all"
    )
    assert trace is not None
    assert (trace.agrees, trace.differs) == (False, ("counter paid_10m",))
    assert "counter paid_10m otherwise" in trace.note
    assert {rule.rule_id: rule.holds for rule in trace.rules}["much_in_a_row"] is True
    monkeypatch.setattr(explaining, "SEARCH_SECONDS_MAX", 0.0)
    with pytest.raises(SearchTooLong, match="given up"):
        await explained(connection, told.key)


async def test_a_day_in_the_archive_is_searched_too(books: Any) -> None:
    (card,) = await books.issue()
    loaded = books.load(card, 5_000, rrn="000000000123")
    sale = books.purchase(card, 700, rrn="000000000124")
    await books.posted(loaded)
    (number,) = await books.posted(sale)
    later = books.day + timedelta(days=9)
    moved = await partitions.detach_before(
        books.connection, books.day + timedelta(days=1), today=later
    )
    assert f"authorization_{books.day:%Y%m%d}" in moved
    for reference in (sale.key.hex(), str(number)):
        (told,) = await explained(books.connection, reference)
        assert (told.asked.amount_minor, told.answered.sentence) == (700, "because")
    assert await explained(books.connection, "000000000124") == []
    assert await explained(books.connection, "000000000124", day=books.day) == [told]
    assert await explained(books.connection, sale.key.hex(), day=later) == []
    assert await traced(books.connection, told) is None
    report = await audit(books.connection)
    assert report.clean, report
