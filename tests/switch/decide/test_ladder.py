"""What requests of one batch see of each other, and any sequence against a naive model."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import (
    ChipRecord,
    ChipVerdict,
    Kind,
    Mode,
    OriginalReference,
    Outcome,
    Reply,
    Request,
    Segment,
    Tap,
)
from protocols.money import Money
from switch.decide import (
    decide,
)
from switch.posting import (
    Account,
    Posting,
    PurseState,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    GEN,
    about,
    account,
    directed,
    hold,
    late_reversal,
    load_of,
    loaded,
    moment,
    original,
    posting_on,
    reply_on,
    terms,
)

TAP = Tap(
    Mode.TAXI,
    "",
    "",
    "",
    NOON_US,
    record=ChipRecord(1, 0, b"d" * 8, b"b" * 8, ChipVerdict.GENUINE),
)
UNPAID_BY_A_PURSE = (Kind.LOAD_PENDING, Kind.OFFLINE_FARE)
"""What an agent owes until it is confirmed, and what no chip can have paid: in suspense."""
COUNTED = (
    Kind.PURCHASE,
    Kind.PREAUTHORIZATION,
    Kind.OFFLINE_SALE,
    Kind.LOAD,
    Kind.FARE,
    Kind.TAP_ON,
    Kind.TAP_OFF,
    Kind.INSPECT,
    Kind.OFFLINE_FARE,
    Kind.BILL_INQUIRY,
    Kind.BILL,
)


def decide_batch(holder: Account, requests: list[Request]) -> list[Outcome]:
    facts = loaded(holder)
    at = moment()
    decisions = [decide(directed(request), facts, terms(), at) for request in requests]
    assert all(isinstance(decision, Posting) for decision in decisions)
    return [decision.outcome for decision in decisions if isinstance(decision, Posting)]


def test_requests_of_one_batch_see_each_others_balance() -> None:
    holder = account(0, 1_200)
    outcomes = decide_batch(holder, [purchase(n, 500) for n in range(3)])
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.INSUFFICIENT_FUNDS]
    assert decide_batch(holder, [load_of(400), purchase(8, 600)]) == [Outcome.APPROVED] * 2


def test_requests_of_one_batch_see_each_others_counts() -> None:
    outcomes = decide_batch(account(), [purchase(n, 1) for n in range(12)])
    assert outcomes == [Outcome.APPROVED] * 10 + [Outcome.COUNT_LIMIT] * 2


def test_requests_of_one_batch_see_each_others_sums_by_day_and_month() -> None:
    holder = account(0, 400_000, tier="T0")
    outcomes = decide_batch(holder, [purchase(n, 20_000) for n in range(3)])
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.AMOUNT_LIMIT]
    spent = PurseState(9_999_999, 0, 0, 500, 9_999_900)
    rich = account(purses={GEN: spent})
    assert decide_batch(rich, [purchase(1, 100), purchase(2, 1)]) == [
        Outcome.APPROVED,
        Outcome.AMOUNT_LIMIT,
    ]


def test_a_reversal_in_the_batch_gives_its_event_back() -> None:
    holder = account(0, 100_000, tier="T0")
    posting_on(purchase(1, 40_000), loaded(holder))
    holder.event_ids[0] = 55
    facts = loaded(holder, original=original(approved_minor=40_000))
    posting_on(late_reversal(), facts)
    assert holder.history.given_back == [True]
    assert decide_batch(holder, [purchase(2, 40_000)]) == [Outcome.APPROVED]


def test_events_of_one_account_never_share_an_instant_nor_go_back() -> None:
    holder = account()
    facts = loaded(holder)
    ats = [posting_on(purchase(n, 1), facts).at_us for n in range(3)]
    ats.append(posting_on(purchase(3, 1), facts, NOON_US - 60_000_000).at_us)
    assert ats == [NOON_US, NOON_US + 1, NOON_US + 2, NOON_US + 3]
    assert holder.history.at_us == ats
    assert holder.event_ids == [0, 0, 0, 0]


def test_an_acquirer_without_an_account_breaks_before_anything_is_taken() -> None:
    holder = account()
    with pytest.raises(KeyError):
        posting_on(purchase(acquirer="nobody"), loaded(holder))
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)


def test_segments_and_currencies_are_the_dialects_business() -> None:
    """Nothing here looks at them: they were refused before a request was made."""
    foreign = purchase(amount=Money(500, "840"), segment=Segment.TRANSIT)
    assert posting_on(foreign, loaded()).outcome.approved


@pytest.mark.parametrize(
    "kind",
    [
        Kind.CREDIT_ADJUSTMENT,
        Kind.INCOMPLETE_FARE,
        Kind.FARE_CREDIT,
        Kind.REPEAT,
        Kind.TOMBSTONE,
    ],
)
def test_what_only_the_switch_writes_is_no_request(kind: Kind) -> None:
    assert reply_on(purchase(kind=kind), loaded()) == Reply(Outcome.UNSUPPORTED)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_decides_on_an_account_with_nothing_in_it(kind: Kind) -> None:
    reference = OriginalReference(rrn="1")
    request = purchase(1, 5, kind=kind, purse="GEN", original=reference, tap=TAP)
    empty = account(purses={GEN: PurseState(0, 0, 0, 0, 0)})
    decision = decide(directed(request), loaded(empty), terms(), moment())
    assert isinstance(decision, Reply) or not decision.transfers or kind in UNPAID_BY_A_PURSE
    assert empty.purses[GEN].held_minor == 0


@pytest.mark.parametrize("kind", list(Kind))
def test_only_what_rules_count_becomes_an_event(kind: Kind) -> None:
    holder = account()
    facts = loaded(holder, original=original(), holds=(hold(),))
    request = about(kind, 300, purse="GEN", original_id=55, tap=TAP)
    decide(directed(request), facts, terms(), moment())
    counted = kind in COUNTED
    assert len(holder.event_ids) == len(holder.history.at_us) == int(counted)


def test_a_decision_is_later_than_what_it_rests_on() -> None:
    """Even where the clock that decided the original was ahead."""
    later_us = NOON_US + 5_000_000
    posting = posting_on(about(Kind.REFUND), loaded(original=original(at_us=later_us)))
    assert posting.at_us == later_us + 1


class NaiveHolder:
    """A balance, a list of attempts and a set of keys: what a person would write down."""

    def __init__(self, balance_minor: int) -> None:
        self.balance_minor = balance_minor
        self.attempts: list[int] = []
        self.spent: list[tuple[int, int, int]] = []

    def purchase(self, number: int, amount_minor: int, at_us: int) -> Outcome:
        recent = [at for at in self.attempts if at > at_us - 60_000_000]
        spent_minor = sum(minor for _, minor, _ in self.spent)
        self.attempts.append(at_us)
        if amount_minor > 50_000 or spent_minor + amount_minor > 50_000:
            return Outcome.AMOUNT_LIMIT
        if len(recent) + 1 > 10:
            return Outcome.COUNT_LIMIT
        if amount_minor > self.balance_minor:
            return Outcome.INSUFFICIENT_FUNDS
        self.balance_minor -= amount_minor
        self.spent.append((number, amount_minor, at_us))
        return Outcome.APPROVED

    def load(self, amount_minor: int) -> Outcome:
        if self.balance_minor + amount_minor > terms().balance_caps_minor["T0"]:
            return Outcome.BALANCE_CAP
        self.balance_minor += amount_minor
        return Outcome.APPROVED

    def reverse(self, number: int) -> None:
        (found,) = [one for one in self.spent if one[0] == number]
        self.spent.remove(found)
        self.balance_minor += found[1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["purchase", "purchase", "purchase", "load", "reverse"]),
        st.integers(1, 30_000),
        st.sampled_from([0, 1, 5_000_000, 59_999_999, 60_000_000]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60_000), STEPS)
def test_any_sequence_agrees_with_a_naive_model(
    balance_minor: int, steps: list[tuple[str, int, int]]
) -> None:
    holder = account(0, balance_minor, tier="T0")
    naive = NaiveHolder(balance_minor)
    at_us = NOON_US
    for number, (what, amount_minor, later_us) in enumerate(steps, 1):
        at_us += later_us
        last_us = holder.history.at_us[-1] if holder.history.at_us else 0
        decided_us = max(at_us, last_us + 1)
        if what == "purchase":
            request = purchase(number, amount_minor)
            posting = posting_on(request, loaded(holder), at_us)
            assert posting.outcome is naive.purchase(number, amount_minor, decided_us)
            holder.event_ids[-1] = number
        elif what == "load":
            posting = posting_on(load_of(amount_minor), loaded(holder), at_us)
            assert posting.outcome is naive.load(amount_minor)
            holder.event_ids[-1] = number
        elif naive.spent:
            back, minor, _ = naive.spent[amount_minor % len(naive.spent)]
            facts = loaded(holder, original=original(approved_minor=minor, authorization_id=back))
            posting_on(late_reversal(back), facts, at_us)
            naive.reverse(back)
        assert holder.purses[GEN].balance_minor == naive.balance_minor
        assert holder.purses[GEN].month_minor == sum(minor for _, minor, _ in naive.spent)
        columns = msgspec.structs.asdict(holder.history).values()
        assert {len(column) for column in columns} == {len(holder.event_ids)}


@pytest.mark.parametrize("kind", list(Kind))
def test_a_message_of_no_amount_moves_nothing(kind: Kind) -> None:
    facts = loaded(original=original(), holds=())
    request = about(kind, 0, purse="GEN", tap=TAP)
    decision = decide(directed(request), facts, terms(), moment())
    assert isinstance(decision, Reply) or all(one.amount_minor for one in decision.transfers)
    if kind in (Kind.PURCHASE, Kind.VOID, Kind.REFUND, Kind.LOAD, Kind.OFFLINE_SALE):
        assert decision.outcome is Outcome.INVALID_AMOUNT
