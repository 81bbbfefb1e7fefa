"""What is said never to hold never holds, and what is said to be behind a rule is behind it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Outcome
from risk.compile import compile_ruleset
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    FactOperand,
    FeatureOperand,
    Membership,
    Not,
    Relation,
    SumOperand,
)
from risk.moments import Settings
from risk.overlap import contradictions, out_of_scope, shadowing
from risk.rules import Decline, Rule, Scope, Stage
from risk.ruleset import Ruleset

AMOUNT, TIER = FactOperand("amount"), FactOperand("tier")
NUMBERS = range(8)
TIERS = ["anonymous", "named", "verified"]
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(
        Compare,
        st.just(AMOUNT),
        st.sampled_from(Relation),
        st.sampled_from(NUMBERS).map(Constant),
    ),
    st.builds(
        lambda moved, op, value: Compare(
            SumOperand((AMOUNT, Constant(moved))), op, Constant(value)
        ),
        st.integers(1, 3),
        st.sampled_from([Relation.GT, Relation.LE]),
        st.sampled_from(NUMBERS),
    ),
    st.builds(
        lambda low, high: Between(AMOUNT, Constant(low), Constant(high)),
        st.integers(0, 4),
        st.integers(4, 8),
    ),
    st.builds(
        Compare,
        st.just(TIER),
        st.sampled_from([Relation.EQ, Relation.NE]),
        st.sampled_from(TIERS).map(Constant),
    ),
    st.builds(
        Membership,
        st.just(TIER),
        st.sampled_from(["in", "not_in"]),
        st.lists(st.sampled_from(TIERS), min_size=1, max_size=2).map(tuple),
    ),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda of: All(tuple(of))),
        st.lists(inner, min_size=1, max_size=2).map(lambda of: AnyOf(tuple(of))),
        inner.map(Not),
    ),
    max_leaves=6,
)


def truth(condition: Any, amount: int, tier: str) -> bool:
    match condition:
        case All(of=of):
            return all(truth(child, amount, tier) for child in of)
        case AnyOf(of=of):
            return any(truth(child, amount, tier) for child in of)
        case Not(of=child):
            return not truth(child, amount, tier)
        case Between(low=low, high=high):
            return bool(low.value <= amount <= high.value)
        case Membership(op=op, values=values):
            return (tier in values) is (op == "in")
    left = tier if condition.left == TIER else amount
    if isinstance(condition.left, SumOperand):
        left = amount + condition.left.terms[1].value
    other = condition.right.value
    return {
        "eq": left == other,
        "ne": left != other,
        "lt": left != other and not _greater(left, other),
        "le": not _greater(left, other),
        "gt": _greater(left, other),
        "ge": left == other or _greater(left, other),
    }[condition.op.value]


def _greater(left: Any, right: Any) -> bool:
    return bool(left > right)


def everywhere() -> list[tuple[int, str]]:
    return [(amount, tier) for amount in range(-4, 12) for tier in [*TIERS, "gold"]]


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_a_condition_that_is_said_never_to_hold_does_not(condition: Condition) -> None:
    found = list(contradictions(condition, "when"))
    if any(".any[" not in path for path in found) and not isinstance(condition, AnyOf):
        assert not any(truth(condition, *at) for at in everywhere())


def rule(name: str, when: Condition, **changed: Any) -> Rule:
    usual: dict[str, Any] = {
        "id": name,
        "version": 1,
        "name": name,
        "stage": Stage.AMBER,
        "when": when,
        "then": Decline(Outcome.COUNT_LIMIT, name),
    }
    return Rule(**{**usual, **changed})


@settings(max_examples=300, deadline=None)
@given(TREES, TREES)
def test_a_rule_that_is_said_to_be_behind_another_fires_only_where_that_does(
    one: Condition, other: Condition
) -> None:
    rules = (rule("one", one), rule("other", other))
    for behind, before in shadowing(rules):
        for at in everywhere():
            assert not truth(rules[behind].when, *at) or truth(rules[before].when, *at)


HIGH = Compare(AMOUNT, Relation.GT, Constant(500))
HIGHER = Compare(AMOUNT, Relation.GT, Constant(900))
COUNT = FeatureOperand("c")


@pytest.mark.parametrize(
    ("before", "behind", "shadowed"),
    [
        ({"when": HIGH}, {"when": HIGHER}, True),
        ({"when": HIGHER}, {"when": HIGH}, False),
        ({"when": HIGH, "scope": Scope(kinds=(Kind.LOAD,))}, {"when": HIGHER}, False),
        ({"when": HIGH}, {"when": HIGHER, "scope": Scope(kinds=(Kind.LOAD,))}, True),
        ({"when": HIGH, "canary_percent": 10}, {"when": HIGHER}, False),
        ({"when": HIGH, "scope": Scope(except_lists=("x",))}, {"when": HIGHER}, False),
        ({"when": HIGH}, {"when": HIGHER, "stage": Stage.WATCH}, False),
        ({"when": HIGH, "stage": Stage.RED}, {"when": HIGHER}, True),
        ({"when": HIGH}, {"when": HIGHER, "stage": Stage.RED}, False),
        ({"when": HIGH}, {"when": HIGHER, "then": Decline(Outcome.SUSPECTED_FRAUD, "x")}, False),
        (
            {"when": Compare(SumOperand((COUNT, Constant(1))), Relation.GT, Constant(6))},
            {"when": Compare(COUNT, Relation.GE, Constant(10))},
            True,
        ),
        (
            {"when": Compare(SumOperand((COUNT, Constant(1))), Relation.GT, Constant(6))},
            {"when": Compare(COUNT, Relation.GE, Constant(5))},
            False,
        ),
    ],
)
def test_which_rules_never_decide(
    before: dict[str, Any], behind: dict[str, Any], shadowed: bool
) -> None:
    rules = (rule("before", **before), rule("behind", **behind))
    assert list(shadowing(rules)) == ([(1, 0)] if shadowed else [])


def test_a_condition_outside_its_own_scope() -> None:
    loads = Compare(FactOperand("kind"), Relation.EQ, Constant("load"))
    fares = rule("fares", All((HIGH, loads)), scope=Scope(kinds=(Kind.FARE,)))
    assert list(out_of_scope(fares, "rules[0].when")) == ["rules[0].when.all[1]"]
    either = rule("either", AnyOf((HIGH, loads)), scope=Scope(kinds=(Kind.FARE,)))
    assert list(out_of_scope(either, "rules[0].when")) == ["rules[0].when.any[1]"]


def test_what_shadows_decides_the_same(make_facts: Any) -> None:
    """The whole ruleset with and without the rule behind: the decision is the same."""
    rules = (rule("before", HIGH), rule("behind", HIGHER))
    settings_ = Settings("Asia/Shanghai", "00:00", "156")
    for amount in (500, 501, 901):
        facts = make_facts(amount_minor=amount)
        both = compile_ruleset(Ruleset(settings_, (), rules)).assess(facts)
        alone = compile_ruleset(Ruleset(settings_, (), rules[:1])).assess(facts)
        assert (both.decision, both.rule_id) == (alone.decision, alone.rule_id)
