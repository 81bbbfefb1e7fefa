"""Golden: each rule that ships, with facts on both sides of its edge."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from protocols.message import Kind, Outcome, Segment
from risk.assess import CompiledRuleset, Effect
from risk.check import check, first_ruleset
from risk.compile import compile_ruleset
from risk.facts import Facts, Totals
from risk.lists import ListEntry, NamedList

MEDIUM = "cd" * 16


@pytest.fixture(scope="module")
def compiled() -> CompiledRuleset:
    """The shipped rules, with one card on the hotlist and one group leader."""
    lists = [
        NamedList("hotlist", "medium", (ListEntry(MEDIUM, "stolen"),)),
        NamedList("group_passes", "card_id", (ListEntry(1, "school outing"),)),
    ]
    return compile_ruleset(first_ruleset(), lists)


def test_it_has_no_finding_at_all() -> None:
    text = resources.files("risk").joinpath("first_ruleset.toml").read_text(encoding="utf-8")
    assert check(text, "first_ruleset.toml", now_us=1_780_000_000_000_000) == []


def taps(number: int, apart_s: int = 5, **changed: Any) -> list[dict[str, Any]]:
    return [{"ago_s": apart_s * (number - n), **changed} for n in range(number)]


def retail(*events: dict[str, Any], **changed: Any) -> tuple[Any, Any]:
    return events, changed


@pytest.mark.parametrize(
    ("rule_id", "passes", "declines", "outcome"),
    [
        ("hotlist", retail(), retail(medium=MEDIUM), Outcome.HOTLISTED),
        (
            "hotlist",
            retail(kind=Kind.LOAD),
            retail(kind=Kind.LOAD, medium=MEDIUM),
            Outcome.HOTLISTED,
        ),
        ("tier_known", retail(tier="verified"), retail(tier="gold"), Outcome.DO_NOT_HONOUR),
        ("tier_known", retail(tier="anonymous"), retail(tier=""), Outcome.DO_NOT_HONOUR),
        (
            "history_full",
            retail(*taps(499, 100, card_id=2, amount_minor=1)),
            retail(*taps(500, 100, card_id=2, amount_minor=1)),
            Outcome.COUNT_LIMIT,
        ),
        ("card_burst", retail(*taps(9)), retail(*taps(10)), Outcome.COUNT_LIMIT),
        (
            "card_burst",
            retail(*taps(10, outcome=Outcome.COUNT_LIMIT, card_id=2)),
            retail(*taps(10, outcome=Outcome.COUNT_LIMIT)),
            Outcome.COUNT_LIMIT,
        ),
        ("card_burst", retail(*taps(10, apart_s=6)), retail(*taps(10, 5)), Outcome.COUNT_LIMIT),
        (
            "card_roaming",
            retail(*[{"ago_s": 500 - n, "terminal": f"T{n}"} for n in range(4)]),
            retail(*[{"ago_s": 500 - n, "terminal": f"T{n}"} for n in range(5)]),
            Outcome.SUSPECTED_FRAUD,
        ),
        (
            "anonymous_payment",
            retail(tier="anonymous", amount_minor=50_000),
            retail(tier="anonymous", amount_minor=50_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "anonymous_day",
            retail(*taps(1, amount_minor=49_000), tier="anonymous"),
            retail(*taps(1, amount_minor=49_001), tier="anonymous"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "anonymous_day",
            retail(*taps(1, amount_minor=49_001, given_back=True), tier="anonymous"),
            retail(*taps(1, amount_minor=49_001, card_id=2), tier="anonymous"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_payment",
            retail(amount_minor=100_000),
            retail(amount_minor=100_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_day",
            retail(*taps(1, amount_minor=499_000)),
            retail(*taps(1, amount_minor=499_001)),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_day",
            retail({"ago_s": 40_001, "amount_minor": 499_001}),
            retail({"ago_s": 40_000, "amount_minor": 499_001}),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_payment",
            retail(tier="verified", amount_minor=500_000),
            retail(tier="verified", amount_minor=500_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_day",
            retail(*taps(1, amount_minor=1_999_000), tier="verified"),
            retail(*taps(1, amount_minor=1_999_001), tier="verified"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_month",
            retail(tier="verified", totals=Totals(month_minor=9_999_000)),
            retail(tier="verified", totals=Totals(month_minor=9_999_001)),
            Outcome.AMOUNT_LIMIT,
        ),
    ],
)
def test_both_sides_of_the_edge(
    compiled: CompiledRuleset,
    make_facts: Callable[..., Facts],
    rule_id: str,
    passes: tuple[Any, Any],
    declines: tuple[Any, Any],
    outcome: Outcome,
) -> None:
    (events, changed), (worse_events, worse) = passes, declines
    assert compiled.assess(make_facts(*events, **changed)).decision is Outcome.APPROVED
    found = compiled.assess(make_facts(*worse_events, **worse))
    assert (found.decision, rule_id in {r.rule_id for r in found.results}) == (outcome, True)
    assert compiled.assess(make_facts(*worse_events, **worse)) == found


def test_loads_have_no_spending_limit(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    found = compiled.assess(make_facts(kind=Kind.LOAD, amount_minor=400_000))
    assert found.decision is Outcome.APPROVED


@pytest.mark.parametrize(
    ("amount_minor", "decision"), [(2000, Outcome.APPROVED), (2001, Outcome.COUNT_LIMIT)]
)
def test_a_group_leader_may_tap_for_all_but_only_fares(
    compiled: CompiledRuleset,
    make_facts: Callable[..., Facts],
    amount_minor: int,
    decision: Outcome,
) -> None:
    facts = make_facts(*taps(10), segment=Segment.TRANSIT, amount_minor=amount_minor)
    found = compiled.assess(facts)
    assert found.decision is decision
    effect = Effect.OVERRIDDEN if decision is Outcome.APPROVED else Effect.DECLINED
    assert [r.effect for r in found.results if r.rule_id == "card_burst"] == [effect]


@pytest.mark.parametrize("kind", [Kind.PREAUTHORIZATION, Kind.OFFLINE_SALE])
def test_money_set_aside_and_a_terminals_own_sales_are_spending_too(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts], kind: Kind
) -> None:
    spent = taps(1, amount_minor=49_001, kind=kind)
    assert compiled.assess(make_facts(*spent, tier="anonymous")).decision is Outcome.AMOUNT_LIMIT
    assert compiled.assess(make_facts(*taps(10, kind=kind))).decision is Outcome.COUNT_LIMIT


def test_a_preauthorization_is_limited_like_a_purchase(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    asked = make_facts(kind=Kind.PREAUTHORIZATION, tier="anonymous", amount_minor=50_001)
    assert compiled.assess(asked).decision is Outcome.AMOUNT_LIMIT
