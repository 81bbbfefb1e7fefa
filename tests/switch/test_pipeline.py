"""From a request to its one answer: admission, directory, lane and deadline put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from protocols.card_number import numbered_card
from protocols.message import Kind, Outcome, Reply, Segment
from switch.admission import Ticket
from switch.deadline import DeadlineHeap
from switch.ledger import directory as directory_module
from switch.ledger.directory import Directory
from switch.ledger.lanes import Lane
from switch.metrics import Metrics
from switch.pipeline import Pipeline
from tests.simulation.model_ledger import (
    CALENDAR,
    FakeClock,
    Fault,
    Faults,
    Loss,
    ModelLedger,
    by_worker,
    check_books,
    medium_of,
    purchase,
    scripted,
    shipped_terms,
    until,
)

SHARDS = 3
CARDS = 6


class Switch:
    """One process without its links."""

    def __init__(
        self,
        *,
        in_flight_max: int = 100,
        lane_queue_max: int = 100,
        lanes: Faults | None = None,
        directory: Faults | None = None,
    ) -> None:
        self.clock = FakeClock()
        faults = {
            "lane": lanes or scripted(),
            "directory": directory or scripted(),
        }
        self.ledger = ModelLedger(self.clock, by_worker(**faults))
        self.cards = [self.ledger.issue(number, shards=SHARDS) for number in range(1, CARDS + 1)]
        self.metrics = Metrics()
        self.deadlines = DeadlineHeap(self.clock)
        self.lanes = [
            Lane(
                shard,
                slot=0,
                batch_max=32,
                open_ledger=lambda: self.ledger.open("lane"),
                terms=shipped_terms(),
                calendar=CALENDAR,
                clock=self.clock,
                metrics=self.metrics,
            )
            for shard in range(SHARDS)
        ]
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(
                lambda: self.ledger.open("directory"), 1_000, self.clock, self.metrics
            ),
            deadlines=self.deadlines,
            medium_of=medium_of,
            in_flight_max=in_flight_max,
            lane_queue_max=lane_queue_max,
            clock=self.clock,
            metrics=self.metrics,
        )

    def submit(self, number: int = 1, *, card: int = 1, **changed: Any) -> list[Reply]:
        """Hand a purchase in; the list fills with its answers."""
        now_ns = self.clock.monotonic_ns()
        times = {"received_ns": now_ns, "deadline_ns": now_ns + 800_000_000}
        request = purchase(number, card=numbered_card("621299", card), **(times | changed))
        heard: list[Reply] = []
        self.pipeline.submit(request, heard.append)
        return heard

    def end_budgets(self) -> None:
        self.clock.advance(1)
        self.deadlines.expire_due()

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"citycard_{name}", labels) or 0.0

    @property
    def up(self) -> bool:
        return not any(lane.down for lane in self.lanes)


@asynccontextmanager
async def running(switch: Switch) -> AsyncIterator[None]:
    """The whole pipeline; nothing is left of any request in the end."""
    started = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await switch.pipeline.run(started=started.set)

        tasks.start_soon(run)
        with anyio.fail_after(20):
            await started.wait()
            await until(lambda: switch.up)
            yield
            assert await switch.pipeline.finish(10) == 0
        tasks.cancel_scope.cancel()
    assert switch.pipeline.in_flight == 0
    opening = {card.account_id: 10_000 for card in switch.cards}
    check_books(switch.ledger, opening)


def outcomes(heard: list[Reply]) -> list[Outcome]:
    return [reply.outcome for reply in heard]


async def test_requests_of_all_shards_are_answered() -> None:
    switch = Switch()
    async with running(switch):
        heard = [switch.submit(number, card=1 + number % CARDS) for number in range(60)]
        await until(lambda: all(heard))
    assert [outcomes(one) for one in heard] == [[Outcome.APPROVED]] * 60
    assert {row.shard for row in switch.ledger.rows} == {0, 1, 2}
    assert all(row.shard == row.account_id % SHARDS for row in switch.ledger.rows)


async def test_an_unknown_card_is_recorded_in_the_shard_of_its_key_and_found_again() -> None:
    switch = Switch()
    async with running(switch):
        first = [switch.submit(number, card=77) for number in range(30)]
        await until(lambda: all(first))
        again = [switch.submit(number, card=77) for number in range(30)]
        await until(lambda: all(again))
    assert {outcome for one in first + again for outcome in outcomes(one)} == {Outcome.UNKNOWN_CARD}
    assert all(reply.replayed for one in again for reply in one)
    assert len(switch.ledger.rows) == 30
    assert {row.shard for row in switch.ledger.rows} == {0, 1, 2}


async def test_a_card_issued_a_moment_ago_is_found() -> None:
    switch = Switch()
    async with running(switch):
        before = switch.submit(1, card=9)
        await until(lambda: bool(before))
        switch.cards.append(switch.ledger.issue(9, shards=SHARDS))
        after = switch.submit(2, card=9)
    assert (outcomes(before), outcomes(after)) == ([Outcome.UNKNOWN_CARD], [Outcome.APPROVED])


async def test_a_request_that_comes_too_late_is_refused_at_once() -> None:
    switch = Switch()
    heard = switch.submit(deadline_ns=switch.clock.monotonic_ns())
    assert outcomes(heard) == [Outcome.NO_BUDGET]
    assert switch.pipeline.in_flight == 0
    assert switch.metric("shed_total", segment="retail", outcome="no_budget") == 1


async def test_before_the_lanes_are_up_requests_are_declined() -> None:
    switch = Switch()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(switch.pipeline._directory.run)
        heard = switch.submit()
        await until(lambda: bool(heard))
        tasks.cancel_scope.cancel()
    assert outcomes(heard) == [Outcome.LEDGER_DOWN]
    assert switch.pipeline.in_flight == 0


async def test_sales_are_shed_unread_only_where_every_lane_would_refuse_them() -> None:
    switch = Switch(lane_queue_max=10)
    retail, transit, budget_ns = Segment.RETAIL, Segment.TRANSIT, 800_000_000
    assert switch.pipeline.sheds(retail, budget_ns, False) is None, "nothing waits"
    async with running(switch):
        for lane in switch.lanes[:-1]:
            lane._queue.extend([Ticket(purchase(), print, print)] * 9)
        assert switch.pipeline.sheds(retail, budget_ns, False) is None, "one lane has room"
        switch.lanes[-1]._queue.extend([Ticket(purchase(), print, print)] * 9)
        assert switch.pipeline.sheds(retail, budget_ns, False) is Outcome.OVERLOADED
        assert switch.pipeline.sheds(transit, budget_ns, False) is None, "taps are shed last"
        switch.lanes[0].down = True
        assert switch.pipeline.sheds(retail, budget_ns, False) is None, (
            "who stands in must see them"
        )
        switch.lanes[0].down = False
        for lane in switch.lanes:
            lane._queue.clear()


async def test_more_than_may_be_in_flight_is_refused_at_once() -> None:
    switch = Switch(in_flight_max=3)
    async with running(switch):
        heard = [switch.submit(number) for number in range(5)]
        assert [outcomes(one) for one in heard[3:]] == [[Outcome.OVERLOADED]] * 2
    assert [outcomes(one) for one in heard[:3]] == [[Outcome.APPROVED]] * 3


async def test_a_full_lane_sheds_retail_before_taps() -> None:
    switch = Switch(lane_queue_max=10)
    async with running(switch):
        known = switch.submit(100)
        await until(lambda: bool(known))
        retail = [switch.submit(number, amount_minor=1) for number in range(12)]
        taps = [
            switch.submit(number, amount_minor=1, segment=Segment.TRANSIT)
            for number in range(20, 23)
        ]
        assert [outcomes(one) for one in retail[9:]] == [[Outcome.OVERLOADED]] * 3
        assert [outcomes(one) for one in taps] == [[], [Outcome.OVERLOADED], [Outcome.OVERLOADED]]
    assert switch.metric("shed_total", segment="retail", outcome="overloaded") == 3


async def test_the_same_message_twice_at_once_is_one_posting_and_two_equal_answers() -> None:
    switch = Switch()
    async with running(switch):
        first, second = switch.submit(), switch.submit()
    assert first == second
    assert outcomes(first) == [Outcome.APPROVED]
    assert len(switch.ledger.rows) == 1
    assert switch.metric("duplicates_total", duplicate="in_flight") == 1


async def test_the_same_message_later_gets_the_stored_answer() -> None:
    switch = Switch()
    async with running(switch):
        first = switch.submit()
        await until(lambda: bool(first))
        second = switch.submit()
    assert outcomes(first) == outcomes(second) == [Outcome.APPROVED]
    assert first[0].authorization_id == second[0].authorization_id
    assert switch.metric("duplicates_total", duplicate="stored_answer") == 1


async def test_a_key_used_again_is_refused_in_flight_and_after() -> None:
    switch = Switch()
    async with running(switch):
        first = switch.submit()
        assert outcomes(switch.submit(amount_minor=501)) == [Outcome.KEY_REUSED]
        await until(lambda: bool(first))
        later = switch.submit(amount_minor=501)
    assert outcomes(later) == [Outcome.KEY_REUSED]
    assert switch.metric("duplicates_total", duplicate="key_reused") == 2


async def test_a_directory_that_does_not_answer_is_no_silence() -> None:
    hold = anyio.Event()
    switch = Switch(directory=scripted(find=[Fault(hang=hold)]))
    async with running(switch):
        heard = switch.submit(card=77)
        await anyio.lowlevel.checkpoint()
        switch.end_budgets()
        assert outcomes(heard) == [Outcome.NO_BUDGET]
        hold.set()
    assert switch.ledger.rows == []


async def test_a_directory_that_cannot_be_reached_declines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory_module, "RECONNECT_SECONDS", 0.001)
    lost = [Fault(loss=Loss.BEFORE_COMMIT)] * 2
    switch = Switch(directory=scripted(find=lost))
    async with running(switch):
        first = switch.submit(card=77)
        await until(lambda: bool(first), turns=100_000)
        second = switch.submit(card=77)
    assert outcomes(first) == [Outcome.LEDGER_DOWN]
    assert outcomes(second) == [Outcome.UNKNOWN_CARD]


async def test_a_deadline_in_a_lane_is_kept_and_the_late_approval_given_back() -> None:
    hold = anyio.Event()
    switch = Switch()
    switch.ledger.faults = by_worker(
        lane=scripted(post=[Fault(after=lambda: switch.end_budgets())])
    )
    async with running(switch):
        heard = switch.submit()
        await until(lambda: bool(heard))
        hold.set()
    assert outcomes(heard) == [Outcome.OUTCOME_UNKNOWN]
    assert [row.posting.kind for row in switch.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]


async def test_finish_says_what_is_left() -> None:
    hold = anyio.Event()
    switch = Switch(lanes=scripted(post=[Fault(hang=hold)]))
    async with running(switch):
        heard = switch.submit()
        await until(lambda: any(lane.unfinished for lane in switch.lanes))
        assert await switch.pipeline.finish(0) == 2  # the request, and its place in the lane
        hold.set()
    assert outcomes(heard) == [Outcome.APPROVED]
