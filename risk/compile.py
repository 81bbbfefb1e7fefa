"""From a ruleset to closures: names are resolved and constants bound once, not per request.

Conditions are three-valued (Kleene): a leaf with a missing operand is unknown, `all` is false
if any part is false and otherwise unknown if any is unknown, `any` the other way round, and
`not` keeps the unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import NamedTuple, assert_never

from protocols.message import Kind
from risk.assess import EVERY_CARD_PERCENT, CompiledRule, CompiledRuleset, Evaluation, Plan, Test
from risk.check import require_sound
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
from risk.counting import RELATIONS, Count, compile_feature
from risk.explain import Clause, Clauses, Read, Value, because, leaf_clauses
from risk.features import Feature
from risk.findings import RulesetError
from risk.lists import ListField, Lookup, NamedList, compile_list, merged
from risk.moments import microseconds
from risk.record import ListAddition
from risk.rules import (
    SCOPE_FACTS,
    AddToList,
    ForceOnline,
    Mark,
    Review,
    Rule,
    Scope,
    Stage,
    Tag,
)
from risk.ruleset import Ruleset, ruleset_hash
from risk.snooze import Snooze, compile_snoozes, snooze_findings
from risk.vocabulary import CURRENT_FACTS, Unit

_NEVER_US = 2**63


class _Node(NamedTuple):
    """A compiled condition; `clauses` is asked only when the test has come out true."""

    test: Test
    clauses: Clauses


class _Parts(NamedTuple):
    """What conditions refer to, ready to run."""

    features: dict[str, Feature]
    counts: dict[str, Count]
    lists: dict[str, Lookup]
    fields: dict[str, ListField]


def compile_ruleset(
    ruleset: Ruleset, lists: Iterable[NamedList] = (), snoozes: Iterable[Snooze] = ()
) -> CompiledRuleset:
    """Closures for the ruleset; `lists` take the place of its own lists of the same name.

    The hash covers the ruleset as written, not lists and snoozes given beside it: those have
    a life of their own. Raises `RulesetError` if the ruleset with these has an error.
    """
    given, spared = list(lists), list(snoozes)
    require_sound(ruleset, given)
    unfit = list(snooze_findings(ruleset, spared))
    if unfit:
        raise RulesetError(unfit)
    named_lists = merged(ruleset.lists, given)
    lookups = {name: compile_list(named) for name, named in named_lists.items()}
    features = {feature.id: feature for feature in ruleset.features}
    counts = {
        name: compile_feature(feature, lookups, ruleset.places)
        for name, feature in features.items()
    }
    fields = {name: named.field for name, named in named_lists.items()}
    parts = _Parts(features, counts, lookups, fields)
    compiled = [(rule.scope.kinds, _rule(rule, parts)) for rule in ruleset.rules]
    plans = {
        kind: _plan([rule for kinds, rule in compiled if not kinds or kind in kinds])
        for kind in Kind
    }
    return CompiledRuleset(ruleset_hash(ruleset), plans, compile_snoozes(spared))


def _plan(rules: list[CompiledRule]) -> Plan:
    def of(stage: Stage) -> tuple[CompiledRule, ...]:
        return tuple(rule for rule in rules if rule.stage is stage)

    return Plan(of(Stage.RED), of(Stage.GREEN), of(Stage.AMBER), of(Stage.WATCH))


def _rule(rule: Rule, parts: _Parts) -> CompiledRule:
    """The scope is the first part of the condition, so out of scope nothing is counted."""
    scope = _scope_tests(rule.scope, parts)
    marks = _marks(rule)
    children = rule.when.of if isinstance(rule.when, All) else (rule.when,)
    nodes = [_condition(child, parts) for child in children]
    tests = [*scope, *(node.test for node in nodes)]
    expires = microseconds(rule.expires_at) if rule.expires_at else _NEVER_US
    return CompiledRule(
        rule.id,
        rule.version,
        rule.stage,
        rule.then,
        rule.declines_on_error,
        expires,
        tests[0] if len(tests) == 1 else _all(tests),
        lambda evaluation: because([c for node in nodes for c in node.clauses(evaluation)]),
        marks,
        tuple(_addition(rule, mark, parts) for mark in marks if isinstance(mark, AddToList)),
        rule.canary_percent or EVERY_CARD_PERCENT,
    )


def _marks(rule: Rule) -> tuple[Mark, ...]:
    """What it leaves beside a decision, whether that is all it does or not."""
    if isinstance(rule.then, Tag | Review | AddToList | ForceOnline):
        return (rule.then, *rule.also)
    return rule.also


def _addition(rule: Rule, mark: AddToList, parts: _Parts) -> ListAddition:
    return ListAddition(mark.list, parts.fields[mark.list], mark.ttl_s, rule.id)


def _scope_tests(scope: Scope, parts: _Parts) -> list[Test]:
    """One membership per restricted fact, one look-up per exception; the plan serves kinds."""
    restricted = [
        (name, getattr(scope, field))
        for field, name in SCOPE_FACTS.items()
        if field != "kinds" and getattr(scope, field)
    ]
    tests = [_membership(FactOperand(name), values, True, parts) for name, values in restricted]
    listed = [InList(FactOperand(parts.fields[name]), name) for name in scope.except_lists]
    return tests + [_not(each, parts).test for each in listed]


def _condition(condition: Condition, parts: _Parts) -> _Node:
    match condition:
        case All(of=children):
            nodes = [_condition(child, parts) for child in children]
            return _Node(
                _all([node.test for node in nodes]),
                lambda evaluation: [c for node in nodes for c in node.clauses(evaluation)],
            )
        case AnyOf(of=children):
            return _any([_condition(child, parts) for child in children])
        case Not(of=child):
            return _not(child, parts)
        case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
            clauses = leaf_clauses(condition, parts.features, lambda each: _read(each, parts))
            return _Node(_leaf(condition, parts), clauses)
        case _:
            assert_never(condition)


def _all(tests: list[Test]) -> Test:
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


def _any(nodes: list[_Node]) -> _Node:
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

    return _Node(some, clauses)


def _not(child: Condition, parts: _Parts) -> _Node:
    test = _condition(child, parts).test

    def negated(evaluation: Evaluation) -> bool | None:
        truth = test(evaluation)
        return None if truth is None else not truth

    return _Node(negated, lambda evaluation: [Clause(3, "an exception doesn't apply")])


def _read(operand: Operand, parts: _Parts) -> Read:
    """The operand's value; None is unknown. A counter is computed once per evaluation."""
    match operand:
        case FactOperand(name=name) | CurrentOperand(name=name):
            return _fact(name)
        case FeatureOperand(id=name):
            return _feature(name, parts.counts[name])
        case Constant(value=value):
            return lambda evaluation: value
        case SumOperand(terms=terms):
            return _sum([_read(term, parts) for term in terms])
        case PercentOperand(of=whole, percent=percent):
            return _percent(_read(whole, parts), percent)
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


def _named(operand: Operand) -> str:
    """What a missing operand is called in the record."""
    match operand:
        case FactOperand(name=name) | CurrentOperand(name=name):
            return name
        case FeatureOperand(id=name):
            return name
        case SumOperand(terms=terms):
            return " + ".join(_named(term) for term in terms if not isinstance(term, Constant))
        case PercentOperand(of=whole):
            return _named(whole)
        case Constant():
            return "constant"
        case _:
            assert_never(operand)


def _leaf(leaf: Leaf, parts: _Parts) -> Test:
    match leaf:
        case Compare():
            return _compare(leaf, parts)
        case Membership(left=left, op=op, values=values):
            return _membership(left, values, op == "in", parts)
        case Between(left=left, low=low, high=high):
            return _between(left, low, high, parts)
        case IsMissing(left=left):
            read = _read(left, parts)
            return lambda evaluation: read(evaluation) is None
        case StartsWith(left=left, prefix=prefix):
            return _question(left, lambda text, _: text.startswith(prefix), parts)
        case InList(left=left, list=name):
            listed = parts.lists[name]
            return _question(left, listed, parts)
        case _:
            assert_never(leaf)


def _compare(leaf: Compare, parts: _Parts) -> Test:
    relation, name = RELATIONS[leaf.op], _named(leaf.left)
    read = _read(leaf.left, parts)
    if isinstance(leaf.right, Constant):
        constant = leaf.right.value

        def against_constant(evaluation: Evaluation) -> bool | None:
            value = read(evaluation)
            if value is None:
                evaluation.missing.append(name)
                return None
            return relation(value, constant)

        return against_constant
    other, other_name = _read(leaf.right, parts), _named(leaf.right)

    def against_operand(evaluation: Evaluation) -> bool | None:
        left, right = read(evaluation), other(evaluation)
        if left is None or right is None:
            evaluation.missing.append(name if left is None else other_name)
            return None
        return relation(left, right)

    return against_operand


def _membership(left: Operand, values: Iterable[int | str], inside: bool, parts: _Parts) -> Test:
    read, name, chosen = _read(left, parts), _named(left), frozenset(values)

    def member(evaluation: Evaluation) -> bool | None:
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return None
        return (value in chosen) is inside

    return member


def _between(left: Operand, low: Operand, high: Operand, parts: _Parts) -> Test:
    """Two comparisons joined by `all`, so that one end can settle it when the other is unknown."""
    at_least = _compare(Compare(left, Relation.GE, low), parts)
    at_most = _compare(Compare(left, Relation.LE, high), parts)
    return _both(at_least, at_most)


def _question(left: Operand, holds: Callable[..., bool], parts: _Parts) -> Test:
    """A leaf that is a question about one value at the time of the request."""
    read, name = _read(left, parts), _named(left)

    def asked(evaluation: Evaluation) -> bool | None:
        value = read(evaluation)
        if value is None:
            evaluation.missing.append(name)
            return None
        return holds(value, evaluation.facts.now_us)

    return asked
