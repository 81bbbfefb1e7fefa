"""What postings add to counters of places is what an exact counter finds, whatever is undone."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Mode, Outcome, Request, Segment, Tap
from protocols.money import Money
from risk.assess import CompiledRuleset
from risk.buckets import BUCKET_US, Addition, Buckets, minute_of, series_of, window_sum
from risk.deployment import Deployment, InForce
from risk.features import Aggregate, Basis, Feature, Key, OnReversal, Trailing
from risk.moments import Settings
from switch.decide import buckets_of, counted
from switch.decide.place_events import KEPT_MINUTES, additions_of
from switch.posting import CountedEvent, Directed, Followers, Loaded, Original, Posting

NOW_US = 1_780_000_020_000_000
SUM = Feature(
    id="taken", key=Key.MERCHANT, aggregate=Aggregate.SUM, basis=Basis.APPROVED,
    window=Trailing(600),
)  # fmt: skip
KEPT = Feature(
    id="tries", key=Key.TERMINAL, aggregate=Aggregate.COUNT, basis=Basis.ATTEMPTS,
    window=Trailing(600),
)  # fmt: skip
RESTORED = Feature(
    id="sales", key=Key.ACQUIRER, aggregate=Aggregate.COUNT, basis=Basis.APPROVED,
    window=Trailing(600), on_reversal=OnReversal.RESTORE,
)  # fmt: skip
FEATURES = (SUM, KEPT, RESTORED)
KEYS = {"taken": "shops/M1", "tries": "shops/T1", "sales": "shops"}
BUCKETS = Buckets(FEATURES)


def request(kind: Kind = Kind.PURCHASE, minor: int = 500, **changed: Any) -> Request:
    usual: dict[str, Any] = {
        "kind": kind, "segment": Segment.RETAIL, "acquirer": "shops", "link": "retail-1",
        "message_class": "02", "card": None, "amount": Money(minor, "156"), "terminal": "T1",
        "merchant": "M1", "mcc": "5411", "stan": "000001", "local_at": "0331120000", "rrn": "",
        "entry_mode": "071", "expiry": "", "key": bytes(16), "payload_hash": bytes(8),
        "received_ns": 0, "deadline_ns": 1,
    }  # fmt: skip
    return Request(**(usual | changed))


def posting(kind: Kind = Kind.PURCHASE, minor: int = 500, **changed: Any) -> Posting:
    """An approval of that kind; `request` takes what differs of the message."""
    asked = request(kind, minor, **changed.pop("request", {}))
    usual: dict[str, Any] = {
        "at_us": NOW_US, "outcome": Outcome.APPROVED, "approved_minor": minor, "kind": kind,
    }  # fmt: skip
    return Posting(Directed(asked, 1, 7, 9, b"m"), **(usual | changed))


class Written(msgspec.Struct):
    """One authorization of the model."""

    number: int
    posting: Posting


class Model:
    """Messages about messages, and what they are worth, the long way round."""

    def __init__(self) -> None:
        self.rows: list[Written] = []
        self.buckets: dict[tuple[bytes, str], dict[int, int]] = defaultdict(
            lambda: defaultdict(int)
        )

    def write(self, new: Posting, about: Written | None = None) -> None:
        original = self.original(about) if about is not None else None
        for addition in additions_of(new, original, BUCKETS):
            self.buckets[addition.series, addition.key][addition.minute] += addition.amount
        self.rows.append(Written(len(self.rows) + 1, new))

    def worth_minor(self, row: Written) -> int:
        taken = sum(
            other.posting.approved_minor
            for other in self.about(row)
            if other.posting.kind is Kind.REVERSAL
        )
        return row.posting.approved_minor - taken

    def about(self, row: Written) -> list[Written]:
        return [other for other in self.rows if other.posting.original_id == row.number]

    def given_minor(self, row: Written) -> int:
        backs = [other for other in self.about(row) if self.worth_minor(other) > 0]
        return sum(self.worth_minor(other) for other in backs) if backs else -1

    def original(self, row: Written) -> Original:
        event = row
        if row.posting.kind is Kind.VOID:
            event = self.rows[row.posting.original_id - 1]
        asked, made = event.posting.directed.request, event.posting
        return Original(
            7, row.posting.kind, row.posting.outcome, row.posting.approved_minor, 2,
            None, "shops", "5411", Followers(), authorization_id=row.number,  # type: ignore[arg-type]
            event=CountedEvent(
                made.kind, made.outcome, made.at_us, 9, asked.acquirer, asked.terminal,
                asked.merchant, asked.mcc, asked.segment, asked.amount.amount_minor,
                made.approved_minor, given_minor=self.given_minor(event),
            ),
        )  # fmt: skip

    def exact(self, feature: Feature, since_us: int) -> int:
        """What a counter with every event before it comes to."""
        total = 0
        for row in self.rows:
            made = row.posting
            if made.kind is not Kind.PURCHASE or made.at_us < since_us:
                continue
            if feature.basis is Basis.APPROVED and not made.outcome.approved:
                continue
            if feature.restores and self.given_minor(row) >= made.approved_minor:
                continue
            minor = made.directed.request.amount.amount_minor
            total += minor if feature.aggregate is Aggregate.SUM else 1
        return total

    def bucketed(self, feature: Feature, first: int) -> int:
        return window_sum(self.buckets[series_of(feature), KEYS[feature.id]], first)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sale", "sale", "void", "part", "rest", "undo"]),
        st.integers(0, 11),
        st.integers(1, 900),
        st.sampled_from([Outcome.APPROVED, Outcome.APPROVED, Outcome.PIN_WRONG]),
    ),
    min_size=3,
    max_size=25,
)


@settings(max_examples=250, deadline=None)
@given(STEPS, st.integers(0, 12 * BUCKET_US))
def test_buckets_are_exact_from_a_whole_minute_and_never_below(
    steps: list[tuple[str, int, int, Outcome]], ago_us: int
) -> None:
    model = Model()
    for what, number, minor, outcome in steps:
        _step(model, what, number, minor, outcome)
    whole = minute_of(NOW_US - ago_us)
    for feature in FEATURES:
        bucketed = model.bucketed(feature, whole)
        assert bucketed == model.exact(feature, whole * BUCKET_US)
        oldest = model.buckets[series_of(feature), KEYS[feature.id]].get(whole, 0)
        trailing = model.exact(feature, NOW_US - ago_us + 1)
        assert trailing <= bucketed <= trailing + max(oldest, 0)


def _step(model: Model, what: str, number: int, minor: int, outcome: Outcome) -> None:
    """One message, if the ladder would approve it."""
    if what == "sale":
        at_us = NOW_US - (number * 7_919 * 6_421) % (12 * BUCKET_US)
        approved = minor if outcome.approved else 0
        model.write(posting(minor=minor, at_us=at_us, outcome=outcome, approved_minor=approved))
        return
    wanted = Kind.VOID if what == "undo" else Kind.PURCHASE
    found = [row for row in model.rows if row.posting.kind is wanted]
    about = found[number % len(found)] if found else None
    if about is None or not about.posting.outcome.approved:
        return
    stands = model.worth_minor(about)
    if what == "undo":
        if stands > 0:
            model.write(posting(Kind.REVERSAL, stands, original_id=about.number), about)
        return
    stands -= sum(
        model.worth_minor(other) for other in model.about(about) if other.posting.kind is Kind.VOID
    )
    if stands > 0:
        taken = min(minor, stands) if what == "part" else stands
        kind = Kind.VOID if what == "void" else Kind.REVERSAL
        model.write(posting(kind, taken, original_id=about.number), about)


def totals(additions: list[Addition]) -> list[int]:
    return sorted(each.amount for each in additions)


def test_a_repeat_a_tombstone_and_a_refund_add_nothing() -> None:
    sale = Model()
    sale.write(posting())
    original = sale.original(sale.rows[0])
    for kind in (Kind.REPEAT, Kind.TOMBSTONE, Kind.REFUND, Kind.FARE_CREDIT, Kind.HOLD_EXPIRY):
        assert additions_of(posting(kind, original_id=1), original, BUCKETS) == []


def test_a_card_that_nobody_knows_counts_at_its_terminal() -> None:
    strange = posting(outcome=Outcome.UNKNOWN_CARD, approved_minor=0)
    assert [each.key for each in additions_of(strange, None, BUCKETS)] == ["shops/T1"]


@pytest.mark.parametrize(("outcome", "counts_minor"), [("approved", 200), ("count_limit", 0)])
def test_an_approved_tap_counts_with_what_it_was_charged(outcome: str, counts_minor: int) -> None:
    tap = Tap(Mode.BUS, "7", "12", "V1", NOW_US)
    fare = posting(
        Kind.FARE, 0, outcome=Outcome(outcome), approved_minor=counts_minor, request={"tap": tap}
    )
    taken = [each.amount for each in additions_of(fare, None, BUCKETS) if each.key == "shops/M1"]
    assert taken == [counts_minor] * bool(counts_minor)


def test_what_is_another_message_or_too_old_is_not_taken_out() -> None:
    model = Model()
    model.write(posting())
    original = model.original(model.rows[0])
    back = posting(Kind.REVERSAL, original_id=1)
    assert totals(additions_of(back, original, BUCKETS)) == [-500, -1]
    other = posting(Kind.REVERSAL, original_id=2)
    assert additions_of(other, original, BUCKETS) == []
    later = posting(Kind.REVERSAL, original_id=1, at_us=NOW_US + (KEPT_MINUTES + 1) * BUCKET_US)
    assert additions_of(later, original, BUCKETS) == []
    declined = posting(Kind.REVERSAL, original_id=1, outcome=Outcome.ANSWERED_LATE)
    assert additions_of(declined, original, BUCKETS) == []
    assert additions_of(back, None, BUCKETS) == []


def test_nothing_is_worked_out_where_no_place_is_counted() -> None:
    compiled = CompiledRuleset("3f" * 32, {})
    conduct = Settings("Asia/Shanghai", "04:00", "156")
    plain = InForce(compiled, conduct, ())
    counting = InForce(compiled, conduct, (SUM,))
    assert buckets_of(compiled) is None
    assert buckets_of(Deployment(plain)) is None
    assert buckets_of(Deployment(plain, canary=counting)) is not None
    drafted = buckets_of(Deployment(plain, shadows=(counting,)))
    assert drafted is not None
    loaded = Loaded(None, "", "", "", None, None)
    (addition,) = counted(posting(), loaded, drafted).additions
    assert addition == Addition(series_of(SUM), "shops/M1", minute_of(NOW_US), 500)
    declined = posting(outcome=Outcome.PIN_WRONG, approved_minor=0)
    assert counted(declined, loaded, drafted) is declined
