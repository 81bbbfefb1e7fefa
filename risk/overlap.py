"""Which parts of a ruleset can never matter: a condition against itself, a rule behind another.

A conjunction is taken as a box: for each operand the values it leaves open, and beside that
whatever is not a comparison with constants, word for word. An empty side is a condition that
never holds; a box inside another is a rule that fires only where the other one does. Both are
sufficient signs, not necessary ones: what they report is so, and they don't find everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from protocols.message import Outcome
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    FactOperand,
    Membership,
    Not,
    Operand,
    Relation,
    SumOperand,
)
from risk.rules import SCOPE_FACTS, Challenge, Decline, Rule, Scope, Stage

_FAR = 10**18
"""Beyond any number that a rule can name."""
_OPPOSITE = {
    Relation.EQ: Relation.NE,
    Relation.NE: Relation.EQ,
    Relation.LT: Relation.GE,
    Relation.GE: Relation.LT,
    Relation.GT: Relation.LE,
    Relation.LE: Relation.GT,
}
_PRECEDENCE = {outcome: position for position, outcome in enumerate(Outcome)}


class Side(NamedTuple):
    """The values left open for one operand: a range of numbers, some of them out, or texts.

    `only` None means any text that is not in `out`.
    """

    low: int = -_FAR
    high: int = _FAR
    only: frozenset[int | str] | None = None
    out: frozenset[int | str] = frozenset()

    def meet(self, other: Side) -> Side:
        only = self.only if other.only is None else other.only
        if self.only is not None and other.only is not None:
            only = self.only & other.only
        return Side(
            max(self.low, other.low), min(self.high, other.high), only, self.out | other.out
        )

    @property
    def values(self) -> frozenset[int | str] | None:
        """What is left of `only`, or None where it is open."""
        if self.only is None:
            return None
        return frozenset(value for value in self.only if self.admits(value))

    def admits(self, value: int | str) -> bool:
        if value in self.out or (self.only is not None and value not in self.only):
            return False
        return isinstance(value, str) or self.low <= value <= self.high

    @property
    def empty(self) -> bool:
        if self.only is not None:
            return not self.values
        return self.low > self.high or (self.low == self.high and self.low in self.out)

    def within(self, other: Side) -> bool:
        """Whether every value open here is open there, as far as this can tell."""
        if self.values is not None:
            return all(other.admits(value) for value in self.values)
        if other.only is not None:
            return False
        inside = other.low <= self.low and self.high <= other.high
        return inside and all(not self.admits(value) for value in other.out)


class Box(NamedTuple):
    """A conjunction: sides by operand, and the conditions that are none, word for word."""

    sides: dict[bytes, Side]
    others: frozenset[bytes]


def contradictions(condition: Condition, path: str) -> Iterator[str]:
    """Paths of the parts of a sound condition that contradict what stands beside them."""
    yield from _contradictions(condition, path, {})


def out_of_scope(rule: Rule, path: str) -> Iterator[str]:
    """The same for a rule's condition within its own scope."""
    scope = {_key(fact): side for fact, side in _scope_sides(rule.scope)}
    if not list(contradictions(rule.when, path)):
        yield from _contradictions(rule.when, path, scope)


def _contradictions(condition: Condition, path: str, beside: dict[bytes, Side]) -> Iterator[str]:
    sides = dict(beside)
    joins: list[tuple[str, AnyOf]] = []
    for at, part, negated in _conjuncts(condition, path, negated=False):
        if isinstance(part, AnyOf):
            joins.append((at, part))
            continue
        narrowed = _side(part, negated=negated)
        if narrowed is None:
            continue
        key, side = narrowed
        sides[key] = sides.get(key, Side()).meet(side)
        if sides[key].empty:
            yield at
            return
    for at, join in joins:
        for position, child in enumerate(join.of):
            yield from _contradictions(child, f"{at}.any[{position}]", sides)


def box_of(rule: Rule) -> Box:
    """Scope and condition of a rule as one box."""
    sides = {_key(fact): side for fact, side in _scope_sides(rule.scope)}
    others = {f"except {name}".encode() for name in rule.scope.except_lists}
    for _, part, negated in _conjuncts(rule.when, "", negated=False):
        narrowed = None if isinstance(part, AnyOf) else _side(part, negated=negated)
        if narrowed is None:
            others.add(msgspec.json.encode([part, negated]))
        else:
            key, side = narrowed
            sides[key] = sides.get(key, Side()).meet(side)
    return Box(sides, frozenset(others))


def shadowing(rules: tuple[Rule, ...]) -> Iterator[tuple[int, int]]:
    """(position of a rule that never decides, position of the one that decides before it)."""
    boxes = [box_of(rule) for rule in rules]
    for behind, rule in enumerate(rules):
        for before, other in enumerate(rules):
            decides = before != behind and _decides_before(other, rule, before < behind)
            if decides and _inside(boxes[behind], boxes[before]):
                yield behind, before
                break


def _decides_before(one: Rule, other: Rule, stands_first: bool) -> bool:
    """Whether `one`, where both fire, leaves nothing for `other` to decide."""
    if one.canary_percent is not None or not isinstance(one.then, Decline):
        return False
    if one.expires_at is not None and (
        other.expires_at is None or other.expires_at > one.expires_at
    ):
        return False
    if one.stage is Stage.RED and other.stage in (Stage.GREEN, Stage.AMBER):
        return True
    if one.stage is not other.stage or one.stage is Stage.WATCH or other.also:
        return False
    if isinstance(other.then, Challenge):
        return True
    if not isinstance(other.then, Decline):
        return False
    mine, theirs = _PRECEDENCE[one.then.outcome], _PRECEDENCE[other.then.outcome]
    return mine < theirs or (mine == theirs and stands_first)


def _inside(inner: Box, outer: Box) -> bool:
    """Whether whatever is in the one is in the other."""
    return outer.others <= inner.others and all(
        key in inner.sides and inner.sides[key].within(side) for key, side in outer.sides.items()
    )


def _conjuncts(
    condition: Condition, path: str, *, negated: bool
) -> Iterator[tuple[str, Condition, bool]]:
    """The parts that must all hold; `negated` ones must fail. A negated `any` is such an `all`."""
    match condition:
        case All(of=children) if not negated:
            for position, child in enumerate(children):
                yield from _conjuncts(child, f"{path}.all[{position}]", negated=False)
        case AnyOf(of=children) if negated:
            for position, child in enumerate(children):
                yield from _conjuncts(child, f"{path}.any[{position}]", negated=True)
        case Not(of=child):
            yield from _conjuncts(child, f"{path}.not", negated=not negated)
        case _:
            yield path, condition, negated


def _side(part: Condition, *, negated: bool) -> tuple[bytes, Side] | None:
    """What a comparison with constants leaves open of its operand."""
    match part:
        case Compare(left=left, op=op, right=Constant(value=value)):
            return _compared(left, _OPPOSITE[op] if negated else op, value)
        case Membership(left=left, op=op, values=values):
            if (op == "in") is not negated:
                return _key(left), Side(only=frozenset(values))
            return _key(left), Side(out=frozenset(values))
        case Between(left=left, low=Constant(value=int(low)), high=Constant(value=int(high))):
            return None if negated else (_key(left), Side(low, high))
        case _:
            return None


def _compared(left: Operand, op: Relation, value: int | str) -> tuple[bytes, Side]:
    left, moved = _without_constants(left)
    if isinstance(value, str):
        chosen = frozenset({value})
        return _key(left), Side(only=chosen) if op is Relation.EQ else Side(out=chosen)
    value -= moved
    match op:
        case Relation.EQ:
            return _key(left), Side(value, value)
        case Relation.NE:
            return _key(left), Side(out=frozenset({value}))
        case Relation.LT:
            return _key(left), Side(high=value - 1)
        case Relation.LE:
            return _key(left), Side(high=value)
        case Relation.GT:
            return _key(left), Side(low=value + 1)
        case Relation.GE:
            return _key(left), Side(low=value)


def _without_constants(operand: Operand) -> tuple[Operand, int]:
    """`count + 1 > 6` and `count > 5` are about the same operand: the count, and the 1 moved."""
    if not isinstance(operand, SumOperand):
        return operand, 0
    terms = tuple(term for term in operand.terms if not isinstance(term, Constant))
    moved = sum(
        term.value
        for term in operand.terms
        if isinstance(term, Constant) and isinstance(term.value, int)
    )
    if not terms:
        return operand, 0
    return (terms[0] if len(terms) == 1 else SumOperand(terms)), moved


def _scope_sides(scope: Scope) -> Iterator[tuple[Operand, Side]]:
    for field, fact in SCOPE_FACTS.items():
        chosen = getattr(scope, field)
        if chosen:
            yield FactOperand(fact), Side(only=frozenset(map(str, chosen)))


def _key(operand: Operand) -> bytes:
    return msgspec.json.encode(operand)
