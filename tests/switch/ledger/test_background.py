"""Background work goes in bursts, in one lane at a time, and every ticket of it gets its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from protocols.message import Outcome, Reply
from switch.admission import Ticket
from switch.ledger import background
from switch.ledger.background import Background
from switch.ledger.lanes import BACKGROUND_BATCH_MAX, Lane
from switch.metrics import Metrics
from tests.simulation.model_ledger import (
    CALENDAR,
    FakeClock,
    ModelLedger,
    check_books,
    purchase,
    shipped_terms,
    until,
)

SHARDS = 2
ACCOUNTS = 6


class Bench:
    """Two lanes over one model ledger, and the background work before them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.ledger = ModelLedger(self.clock)
        self.cards = [self.ledger.issue(number, shards=SHARDS) for number in range(1, ACCOUNTS + 1)]
        self.metrics = Metrics()
        self.lanes = [
            Lane(
                shard,
                slot=0,
                batch_max=128,
                open_ledger=self.ledger.open,
                terms=shipped_terms(),
                calendar=CALENDAR,
                clock=self.clock,
                metrics=self.metrics,
            )
            for shard in sorted({card.shard for card in self.cards})
        ]
        self.gone_down: list[Ticket] = []
        self.answers: dict[Ticket, list[Reply]] = {}
        self.background = Background(self.lanes, self.clock, self._down)
        self.most_lanes_busy = 0

    def _down(self, ticket: Ticket, _medium: bytes) -> None:
        self.gone_down.append(ticket)
        ticket.finish(Reply(Outcome.LEDGER_DOWN))

    def _settled(self, ticket: Ticket) -> None:
        if ticket.request.background:
            self.background.left(ticket)
        busy = sum(1 for lane in self.lanes if lane.unfinished)
        self.most_lanes_busy = max(self.most_lanes_busy, busy)

    def put(self, number: int, *, background: bool = True) -> Ticket:
        card = self.cards[number % ACCOUNTS]
        deadline_ns = self.clock.monotonic_ns() + 60_000_000_000
        request = purchase(number, 10, background=background, deadline_ns=deadline_ns)
        heard: list[Reply] = []
        ticket = Ticket(request, heard.append, self._settled)
        ticket.directed = self.ledger.directed(request, card)
        self.answers[ticket] = heard
        if background:
            self.background.put(ticket)
        else:
            self.background.saw_another()
            self.lane_of(ticket).put(ticket)
        return ticket

    def lane_of(self, ticket: Ticket) -> Lane:
        assert ticket.directed is not None
        return next(lane for lane in self.lanes if lane.shard == ticket.directed.shard)

    def outcomes(self) -> list[Outcome]:
        return [reply.outcome for replies in self.answers.values() for reply in replies]


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        for lane in bench.lanes:
            tasks.start_soon(lane.run)
        tasks.start_soon(bench.background.run)
        with anyio.fail_after(20):
            await until(lambda: not any(lane.down for lane in bench.lanes))
            yield
            await until(lambda: all(ticket.done for ticket in bench.answers))
        tasks.cancel_scope.cancel()
    assert all(len(heard) == 1 for heard in bench.answers.values())
    check_books(bench.ledger, {card.account_id: 10_000 for card in bench.cards})


async def test_all_of_it_is_posted_and_no_batch_is_large():
    bench = Bench()
    async with running(bench):
        for number in range(5 * BACKGROUND_BATCH_MAX):
            bench.put(number)
    approved = bench.outcomes().count(Outcome.APPROVED)
    declined = bench.outcomes().count(Outcome.COUNT_LIMIT)
    assert approved
    assert approved + declined == 5 * BACKGROUND_BATCH_MAX, "the rules are asked too"
    batches = bench.metrics.registry.get_sample_value
    within = batches("citycard_batch_requests_bucket", {"le": "16.0"})
    assert within == batches("citycard_batch_requests_count"), "no batch is larger than a burst"


async def test_what_is_put_beside_it_is_answered_before_all_of_it_is_done():
    bench = Bench()
    left: list[int] = []
    async with running(bench):
        for number in range(1_000, 1_000 + 10 * BACKGROUND_BATCH_MAX):
            bench.put(number)
        urgent = bench.put(1, background=False)
        await until(lambda: urgent.done)
        left.append(sum(not ticket.done for ticket in bench.answers))
    assert left[0] >= 5 * BACKGROUND_BATCH_MAX
    assert bench.answers[urgent][0].outcome.approved


async def test_one_that_stays_owed_holds_up_its_own_burst_and_no_other(monkeypatch):
    """A posting in doubt that the ledger refuses from then on: only its lane keeps trying."""
    monkeypatch.setattr(background, "BURST_SECONDS_MAX", 0.0)
    bench = Bench()
    stuck = bench.put(0)
    taken: list[Ticket] = []
    monkeypatch.setattr(bench.lane_of(stuck), "put_background", taken.append)
    async with anyio.create_task_group() as tasks:
        for lane in bench.lanes:
            tasks.start_soon(lane.run)
        with anyio.fail_after(20):
            await until(lambda: not any(lane.down for lane in bench.lanes))
            tasks.start_soon(bench.background.run)
            await until(lambda: taken == [stuck] and not bench.background._under_way)
        tasks.cancel_scope.cancel()
    assert not stuck.done


async def test_what_a_lane_that_is_down_cannot_have_goes_to_whoever_takes_it():
    bench = Bench()
    down = Background(bench.lanes, bench.clock, bench._down)
    bench.background = down
    tickets = [bench.put(number) for number in range(3)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(down.run)
        with anyio.fail_after(20):
            await until(lambda: all(ticket.done for ticket in tickets))
        tasks.cancel_scope.cancel()
    assert set(bench.gone_down) == set(tickets)
    assert set(bench.outcomes()) == {Outcome.LEDGER_DOWN}
