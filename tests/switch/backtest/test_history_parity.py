"""A replay's history of an account is what a worker would have loaded before each row."""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Mode, Outcome, Segment
from risk.backtest_history import AccountHistory
from risk.facts import HISTORY_EVENTS_MAX, History
from risk.past_events import EVENT_KINDS, GIVING_BACK_KINDS
from switch.decide.case import REMEMBERED_KINDS
from switch.ledger.facts import HISTORY_ROWS_MAX, _history
from tests.simulation.model_ledger import NOON_US
from tests.switch.decide.rides import event, facts, posted, ride

DAY_US = 86_400_000_000
_EVENTS = [Kind.PURCHASE, Kind.LOAD, Kind.FARE, Kind.PREAUTHORIZATION]
_GIVING = [Kind.REVERSAL, Kind.VOID]


def test_what_is_remembered_is_what_is_loaded() -> None:
    assert REMEMBERED_KINDS == EVENT_KINDS
    assert not EVENT_KINDS & GIVING_BACK_KINDS


def _rows(dice: random.Random, count: int) -> list[dict[str, Any]]:
    """Messages of one account, oldest first; what gives back is about an earlier one."""
    rows: list[dict[str, Any]] = []
    at_us = NOON_US
    for number in range(1, count + 1):
        at_us += dice.choice((1, 60_000_000, 3 * 3_600_000_000))
        earlier = [r for r in rows[-8:] if r["outcome"] == "approved"]
        kind, original_id = dice.choice(_EVENTS), 0
        outcome = dice.choice(("approved", "approved", "count_limit"))
        minor = approved_minor = dice.choice((0, 100, 500))
        if earlier and dice.random() < 0.35:
            target = dice.choice(earlier)
            kind = Kind.REVERSAL if target["kind"] == "void" else dice.choice(_GIVING)
            original_id, outcome = target["authorization_id"], "approved"
            approved_minor = target["approved_minor"] // dice.choice((1, 1, 2))
        rows.append({
            "authorization_id": number, "at_us": at_us, "card_id": dice.randrange(2),
            "kind": kind.value, "amount_minor": minor, "outcome": outcome,
            "approved_minor": approved_minor if outcome == "approved" else 0,
            "original_id": original_id, "segment": "retail", "mcc": dice.choice(("", "5411")),
            "merchant": "M1", "terminal": f"T{number % 3}", "venue": "", "stop": "", "vehicle": "",
        })  # fmt: skip
    return rows


def _loaded(rows: list[dict[str, Any]], now_us: int) -> History:
    """As load_batch and its reader would have it."""
    window = [row for row in rows if row["at_us"] > now_us - DAY_US][::-1][:HISTORY_ROWS_MAX]
    columns = {name: [row[name] for row in window] for name in rows[0]}
    return _history(columns)[0]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000), count=st.integers(2, 60))
def test_history_is_what_would_have_been_loaded(seed: int, count: int) -> None:
    rows = _rows(random.Random(seed), count)
    account = AccountHistory()
    for number, row in enumerate(rows):
        # On a day that began long ago nothing old is kept for later.
        account.begin_row(row["at_us"], number + 1, row["at_us"] - 2 * DAY_US)
        if number:
            assert account.history == _loaded(rows[:number], row["at_us"])
        _add(account, row)


def test_history_is_bounded_as_it_is_live() -> None:
    rows = [row for row in _rows(random.Random(1), 900) if not row["original_id"]]
    for number, row in enumerate(rows):
        row["at_us"] = NOON_US + number * 1_000_000
    account = AccountHistory()
    for number, row in enumerate(rows):
        account.begin_row(row["at_us"], number + 1, NOON_US)
        _add(account, row)
    account.begin_row(rows[-1]["at_us"] + 1, 2**62, NOON_US)
    assert len(account.history.at_us) == HISTORY_EVENTS_MAX
    assert account.history == _loaded(rows, rows[-1]["at_us"] + 1)


def _add(account: AccountHistory, row: dict[str, Any]) -> None:
    kind = Kind(row["kind"])
    if kind in GIVING_BACK_KINDS:
        giver = (row["authorization_id"], row["original_id"], row["approved_minor"])
        account.gave_back(row["at_us"], giver)
        return
    charged = kind is Kind.FARE and row["outcome"] == "approved"
    account.happened(
        row["authorization_id"], row["approved_minor"], row["at_us"], row["card_id"], kind,
        row["approved_minor"] if charged else row["amount_minor"], Outcome(row["outcome"]),
        Segment(row["segment"]), row["mcc"], row["merchant"], row["terminal"], "", "", "",
    )  # fmt: skip


def test_a_row_of_another_kind_than_was_asked_says_which_that_was() -> None:
    """Money back of a late tap is posted as such, and the rules were asked about a fare."""
    bus = event(Kind.FARE, NOON_US, 300, line="K2", mode=Mode.BUS)
    ferry = ride(mode=Mode.FERRY, mcc="4111", event_at_us=NOON_US - 60_000_000)
    posting = posted(ferry, facts(bus, rights=(2,)))
    assert posting.kind is Kind.FARE_CREDIT
    assert posting.assessment is not None
    stored = msgspec.json.decode(posting.rule_results)
    assert stored["facts"]["kind"] == "fare"
    plain = msgspec.json.decode(posted(ride(mode=Mode.BUS), facts()).rule_results)
    assert "kind" not in plain["facts"]
