"""Whatever is sent in whatever order: money is conserved, and nothing is given back twice."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protocols.message import Kind, OriginalReference, Outcome, Reply, Request
from switch.posting import HoldPurpose, HoldStatus, Posting
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.books import Books, Row
from tests.switch.decide.cases import GEN, HOUR_US, PENDING, TRN

SALES = (Kind.PURCHASE, Kind.OFFLINE_SALE, Kind.COMPLETION)
FIRST = (
    Kind.PURCHASE,
    Kind.OFFLINE_SALE,
    Kind.PREAUTHORIZATION,
    Kind.LOAD_PENDING,
    Kind.LOAD,
    Kind.INQUIRY,
)
LATER = (
    Kind.VOID,
    Kind.REFUND,
    Kind.COMPLETION,
    Kind.COMPLETION,
    Kind.PREAUTHORIZATION_CANCEL,
    Kind.LOAD,
    Kind.ADJUSTMENT,
    Kind.REVERSAL,
    Kind.REVERSAL,
    Kind.REVERSAL,
    Kind.HOLD_EXPIRY,
)

UNDOABLE = (
    Kind.PURCHASE,
    Kind.OFFLINE_SALE,
    Kind.VOID,
    Kind.REFUND,
    Kind.COMPLETION,
    Kind.PREAUTHORIZATION,
    Kind.PREAUTHORIZATION_CANCEL,
    Kind.LOAD_PENDING,
    Kind.LOAD,
    Kind.CREDIT_ADJUSTMENT,
)

ABOUT = {
    Kind.VOID: SALES,
    Kind.REFUND: SALES,
    Kind.ADJUSTMENT: SALES,
    Kind.COMPLETION: (Kind.PREAUTHORIZATION,),
    Kind.PREAUTHORIZATION_CANCEL: (Kind.PREAUTHORIZATION,),
    Kind.LOAD: (Kind.LOAD_PENDING,),
    Kind.HOLD_EXPIRY: (Kind.PREAUTHORIZATION, Kind.LOAD_PENDING),
}
"""What most messages of a kind are about; a quarter of them is about anything."""

Step = tuple[Kind, int, int, int, int]
"""Kind, amount, which earlier one it is about (-1: none), replacement, minutes later."""

FIRST_STEP = st.tuples(
    st.sampled_from(FIRST), st.integers(1, 9_000), st.just(-1), st.just(0), st.integers(0, 20)
)
LATER_STEP = st.tuples(
    st.sampled_from(LATER),
    st.one_of(st.just(-1), st.just(-1), st.integers(0, 9_000)),
    st.integers(0, 30),
    st.sampled_from([0, 0, 1, 2_000]),
    st.integers(0, 20),
)
STEPS = st.lists(st.one_of(FIRST_STEP, LATER_STEP, LATER_STEP), min_size=2, max_size=25)


def request_of(books: Books, number: int, step: Step) -> Request:
    """The message of a step; amount -1 is the amount of the one it is about."""
    kind, amount_minor, which, replacement_minor, _ = step
    usual = {"kind": kind, "purse": "GEN", "mcc": "5542"}
    if which < 0 or not books.rows:
        return purchase(number, max(1, amount_minor), **usual)
    fitting = [row for row in books.rows if row.posting.kind in ABOUT.get(kind, UNDOABLE)]
    among = fitting if fitting and which % 4 else books.rows
    row = among[which % len(among)]
    whole_minor = row.posting.approved_minor
    minor = whole_minor if amount_minor < 0 else amount_minor
    if kind is Kind.HOLD_EXPIRY:
        return purchase(number, minor, original_id=row.authorization_id, **usual)
    reference = OriginalReference(key=row.posting.key)
    if kind is not Kind.REVERSAL:
        replacement_minor = 0
    return purchase(number, minor, original=reference, replacement_minor=replacement_minor, **usual)


def check(books: Books) -> None:
    """What must be true of the books after every posting."""
    moved = books.moved()
    assert sum(moved.values()) == 0, "what one account loses another one gets"
    for purse in (TRN, GEN):
        assert books.balance_minor(purse) - books.held_minor(purse) >= 0, "never below its floor"
    pending = [hold for hold in books.open_holds() if hold.purpose is HoldPurpose.LOAD]
    open_for = [hold.authorization_id for hold in books.open_holds()]
    assert len(open_for) == len(set(open_for)), "one open hold for one authorization"
    waiting_minor = sum(hold.amount_minor for hold in pending)
    assert moved[PENDING] == waiting_minor, "what waits in PENDING are the pending loads"
    for row in books.rows:
        if row.posting.outcome.approved and row.posting.kind in SALES:
            check_sale(books, row)


def check_sale(books: Books, row: Row) -> None:
    """The holder gets no more back of a sale than it took, whatever became of what."""
    total_minor = row.posting.approved_minor
    given_minor = 0
    for change in books.followers(row.authorization_id).changes:
        if change.undone:
            continue
        if change.kind is Kind.ADJUSTMENT:
            total_minor += change.approved_minor
        elif change.kind in (Kind.VOID, Kind.REFUND, Kind.CREDIT_ADJUSTMENT, Kind.REVERSAL):
            given_minor += change.approved_minor
    assert given_minor <= total_minor


def approved_by_rule(posting: Posting) -> bool:
    """Whether it approves what it moves, else what it opens, else what it resolves."""
    if posting.transfers:
        return posting.approved_minor == sum(one.amount_minor for one in posting.transfers)
    if posting.opens is not None:
        return posting.approved_minor == posting.opens.amount_minor
    return posting.resolves is not None or posting.approved_minor == 0


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_sequence_keeps_the_books(steps: list[Step]) -> None:
    books, now_us = Books(), NOON_US
    for number, step in enumerate(steps, 1):
        now_us += step[4] * HOUR_US // 10
        decision, row = books.send(request_of(books, number, step), now_us)
        if row is None:
            continue
        assert isinstance(decision, Posting)
        assert approved_by_rule(decision)
        assert decision.outcome.approved or not decision.has_effect
        if decision.resolves is not None and not decision.transfers and decision.opens is None:
            assert decision.approved_minor == books.holds[decision.resolves.hold_id].amount_minor
        check(books)


Picture = tuple[int, int, int, int, tuple[tuple[int, int, HoldPurpose], ...]]


def picture(books: Books) -> Picture:
    """Purses and open holds, and nothing of how they came about."""
    holds = ((one.authorization_id, one.amount_minor, one.purpose) for one in books.open_holds())
    return (
        books.balance_minor(TRN),
        books.balance_minor(GEN),
        books.held_minor(TRN),
        books.held_minor(GEN),
        tuple(sorted(holds)),
    )


@settings(max_examples=150, deadline=None)
@given(STEPS, st.booleans())
def test_a_reversal_undoes_what_the_last_message_did(steps: list[Step], internal: bool) -> None:
    books = Books()
    before, last = picture(books), None
    for number, step in enumerate(steps, 1):
        was = picture(books)
        _, row = books.send(request_of(books, number, step), NOON_US)
        if row is not None and row.posting.has_effect and row.posting.kind in UNDOABLE:
            before, last = was, row
        elif row is not None and row.posting.has_effect:
            last = None
    assume(last is not None)
    assert last is not None
    about = (
        {"original_id": last.authorization_id}
        if internal
        else {"original": OriginalReference(key=last.posting.key)}
    )
    request = purchase(999, 1, kind=Kind.REVERSAL, **about)
    decision, row = books.send(request, NOON_US)
    assert decision.outcome is Outcome.APPROVED
    assert picture(books) == before
    check(books)
    again = purchase(1_000, 1, kind=Kind.REVERSAL, **about)
    assert books.send(again, NOON_US)[0] == Reply(Outcome.APPROVED, replayed=True)
    assert row is not None
    voided_of_completion = row.posting.resolves is not None and last.posting.kind is Kind.VOID
    if voided_of_completion:
        status, _ = books.resolved[last.authorization_id]
        assert status is HoldStatus.COMPLETED


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30_000), st.lists(st.integers(1, 30_000), max_size=8))
def test_refunds_come_to_the_original_at_most(sale_minor: int, asked: list[int]) -> None:
    books = Books(general_minor=50_000)
    books.send(purchase(1, sale_minor), NOON_US)
    reference = OriginalReference(key=books.rows[0].posting.key)
    given_minor = 0
    for number, minor in enumerate(asked, 2):
        request = purchase(number, minor, kind=Kind.REFUND, original=reference)
        decision, _ = books.send(request, NOON_US)
        fits = given_minor + minor <= sale_minor
        assert decision.outcome is (Outcome.APPROVED if fits else Outcome.ABOVE_ORIGINAL)
        given_minor += minor if fits else 0
        assert books.balance_minor(GEN) == 50_000 - sale_minor + given_minor
