"""From a condition to a closure: names are resolved and constants bound once, not per request.

Conditions are three-valued (Kleene): a leaf with a missing operand is unknown, `all` is false
if any part is false and otherwise unknown if any is unknown, `any` the other way round, and
`not` keeps the unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, assert_never

from risk.assess import Evaluation, Test
from risk.compile_operands import Parts, operand_name, read_operand
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    InList,
    IsMissing,
    Leaf,
    Membership,
    Not,
    Operand,
    Relation,
    StartsWith,
)
from risk.counting_filters import RELATIONS
from risk.explain import Clause, Clauses, leaf_clauses


class Node(NamedTuple):
    """A compiled condition; `clauses` is asked only when the test has come out true."""

    test: Test
    clauses: Clauses


def compile_condition(condition: Condition, parts: Parts) -> Node:
    """The condition as a test, with what to say where it holds; it must have passed the checks."""
    match condition:
        case All(of=children):
            nodes = [compile_condition(child, parts) for child in children]
            return Node(
                every_of([node.test for node in nodes]),
                lambda evaluation: [c for node in nodes for c in node.clauses(evaluation)],
            )
        case AnyOf(of=children):
            return _any([compile_condition(child, parts) for child in children])
        case Not(of=child):
            return negation(child, parts)
        case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
            clauses = leaf_clauses(
                condition, parts.features, lambda each: read_operand(each, parts)
            )
            return Node(_leaf(condition, parts), clauses)
        case _:
            assert_never(condition)


def every_of(tests: list[Test]) -> Test:
    """`all` of the tests: the first that is false settles it."""
    if len(tests) == 2:
        return _both(*tests)

    def every(evaluation: Evaluation) -> bool | None:
        truth: bool | None = True
        for test in tests:
            part = test(evaluation)
            if part is False:
                return False
            if part is None:
                truth = None
        return truth

    return every


def _both(first: Test, second: Test) -> Test:
    def both(evaluation: Evaluation) -> bool | None:
        one = first(evaluation)
        if one is False:
            return False
        other = second(evaluation)
        return other if one else (False if other is False else None)

    return both


def _any(nodes: list[Node]) -> Node:
    tests = [node.test for node in nodes]

    def some(evaluation: Evaluation) -> bool | None:
        truth: bool | None = False
        for test in tests:
            part = test(evaluation)
            if part:
                return True
            if part is None:
                truth = None
        return truth

    def clauses(evaluation: Evaluation) -> list[Clause]:
        for node in nodes:
            if node.test(evaluation):
                return node.clauses(evaluation)
        return []

    return Node(some, clauses)


def negation(child: Condition, parts: Parts) -> Node:
    """`not`, as a condition of its own."""
    test = compile_condition(child, parts).test

    def negated(evaluation: Evaluation) -> bool | None:
        truth = test(evaluation)
        return None if truth is None else not truth

    return Node(negated, lambda evaluation: [Clause(3, "an exception doesn't apply")])


def _leaf(leaf: Leaf, parts: Parts) -> Test:
    match leaf:
        case Compare():
            return _compare(leaf, parts)
        case Membership(left=left, op=op, values=values):
            return compile_membership(left, values, op == "in", parts)
        case Between(left=left, low=low, high=high):
            return _between(left, low, high, parts)
        case IsMissing(left=left):
            read = read_operand(left, parts)
            return lambda evaluation: read(evaluation) is None
        case StartsWith(left=left, prefix=prefix):
            return _question(left, lambda text, _: text.startswith(prefix), parts)
        case InList(left=left, list=name):
            listed = parts.lists[name]
            return _question(left, listed, parts)
        case _:
            assert_never(leaf)


def _compare(leaf: Compare, parts: Parts) -> Test:
    relation, name = RELATIONS[leaf.op], operand_name(leaf.left)
    read = read_operand(leaf.left, parts)
    if isinstance(leaf.right, Constant):
        constant = leaf.right.value

        def against_constant(evaluation: Evaluation) -> bool | None:
            value = read(evaluation)
            if value is None:
                evaluation.missing.append(name)
                return None
            return relation(value, constant)

        return against_constant
    other, other_name = read_operand(leaf.right, parts), operand_name(leaf.right)

    def against_operand(evaluation: Evaluation) -> bool | None:
        left, right = read(evaluation), other(evaluation)
        if left is None or right is None:
            evaluation.missing.append(name if left is None else other_name)
            return None
        return relation(left, right)

    return against_operand


def compile_membership(
    left: Operand, values: Iterable[int | str], inside: bool, parts: Parts
) -> Test:
    """Whether a value is one of these, or none of them."""
    read, name, chosen = read_operand(left, parts), operand_name(left), frozenset(values)

    def member(evaluation: Evaluation) -> bool | None:
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return None
        return (value in chosen) is inside

    return member


def _between(left: Operand, low: Operand, high: Operand, parts: Parts) -> Test:
    """Two comparisons joined by `all`, so that one end can settle it when the other is unknown."""
    at_least = _compare(Compare(left, Relation.GE, low), parts)
    at_most = _compare(Compare(left, Relation.LE, high), parts)
    return _both(at_least, at_most)


def _question(left: Operand, holds: Callable[..., bool], parts: Parts) -> Test:
    """A leaf that is a question about one value at the time of the request."""
    read, name = read_operand(left, parts), operand_name(left)

    def asked(evaluation: Evaluation) -> bool | None:
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return None
        return holds(value, evaluation.facts.now_us)

    return asked
