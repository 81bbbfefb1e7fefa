"""The sentences people read about a decision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs
from protocols.message import Outcome
from risk.assess import Assessment, decode_results, encode_results
from risk.explain import EXPLANATION_CHARACTERS_MAX, Clause, because, explain
from risk.facts import Facts, Totals

Assess = Callable[[str, Facts], Assessment]
MakeFacts = Callable[..., Facts]


def feature(aggregate: str, window: str, more: str = "", key: str = "card") -> str:
    return f"""
        [[features]]
        id = "counter"
        key = "{key}"
        aggregate = "{aggregate}"
        basis = "approved"
        window = "{window}"
        {more}
    """


def rule(when: str) -> str:
    return f"""
        [[rules]]
        id = "card_burst"
        version = 1
        name = "Burst"
        stage = "amber"
        when = {when}
        then = {{ decline = "count_limit", reason = "too many" }}
    """


@pytest.mark.parametrize(
    ("features", "when", "says"),
    [
        (
            feature("count", "5m", 'noun = "taps"'),
            '{ feature = "counter", plus = 1, op = "gt", value = 2 }',
            "3 taps in 5 min on card ••0042; limit 2",
        ),
        (
            feature("count", "24h", key="account"),
            '{ feature = "counter", op = "ge", value = 2 }',
            "2 approvals in 24 h on the account; limit 1",
        ),
        (
            feature("sum", "calendar_day", key="account"),
            '{ feature = "counter", plus = "amount", op = "gt", value = 2500 }',
            "30.00 approved in the day on the account; limit 25.00",
        ),
        (
            feature("sum", "90s"),
            '{ feature = "counter", plus = "amount", op = "lt", value = { fact = "balance" } }',
            "30.00 approved in 90 s on card ••0042; at least 500.00",
        ),
        (
            feature("distinct", "10m", 'field = "terminal"'),
            '{ feature = "counter", op = "eq", value = 2 }',
            "2 different terminals in 10 min on card ••0042",
        ),
        (
            feature("seconds_since_last", "1h"),
            '{ feature = "counter", op = "lt", value = 20 }',
            "10 s since the last of the approvals on card ••0042; at least 20 s",
        ),
        (
            feature("count", "1m", 'same = "merchant"\nnoun = "taps"'),
            '{ feature = "counter", op = "ge", value = 2 }',
            "2 taps at the same merchant in 1 min on card ••0042; limit 1",
        ),
        (
            feature("count", "11s", 'same = "merchant"\nnoun = "taps"'),
            '{ feature = "counter", op = "ge", value = 1 }',
            "1 tap at the same merchant in 11 s on card ••0042; limit 0",
        ),
        (
            feature("last", "1h", 'field = "merchant"'),
            '{ feature = "counter", op = "eq", value = "M1" }',
            "merchant M1 at the last of the approvals on card ••0042",
        ),
        (
            feature("last", "1h", 'field = "card_id"'),
            '{ feature = "counter", op = "ne", value = 9 }',
            "card of its own at the last of the approvals on card ••0042; expected 9",
        ),
        (
            feature("count", "10m", key="card_merchant"),
            '{ feature = "counter", op = "ge", value = 2 }',
            "2 approvals in 10 min at this merchant on card ••0042; limit 1",
        ),
        (
            feature("count", "10m", key="terminal"),
            '{ feature = "counter", plus = 1, op = "gt", value = 2 }',
            "4 approvals in 10 min at this terminal; limit 2",
        ),
        (
            feature("sum", "calendar_week", key="account"),
            '{ feature = "counter", plus = "amount", op = "gt", value = 2500 }',
            "30.00 approved in the week on the account; limit 25.00",
        ),
        (
            feature("sum", "1h"),
            '{ fact = "amount", op = "gt", value = { feature = "counter", percent = 20 } }',
            "amount 10.00; limit 4.00",
        ),
        (
            "",
            '{ all = [ { fact = "tier", op = "eq", value = "named" }, '
            '{ fact = "amount", op = "gt", value = 500 } ] }',
            "amount 10.00; limit 5.00",
        ),
        ("", '{ fact = "tier", op = "eq", value = "named" }', "tier named"),
        ("", '{ fact = "mcc", op = "starts_with", value = "54" }', "merchant category 5411"),
        ("", '{ fact = "card_id", op = "eq", value = 1 }', "card matches"),
        (
            "",
            '{ fact = "local_time", op = "between", value = ["11:00", "12:00"] }',
            "local time 11:06; between 11:00 and 12:00",
        ),
        (
            "",
            '{ any = [ { fact = "product", op = "is_missing" }, '
            '{ fact = "amount", op = "gt", value = 1 } ] }',
            "product missing",
        ),
        (
            "",
            '{ not = { fact = "tier", op = "eq", value = "verified" } }',
            "an exception doesn't apply",
        ),
    ],
)
def test_a_decline_in_words(
    assess_with: Assess, make_facts: MakeFacts, features: str, when: str, says: str
) -> None:
    facts = make_facts(
        {"ago_s": 20, "terminal": "T2"},
        {"ago_s": 10},
        product="",
        buckets={"counter": 3},
        totals=Totals(week_minor=2000),
    )
    found = decode_results(encode_results(assess_with(features + rule(when), facts)))
    start = f"Declined 65: card_burst v1 (live, ruleset {found.ruleset_hash[:4]}…): "
    assert explain(found, "0042") == f"{start}{says}."


def test_on_a_list(assess_with: Assess, make_facts: MakeFacts) -> None:
    body = """
        [[lists]]
        name = "hotlist"
        field = "card_id"
        entries = [{ value = 1, reason = "lost" }]
    """ + rule('{ fact = "card_id", op = "in_list", list = "hotlist" }')
    assert "card on list hotlist" in explain(assess_with(body, make_facts()), "0042")


def test_approvals(assess_with: Assess, make_facts: MakeFacts) -> None:
    spare = """
        [[rules]]
        id = "event_day"
        version = 2
        name = "Event"
        stage = "green"
        when = { fact = "amount", op = "le", value = 5000 }
        then = { allow = true }
        expires_at = 2030-01-01T00:00:00Z
    """
    limit = rule('{ fact = "amount", op = "gt", value = 500 }')
    spared = explain(assess_with(spare + limit, make_facts()), "0042")
    assert spared.startswith("Approved: event_day v2 (live, ruleset ")
    assert " overrides card_burst v1: amount 10.00" in spared
    plain = explain(assess_with(spare, make_facts()), "0042")
    assert plain.startswith("Approved (live, ruleset ")


@settings(max_examples=200)
@given(st.text(alphabet="0123456789 -a", max_size=400), st.text("0123456789", max_size=19))
def test_a_sentence_is_bounded_and_holds_no_card_number(figures: str, card: str) -> None:
    found = Assessment(
        Outcome.COUNT_LIMIT, "3fa9" * 16, "r" * 40, 999_999, "", because([Clause(0, figures)])
    )
    sentence = explain(found, card)
    assert len(sentence) <= EXPLANATION_CHARACTERS_MAX
    assert mask_digit_runs(sentence) == sentence
    if len(card) > 12:
        assert card not in sentence
