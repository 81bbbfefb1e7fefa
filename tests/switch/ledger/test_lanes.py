"""One lane before a ledger that fails in every way: nobody is misled, nothing is lost.

The clock stands still unless a fault moves it, and the deadlines are kept by hand, so each
test says exactly when a budget ends.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from protocols.message import Kind, Outcome, Reply, Request
from switch.admission import Flight, Ticket
from switch.deadline import DeadlineHeap
from switch.decide import derived_key, resolved_as_answered
from switch.ledger import lanes
from switch.ledger.lanes import Lane
from switch.metrics import Metrics
from tests.simulation.model_ledger import (
    CALENDAR,
    NO_FAULT,
    FakeClock,
    Fault,
    Loss,
    ModelAccount,
    ModelLedger,
    by_worker,
    check_books,
    purchase,
    scripted,
    shipped_terms,
    until,
)

BUDGET_SECONDS = 0.8
PAST_BUDGET_SECONDS = 0.9


class Bench:
    """A lane with its ledger, clock and deadlines, and every ticket handed to it."""

    def __init__(self, *, batch_max: int = 128) -> None:
        self.clock = FakeClock()
        self.ledger = ModelLedger(self.clock)
        self.card = self.ledger.issue(1)
        self.metrics = Metrics()
        self.flight = Flight(1_000)
        self.deadlines = DeadlineHeap(self.clock)
        self.tickets: list[Ticket] = []
        self.answers: dict[Ticket, list[Reply]] = {}
        self.lane = self._lane(batch_max, 0, self.ledger.open)

    def another_lane(self) -> Lane:
        """The lane of another worker, "b", over the same ledger."""
        return self._lane(128, 1, functools.partial(self.ledger.open, "b"))

    def _lane(self, batch_max: int, slot: int, open_ledger: Any) -> Lane:
        return Lane(
            self.card.shard,
            slot=slot,
            batch_max=batch_max,
            open_ledger=open_ledger,
            terms=shipped_terms(),
            calendar=CALENDAR,
            clock=self.clock,
            metrics=self.metrics,
        )

    def fail(self, **calls: list[Fault]) -> None:
        self.ledger.faults = scripted(**calls)

    def ticket(
        self, request: Request, card: ModelAccount | None = None, flight: Flight | None = None
    ) -> Ticket:
        heard: list[Reply] = []
        ticket = Ticket(request, heard.append, (flight or self.flight).leave)
        ticket.directed = self.ledger.directed(request, card or self.card)
        assert (flight or self.flight).admit(ticket) is None
        self.tickets.append(ticket)
        self.answers[ticket] = heard
        self.deadlines.watch(ticket)
        return ticket

    def put(self, number: int = 1, amount_minor: int = 500, **changed: Any) -> Ticket:
        """Queue a purchase whose budget starts now."""
        now_ns = self.clock.monotonic_ns()
        times = {"received_ns": now_ns, "deadline_ns": now_ns + int(BUDGET_SECONDS * 1e9)}
        card = changed.pop("card_of", None)
        ticket = self.ticket(purchase(number, amount_minor, **(times | changed)), card)
        if not self.flight.is_repeat(ticket):
            self.lane.put(ticket)
        return ticket

    def end_budgets(self) -> None:
        """Time passes, and the deadlines are kept."""
        self.clock.advance(PAST_BUDGET_SECONDS)
        self.deadlines.expire_due()

    def reply(self, ticket: Ticket) -> Reply:
        (reply,) = self.answers[ticket]
        return reply

    def outcome(self, ticket: Ticket) -> Outcome:
        return self.reply(ticket).outcome

    def written(self, key: bytes) -> list[tuple[Kind, Outcome]]:
        return [
            (row.posting.kind, row.posting.outcome)
            for row in self.ledger.rows
            if row.posting.key == key
        ]

    def metric(self, name: str) -> float:
        value = self.metrics.registry.get_sample_value(f"citycard_{name}")
        return value or 0.0

    def all_settled(self) -> bool:
        return all(ticket.done for ticket in self.tickets) and self.lane.unfinished == 0

    def check(self) -> None:
        """What must hold whatever happened."""
        self.ledger.run_zombies()
        assert self.flight.count == 0
        by_key: dict[bytes, list[Reply]] = {}
        for ticket in self.tickets:
            assert len(self.answers[ticket]) == 1, "a ticket has one answer"
            by_key.setdefault(ticket.request.key, []).append(self.reply(ticket))
        for key, replies in by_key.items():
            approvals = self.ledger.approvals(key)
            given = {reply.authorization_id for reply in replies if reply.outcome.approved}
            assert {row.authorization_id for row in approvals} == given
        check_books(self.ledger, {self.card.account_id: 10_000})


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    """The lane runs; in the end everything is settled and the invariants hold."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.lane.run)
        with anyio.fail_after(20):
            yield
            while not bench.all_settled():  # noqa: ASYNC110 - owed work waits for a second
                await anyio.sleep(0.001)
        tasks.cancel_scope.cancel()
    bench.check()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real waiting between two tries."""
    monkeypatch.setattr(lanes, "RECONNECT_FIRST_SECONDS", 0.001)
    monkeypatch.setattr(lanes, "RECONNECT_MAX_SECONDS", 0.002)
    monkeypatch.setattr(lanes, "OWED_SECONDS", 0.0)


# ---- the plain way ----


async def test_an_approval_is_answered_after_it_is_written() -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=lambda: seen.append(list(bench.answers[ticket])))])
    seen: list[list[Reply]] = []
    ticket = bench.put()
    async with running(bench):
        await until(lambda: ticket.done)
    assert seen == [[]], "nothing is said before the ledger has said it"
    (row,) = bench.ledger.rows
    assert bench.reply(ticket) == Reply(
        Outcome.APPROVED, 500, row.authorization_id, row.posting.auth_code, row.posting.rrn
    )


async def test_what_arrives_while_a_batch_is_posted_is_the_next_batch() -> None:
    bench = Bench()
    bench.fail(post=[Fault(during=lambda: [bench.put(n) for n in range(2, 6)])])
    bench.put(1)
    async with running(bench):
        pass
    assert bench.ledger.batches == [1, 4]


async def test_a_batch_is_no_larger_than_it_may_be_and_keeps_the_order() -> None:
    bench = Bench(batch_max=4)
    tickets = [bench.put(n, 100 + n) for n in range(1, 11)]
    async with running(bench):
        pass
    assert bench.ledger.batches == [4, 4, 2]
    written = [row.request.amount.amount_minor for row in bench.ledger.rows]
    assert written == [ticket.request.amount.amount_minor for ticket in tickets]


async def test_an_unknown_card_is_recorded_once_and_answered_the_same_again() -> None:
    bench = Bench()
    first = bench.put()
    first.directed = bench.ledger.directed(first.request, None)
    async with running(bench):
        await until(lambda: first.done)
        second = bench.put()
        second.directed = bench.ledger.directed(second.request, None)
    assert bench.outcome(first) is bench.outcome(second) is Outcome.UNKNOWN_CARD
    assert bench.reply(second).replayed
    assert len(bench.ledger.rows) == 1


async def test_an_unknown_card_that_another_worker_records_first() -> None:
    """No account, so no version: the unique key decides, and the batch goes on without it."""
    bench = Bench()
    stranger = purchase(1)

    def other_worker() -> None:
        bench.ledger.post(
            0,
            CALENDAR.business_date(bench.clock.now_us()),
            {},
            [
                resolved_as_answered(
                    bench.ledger.directed(stranger, None), None, Outcome.UNKNOWN_CARD, at
                )
            ],
            [10**9],
            bench.clock.now_us(),
        )

    at = lanes.moment_at(bench.clock.now_us(), CALENDAR, shipped_terms())
    bench.fail(post=[Fault(during=other_worker)])
    unknown, known = bench.put(1), bench.put(2)
    unknown.directed = bench.ledger.directed(unknown.request, None)
    async with running(bench):
        pass
    assert bench.outcome(unknown) is Outcome.UNKNOWN_CARD
    assert bench.outcome(known) is Outcome.APPROVED
    assert len(bench.ledger.rows) == 2


# ---- conflicts ----


async def test_a_conflict_is_loaded_and_decided_again_in_the_same_order() -> None:
    bench = Bench()
    bench.fail(post=[Fault(conflict=True), Fault(conflict=True)])
    first, second = bench.put(1, 6_000), bench.put(2, 6_000)
    async with running(bench):
        pass
    assert (bench.outcome(first), bench.outcome(second)) == (
        Outcome.APPROVED,
        Outcome.INSUFFICIENT_FUNDS,
    )
    assert bench.ledger.batches == [2, 2, 2]
    assert bench.metric("posting_conflicts_total") == 4


async def test_conflicts_go_before_what_arrived_meanwhile() -> None:
    bench = Bench()
    bench.fail(post=[Fault(conflict=True, during=lambda: bench.put(2, 6_000))])
    first = bench.put(1, 6_000)
    async with running(bench):
        pass
    assert bench.outcome(first) is Outcome.APPROVED


async def test_a_conflict_past_the_deadline_is_let_go_of() -> None:
    bench = Bench()
    bench.fail(post=[Fault(conflict=True, after=bench.end_budgets)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert bench.ledger.rows == []


async def test_a_decision_on_an_old_status_is_made_again() -> None:
    bench = Bench()

    def block() -> None:
        bench.card.card_status = "stolen"
        bench.card.version += 1

    bench.fail(post=[Fault(during=block)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.CARD_STOLEN


# ---- deadlines ----


async def test_a_deadline_during_the_load_writes_nothing() -> None:
    bench = Bench()
    bench.fail(load=[Fault(during=bench.end_budgets)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.NO_BUDGET
    assert bench.ledger.rows == []


async def test_a_deadline_during_the_load_that_nobody_kept_yet() -> None:
    bench = Bench()
    bench.fail(load=[Fault(during=lambda: bench.clock.advance(PAST_BUDGET_SECONDS))])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.NO_BUDGET
    assert bench.ledger.rows == []


async def test_a_deadline_before_the_locks_are_held_expires_the_row() -> None:
    bench = Bench()
    bench.fail(post=[Fault(during=bench.end_budgets)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN, "it was answered before the verdict"
    assert bench.ledger.rows == []


async def test_an_expired_row_is_answered_as_not_written() -> None:
    bench = Bench()
    bench.fail(post=[Fault(during=lambda: bench.clock.advance(PAST_BUDGET_SECONDS))])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.NO_BUDGET
    assert bench.ledger.rows == []


@pytest.mark.parametrize("kept", [True, False])
async def test_an_approval_that_commits_in_time_and_is_heard_of_too_late_is_reversed(
    kept: bool,
) -> None:
    bench = Bench()
    pass_time = bench.end_budgets if kept else lambda: bench.clock.advance(PAST_BUDGET_SECONDS)
    bench.fail(post=[Fault(after=pass_time)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is (Outcome.OUTCOME_UNKNOWN if kept else Outcome.ANSWERED_LATE)
    approval, reversal = bench.ledger.rows
    assert reversal.posting.kind is Kind.REVERSAL
    assert reversal.posting.original_id == approval.authorization_id
    assert reversal.posting.key == derived_key(ticket.request.key, b"late-reversal")
    assert bench.metric("late_approvals_reversed_total") == 1


async def test_a_decline_that_is_heard_of_too_late_needs_nothing() -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=bench.end_budgets)])
    ticket = bench.put(amount_minor=99_999)
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert len(bench.ledger.rows) == 1


async def test_the_ticket_stays_in_flight_until_its_reversal_is_written() -> None:
    bench = Bench()
    blocked = anyio.Event()
    bench.fail(post=[Fault(after=bench.end_budgets), Fault(hang=blocked)])
    ticket = bench.put()
    async with running(bench):
        await until(lambda: ticket.settled)
        follower = bench.put()  # the terminal tries once more and joins
        assert bench.flight.is_repeat(follower)
        await until(lambda: len(bench.ledger.rows) == 1 and not bench.lane.waiting)
        assert bench.flight.count == 2
        blocked.set()
    assert bench.outcome(follower) is Outcome.OUTCOME_UNKNOWN


async def test_what_waits_past_its_deadline_is_let_go_of() -> None:
    bench = Bench()
    tickets = [bench.put(n) for n in range(3)]
    bench.end_budgets()
    late = bench.put(9)
    bench.clock.advance(PAST_BUDGET_SECONDS)  # nobody kept this one
    async with running(bench):
        pass
    assert {bench.outcome(ticket) for ticket in [*tickets, late]} == {Outcome.NO_BUDGET}
    assert bench.ledger.batches == []


# ---- lost connections ----


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_connection_lost_in_a_post_is_cleared_up_within_the_budget(loss: Loss) -> None:
    bench = Bench()
    bench.fail(post=[Fault(loss=loss)])
    tickets = [bench.put(n) for n in range(3)]
    async with running(bench):
        pass
    assert {bench.outcome(ticket) for ticket in tickets} == {Outcome.APPROVED}
    assert len(bench.ledger.rows) == 3
    assert all(row.posting.kind is Kind.PURCHASE for row in bench.ledger.rows)


@pytest.mark.parametrize(
    ("loss", "written"),
    [
        (Loss.BEFORE_COMMIT, [Outcome.OUTCOME_UNKNOWN]),
        (Loss.AFTER_COMMIT, [Outcome.APPROVED]),
        (Loss.COMMITS_LATER, [Outcome.OUTCOME_UNKNOWN]),
    ],
)
async def test_a_connection_lost_beyond_the_deadline_ends_in_a_record_or_a_reversal(
    loss: Loss, written: list[Outcome]
) -> None:
    bench = Bench()
    bench.fail(post=[Fault(loss=loss)], open=[NO_FAULT, Fault(during=bench.end_budgets)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert [outcome for _, outcome in bench.written(ticket.request.key)] == written
    reversals = [row for row in bench.ledger.rows if row.posting.kind is Kind.REVERSAL]
    assert len(reversals) == (1 if loss is Loss.AFTER_COMMIT else 0)
    assert bench.card.purses[2].balance_minor == 10_000


async def test_a_lost_posting_that_commits_between_the_look_and_the_record() -> None:
    """The record conflicts with it, the next look finds it, and it is reversed."""
    bench = Bench()

    def commit_in_time_and_end_budgets() -> None:
        bench.ledger.run_zombies()
        bench.end_budgets()

    bench.fail(
        post=[Fault(loss=Loss.COMMITS_LATER)],
        load=[NO_FAULT, Fault(after=commit_in_time_and_end_budgets)],
    )
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]
    assert bench.metric("posting_conflicts_total") == 1


async def test_a_record_whose_own_posting_is_lost_is_written_in_the_end() -> None:
    bench = Bench()
    lost = [
        Fault(loss=loss) for loss in (Loss.BEFORE_COMMIT, Loss.COMMITS_LATER, Loss.BEFORE_COMMIT)
    ]
    bench.fail(post=lost, open=[NO_FAULT, Fault(during=bench.end_budgets)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.written(ticket.request.key) == [(Kind.PURCHASE, Outcome.OUTCOME_UNKNOWN)]


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_reversal_whose_posting_is_lost_is_written_once(loss: Loss) -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=bench.end_budgets), Fault(loss=loss), Fault(loss=loss)])
    bench.put()
    async with running(bench):
        pass
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]


async def test_conflicts_of_a_ticket_in_doubt_keep_it_in_doubt() -> None:
    bench = Bench()
    bench.fail(
        post=[Fault(loss=Loss.BEFORE_COMMIT), Fault(conflict=True), Fault(conflict=True)],
        open=[NO_FAULT, Fault(during=bench.end_budgets)],
    )
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.written(ticket.request.key) == [(Kind.PURCHASE, Outcome.OUTCOME_UNKNOWN)]


async def test_an_expired_verdict_of_a_ticket_in_doubt_is_no_answer() -> None:
    bench = Bench()
    bench.fail(
        post=[
            Fault(loss=Loss.AFTER_COMMIT),
        ],
        load=[NO_FAULT, Fault(during=lambda: bench.clock.advance(PAST_BUDGET_SECONDS))],
    )
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]


async def test_a_loss_in_the_load_leaves_nothing_in_doubt() -> None:
    bench = Bench()
    bench.fail(load=[Fault(loss=Loss.BEFORE_COMMIT)])
    tickets = [bench.put(n) for n in range(3)]
    async with running(bench):
        pass
    assert {bench.outcome(ticket) for ticket in tickets} == {Outcome.APPROVED}


async def test_one_answered_from_the_record_is_not_reversed_when_the_batch_is_lost() -> None:
    """Found written and answered; then the connection is lost over the rest of the batch."""
    bench = Bench()
    bench.fail(
        post=[
            Fault(loss=Loss.AFTER_COMMIT, during=lambda: bench.put(2)),
            Fault(loss=Loss.BEFORE_COMMIT),
        ]
    )
    first = bench.put(1)
    async with running(bench):
        pass
    assert bench.outcome(first) is Outcome.APPROVED
    assert not [row for row in bench.ledger.rows if row.posting.kind is Kind.REVERSAL]


async def test_one_answered_from_the_record_is_not_reversed_when_the_batch_is_refused() -> None:
    bench = Bench()
    bench.fail(
        post=[Fault(loss=Loss.AFTER_COMMIT, during=lambda: bench.put(2)), Fault(refused="40001")]
    )
    first = bench.put(1)
    async with running(bench):
        pass
    assert bench.outcome(first) is Outcome.APPROVED
    assert not [row for row in bench.ledger.rows if row.posting.kind is Kind.REVERSAL]


async def test_the_approval_of_another_worker_under_the_same_key_is_not_reversed() -> None:
    """The terminal tried on two links; one worker answered, the other lost its posting."""
    bench = Bench()
    other, other_flight = bench.another_lane(), Flight(10)
    away = anyio.Event()
    bench.ledger.faults = by_worker(
        a=scripted(post=[Fault(loss=Loss.COMMITS_LATER)], open=[NO_FAULT, Fault(hang=away)])
    )
    ticket = bench.put(1)
    async with anyio.create_task_group() as tasks, running(bench):
        await until(lambda: bool(bench.ledger.zombies))
        bench.clock.advance(0.001)  # a posting is known by the instant of its decision
        elsewhere = bench.ticket(purchase(1), flight=other_flight)
        other.put(elsewhere)
        tasks.start_soon(other.run)
        await until(lambda: elsewhere.done)
        bench.ledger.run_zombies()
        bench.end_budgets()
        away.set()
        await until(lambda: ticket.done)
        tasks.cancel_scope.cancel()
    assert bench.outcome(elsewhere) is Outcome.APPROVED
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert len(bench.ledger.rows) == 1


# ---- when the ledger is away ----


async def test_while_the_ledger_is_away_what_waits_is_declined_and_what_is_in_doubt_kept() -> None:
    bench = Bench()
    away = [Fault(loss=Loss.BEFORE_COMMIT)] * 3
    bench.fail(
        post=[Fault(loss=Loss.AFTER_COMMIT, during=lambda: bench.put(2))],
        open=[NO_FAULT, *away, Fault(during=bench.end_budgets)],
    )
    first = bench.put(1)
    async with running(bench):
        await until(lambda: bench.lane.down, turns=100_000)
        assert bench.lane.unfinished == 1
    second = bench.tickets[1]
    assert bench.outcome(second) is Outcome.LEDGER_DOWN
    assert bench.outcome(first) is Outcome.OUTCOME_UNKNOWN
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]
    assert not bench.lane.down


async def test_a_lane_is_down_until_it_is_connected() -> None:
    bench = Bench()
    assert bench.lane.down
    bench.fail(open=[Fault(refused="28000"), Fault(loss=Loss.BEFORE_COMMIT)])
    async with running(bench):
        await until(lambda: not bench.lane.down, turns=100_000)


# ---- refusals ----


async def test_a_refused_batch_is_written_row_by_row_without_the_bad_row() -> None:
    bench = Bench()
    tickets = [bench.put(n) for n in range(1, 5)]
    bench.ledger.poison[tickets[1].request.key] = ["22000"]
    async with running(bench):
        pass
    outcomes = [bench.outcome(ticket) for ticket in tickets]
    assert outcomes == [Outcome.APPROVED, Outcome.FAULT, Outcome.APPROVED, Outcome.APPROVED]


async def test_a_transient_refusal_is_tried_again_and_the_order_is_kept() -> None:
    bench = Bench()
    first, second, third = (bench.put(n, 4_000) for n in range(1, 4))
    bench.ledger.poison[first.request.key] = ["40001", "40P01"]
    async with running(bench):
        pass
    assert (bench.outcome(first), bench.outcome(second)) == (Outcome.APPROVED, Outcome.APPROVED)
    assert bench.outcome(third) is Outcome.INSUFFICIENT_FUNDS
    assert [row.posting.key for row in bench.ledger.rows] == [
        ticket.request.key for ticket in (first, second, third)
    ]


async def test_a_ticket_whose_deadline_passed_in_a_refused_batch_still_leaves() -> None:
    bench = Bench()

    def late() -> None:
        bench.end_budgets()
        raise lanes.LedgerRefused("40001", "")

    bench.fail(post=[Fault(during=late)])
    ticket = bench.put()
    async with running(bench):
        pass
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert bench.ledger.rows == []


async def test_a_connection_lost_between_the_rows_of_a_refused_batch() -> None:
    bench = Bench()
    bench.fail(post=[Fault(refused="40001"), NO_FAULT, Fault(loss=Loss.AFTER_COMMIT), NO_FAULT])
    tickets = [bench.put(n) for n in range(1, 5)]
    async with running(bench):
        pass
    assert {bench.outcome(ticket) for ticket in tickets} == {Outcome.APPROVED}
    assert len(bench.ledger.rows) == 4


async def test_a_reversal_that_is_refused_stays_owed_until_it_is_written() -> None:
    bench = Bench()
    ticket = bench.put()
    key = derived_key(ticket.request.key, b"late-reversal")
    bench.ledger.poison[key] = ["53100"] * 3
    bench.fail(post=[Fault(after=bench.end_budgets)])
    async with running(bench):
        pass
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REVERSAL]
    assert not bench.ledger.poison[key]


async def test_a_doubt_whose_record_is_refused_stays_owed_until_it_is_written() -> None:
    bench = Bench()
    ticket = bench.put()
    bench.fail(
        post=[Fault(loss=Loss.BEFORE_COMMIT)],
        open=[NO_FAULT, Fault(during=bench.end_budgets)],
    )
    bench.ledger.poison[ticket.request.key] = []
    async with running(bench):
        await until(lambda: bench.lane.down or bool(ticket.sent))
        bench.ledger.poison[ticket.request.key] += ["53100"] * 3
    assert bench.outcome(ticket) is Outcome.OUTCOME_UNKNOWN
    assert bench.written(ticket.request.key) == [(Kind.PURCHASE, Outcome.OUTCOME_UNKNOWN)]


async def test_a_message_that_cannot_be_decided_is_a_fault_and_ends_nothing() -> None:
    bench = Bench()
    good, bad = bench.put(1), bench.put(2, acquirer="an acquirer without an account")
    async with running(bench):
        await until(lambda: good.done)
        another = bench.put(3)
    assert bench.outcome(bad) is Outcome.FAULT
    assert bench.outcome(good) is bench.outcome(another) is Outcome.APPROVED


# ---- repeats of an answered message ----


async def answered_once(bench: Bench) -> Ticket:
    ticket = bench.put(1)
    await until(lambda: ticket.done)
    assert bench.outcome(ticket) is Outcome.APPROVED
    return ticket


async def test_a_repeat_is_given_the_stored_approval_once_it_is_written_down() -> None:
    bench = Bench()
    async with running(bench):
        first = await answered_once(bench)
        bench.end_budgets()
        repeat = bench.put(1)
    given, again = bench.reply(first), bench.reply(repeat)
    assert (again.authorization_id, again.auth_code, again.rrn, again.approved_minor) == (
        given.authorization_id,
        given.auth_code,
        given.rrn,
        given.approved_minor,
    )
    assert again.replayed
    assert [row.posting.kind for row in bench.ledger.rows] == [Kind.PURCHASE, Kind.REPEAT]


@pytest.mark.parametrize("loss", list(Loss))
async def test_a_repeat_in_doubt_never_takes_back_what_was_answered(loss: Loss) -> None:
    bench = Bench()
    async with running(bench):
        first = await answered_once(bench)
        bench.fail(post=[Fault(loss=loss)])
        repeat = bench.put(1)
    assert bench.outcome(repeat) is Outcome.OUTCOME_UNKNOWN
    assert len(bench.ledger.approvals(first.request.key)) == 1
    assert not bench.metric("late_approvals_reversed_total")


async def test_a_repeat_that_is_written_and_answered_late_withdraws_only_itself() -> None:
    bench = Bench()
    async with running(bench):
        first = await answered_once(bench)
        bench.fail(post=[Fault(after=bench.end_budgets)])
        repeat = bench.put(1)
    assert bench.outcome(repeat) is Outcome.OUTCOME_UNKNOWN
    assert len(bench.ledger.approvals(first.request.key)) == 1
    withdrawal = bench.ledger.rows[-1].posting
    assert (withdrawal.kind, withdrawal.outcome) == (Kind.REVERSAL, Outcome.ANSWERED_LATE)


@pytest.mark.parametrize("repeat_is_late", [False, True])
@pytest.mark.parametrize("loss", [None, *Loss])
async def test_an_approval_answered_late_stands_exactly_while_a_repeat_was_told(
    repeat_is_late: bool, loss: Loss | None
) -> None:
    """Worker A hears too late; worker B gives the approval out, or is too late as well."""
    bench = Bench()
    other, other_flight = bench.another_lane(), Flight(10)
    hold = anyio.Event()
    after = bench.end_budgets if repeat_is_late else None
    bench.ledger.faults = by_worker(
        a=scripted(post=[Fault(after=bench.end_budgets), Fault(hang=hold)]),
        b=scripted(post=[Fault(after=after, loss=loss)]),
    )
    async with anyio.create_task_group() as tasks, running(bench):
        late = bench.put(1)
        await until(lambda: late.reversing)
        repeat = bench.ticket(
            purchase(1, deadline_ns=bench.clock.ns + 800_000_000), flight=other_flight
        )
        other.put(repeat)
        tasks.start_soon(other.run)
        await until(lambda: repeat.settled)
        hold.set()
        await until(lambda: repeat.done and late.done)
        tasks.cancel_scope.cancel()
    told = bench.outcome(repeat) is Outcome.APPROVED
    if loss is None:
        assert told is not repeat_is_late
    else:
        assert not told, "a repeat in doubt is never told more than that"
    assert len(bench.ledger.approvals(late.request.key)) == told


async def test_a_repeat_after_a_reversal_is_told_that_it_was_too_late() -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=bench.end_budgets)])
    async with running(bench):
        late = bench.put(1)
        await until(lambda: late.done)
        repeat = bench.put(1)
    assert bench.outcome(repeat) is Outcome.ANSWERED_LATE
    assert bench.reply(repeat).replayed


async def test_a_repeat_of_an_answer_given_in_doubt_is_told_the_same() -> None:
    bench = Bench()
    bench.fail(
        post=[Fault(loss=Loss.BEFORE_COMMIT)],
        open=[NO_FAULT, Fault(during=bench.end_budgets)],
    )
    async with running(bench):
        doubtful = bench.put(1)
        await until(lambda: doubtful.done, turns=100_000)
        repeat = bench.put(1)
    assert bench.outcome(doubtful) is bench.outcome(repeat) is Outcome.OUTCOME_UNKNOWN
    assert len(bench.ledger.rows) == 1


async def test_another_content_under_a_stored_key_is_refused() -> None:
    bench = Bench()
    async with running(bench):
        await answered_once(bench)
        other = bench.put(1, amount_minor=501)
    assert bench.outcome(other) is Outcome.KEY_REUSED
    assert len(bench.ledger.rows) == 1


# ---- what a new ticket would wait ----


async def test_a_lane_that_stalled_once_takes_requests_again() -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=lambda: bench.clock.advance(60))])
    async with running(bench):
        ticket = bench.put()
        await until(lambda: ticket.done)
        assert bench.lane.wait_ns == 0


async def test_a_burst_on_a_quiet_lane_is_judged_by_batches_not_by_single_requests() -> None:
    bench = Bench()
    bench.fail(post=[Fault(after=lambda: bench.clock.advance(0.003)) for _ in range(200)])
    async with running(bench):
        for n in range(200):
            ticket = bench.put(n, 1)
            await until(lambda ticket=ticket: ticket.done)
        bench.fail()
        for n in range(200, 328):
            bench.put(n, 1)
        assert bench.lane.wait_ns < 10_000_000
        assert bench.lane.waiting == 128


async def test_a_slow_and_long_queue_is_seen() -> None:
    bench = Bench(batch_max=4)
    bench.fail(post=[Fault(after=lambda: bench.clock.advance(0.05)) for _ in range(60)])
    async with running(bench):
        for n in range(60):
            ticket = bench.put(n, 1)
            await until(lambda ticket=ticket: ticket.done)
        bench.fail()
        for n in range(100, 140):
            bench.put(n, 1)
        assert bench.lane.wait_ns > 400_000_000


def test_a_queue_stands_when_the_first_in_line_has_waited_long_for_long() -> None:
    bench = Bench(batch_max=1)
    said = []
    for number in range(1, 8):
        bench.put(number)
    for milliseconds in (30, 20, 60, 60, 60):
        bench.clock.advance(milliseconds / 1000)
        bench.lane._take()
        said.append(bench.lane.standing)
    assert said == [False, False, False, True, True], "40 ms of waiting, for more than 100 ms"
    bench.lane._take()
    bench.lane._take()
    bench.put(9)
    bench.lane._take()
    assert not bench.lane.standing, "one that has not waited ends it"
