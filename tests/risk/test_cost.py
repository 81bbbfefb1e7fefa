"""Estimates grow with what is asked; a rule that overruns is cut out, and red not lightly."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from protocols.message import Outcome
from risk.assess import Assessment, Effect
from risk.check import first_ruleset
from risk.compile import compile_ruleset
from risk.cost import (
    RULESET_NS_MAX,
    CutOut,
    CutOutPolicy,
    Measured,
    estimate,
    feature_ns,
    judge,
    measure_rules,
)
from risk.facts import Facts
from risk.rules import Stage
from risk.ruleset import Ruleset

STAGES = {"law": Stage.RED, "burst": Stage.AMBER, "look": Stage.WATCH}
POLICY = CutOutPolicy(rule_ns_max=1000, evaluations_min=100, red_factor=10)


@pytest.mark.parametrize(
    ("rule_id", "evaluations", "total_ns", "expected"),
    [
        ("burst", 100, 100_000, None),
        ("burst", 100, 100_100, CutOut("burst", 1001, 1000, True)),
        ("burst", 99, 10**9, None),
        ("look", 200, 400_000, CutOut("look", 2000, 1000, True)),
        ("law", 100, 1_000_000, CutOut("law", 10_000, 10_000, False)),
        ("law", 100, 1_000_100, CutOut("law", 10_001, 10_000, True)),
        ("gone", 100, 10**9, None),
    ],
)
def test_when_a_rule_is_cut_out(
    rule_id: str, evaluations: int, total_ns: int, expected: CutOut | None
) -> None:
    found = judge({rule_id: Measured(evaluations, total_ns)}, STAGES, POLICY)
    assert found == ((expected,) if expected else ())


def test_the_dearest_comes_first() -> None:
    measured = {"burst": Measured(100, 200_000), "look": Measured(100, 300_000)}
    assert [each.rule_id for each in judge(measured, STAGES, POLICY)] == ["look", "burst"]
    assert Measured(1, 2).plus(Measured(3, 4)) == Measured(4, 6)
    assert judge(measured, STAGES) == (), "2 and 3 µs are no overrun by the default"


RULES = """
[[rules]]
id = "slow"
version = 1
name = "slow"
stage = "amber"
when = { fact = "amount", op = "gt", value = 500 }
then = { decline = "count_limit", reason = "too much" }

[[rules]]
id = "load"
version = 1
name = "load"
stage = "red"
scope = { kinds = ["load"] }
when = { fact = "amount", op = "gt", value = 900 }
then = { decline = "amount_limit", reason = "too much" }
"""


def test_each_rule_of_the_kind_is_measured_by_the_clock_given(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    clock = count(step=70)
    found = measure_rules(compile_ruleset(load(RULES)), make_facts(), lambda: next(clock))
    assert found == {"slow": Measured(1, 70)}


def test_a_rule_cut_out_is_recorded_and_does_nothing(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    compiled = compile_ruleset(load(RULES))
    assert compiled.assess(make_facts()).decision is Outcome.COUNT_LIMIT
    found: Assessment = compiled.without(["slow"]).assess(make_facts())
    assert found.decision is Outcome.APPROVED
    assert [(r.rule_id, r.effect) for r in found.results] == [("slow", Effect.CUT_OUT)]
    assert found.ruleset_hash == compiled.hash
    assert compiled.assess(make_facts()).decision is Outcome.COUNT_LIMIT, "the other is as it was"


def test_a_paused_rule_is_recorded_too_and_stays_paused_when_it_is_cut_out(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    compiled = compile_ruleset(load(RULES))
    for idle in (
        compiled.paused(["slow"]),
        compiled.paused(["slow"]).without(["slow"]),
        compiled.without(["slow"]).paused(["slow"]),
    ):
        found = idle.assess(make_facts())
        assert found.decision is Outcome.APPROVED
        assert [(r.rule_id, r.effect) for r in found.results] == [("slow", Effect.PAUSED)]
        assert found.ruleset_hash == compiled.hash


def test_an_estimate_grows_with_what_is_asked() -> None:
    whole = first_ruleset()
    found, full = estimate(whole), estimate(whole, events=512)
    assert len(found.rules_ns) == len(whole.rules)
    assert 0 < max(found.rules_ns) <= found.worst_kind_ns < RULESET_NS_MAX
    assert found.worst_kind_ns < full.worst_kind_ns < RULESET_NS_MAX
    by_id: dict[str, Any] = {feature.id: feature for feature in whole.features}
    assert feature_ns(by_id["account_spent_month"]) < feature_ns(by_id["card_attempts_1m"])
    assert feature_ns(by_id["card_attempts_1m"]) < feature_ns(by_id["card_other_vehicle_2m"])
