"""Counters of a decision as people read them: in words, with their unit and their limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from protocols.money import display_minor
from risk.conditions import (
    Between,
    Compare,
    Constant,
    CurrentOperand,
    FactOperand,
    FeatureOperand,
    InList,
    IsMissing,
    Leaf,
    Membership,
    Operand,
    PercentOperand,
    Relation,
    StartsWith,
    SumOperand,
    leaves,
    operands,
)
from risk.features import Feature
from risk.ruleset import Ruleset
from risk.sentences_en import English
from risk.vocabulary import CURRENT_FACTS, Unit
from switch.ledger.explained import FeatureSeen

Value = int | str | None

_SIGNS = {
    Relation.EQ: "=",
    Relation.NE: "≠",
    Relation.LT: "<",
    Relation.LE: "≤",
    Relation.GT: ">",
    Relation.GE: "≥",
}
_SUFFIXES = {Unit.SECONDS: " s", Unit.DAYS: " days", Unit.METRES: " m", Unit.SPEED: " km/h"}


def features_seen(values: Mapping[str, Value], ruleset: Ruleset | None) -> tuple[FeatureSeen, ...]:
    """The counters that were asked for, each with every comparison that a rule makes of it."""
    features = {feature.id: feature for feature in ruleset.features} if ruleset else {}
    limits = _limits(ruleset) if ruleset is not None else {}
    english = English()
    return tuple(
        FeatureSeen(
            id=name,
            says=english.feature(features[name]) if name in features else "",
            value=value,
            shown=figure(value, features[name].unit if name in features else Unit.COUNT),
            limits=tuple(limits.get(name, ())),
        )
        for name, value in values.items()
    )


def figure(value: Value, unit: Unit) -> str:
    """A value in its unit, as people write it; "unknown" where it is."""
    if value is None:
        return "unknown"
    if not isinstance(value, int):
        return value
    if unit is Unit.MONEY:
        return display_minor(value)
    if unit is Unit.TIME_OF_DAY:
        return f"{value // 3600:02}:{value // 60 % 60:02}"
    return f"{value}{_SUFFIXES.get(unit, '')}"


def _limits(ruleset: Ruleset) -> dict[str, list[str]]:
    """Feature id → "rule: comparison" of each leaf that asks for it."""
    features = {feature.id: feature for feature in ruleset.features}
    found: dict[str, list[str]] = {}
    for rule in ruleset.rules:
        for _, leaf in leaves(rule.when, ""):
            asked = {each.id for each in operands(leaf) if isinstance(each, FeatureOperand)}
            for name in sorted(asked):
                found.setdefault(name, []).append(f"{rule.id}: {_compared(leaf, features)}")
    return found


def _compared(leaf: Leaf, features: Mapping[str, Feature]) -> str:
    unit = _unit(leaf.left, features)
    left = _said(leaf.left, unit)
    match leaf:
        case Compare(op=op, right=right):
            return f"{left} {_SIGNS[op]} {_said(right, unit)}"
        case Between(low=low, high=high):
            return f"{left} between {_said(low, unit)} and {_said(high, unit)}"
        case Membership(op=op, values=values):
            among = ", ".join(figure(value, unit) for value in values)
            return f"{left} {op.replace('_', ' ')} {among}"
        case StartsWith(prefix=prefix):
            return f"{left} starts with {prefix}"
        case InList(list=name):
            return f"{left} on list {name}"
        case IsMissing():
            return f"{left} is missing"
        case _:
            assert_never(leaf)


def _said(operand: Operand, unit: Unit) -> str:
    match operand:
        case FeatureOperand(id=name) | FactOperand(name=name) | CurrentOperand(name=name):
            return name
        case Constant(value=value):
            return figure(value, unit)
        case SumOperand(terms=terms):
            return " + ".join(_said(term, unit) for term in terms)
        case PercentOperand(of=of, percent=percent):
            return f"{percent} % of {_said(of, unit)}"
        case _:
            assert_never(operand)


def _unit(operand: Operand, features: Mapping[str, Feature]) -> Unit:
    parts: tuple[Operand, ...] = (operand,)
    if isinstance(operand, SumOperand):
        parts = operand.terms
    elif isinstance(operand, PercentOperand):
        parts = (operand.of,)
    for part in parts:
        if isinstance(part, FeatureOperand):
            return features[part.id].unit
        if isinstance(part, FactOperand | CurrentOperand):
            return CURRENT_FACTS[part.name].unit
    return Unit.COUNT
