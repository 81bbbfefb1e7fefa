"""Holds that are due are resolved once, however many workers look, and only then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.calendar import BusinessCalendar
from switch.decide import decide, moment_at
from switch.ledger import bridge, expiry
from switch.ledger.audit import audit
from switch.ledger.expiry import HoldExpiry
from switch.ledger.failures import LedgerLost
from switch.ledger.store import Store
from switch.metrics import Metrics
from switch.posting import Directed, Posting
from tests.simulation.model_ledger import NOON_US, FakeClock, shipped_terms, until

CALENDAR = BusinessCalendar("Asia/Shanghai", "00:00")


class Post:
    """A pipeline of one lane that decides and posts one ticket after the other."""

    def __init__(self, store: Store, books: Any, clock: FakeClock) -> None:
        self.store, self.books, self.clock = store, books, clock
        self.down = False
        self.tickets: list[tuple[Ticket, Directed]] = []

    def post_own(self, ticket: Ticket, directed: Directed) -> bool:
        if not self.down:
            self.tickets.append((ticket, directed))
        return not self.down

    async def settle(self) -> list[Reply]:
        """Decide and post what is waiting, with the version of that moment."""
        replies = []
        while self.tickets:
            ticket, directed = self.tickets.pop(0)
            moment = moment_at(self.clock.now_us(), CALENDAR, shipped_terms())
            (facts,) = await self.store.load(
                directed.shard, moment.business_date, moment.now_us, [directed]
            )
            decision = decide(directed, facts, shipped_terms(), moment)
            if isinstance(decision, Posting):
                assert facts.account is not None
                (posted,) = await self.store.post(
                    directed.shard,
                    0,
                    moment.business_date,
                    {facts.account.account_id: facts.account.version},
                    [decision],
                    [60_000_000],
                    "3fa9",
                )
                decision = Reply(decision.outcome, decision.approved_minor, posted.authorization_id)
            ticket.finish(decision)
            replies.append(decision)
        return replies


@pytest.fixture
async def post(books: Any, database: str) -> AsyncIterator[Post]:
    store = await Store.open(database, 10)
    yield Post(store, books, FakeClock(NOON_US))
    store.terminate()


def looking(post: Post, metrics: Metrics | None = None) -> HoldExpiry:
    async def never() -> bridge.Connection:
        raise AssertionError("the test brings the connection")

    return HoldExpiry(
        never, post.post_own, calendar=CALENDAR, clock=post.clock, metrics=metrics or Metrics()
    )


async def test_a_due_hold_is_freed_once_and_others_stay(books: Any, post: Post) -> None:
    card, other = await books.issue(2)
    await books.posted(books.load(card, 100), books.load(other, 100))
    held, _ = await books.posted(books.preauthorization(card, 30), books.load_pending(card, 7))
    await books.posted(books.preauthorization(other, 40))
    await books.connection.execute(
        "update ledger.hold set expires_at_us = expires_at_us + 1000 where amount_minor = 40"
    )
    await books.connection.execute(
        "update ledger.hold set expires_at_us = expires_at_us + 1000 where amount_minor = 7"
    )
    metrics = Metrics()
    first, second = looking(post, metrics), looking(post, metrics)
    await first.look(books.connection)
    assert not post.tickets, "nothing is due yet"
    post.clock.us = books.hold_expires_us
    await first.look(books.connection)
    await first.look(books.connection)
    await second.look(books.connection)
    assert len(post.tickets) == 2, "each worker asks once while it is under way"
    (freed, again) = await post.settle()
    assert (freed.outcome, freed.approved_minor, freed.replayed) == (Outcome.APPROVED, 30, False)
    assert (again.outcome, again.replayed) == (Outcome.APPROVED, True)
    assert (await books.purse(card))["held_minor"] == 0
    assert (await books.purse(other))["held_minor"] == 40
    row = await books.connection.fetchrow("select * from ledger.hold where hold_id = $1", held)
    assert (row["status"], row["resolved_by"]) == ("expired", freed.authorization_id)
    assert "citycard_holds_expired_total 1.0" in metrics.text()
    await first.look(books.connection)
    assert not post.tickets
    assert (await audit(books.connection)).clean


async def test_what_a_lane_cannot_take_is_offered_again(books: Any, post: Post) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100), books.preauthorization(card, 30))
    post.clock.us = books.hold_expires_us
    looks, post.down = looking(post), True
    await looks.look(books.connection)
    post.down = False
    await looks.look(books.connection)
    ((ticket, directed),) = post.tickets
    ticket.finish(Reply(Outcome.LEDGER_DOWN))
    post.tickets.clear()
    await looks.look(books.connection)
    assert [each.request.key for _, each in post.tickets] == [directed.request.key]
    assert directed.request.kind is Kind.HOLD_EXPIRY
    assert directed.request.must_post


async def test_a_wave_goes_out_page_by_page(
    books: Any, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "PAGE", 3)
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    await books.posted(*(books.preauthorization(card, 1) for _ in range(8)))
    post.clock.us = books.hold_expires_us
    looks = looking(post)
    assert [await looks.look(books.connection) for _ in range(3)] == [True, True, False]
    assert len(post.tickets) == 6, "two pages at most are under way"
    await post.settle()
    assert not await looks.look(books.connection)
    await post.settle()
    assert (await books.purse(card))["held_minor"] == 0
    assert (await audit(books.connection)).clean


async def test_it_comes_back_when_the_ledger_does(books: Any, post: Post, database: str) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100), books.preauthorization(card, 30))
    post.clock.us = books.hold_expires_us
    opened: list[bridge.Connection] = []

    async def open_connection() -> bridge.Connection:
        if not opened:
            opened.append(await bridge.connect(database))
            opened[0].terminate()
            return opened[0]
        if len(opened) == 1:
            opened.append(opened[0])
            raise LedgerLost("away")
        opened.append(await bridge.connect(database))
        return opened[-1]

    looks = HoldExpiry(
        open_connection,
        post.post_own,
        calendar=CALENDAR,
        clock=post.clock,
        metrics=Metrics(),
        interval_seconds=0.01,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(looks.run)
        with anyio.fail_after(20):
            await until(lambda: bool(post.tickets), turns=1_000_000)
        tasks.cancel_scope.cancel()
    assert len(opened) == 3
    assert opened[-1].closed
    await post.settle()
    assert (await books.purse(card))["held_minor"] == 0
