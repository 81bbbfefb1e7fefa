"""From a ruleset to something that runs: its lists, counters, rules and the plan of each kind."""

from __future__ import annotations

from collections.abc import Iterable

from protocols.message import Kind
from risk.assess import EVERY_CARD_PERCENT, CompiledRule, CompiledRuleset, Plan, Test
from risk.check import require_sound
from risk.compile_conditions import compile_condition, every_of
from risk.compile_operands import Parts
from risk.conditions import All, Condition, FactOperand, InList, Membership, Not
from risk.counting import compile_feature
from risk.explain import because
from risk.findings import RulesetError
from risk.lists import ListBook, NamedList, compile_lists, list_fields, merged
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
from risk.snooze import Snooze, Snoozed, compile_snoozes, snooze_findings

_NEVER_US = 2**63


def compile_ruleset(
    ruleset: Ruleset,
    lists: Iterable[NamedList] = (),
    snoozes: Iterable[Snooze] = (),
    book: ListBook | None = None,
) -> CompiledRuleset:
    """Closures for the ruleset; `lists` take the place of its own lists of the same name.

    With a `book` a value is on a list if the text's entries or the book's say so, and the book
    is looked into anew each time, so that it may change while the ruleset stands.

    The hash covers the ruleset as written, not lists and snoozes given beside it: those have
    a life of their own. Raises `RulesetError` if the ruleset with these has an error.
    """
    given, spared = list(lists), list(snoozes)
    outside = book.fields if book is not None else {}
    require_sound(ruleset, given, outside=outside)
    unfit = list(snooze_findings(ruleset, spared))
    if unfit:
        raise RulesetError(unfit)
    return compile_sound(ruleset, compile_parts(ruleset, given, book), compile_snoozes(spared))


def compile_sound(ruleset: Ruleset, parts: Parts, snoozed: Snoozed) -> CompiledRuleset:
    """The same of a ruleset that has passed the checks, with its parts made before."""
    compiled = [(rule.scope.kinds, _rule(rule, parts)) for rule in ruleset.rules]
    plans = {
        kind: _plan([rule for kinds, rule in compiled if not kinds or kind in kinds])
        for kind in Kind
    }
    return CompiledRuleset(ruleset_hash(ruleset), plans, snoozed)


def compile_parts(ruleset: Ruleset, lists: Iterable[NamedList], book: ListBook | None) -> Parts:
    """What the conditions of a ruleset refer to."""
    named_lists = merged(ruleset.lists, lists)
    lookups = compile_lists(named_lists, book)
    features = {feature.id: feature for feature in ruleset.features}
    counts = {
        name: compile_feature(feature, lookups, ruleset.places)
        for name, feature in features.items()
    }
    outside = book.fields if book is not None else {}
    return Parts(features, counts, lookups, list_fields(named_lists, outside))


def _plan(rules: list[CompiledRule]) -> Plan:
    def of(stage: Stage) -> tuple[CompiledRule, ...]:
        return tuple(rule for rule in rules if rule.stage is stage)

    return Plan(of(Stage.RED), of(Stage.GREEN), of(Stage.AMBER), of(Stage.WATCH))


def _rule(rule: Rule, parts: Parts) -> CompiledRule:
    """The scope is the first part of the condition, so out of scope nothing is counted."""
    scope = scope_tests(rule.scope, parts)
    marks = _marks(rule)
    children = rule.when.of if isinstance(rule.when, All) else (rule.when,)
    nodes = [compile_condition(child, parts) for child in children]
    tests = [*scope, *(node.test for node in nodes)]
    expires = microseconds(rule.expires_at) if rule.expires_at else _NEVER_US
    return CompiledRule(
        rule.id,
        rule.version,
        rule.stage,
        rule.then,
        rule.declines_on_error,
        expires,
        tests[0] if len(tests) == 1 else every_of(tests),
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


def _addition(rule: Rule, mark: AddToList, parts: Parts) -> ListAddition:
    return ListAddition(mark.list, parts.fields[mark.list], mark.ttl_s, rule.id)


def scope_tests(scope: Scope, parts: Parts) -> list[Test]:
    """Whether a request is within the scope: true of each test, for the plan serves the kinds."""
    return [compile_condition(each, parts).test for each in scope_conditions(scope, parts)]


def scope_conditions(scope: Scope, parts: Parts) -> list[Condition]:
    """The scope as conditions, but for kinds, which the plan serves: one membership for each
    restricted fact, one look-up for each exception."""
    restricted = [
        (name, getattr(scope, field))
        for field, name in SCOPE_FACTS.items()
        if field != "kinds" and getattr(scope, field)
    ]
    within = [Membership(FactOperand(name), "in", values) for name, values in restricted]
    listed = [InList(FactOperand(parts.fields[name]), name) for name in scope.except_lists]
    return [*within, *(Not(each) for each in listed)]
