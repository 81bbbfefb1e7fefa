"""What a condition reads: a fact, a counter, a constant, or a little arithmetic with these."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple, assert_never

from risk.assess import Evaluation
from risk.conditions import (
    Constant,
    CurrentOperand,
    FactOperand,
    FeatureOperand,
    Operand,
    PercentOperand,
    SumOperand,
)
from risk.counting import Count
from risk.explain import Read, Value
from risk.features import Feature
from risk.lists import ListField, Lookup
from risk.vocabulary import CURRENT_FACTS, Unit


class Parts(NamedTuple):
    """What conditions refer to, ready to run."""

    features: Mapping[str, Feature]
    counts: Mapping[str, Count]
    lists: Mapping[str, Lookup]
    fields: Mapping[str, ListField]


def read_operand(operand: Operand, parts: Parts) -> Read:
    """The operand's value; None is unknown. A counter is computed once per evaluation."""
    match operand:
        case FactOperand(name=name) | CurrentOperand(name=name):
            return _fact(name)
        case FeatureOperand(id=name):
            return _feature(name, parts.counts[name])
        case Constant(value=value):
            return lambda evaluation: value
        case SumOperand(terms=terms):
            return _sum([read_operand(term, parts) for term in terms])
        case PercentOperand(of=whole, percent=percent):
            return _percent(read_operand(whole, parts), percent)
        case _:
            assert_never(operand)


def _fact(name: str) -> Read:
    word = CURRENT_FACTS[name]
    get = attrgetter(word.attribute)
    if word.unit is Unit.TEXT:
        return lambda evaluation: get(evaluation.facts) or None

    def number(evaluation: Evaluation) -> Value:
        value: int | None = get(evaluation.facts)
        return value

    return number


def _feature(name: str, count: Count) -> Read:
    def counted(evaluation: Evaluation) -> Value:
        features = evaluation.features
        if name in features:
            return features[name]
        value = features[name] = count(evaluation.facts)
        return value

    return counted


def _sum(reads: list[Read]) -> Read:
    if len(reads) == 2:
        return _sum_of_two(*reads)

    def total(evaluation: Evaluation) -> Value:
        whole = 0
        for read in reads:
            value = read(evaluation)
            if not isinstance(value, int):
                return None
            whole += value
        return whole

    return total


def _sum_of_two(first: Read, second: Read) -> Read:
    """The commonest sum, without a loop: a counter and what this request adds."""

    def total(evaluation: Evaluation) -> Value:
        one, other = first(evaluation), second(evaluation)
        return one + other if isinstance(one, int) and isinstance(other, int) else None

    return total


def _percent(read: Read, percent: int) -> Read:
    def part(evaluation: Evaluation) -> Value:
        value = read(evaluation)
        return value * percent // 100 if isinstance(value, int) else None

    return part


def operand_name(operand: Operand) -> str:
    """What a missing operand is called in the record."""
    match operand:
        case FactOperand(name=name) | CurrentOperand(name=name):
            return name
        case FeatureOperand(id=name):
            return name
        case SumOperand(terms=terms):
            return " + ".join(
                operand_name(term) for term in terms if not isinstance(term, Constant)
            )
        case PercentOperand(of=whole):
            return operand_name(whole)
        case Constant():
            return "constant"
        case _:
            assert_never(operand)
