"""One ticket, one answer; a flight that always empties; and who is shed first."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from protocols.message import Kind, OriginalReference, Outcome, Reply, Request, Segment
from switch.admission import QUEUE_SHARE_BY_SEGMENT, Flight, Ticket, refuse_at_lane
from switch.posting import Directed, Posting
from tests.simulation.model_ledger import purchase

APPROVED = Reply(Outcome.APPROVED, 500, 55)


class Acquirer:
    """Hands requests to a flight and keeps what each of them was answered."""

    def __init__(self, in_flight_max: int = 100) -> None:
        self.flight = Flight(in_flight_max)
        self.answers: dict[Ticket, list[Reply]] = {}

    def ticket(self, number: int = 1, **changed: object) -> Ticket:
        heard: list[Reply] = []
        ticket = Ticket(purchase(number, **changed), heard.append, self.flight.leave)
        self.answers[ticket] = heard
        return ticket

    def admitted(self, number: int = 1) -> Ticket:
        ticket = self.ticket(number)
        assert self.flight.admit(ticket) is None
        return ticket

    def outcomes(self, ticket: Ticket) -> list[Outcome]:
        return [reply.outcome for reply in self.answers[ticket]]


def a_posting(outcome: Outcome = Outcome.APPROVED) -> Posting:
    return Posting(Directed(purchase(), 0, 1, 1, b"m"), 1, outcome)


def test_an_answer_is_given_once() -> None:
    acquirer = Acquirer()
    ticket = acquirer.admitted()
    assert ticket.answer(APPROVED)
    assert not ticket.answer(Reply(Outcome.FAULT))
    ticket.expire()
    assert not ticket.finish(Reply(Outcome.FAULT))
    assert acquirer.answers[ticket] == [APPROVED]
    assert ticket.answered is Outcome.APPROVED


def test_a_ticket_leaves_the_flight_once() -> None:
    acquirer = Acquirer()
    ticket = acquirer.admitted()
    ticket.finish(APPROVED)
    ticket.settle(APPROVED)
    ticket.finish(APPROVED)
    assert acquirer.flight.count == 0


def test_expired_tickets_stay_until_they_are_settled() -> None:
    acquirer = Acquirer()
    ticket = acquirer.admitted()
    ticket.expire()
    assert acquirer.flight.count == 1
    ticket.settle(Reply(Outcome.NO_BUDGET))
    assert acquirer.flight.count == 0


@pytest.mark.parametrize(
    ("doubt", "outcome"),
    [
        (lambda ticket: None, Outcome.NO_BUDGET),
        (lambda ticket: setattr(ticket, "posting", True), Outcome.OUTCOME_UNKNOWN),
        (lambda ticket: ticket.lost(a_posting()), Outcome.OUTCOME_UNKNOWN),
        (lambda ticket: setattr(ticket, "reversing", True), Outcome.OUTCOME_UNKNOWN),
    ],
)
def test_a_deadline_says_whether_something_may_be_under_way(
    doubt: Callable[[Ticket], None], outcome: Outcome
) -> None:
    acquirer = Acquirer()
    ticket, follower = acquirer.admitted(), acquirer.admitted()
    doubt(ticket)
    ticket.expire()
    follower.expire()
    assert acquirer.outcomes(ticket) == acquirer.outcomes(follower) == [outcome]


def test_followers_get_the_answer_that_was_given() -> None:
    acquirer = Acquirer()
    first, second, third = (acquirer.admitted() for _ in range(3))
    assert not acquirer.flight.is_repeat(first)
    assert acquirer.flight.is_repeat(second)
    assert acquirer.flight.count == 3
    first.finish(APPROVED)
    assert acquirer.answers[second] == acquirer.answers[third] == [APPROVED]
    assert acquirer.flight.count == 0
    assert not acquirer.flight.is_repeat(acquirer.admitted()), "the next one is a first again"


def test_followers_of_one_answered_too_late_are_told_the_same() -> None:
    acquirer = Acquirer()
    first, second = acquirer.admitted(), acquirer.admitted()
    first.posting = True
    first.expire()
    assert acquirer.outcomes(second) == []
    first.finish(APPROVED)  # the verdict comes; it is not what was answered
    assert acquirer.outcomes(first) == acquirer.outcomes(second) == [Outcome.OUTCOME_UNKNOWN]


def test_a_follower_that_expired_is_not_answered_again() -> None:
    acquirer = Acquirer()
    first, second = acquirer.admitted(), acquirer.admitted()
    second.expire()
    first.finish(APPROVED)
    assert acquirer.outcomes(second) == [Outcome.NO_BUDGET]
    assert acquirer.flight.count == 0


def test_another_content_under_the_key_of_one_in_flight_is_refused() -> None:
    acquirer = Acquirer()
    acquirer.admitted()
    assert acquirer.flight.admit(acquirer.ticket(amount_minor=501)) is Outcome.KEY_REUSED
    assert acquirer.flight.count == 1


def test_a_full_flight_takes_nothing_but_reversals() -> None:
    acquirer = Acquirer(in_flight_max=1)
    first = acquirer.admitted()
    assert acquirer.flight.admit(acquirer.ticket(2)) is Outcome.OVERLOADED
    assert acquirer.flight.admit(acquirer.ticket(1)) is Outcome.OVERLOADED
    assert acquirer.flight.admit(acquirer.ticket(3, kind=Kind.REVERSAL)) is None
    first.finish(APPROVED)
    assert acquirer.flight.count == 1


def test_lost_approvals_are_remembered_and_nothing_grows_without_end() -> None:
    ticket = Acquirer().ticket()
    first, second = a_posting(), msgspec.structs.replace(a_posting(), at_us=2)
    ticket.lost(first)
    ticket.lost(second)
    for _ in range(3):
        ticket.lost(a_posting(Outcome.OUTCOME_UNKNOWN))
    assert ticket.sent == (first, second)
    reversal = Acquirer().ticket(kind=Kind.REVERSAL)
    for _ in range(3):
        reversal.lost(first)
    assert reversal.sent == (first,)


@pytest.mark.parametrize("segment", list(Segment))
def test_a_lane_takes_each_segment_up_to_its_share(segment: Segment) -> None:
    request = purchase(segment=segment)
    edge = int(100 * QUEUE_SHARE_BY_SEGMENT[segment])
    assert refuse_at_lane(request, edge - 1, 100, 0, 0) is None
    assert refuse_at_lane(request, edge, 100, 0, 0) is Outcome.OVERLOADED


def test_utilities_are_shed_before_retail_and_retail_before_taps() -> None:
    by_share = sorted(QUEUE_SHARE_BY_SEGMENT, key=lambda segment: QUEUE_SHARE_BY_SEGMENT[segment])
    assert by_share == [Segment.UTILITY, Segment.RETAIL, Segment.TRANSIT]


def test_a_queue_longer_than_the_budget_refuses_at_once() -> None:
    request = purchase(received_ns=0, deadline_ns=1_000)
    assert refuse_at_lane(request, 0, 100, 150, 849) is None
    assert refuse_at_lane(request, 0, 100, 150, 850) is Outcome.NO_BUDGET


def test_a_queue_may_take_a_fifth_of_a_budget() -> None:
    request = purchase(received_ns=0, deadline_ns=1_000)
    assert refuse_at_lane(request, 0, 100, 200, 0) is None
    assert refuse_at_lane(request, 0, 100, 201, 0) is Outcome.NO_BUDGET


def test_a_standing_queue_is_let_in_for_forty_milliseconds_only() -> None:
    request = purchase(received_ns=0, deadline_ns=800_000_000)
    waits_ms = (40, 41, 160, 161)
    burst = [refuse_at_lane(request, 9, 100, ms * 1_000_000, 0) for ms in waits_ms]
    standing = [
        refuse_at_lane(request, 9, 100, ms * 1_000_000, 0, standing=True) for ms in waits_ms
    ]
    late = Outcome.NO_BUDGET
    assert burst == [None, None, None, late]
    assert standing == [None, late, late, late]


def test_inquiries_are_shed_before_sales_and_sales_before_taps() -> None:
    inquiry = purchase(kind=Kind.INQUIRY)
    tap = purchase(segment=Segment.TRANSIT)
    refused = [
        [refuse_at_lane(request, waiting, 100, 0, 0) for request in (inquiry, purchase(), tap)]
        for waiting in (49, 50, 85, 100)
    ]
    shed = Outcome.OVERLOADED
    assert refused == [[None, None, None], [shed, None, None], [shed, shed, None], [shed] * 3]


@pytest.mark.parametrize(
    "request_",
    [
        purchase(kind=Kind.REVERSAL, deadline_ns=0),
        purchase(kind=Kind.COMPLETION, deadline_ns=0),
        purchase(kind=Kind.REFUND, advice=True, deadline_ns=0),
        purchase(kind=Kind.LOAD, original=OriginalReference(rrn="1"), deadline_ns=0),
    ],
)
def test_reversals_completions_and_confirmations_are_never_shed(request_: Request) -> None:
    assert refuse_at_lane(request_, 10_000, 100, 10**12, 10**12) is None


class FlightMachine(RuleBasedStateMachine):
    """Any order of arrivals, deadlines and verdicts leaves each ticket with one answer."""

    def __init__(self) -> None:
        super().__init__()
        self.acquirer = Acquirer(in_flight_max=6)
        self.inside: list[Ticket] = []

    @rule(number=st.integers(1, 3), amount_minor=st.sampled_from([500, 501]))
    def arrive(self, number: int, amount_minor: int) -> None:
        ticket = self.acquirer.ticket(number, amount_minor=amount_minor)
        if self.acquirer.flight.admit(ticket) is None:
            self.inside.append(ticket)

    def _firsts(self) -> list[Ticket]:
        return [ticket for ticket in self.inside if not self.acquirer.flight.is_repeat(ticket)]

    @precondition(lambda self: self.inside)
    @rule(which=st.integers(0, 5))
    def expire(self, which: int) -> None:
        ticket = self.inside[which % len(self.inside)]
        if not ticket.settled:
            ticket.expire()

    @precondition(lambda self: self._firsts())
    @rule(which=st.integers(0, 5), outcome=st.sampled_from([Outcome.APPROVED, Outcome.FAULT]))
    def finish(self, which: int, outcome: Outcome) -> None:
        firsts = self._firsts()
        firsts[which % len(firsts)].finish(Reply(outcome))
        self.inside = [ticket for ticket in self.inside if not ticket.done]

    @invariant()
    def nobody_is_answered_twice_nor_forgotten(self) -> None:
        assert self.acquirer.flight.count == len(self.inside) <= 6
        for ticket, heard in self.acquirer.answers.items():
            assert len(heard) <= 1
            assert not ticket.done or len(heard) == 1

    def teardown(self) -> None:
        for ticket in self._firsts():
            ticket.finish(APPROVED)
        assert self.acquirer.flight.count == 0
        assert not self.acquirer.flight._by_key


FlightMachine.TestCase.settings = settings(max_examples=60, deadline=None)
test_any_order_of_events = FlightMachine.TestCase
