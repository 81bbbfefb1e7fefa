"""Facts written by hand: read whole, or refused with the path and never with the value."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs
from protocols.message import Kind, Outcome, Segment
from risk.check import first_ruleset
from risk.facts import Totals
from risk.facts_json import FACTS_BYTES_MAX, FactsUnreadable, PastEvent, facts_from_json
from risk.moments import Settings

SETTINGS = Settings("Asia/Shanghai", "04:00", "156")
AT = "2026-03-31T02:30:00+08:00"
NOW_US = 1_774_895_400_000_000
CARD_NUMBER = "6225888888888888"


def text(**changed: Any) -> str:
    return json.dumps({"at": AT, "kind": "fare", "amount": 200} | changed)


def test_what_is_left_out_is_plain_or_missing() -> None:
    facts = facts_from_json(text(), SETTINGS)
    assert (facts.now_us, facts.kind, facts.amount_minor) == (NOW_US, Kind.FARE, 200)
    assert facts.day_start_us == NOW_US - 22 * 3_600_000_000 - 1_800_000_000
    assert (facts.local_second_of_day, facts.weekday) == (9_000, 2)
    assert (facts.stop, facts.mode, facts.medium, facts.balance_minor) == ("", "", "", None)
    assert facts.totals == Totals(0, 0, 0, 0, 0, 0)
    assert facts.history.at_us == []


def test_history_is_put_in_order_and_is_of_the_card_unless_it_says_another() -> None:
    events = [
        {"ago_s": 0.5, "kind": "tap_on", "segment": "transit", "stop": "K1/2"},
        {"ago_s": 90, "amount": 7, "outcome": "pin_wrong", "card_id": 9, "given_back": True},
    ]
    facts = facts_from_json(
        text(
            card_id=5,
            history=events,
            buckets={"wrong": None, "busy": 3},
            totals={"week": -4, "month_count": None},
            mode="bus",
        ).encode(),
        SETTINGS,
    )
    history = facts.history
    assert history.at_us == [NOW_US - 90_000_000, NOW_US - 500_000]
    assert (history.card_id, history.given_back) == ([9, 5], [True, False])
    assert history.kind == [Kind.PURCHASE, Kind.TAP_ON]
    assert history.outcome == [Outcome.PIN_WRONG, Outcome.APPROVED]
    assert history.segment == [Segment.RETAIL, Segment.TRANSIT]
    assert (facts.totals.week_minor, facts.totals.month_count, facts.mode) == (-4, None, "bus")
    assert facts.buckets == {"wrong": None, "busy": 3}


@pytest.mark.parametrize(
    ("changed", "path", "expected"),
    [
        ({"at": "2026-03-31T02:30:00"}, "at", "an instant with its offset"),
        ({"kind": "far"}, "kind", "one of adjustment"),
        ({"amount": 2.5}, "amount", "minor units"),
        ({"amount": -1}, "amount", "minor units"),
        ({"mcc": "54"}, "mcc", "four digits"),
        ({"medium": "ab"}, "medium", "never a card number"),
        ({"medium": CARD_NUMBER}, "medium", "never a card number"),
        ({"merchant": CARD_NUMBER}, "merchant", "without a long number"),
        ({"stop": "x" * 65}, "stop", "at most 64 characters"),
        ({"mode": "plane"}, "mode", "a mode"),
        ({"pin": "1234"}, "pin", "verified, none"),
        ({"totals": {"month": "5"}}, "totals.month", "minor units"),
        ({"history": [{"ago_s": 1}, {}]}, "history[1].ago_s", "it is missing"),
        ({"history": [{"ago_s": 86_401}]}, "history[0].ago_s", "at most a day"),
        ({"history": [{"ago_s": 1, "mcc": "x"}]}, "history[0].mcc", "four digits"),
        ({"history": [{"ago_s": 1, "stop": CARD_NUMBER}]}, "history[0].stop", "long number"),
        ({"history": [{"ago_s": 1}] * 513}, "history", "at most 512"),
        ({"history": [{"ago_s": 1, CARD_NUMBER: 1}]}, "history[0]", "not known; expected ago_s"),
        ({"amont": 1}, "", "not known; expected at, kind"),
        ({"buckets": {"A": 1}}, "buckets", "numbers by feature id"),
    ],
)
def test_each_fault_has_its_path(changed: dict[str, Any], path: str, expected: str) -> None:
    with pytest.raises(FactsUnreadable) as refused:
        facts_from_json(text(**changed), SETTINGS)
    assert refused.value.path == path
    assert expected in str(refused.value)
    assert CARD_NUMBER not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "before its end"),
        (b"[]", "one JSON object"),
        (b"\xff", "byte 0 is not UTF-8"),
        ("\ud800", "byte 0 is not UTF-8"),
        (b"[" * 100_000, "object"),
        (b" " * (FACTS_BYTES_MAX + 1), "at most 512 KiB"),
        (b"{}", "at: it is missing"),
    ],
)
def test_what_is_no_object_at_all(body: bytes | str, expected: str) -> None:
    with pytest.raises(FactsUnreadable, match=expected):
        facts_from_json(body, SETTINGS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.just(CARD_NUMBER),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
fields = st.sampled_from(
    ["at", "kind", "amount", "history", "totals", "buckets", "stop", CARD_NUMBER]
)
past = st.lists(st.dictionaries(st.sampled_from(PastEvent.__struct_fields__), json_values))


@settings(max_examples=60)
@given(st.dictionaries(fields, json_values) | past.map(lambda events: {"history": events}))
def test_whatever_is_written_is_read_or_refused(written: dict[str, Any]) -> None:
    said = ""
    times: list[int] = []
    try:
        times = facts_from_json(text(**written), SETTINGS).history.at_us
    except FactsUnreadable as refused:
        said = str(refused)
    assert times == sorted(times)
    assert mask_digit_runs(said) == said


def test_the_shipped_rulesets_settings_will_do() -> None:
    assert facts_from_json(text(), first_ruleset().settings).weekday == 2
