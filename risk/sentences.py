"""A rule in one canonical line, in English and Chinese: what an officer signs and a screen shows.

The line is made from the rule's meaning alone, so two rules that mean the same read the same,
and a reader of either language sees every limit. What is walked here is the same in both;
how it is said is in `sentences_en.py` and `sentences_zh.py`.

    declines the 7th tap in 5 min on one card with 65
    一张卡 5 分钟内第 7 次刷卡，拒绝（65）
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol, assert_never

from protocols.card_number import mask_digit_runs
from protocols.money import display_minor
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
    PercentOperand,
    Relation,
    StartsWith,
    SumOperand,
)
from risk.features import Aggregate, Feature
from risk.rules import Mark, Rule, Scope, Then
from risk.ruleset import Ruleset
from risk.sentences_en import English
from risk.sentences_zh import Chinese
from risk.vocabulary import CURRENT_FACTS, Unit

SENTENCE_CHARACTERS_MAX = 900


class Language(StrEnum):
    ENGLISH = "en"
    CHINESE = "zh"


class Words(Protocol):
    """How one language says the parts of a rule; each returns a piece of the line."""

    def fact(self, name: str) -> str: ...
    def feature(self, feature: Feature) -> str: ...
    def ordinal(self, number: int, feature: Feature) -> str: ...
    def is_ordinal(self, ordinal: str) -> str: ...
    def compared(self, left: str, op: Relation, right: str) -> str: ...
    def among(self, left: str, values: list[str], *, inside: bool) -> str: ...
    def between(self, left: str, low: str, high: str, *, inside: bool) -> str: ...
    def starts(self, left: str, prefix: str, *, holds: bool) -> str: ...
    def listed(self, left: str, name: str, *, holds: bool) -> str: ...
    def missing(self, left: str, *, holds: bool) -> str: ...
    def sum(self, terms: list[str]) -> str: ...
    def percent(self, whole: str, percent: int) -> str: ...
    def all(self, parts: list[str], *, nested: bool) -> str: ...
    def any(self, parts: list[str], *, nested: bool) -> str: ...
    def value(self, name: str, value: str) -> str: ...
    def duration(self, seconds: int) -> str: ...
    def unit(self, unit: Unit, number: int) -> str: ...
    def rule(self, rule: Rule, condition: str, ordinal: str, scope: list[str]) -> str: ...
    def scope(self, scope: Scope, *, kinds_said: bool) -> list[str]: ...
    def effect(self, then: Then | Mark) -> str: ...


_WORDS: dict[Language, Words] = {Language.ENGLISH: English(), Language.CHINESE: Chinese()}
_OPPOSITE = {
    Relation.EQ: Relation.NE,
    Relation.NE: Relation.EQ,
    Relation.LT: Relation.GE,
    Relation.GE: Relation.LT,
    Relation.GT: Relation.LE,
    Relation.LE: Relation.GT,
}


def rule_sentence(rule: Rule, ruleset: Ruleset, language: Language = Language.ENGLISH) -> str:
    """The rule in one line of at most `SENTENCE_CHARACTERS_MAX` characters.

    The rule must have passed the checks. A condition that counts to a limit is said as the
    event that is one too many, since the counter leaves out the request in hand.
    """
    line = mask_digit_runs(teller_of(ruleset, language).rule(rule))
    if len(line) <= SENTENCE_CHARACTERS_MAX:
        return line
    return line[: SENTENCE_CHARACTERS_MAX - 1] + "…"


def ruleset_sentences(ruleset: Ruleset, language: Language = Language.ENGLISH) -> dict[str, str]:
    """The line of each rule by its id, in the ruleset's order."""
    return {rule.id: rule_sentence(rule, ruleset, language) for rule in ruleset.rules}


class _Counted(NamedTuple):
    """A leaf that says: this is the n-th such event."""

    number: int
    feature: Feature


def teller_of(ruleset: Ruleset, language: Language = Language.ENGLISH) -> Teller:
    """What says the parts of a ruleset's rules in a language."""
    return Teller(_WORDS[language], {feature.id: feature for feature in ruleset.features})


class Teller(NamedTuple):
    """Says the parts of a rule: conditions, operands, and numbers in their unit."""

    words: Words
    features: Mapping[str, Feature]

    def rule(self, rule: Rule) -> str:
        parts = list(rule.when.of) if isinstance(rule.when, All) else [rule.when]
        counted = next((found for part in parts if (found := self.counted(part))), None)
        rest = [part for part in parts if counted is None or self.counted(part) != counted]
        said = [self.condition(part, nested=len(rest) > 1) for part in rest]
        ordinal = self.words.ordinal(*counted) if counted else ""
        kinds_said = counted is not None and _counts_kinds(counted.feature, rule.scope)
        scope = self.words.scope(rule.scope, kinds_said=kinds_said)
        condition = self.words.all(said, nested=False) if said else ""
        return self.words.rule(rule, condition, ordinal, scope)

    def counted(self, condition: Condition) -> _Counted | None:
        """`count + 1 > 6` is the 7th; the request itself is the one that is added."""
        match condition:
            case Compare(
                left=SumOperand(terms=(FeatureOperand(id=name), Constant(value=1))),
                op=Relation.GT | Relation.GE as op,
                right=Constant(value=int(limit)),
            ) if self.features[name].aggregate is Aggregate.COUNT:
                return _Counted(limit + (op is Relation.GT), self.features[name])
            case _:
                return None

    def condition(self, condition: Condition, *, nested: bool, negated: bool = False) -> str:
        match condition:
            case Not(of=child):
                return self.condition(child, nested=nested, negated=not negated)
            case All(of=children) | AnyOf(of=children):
                parts = [self.condition(each, nested=True, negated=negated) for each in children]
                if len(parts) == 1:
                    return parts[0]
                join = self.words.all if isinstance(condition, All) ^ negated else self.words.any
                return join(parts, nested=nested)
            case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
                return self.leaf(condition, holds=not negated)
            case _:
                assert_never(condition)

    def leaf(self, leaf: Leaf, *, holds: bool) -> str:
        """A leaf, or its opposite: a comparison is unknown wherever its opposite is."""
        counted = self.counted(leaf)
        if counted and holds:
            return self.words.is_ordinal(self.words.ordinal(*counted))
        left = self.operand(leaf.left)
        match leaf:
            case Compare(op=op, right=right):
                said = self.beside(leaf.left, right)
                return self.words.compared(left, op if holds else _OPPOSITE[op], said)
            case Membership(op=op, values=values):
                chosen = [self.beside(leaf.left, Constant(value)) for value in values]
                return self.words.among(left, chosen, inside=(op == "in") is holds)
            case Between(low=low, high=high):
                ends = self.beside(leaf.left, low), self.beside(leaf.left, high)
                return self.words.between(left, *ends, inside=holds)
            case StartsWith(prefix=prefix):
                return self.words.starts(left, prefix, holds=holds)
            case InList(list=name):
                return self.words.listed(left, name, holds=holds)
            case IsMissing():
                return self.words.missing(left, holds=holds)
            case _:
                assert_never(leaf)

    def operand(self, operand: Operand) -> str:
        match operand:
            case FactOperand(name=name) | CurrentOperand(name=name):
                return self.words.fact(name)
            case FeatureOperand(id=name):
                return self.words.feature(self.features[name])
            case SumOperand(terms=terms):
                return self.words.sum([self.beside(operand, term) for term in terms])
            case PercentOperand(of=whole, percent=percent):
                return self.words.percent(self.operand(whole), percent)
            case Constant(value=value):
                return str(value)
            case _:
                assert_never(operand)

    def beside(self, left: Operand, right: Operand) -> str:
        """The right side, with numbers written in the unit of the left one."""
        if not isinstance(right, Constant):
            return self.operand(right)
        unit = self.unit(left)
        if isinstance(right.value, str):
            name = left.name if isinstance(left, FactOperand) else ""
            return self.words.value(name, right.value)
        return self.number(unit, right.value)

    def number(self, unit: Unit | None, value: int) -> str:
        match unit:
            case Unit.MONEY:
                return display_minor(value)
            case Unit.SECONDS:
                return self.words.duration(value)
            case Unit.TIME_OF_DAY:
                return f"{value // 3600:02}:{value // 60 % 60:02}"
            case None:
                return str(value)
            case _:
                return self.words.unit(unit, value)

    def unit(self, operand: Operand) -> Unit | None:
        match operand:
            case FactOperand(name=name) | CurrentOperand(name=name):
                return CURRENT_FACTS[name].unit
            case FeatureOperand(id=name):
                return self.features[name].unit
            case SumOperand(terms=terms):
                return next((unit for term in terms if (unit := self.unit(term))), None)
            case PercentOperand(of=whole):
                return self.unit(whole)
            case Constant():
                return None
            case _:
                assert_never(operand)


def _counts_kinds(feature: Feature, scope: Scope) -> bool:
    """Whether each kind in scope is one that the counted noun stands for: it is said already."""
    if not feature.noun or not scope.kinds or feature.where is None:
        return False
    parts = feature.where.of if isinstance(feature.where, All) else (feature.where,)
    for part in parts:
        match part:
            case Membership(left=FactOperand(name="kind"), op="in", values=values):
                return set(scope.kinds) <= set(values)
            case Compare(left=FactOperand(name="kind"), op=Relation.EQ, right=Constant(value=only)):
                return set(scope.kinds) == {only}
            case _:
                continue
    return False
