"""A ruleset that notes while it runs: how often each rule was asked, and how near it came.

The rules are compiled from the same parts as those that decide live, and each part is asked in
the same order, so a probed ruleset gives the same assessment to the last counter. For a rule
that compares a counter (or an amount) with a constant, the value is noted wherever everything
else in the rule holds: that is how often it would fire at any other limit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from protocols.message import Kind
from risk.assess import CompiledRule, CompiledRuleset, Evaluation, Plan, Test
from risk.backtest_result import SWEEP_POINTS_MAX
from risk.compile import compile_parts, compile_ruleset, scope_tests
from risk.compile_conditions import compile_condition, every_of
from risk.compile_operands import Parts, operand_name, read_operand
from risk.conditions import (
    All,
    Compare,
    Condition,
    Constant,
    FactOperand,
    FeatureOperand,
    Operand,
    Relation,
    SumOperand,
)
from risk.counting_filters import RELATIONS
from risk.explain import Read
from risk.lists import ListBook
from risk.rules import Rule
from risk.ruleset import Ruleset
from risk.snooze import Snoozed
from risk.vocabulary import CURRENT_FACTS, ORDERED_UNITS

_ORDERED = frozenset({Relation.GT, Relation.GE, Relation.LT, Relation.LE})
_UPWARD = frozenset({Relation.GT, Relation.GE})
_LEFTWARD = frozenset({Relation.GT, Relation.LE})
_STEPS = (SWEEP_POINTS_MAX - 1) // 2


class Swept(NamedTuple):
    """The comparison of a rule that is swept: which of its parts, and at which limits.

    `bins` has one more than `limits`: how many values lay between two of them.
    """

    position: int
    leaf: Compare
    limit: int
    limits: tuple[int, ...]
    live_limit: int | None


class Probes:
    """A probed ruleset and what it has noted; `compiled` gives the assessments."""

    def __init__(
        self,
        ruleset: Ruleset,
        *,
        book: ListBook | None = None,
        snoozed: Snoozed | None = None,
        live: Ruleset | None = None,
    ) -> None:
        base = compile_ruleset(ruleset, book=book)
        parts = compile_parts(ruleset, (), book)
        live_rules = {rule.id: rule for rule in live.rules} if live is not None else {}
        self.evaluated = [0] * len(ruleset.rules)
        self.sweeps: dict[str, Swept] = {}
        self.bins: dict[str, list[int]] = {}
        tests: dict[str, Test] = {}
        for number, rule in enumerate(ruleset.rules):
            swept = swept_of(rule, live_rules.get(rule.id))
            if swept is not None:
                self.sweeps[rule.id] = swept
                self.bins[rule.id] = [0] * (len(swept.limits) + 1)
            tests[rule.id] = self._test(number, rule, parts, swept)
        plans = {kind: _with_tests(base.plan(kind), tests) for kind in Kind}
        self.compiled = CompiledRuleset(base.hash, plans).with_snoozes(snoozed or {})

    def _test(self, number: int, rule: Rule, parts: Parts, swept: Swept | None) -> Test:
        children = [compile_condition(child, parts).test for child in children_of(rule.when)]
        scope = _every(scope_tests(rule.scope, parts))
        if swept is not None and len(children) == 1:
            read = read_operand(swept.leaf.left, parts)
            return _alone(scope, number, self.evaluated, swept, read, self.bins[rule.id])
        rest = every_of(children) if len(children) > 1 else children[0]
        if swept is not None:
            read = read_operand(swept.leaf.left, parts)
            rest = _among(children, swept, read, self.bins[rule.id])
        return _counted(scope, number, self.evaluated, rest)


def children_of(when: Condition) -> tuple[Condition, ...]:
    """The parts of a condition that must all hold, as the compiler takes it apart."""
    return when.of if isinstance(when, All) else (when,)


def _every(tests: list[Test]) -> Test | None:
    if not tests:
        return None
    return tests[0] if len(tests) == 1 else every_of(tests)


def _with_tests(plan: Plan, tests: dict[str, Test]) -> Plan:
    def probed(rules: tuple[CompiledRule, ...]) -> tuple[CompiledRule, ...]:
        return tuple(rule._replace(test=tests[rule.id]) for rule in rules)

    return Plan(probed(plan.red), probed(plan.green), probed(plan.amber), probed(plan.watch))


def swept_of(rule: Rule, live: Rule | None) -> Swept | None:
    """The last comparison of a counter with a constant, else of an amount or a time; or none."""
    found = _swept_leaf(rule)
    if found is None:
        return None
    position, leaf, limit = found
    live_limit = None
    if live is not None:
        same = [
            each.right.value
            for each in children_of(live.when)
            if isinstance(each, Compare)
            and isinstance(each.right, Constant)
            and (each.left, each.op) == (leaf.left, leaf.op)
        ]
        live_limit = same[0] if same and isinstance(same[0], int) else None
    return Swept(position, leaf, limit, limits_around(limit, live_limit), live_limit)


def _swept_leaf(rule: Rule) -> tuple[int, Compare, int] | None:
    candidates = [
        (position, child, child.right.value)
        for position, child in enumerate(children_of(rule.when))
        if isinstance(child, Compare)
        and child.op in _ORDERED
        and isinstance(child.right, Constant)
        and isinstance(child.right.value, int)
    ]
    # Of several the last: what stands behind it must be asked once more where it fails.
    for position, leaf, limit in reversed(candidates):
        if any(isinstance(term, FeatureOperand) for term in terms_of(leaf.left)):
            return position, leaf, int(limit)
    for position, leaf, limit in candidates:
        names = [term.name for term in terms_of(leaf.left) if isinstance(term, FactOperand)]
        if names and all(CURRENT_FACTS[name].unit in ORDERED_UNITS for name in names):
            return position, leaf, int(limit)
    return None


def terms_of(operand: Operand) -> tuple[Operand, ...]:
    """What is added up in an operand; itself where it is no sum."""
    return operand.terms if isinstance(operand, SumOperand) else (operand,)


def limits_around(limit: int, live_limit: int | None) -> tuple[int, ...]:
    """At most `SWEEP_POINTS_MAX` limits from 0 to twice the tested one, with both in them."""
    highest = max(2 * abs(limit), 2 * abs(live_limit or 0), 10)
    if highest < SWEEP_POINTS_MAX - 2:
        chosen = set(range(highest + 1))
    else:
        points = SWEEP_POINTS_MAX - 3
        chosen = {highest * step // points for step in range(points + 1)}
    if limit < 0 or (live_limit is not None and live_limit < 0):
        chosen = {value - highest // 2 for value in chosen}
    chosen |= {limit} | ({live_limit} if live_limit is not None else set())
    return tuple(sorted(chosen)[:SWEEP_POINTS_MAX])


def declines_at(swept: Swept, bins: list[int]) -> tuple[int, ...]:
    """How often the rule would fire at each limit."""
    if swept.leaf.op in _UPWARD:
        return tuple(sum(bins[position + 1 :]) for position in range(len(swept.limits)))
    return tuple(sum(bins[: position + 1]) for position in range(len(swept.limits)))


def operand_words(swept: Swept) -> str:
    """What is compared, as the record names it."""
    constants = [str(t.value) for t in terms_of(swept.leaf.left) if isinstance(t, Constant)]
    return " + ".join([operand_name(swept.leaf.left), *constants])


def _counted(scope: Test | None, number: int, evaluated: list[int], rest: Test) -> Test:
    """A rule, counting how often it was asked within its scope."""
    if scope is None:

        def everywhere(evaluation: Evaluation) -> bool | None:
            evaluated[number] += 1
            return rest(evaluation)

        return everywhere

    def within(evaluation: Evaluation) -> bool | None:
        inside = scope(evaluation)
        if inside is False:
            return False
        evaluated[number] += 1
        holds = rest(evaluation)
        return holds if inside else (False if holds is False else None)

    return within


def _alone(
    scope: Test | None,
    number: int,
    evaluated: list[int],
    swept: Swept,
    read: Read,
    bins: list[int],
) -> Test:
    """The same for a rule that is one comparison, in one step: most of them are."""
    limits, limit, name = swept.limits, swept.limit, operand_name(swept.leaf.left)
    relation, place = RELATIONS[swept.leaf.op], _place_of(swept)

    def test(evaluation: Evaluation) -> bool | None:
        inside = scope(evaluation) if scope is not None else True
        if inside is False:
            return False
        evaluated[number] += 1
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return None
        holds = relation(value, limit)
        if inside:
            bins[place(limits, cast("int", value))] += 1
            return holds
        return None if holds else False

    return test


def _place_of(swept: Swept) -> Callable[[Sequence[int], int], int]:
    """Values in the bin of a limit are on the side of it that its own relation says."""
    return bisect_left if swept.leaf.op in _LEFTWARD else bisect_right


def _among(children: list[Test], swept: Swept, read: Read, bins: list[int]) -> Test:
    """A condition of several parts, noting the value where the others hold.

    A part behind a comparison that fails is asked of a copy, for live it is not asked at all.
    """
    before = _every(children[: swept.position])
    after = _every(children[swept.position + 1 :])
    limits, limit, name = swept.limits, swept.limit, operand_name(swept.leaf.left)
    relation, place = RELATIONS[swept.leaf.op], _place_of(swept)

    def test(evaluation: Evaluation) -> bool | None:
        truth = before(evaluation) if before is not None else True
        if truth is False:
            return False
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return False if after is not None and after(evaluation) is False else None
        holds = relation(value, limit)
        rest: bool | None = True
        if after is not None:
            rest = after(evaluation if holds else _copy(evaluation))
        if truth and rest:
            bins[place(limits, cast("int", value))] += 1
            return holds
        return False if rest is False or not holds else None

    return test


def _copy(evaluation: Evaluation) -> Evaluation:
    copy = Evaluation(evaluation.facts)
    copy.features.update(evaluation.features)
    return copy
