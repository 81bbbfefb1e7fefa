"""Which past events a feature is about: each filter is one pass over positions in the history.

`where` is turned around until every `not` sits on a leaf, so that a filter keeps exactly the
events for which the condition is certainly true; an event with a missing field counts neither
for the condition nor for its opposite.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, assert_never

from protocols.message import Outcome
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    CurrentOperand,
    FactOperand,
    InList,
    IsMissing,
    Leaf,
    Membership,
    Not,
    Operand,
    Relation,
    StartsWith,
    leaves,
    operands,
)
from risk.facts import Facts
from risk.features import Basis, Feature, Key
from risk.lists import Lookup
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS, Unit

Positions = Sequence[int]
Filter = Callable[[Facts, Positions], Positions]
"""Positions in the history, oldest first → those of them that stay."""

RELATIONS: dict[Relation, Callable[[Any, Any], bool]] = {
    Relation.EQ: operator.eq,
    Relation.NE: operator.ne,
    Relation.LT: operator.lt,
    Relation.LE: operator.le,
    Relation.GT: operator.gt,
    Relation.GE: operator.ge,
}


def feature_filters(feature: Feature, lists: Mapping[str, Lookup]) -> list[Filter]:
    """Cheapest and most selective first; the order doesn't change what stays."""
    filters: list[Filter] = []
    if feature.key in (Key.CARD, Key.CARD_MERCHANT):
        filters.append(_of_this_card)
    if feature.key is Key.CARD_MERCHANT:
        filters.append(_same("merchant"))
    match feature.basis:
        case Basis.ATTEMPTS:
            pass
        case Basis.APPROVED:
            filters.append(_approved)
        case Basis.DECLINED:
            filters.append(_declined(frozenset(feature.codes)))
        case _:
            assert_never(feature.basis)
    if feature.same is not None:
        filters.append(_same(feature.same))
    if feature.where is not None:
        filters.append(_where(feature.where, lists, negated=False))
    if feature.restores:
        filters.append(_not_given_back)
    return filters


def _of_this_card(facts: Facts, positions: Positions) -> Positions:
    column = facts.history.card_id
    card_id = facts.card_id
    return [at for at in positions if column[at] == card_id]


def _same(field: str) -> Filter:
    """Events whose field is the request's own, which is there: it is a needed fact."""
    attribute = PAST_FACTS[field].attribute
    column_of: Callable[[Facts], Sequence[Any]] = attrgetter(f"history.{attribute}")
    return _equal_filter(column_of, attrgetter(CURRENT_FACTS[field].attribute))


def _approved(facts: Facts, positions: Positions) -> Positions:
    column = facts.history.outcome
    approved = Outcome.APPROVED
    return [at for at in positions if column[at] == approved]


def _declined(codes: frozenset[Outcome]) -> Filter:
    wanted = codes or frozenset(Outcome) - {Outcome.APPROVED}

    def declined(facts: Facts, positions: Positions) -> Positions:
        column = facts.history.outcome
        return [at for at in positions if column[at] in wanted]

    return declined


def _not_given_back(facts: Facts, positions: Positions) -> Positions:
    column = facts.history.given_back
    return [at for at in positions if not column[at]]


def needed_facts(feature: Feature) -> list[Callable[[Facts], Any]]:
    """What of the request events are compared with: missing, it makes the counter unknown."""
    names: set[str] = {feature.same} if feature.same is not None else set()
    if feature.key is Key.CARD_MERCHANT:
        names.add("merchant")
    if feature.where is not None:
        names |= {
            operand.name
            for _, leaf in leaves(feature.where, "")
            for operand in operands(leaf)
            if isinstance(operand, CurrentOperand)
        }
    return [attrgetter(CURRENT_FACTS[name].attribute) for name in sorted(names)]


def _where(condition: Condition, lists: Mapping[str, Lookup], *, negated: bool) -> Filter:
    match condition:
        case Not(of=child):
            return _where(child, lists, negated=not negated)
        case All(of=children) | AnyOf(of=children):
            parts = [_where(child, lists, negated=negated) for child in children]
            return (
                _one_after_another(parts)
                if isinstance(condition, All) ^ negated
                else _united(parts)
            )
        case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
            return _leaf_filter(condition, lists, negated=negated)
        case _:
            assert_never(condition)


def _one_after_another(parts: list[Filter]) -> Filter:
    def keep(facts: Facts, positions: Positions) -> Positions:
        for part in parts:
            positions = part(facts, positions)
        return positions

    return keep


def _united(parts: list[Filter]) -> Filter:
    def keep(facts: Facts, positions: Positions) -> Positions:
        kept = {at for part in parts for at in part(facts, positions)}
        return [at for at in positions if at in kept]

    return keep


def _leaf_filter(leaf: Leaf, lists: Mapping[str, Lookup], *, negated: bool) -> Filter:
    if not isinstance(leaf.left, FactOperand):
        raise AssertionError("the left of a leaf in `where` is a fact of the past event")
    word = PAST_FACTS[leaf.left.name]
    column_of: Callable[[Facts], Sequence[Any]] = attrgetter(f"history.{word.attribute}")
    if isinstance(leaf, IsMissing):
        return _missing_filter(column_of, wanted=not negated)
    if isinstance(leaf, Compare) and leaf.op is Relation.EQ and not negated:
        return _equal_filter(column_of, _reader(leaf.right))
    if isinstance(leaf, Membership) and (leaf.op == "in") is not negated:
        return _member_filter(column_of, frozenset(leaf.values))
    holds = _event_test(leaf, lists)
    may_be_missing = word.unit is Unit.TEXT
    wanted = not negated

    def keep(facts: Facts, positions: Positions) -> Positions:
        column = column_of(facts)
        test = holds(facts)
        if may_be_missing:
            return [at for at in positions if column[at] and test(column[at]) is wanted]
        return [at for at in positions if test(column[at]) is wanted]

    return keep


def _missing_filter(column_of: Callable[[Facts], Sequence[Any]], *, wanted: bool) -> Filter:
    def keep(facts: Facts, positions: Positions) -> Positions:
        column = column_of(facts)
        return [at for at in positions if (column[at] == "") is wanted]

    return keep


def _equal_filter(
    column_of: Callable[[Facts], Sequence[Any]], read: Callable[[Facts], Any]
) -> Filter:
    """The commonest leaf, without a call per event; no constant is empty, so neither is a match."""

    def keep(facts: Facts, positions: Positions) -> Positions:
        column = column_of(facts)
        value = read(facts)
        return [at for at in positions if column[at] == value]

    return keep


def _member_filter(
    column_of: Callable[[Facts], Sequence[Any]], chosen: frozenset[int | str]
) -> Filter:
    """Likewise for the kinds that most features name."""

    def keep(facts: Facts, positions: Positions) -> Positions:
        column = column_of(facts)
        return [at for at in positions if column[at] in chosen]

    return keep


def _reader(operand: Operand) -> Callable[[Facts], Any]:
    match operand:
        case Constant(value=value):
            return lambda facts: value
        case CurrentOperand(name=name):
            return attrgetter(CURRENT_FACTS[name].attribute)
        case _:
            raise AssertionError("`where` compares with constants and facts of the request only")


def _event_test(
    leaf: Leaf, lists: Mapping[str, Lookup]
) -> Callable[[Facts], Callable[[Any], bool]]:
    """facts → (value of the past event → whether the leaf holds for it)."""
    match leaf:
        case Compare(op=op, right=right):
            relation, read = RELATIONS[op], _reader(right)

            def compare(facts: Facts) -> Callable[[Any], bool]:
                value = read(facts)
                return lambda past: relation(past, value)

            return compare
        case Membership(op=op, values=values):
            chosen, inside = frozenset(values), op == "in"
            return lambda facts: lambda past: (past in chosen) is inside
        case Between(low=low, high=high):
            read_low, read_high = _reader(low), _reader(high)

            def between(facts: Facts) -> Callable[[Any], bool]:
                least, most = read_low(facts), read_high(facts)
                return lambda past: bool(least <= past <= most)

            return between
        case StartsWith(prefix=prefix):
            return lambda facts: lambda past: bool(past.startswith(prefix))
        case InList(list=name):
            listed = lists[name]
            return lambda facts: lambda past: listed(past, facts.now_us)
        case IsMissing():
            raise AssertionError("a missing field has its own filter")
        case _:
            assert_never(leaf)
