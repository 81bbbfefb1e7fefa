"""How each rule came to what it came to: its condition as a tree, with the value of every operand.

It is for people: whoever simulates a rule, or is asked why a card was declined. The tree is put
together from the answers of single leaves, beside the compiled rule and not out of it, so that
each may be held against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, assert_never

import msgspec

from protocols.card_number import mask_digit_runs
from protocols.message import Outcome
from risk.assess import Evaluation
from risk.compile import compile_parts, compile_sound, scope_conditions
from risk.compile_conditions import compile_condition
from risk.compile_operands import Parts, read_operand
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    CurrentOperand,
    FactOperand,
    FeatureOperand,
    InList,
    IsMissing,
    Leaf,
    Membership,
    Not,
    Operand,
    StartsWith,
    operands,
)
from risk.counting import Count
from risk.explain import Value
from risk.facts import Facts
from risk.features import Aggregate
from risk.lists import ListBook
from risk.moments import microseconds
from risk.record import RuleResult
from risk.rules import Rule, Stage
from risk.ruleset import Ruleset
from risk.sentences import Teller, rule_sentence, teller_of
from risk.snooze import Snooze, compile_snoozes
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS

UNKNOWN = "unknown"
HIDDEN = "not shown"
"""What stands for the value of a fact that no sentence may show: which medium, which card."""


class TracedOperand(msgspec.Struct, frozen=True):
    """One fact or counter of a comparison: its name, its words, and what it was.

    `value` is a number in the unit's smallest part (minor units, seconds, metres) or a text; None
    is unknown, or not to be shown. `shown` is the same for a person.
    """

    name: str
    says: str
    shown: str
    value: int | str | None


class TraceNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a condition. `holds` None is unknown (✓ ✗ ?).

    A leaf has its operands, what its left side came to, and the limit that it is held against;
    the others have parts.
    """

    form: Literal["leaf", "all", "any", "not"]
    says: str
    holds: bool | None
    left: str = ""
    limit: str = ""
    operands: tuple[TracedOperand, ...] = ()
    parts: tuple[TraceNode, ...] = ()


class RuleTrace(msgspec.Struct, frozen=True):
    """One rule that can be about the request: whether it holds, what it did, and why.

    `effect` is that of the record (`risk.record.Effect`); it is empty where the rule does not
    hold, has expired, or a red decline stood before it. `when` has the scope in front, but for
    the kinds.
    """

    rule_id: str
    version: int
    name: str
    stage: Stage
    sentence: str
    holds: bool | None
    expired: bool
    effect: str
    outcome: Outcome | None
    why: str
    when: TraceNode


def trace(
    ruleset: Ruleset,
    facts: Facts,
    book: ListBook | None = None,
    snoozes: Iterable[Snooze] = (),
    *,
    paused: Iterable[str] = (),
    counted: Mapping[str, Value] | None = None,
) -> tuple[RuleTrace, ...]:
    """Each rule of the request's kind, in the ruleset's order. Pure; no card number is in it.

    The ruleset must have passed the checks. With `counted` these are the counters (feature id →
    value), as a decision stored them, and one that is not there is unknown; without it they are
    counted from the history of the facts.
    """
    parts = compile_parts(ruleset, (), book)
    if counted is not None:
        parts = parts._replace(counts={name: _known(counted.get(name)) for name in parts.counts})
    compiled = compile_sound(ruleset, parts, compile_snoozes(snoozes)).paused(paused)
    results = {result.rule_id: result for result in compiled.assess(facts).results}
    tracer = _Tracer(parts, teller_of(ruleset), Evaluation(facts))
    return tuple(
        _traced(rule, ruleset, results.get(rule.id), tracer)
        for rule in ruleset.rules
        if not rule.scope.kinds or facts.kind in rule.scope.kinds
    )


def _known(value: Value) -> Count:
    return lambda facts: value


def _traced(rule: Rule, ruleset: Ruleset, result: RuleResult | None, tracer: _Tracer) -> RuleTrace:
    when = rule.when.of if isinstance(rule.when, All) else (rule.when,)
    root = tracer.node(All((*scope_conditions(rule.scope, tracer.parts), *when)))
    now_us = tracer.evaluation.facts.now_us
    return RuleTrace(
        rule.id,
        rule.version,
        mask_digit_runs(rule.name),
        rule.stage,
        rule_sentence(rule, ruleset),
        root.holds,
        rule.expires_at is not None and microseconds(rule.expires_at) <= now_us,
        result.effect if result is not None else "",
        result.outcome if result is not None else None,
        result.why if result is not None else "",
        root,
    )


class _Tracer(NamedTuple):
    parts: Parts
    teller: Teller
    evaluation: Evaluation

    def node(self, condition: Condition) -> TraceNode:
        match condition:
            case All(of=children):
                parts = tuple(self.node(child) for child in children)
                return TraceNode("all", "all of these", _every(parts), parts=parts)
            case AnyOf(of=children):
                parts = tuple(self.node(child) for child in children)
                return TraceNode("any", "any of these", _some(parts), parts=parts)
            case Not(of=child):
                part = self.node(child)
                turned = None if part.holds is None else not part.holds
                return TraceNode("not", "not", turned, parts=(part,))
            case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
                return self.leaf(condition)
            case _:
                assert_never(condition)

    def leaf(self, leaf: Leaf) -> TraceNode:
        said = [each for each in operands(leaf) if not isinstance(each, Constant)]
        return TraceNode(
            "leaf",
            mask_digit_runs(self.teller.leaf(leaf, holds=True)),
            self.holds(leaf),
            self.shown(leaf.left, leaf.left),
            self.limit(leaf),
            tuple(self.operand(each) for each in said),
        )

    def operand(self, operand: Operand) -> TracedOperand:
        value = None if self.hidden(operand) else self.value(operand)
        return TracedOperand(
            _name(operand),
            mask_digit_runs(self.teller.operand(operand)),
            self.shown(operand, operand),
            mask_digit_runs(value) if isinstance(value, str) else value,
        )

    def limit(self, leaf: Leaf) -> str:
        """What the left side is held against, in its unit."""
        match leaf:
            case Compare(left=left, right=right):
                return self.shown(right, left)
            case Between(left=left, low=low, high=high):
                return f"{self.shown(low, left)} to {self.shown(high, left)}"
            case Membership(left=left, values=values):
                return ", ".join(self.shown(Constant(value), left) for value in values)
            case StartsWith(prefix=prefix):
                return mask_digit_runs(prefix)
            case InList(list=name):
                return name
            case IsMissing():
                return ""
            case _:
                assert_never(leaf)

    def shown(self, operand: Operand, unit_of: Operand) -> str:
        """What an operand came to, for a person, in the unit of one beside it."""
        if self.hidden(unit_of):
            return HIDDEN if self.value(operand) is not None else UNKNOWN
        value = self.value(operand)
        if value is None:
            return UNKNOWN
        if isinstance(value, str):
            return mask_digit_runs(value)
        return mask_digit_runs(self.teller.number(self.teller.unit(unit_of), value))

    def value(self, operand: Operand) -> Value:
        read = read_operand(operand, self.parts)
        try:
            return read(self.evaluation)
        except Exception:  # noqa: BLE001 - as in an assessment, whatever a rule does
            return None

    def holds(self, leaf: Leaf) -> bool | None:
        """What a leaf says; one that breaks is unknown here, and its rule recorded as failed."""
        test = compile_condition(leaf, self.parts).test
        try:
            return test(self.evaluation)
        except Exception:  # noqa: BLE001 - as in an assessment, whatever a rule does
            return None

    def hidden(self, operand: Operand) -> bool:
        """Whether its value is an identity, which no sentence shows."""
        if isinstance(operand, FactOperand | CurrentOperand):
            return not CURRENT_FACTS[operand.name].shown
        if isinstance(operand, FeatureOperand):
            feature = self.parts.features[operand.id]
            last = feature.aggregate is Aggregate.LAST
            return last and not PAST_FACTS[feature.field or ""].shown
        return False


def _name(operand: Operand) -> str:
    match operand:
        case FactOperand(name=name) | CurrentOperand(name=name):
            return name
        case FeatureOperand(id=name):
            return name
        case _:
            return ""


def _every(parts: tuple[TraceNode, ...]) -> bool | None:
    """Kleene's conjunction."""
    found = {part.holds for part in parts}
    return False if False in found else None if None in found else True


def _some(parts: tuple[TraceNode, ...]) -> bool | None:
    """Kleene's disjunction."""
    found = {part.holds for part in parts}
    return True if True in found else None if None in found else False
