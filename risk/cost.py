"""What a rule costs: an estimate before it is live, and when it is cut out afterwards.

The estimate adds up what the parts of a ruleset were measured to take (`tests/risk/measure.py`
fits these weights by timing rules that differ in one part). It is for comparing drafts, and is
within a factor of two of the machine that it was measured on. The cut-out goes by what was
really measured: the clock stays outside, `judge` only concludes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from protocols.message import Kind
from risk.assess import CompiledRuleset, Evaluation
from risk.conditions import (
    AnyOf,
    Condition,
    Constant,
    FeatureOperand,
    InList,
    Leaf,
    Not,
    PercentOperand,
    SumOperand,
    leaves,
    operands,
)
from risk.facts import Facts
from risk.features import Basis, Feature, Key, TotalWindow
from risk.rules import SCOPE_FACTS, Rule, Stage
from risk.ruleset import Ruleset

EVENTS_TYPICAL = 10
"""Events of a card's day; a commuter with an errand."""

RULE_NS = 40
LEAF_NS = 190
SUM_NS = 160
LIST_NS = 120
JOIN_NS = 40
FEATURE_NS = 900
FILTER_NS = 330
FILTER_EVENT_NS = 35
TOTAL_NS = 200

RULESET_NS_MAX = 1_000_000
"""The budget of all rules of an authorization."""
RULE_NS_MAX = 50_000
"""One rule of twenty may take this of it; beyond that it is likely to be a mistake."""


class CostEstimate(NamedTuple):
    """`rules_ns`: each rule by itself, counters included. `worst_kind_ns`: all rules of one kind
    of request, each counter computed once."""

    rules_ns: tuple[int, ...]
    worst_kind_ns: int


def estimate(ruleset: Ruleset, events: int = EVENTS_TYPICAL) -> CostEstimate:
    """What the ruleset is expected to take with so many events of the account in history."""
    features = {feature.id: feature_ns(feature, events) for feature in ruleset.features}
    own = [_rule_ns(rule) for rule in ruleset.rules]
    read = [_features_read(rule.when) & set(features) for rule in ruleset.rules]
    alone = tuple(
        cost + sum(features[name] for name in names) for cost, names in zip(own, read, strict=True)
    )
    worst = 0
    for kind in Kind:
        about = [n for n, rule in enumerate(ruleset.rules) if kind in (rule.scope.kinds or Kind)]
        names = {name for n in about for name in read[n]}
        worst = max(worst, sum(own[n] for n in about) + sum(features[name] for name in names))
    return CostEstimate(alone, worst)


def feature_ns(feature: Feature, events: int = EVENTS_TYPICAL) -> int:
    """One counter: a bisection, and a pass over the events for each filter."""
    if feature.bucketed or isinstance(feature.window, TotalWindow):
        return TOTAL_NS
    filters = [
        feature.key in (Key.CARD, Key.CARD_MERCHANT),
        feature.key is Key.CARD_MERCHANT,
        feature.basis is not Basis.ATTEMPTS,
        feature.same is not None,
        feature.restores,
    ].count(True)
    if feature.where is not None:
        filters += len(list(leaves(feature.where, "")))
    return FEATURE_NS + filters * (FILTER_NS + events * FILTER_EVENT_NS)


def _rule_ns(rule: Rule) -> int:
    scopes = sum(1 for field in SCOPE_FACTS if field != "kinds" and getattr(rule.scope, field))
    scoped = scopes * LEAF_NS + len(rule.scope.except_lists) * (LEAF_NS + LIST_NS)
    found = [leaf for _, leaf in leaves(rule.when, "")]
    return RULE_NS + scoped + sum(map(_leaf_ns, found)) + _joins(rule.when) * JOIN_NS


def _leaf_ns(leaf: Leaf) -> int:
    whole = LEAF_NS + (LIST_NS if isinstance(leaf, InList) else 0)
    sums = isinstance(leaf.left, SumOperand | PercentOperand)
    beyond = sum(not isinstance(operand, Constant) for operand in operands(leaf)) - 1
    return whole + sums * SUM_NS + max(0, beyond) * (SUM_NS // 2)


def _joins(condition: Condition) -> int:
    match condition:
        case Not(of=child):
            return 1 + _joins(child)
        case AnyOf(of=children):
            return 1 + sum(map(_joins, children))
        case _ if hasattr(condition, "of"):
            return 1 + sum(map(_joins, condition.of))
        case _:
            return 0


def _features_read(condition: Condition) -> set[str]:
    return {
        operand.id
        for _, leaf in leaves(condition, "")
        for operand in operands(leaf)
        if isinstance(operand, FeatureOperand)
    }


# ---- the cut-out ----


class Measured(NamedTuple):
    """What one rule took: processor nanoseconds over so many evaluations."""

    evaluations: int
    total_ns: int

    def plus(self, other: Measured) -> Measured:
        return Measured(self.evaluations + other.evaluations, self.total_ns + other.total_ns)


class CutOutPolicy(NamedTuple):
    """When a rule is cut out: its mean over at least `evaluations_min` is above `rule_ns_max`.

    A red rule is law or a stolen card, so it is only alarmed about until it takes
    `red_factor` times as much: then the gates would close, which is worse.
    """

    rule_ns_max: int = RULE_NS_MAX
    evaluations_min: int = 200
    red_factor: int = 10


class CutOut(NamedTuple):
    """A rule that overran. `cut` tells whether it is taken out or only alarmed about."""

    rule_id: str
    mean_ns: int
    limit_ns: int
    cut: bool


POLICY = CutOutPolicy()


def judge(
    measured: Mapping[str, Measured], stages: Mapping[str, Stage], policy: CutOutPolicy = POLICY
) -> tuple[CutOut, ...]:
    """The rules that overran, the dearest first. Pure: the same figures, the same verdict.

    `stages` are those of the rules in force; a rule that is no longer among them is let be.
    """
    over: list[CutOut] = []
    for rule_id, (evaluations, total_ns) in measured.items():
        if rule_id not in stages or evaluations < max(1, policy.evaluations_min):
            continue
        mean_ns = total_ns // evaluations
        if mean_ns <= policy.rule_ns_max:
            continue
        red = stages[rule_id] is Stage.RED
        limit_ns = policy.rule_ns_max * (policy.red_factor if red else 1)
        over.append(CutOut(rule_id, mean_ns, limit_ns, mean_ns > limit_ns))
    return tuple(sorted(over, key=lambda each: (-each.mean_ns, each.rule_id)))


def measure_rules(
    ruleset: CompiledRuleset, facts: Facts, clock_ns: Callable[[], int]
) -> dict[str, Measured]:
    """One evaluation of each rule about these facts, by a clock from outside.

    A counter that rules share is paid by the first one that asks for it, so the figures add up
    to the whole; run on a sample of requests, beside the decision and not instead of it.
    """
    evaluation = Evaluation(facts)
    plan = ruleset.plan(facts.kind)
    found: dict[str, Measured] = {}
    for rule in (*plan.red, *plan.green, *plan.amber, *plan.watch):
        begun_ns = clock_ns()
        try:
            rule.test(evaluation)
        except Exception:  # noqa: BLE001, S110 - a rule that breaks takes its time too
            pass
        found[rule.id] = Measured(1, clock_ns() - begun_ns)
    return found
