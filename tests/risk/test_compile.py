"""Conditions are three-valued: every operator, and all, any and not against Kleene's tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Outcome
from risk.assess import Effect
from risk.check import check, load_ruleset
from risk.compile import compile_ruleset
from risk.conditions import (
    All,
    AnyOf,
    Condition,
    FactOperand,
    Not,
    StartsWith,
)
from risk.facts import Facts
from risk.findings import RulesetError, Severity
from risk.lists import ListBook, ListEntry, NamedList
from risk.moments import Settings
from risk.rules import Rule, Stage, Tag
from risk.ruleset import Ruleset

# leaves of which the checks can't tell that two of them contradict each other
TRUE = StartsWith(FactOperand("tier"), "nam")
FALSE = StartsWith(FactOperand("tier"), "ver")
UNKNOWN = StartsWith(FactOperand("acquirer"), "shop")
TREES = st.recursive(
    st.sampled_from([TRUE, FALSE, UNKNOWN]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda of: All(tuple(of))),
        st.lists(inner, min_size=1, max_size=3).map(lambda of: AnyOf(tuple(of))),
        inner.map(Not),
    ),
    max_leaves=8,
).filter(lambda tree: _depth(tree) <= 4)


def _depth(tree: Condition) -> int:
    match tree:
        case All(of=of) | AnyOf(of=of):
            return 1 + max(map(_depth, of))
        case Not(of=child):
            return 1 + _depth(child)
    return 1


def kleene(tree: Condition) -> bool | None:
    match tree:
        case All(of=of):
            parts = list(map(kleene, of))
            return False if False in parts else None if None in parts else True
        case AnyOf(of=of):
            parts = list(map(kleene, of))
            return True if True in parts else None if None in parts else False
        case Not(of=child):
            inner = kleene(child)
            return None if inner is None else not inner
    return {id(TRUE): True, id(FALSE): False, id(UNKNOWN): None}[id(tree)]


def truth(when: Condition, facts: Facts) -> tuple[bool | None, str]:
    rule = Rule(id="probe", version=1, name="probe", stage=Stage.AMBER, when=when, then=Tag("hit"))
    settings_ = Settings("Asia/Shanghai", "00:00", "156")
    found = compile_ruleset(Ruleset(settings_, (), (rule,))).assess(facts).results
    if not found:
        return False, ""
    return (None if found[0].effect is Effect.UNKNOWN else True), found[0].why


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_all_any_and_not_follow_kleene(make_facts: Callable[..., Facts], tree: Condition) -> None:
    found, why = truth(tree, make_facts(acquirer=""))
    assert found is kleene(tree)
    if found is None:
        assert why == "acquirer is missing"


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ('{ fact = "amount", op = "eq", value = 1000 }', True),
        ('{ fact = "amount", op = "ne", value = 1000 }', False),
        ('{ fact = "amount", op = "lt", value = 1000 }', False),
        ('{ fact = "amount", op = "le", value = 1000 }', True),
        ('{ fact = "amount", op = "gt", value = 999 }', True),
        ('{ fact = "amount", op = "ge", value = 1001 }', False),
        ('{ fact = "amount", op = "gt", value = { fact = "balance" } }', False),
        ('{ fact = "amount", plus = 49000, op = "eq", value = { fact = "balance" } }', True),
        ('{ fact = "amount", plus = ["amount", "balance"], op = "eq", value = 52000 }', True),
        ('{ fact = "amount", op = "between", value = [1000, 1000] }', True),
        ('{ fact = "amount", op = "between", value = [1001, 2000] }', False),
        ('{ fact = "mcc", op = "in", value = ["5411", "5499"] }', True),
        ('{ fact = "mcc", op = "not_in", value = ["5411"] }', False),
        ('{ fact = "mcc", op = "starts_with", value = "54" }', True),
        ('{ fact = "mcc", op = "is_missing" }', False),
        ('{ fact = "product", op = "is_missing" }', True),
        ('{ fact = "product", op = "eq", value = "x" }', None),
        ('{ fact = "product", op = "not_in", value = ["x"] }', None),
        ('{ fact = "product", op = "starts_with", value = "x" }', None),
        ('{ not = { fact = "product", op = "eq", value = "x" } }', None),
        ('{ fact = "merchant", op = "ne", value = { fact = "product" } }', None),
        ('{ fact = "local_time", op = "between", value = ["11:00", "11:06:40"] }', "refused"),
        ('{ fact = "local_time", op = "between", value = ["11:06", "24:00"] }', True),
        ('{ fact = "weekday", op = "in", value = [6, 7] }', False),
        ('{ feature = "since", op = "lt", value = 20 }', None),
    ],
)
def test_each_operator(
    load: Callable[[str], Ruleset],
    make_facts: Callable[..., Facts],
    when: str,
    expected: bool | str | None,
) -> None:
    since = """
        [[features]]
        id = "since"
        key = "card"
        aggregate = "seconds_since_last"
        basis = "attempts"
        window = "1h"
    """
    rule = f"""
        [[rules]]
        id = "probe"
        version = 1
        name = "probe"
        stage = "amber"
        when = {when}
        then = {{ tag = "hit" }}
    """
    if expected == "refused":
        with pytest.raises(RulesetError):
            load(since + rule)
        return
    compiled = compile_ruleset(load(since + rule))
    # 40,000 seconds after midnight is 11:06:40
    results = compiled.assess(make_facts(product="")).results
    effects = {True: [Effect.TAGGED], False: [], None: [Effect.UNKNOWN]}
    assert [result.effect for result in results] == effects[expected]


@pytest.mark.parametrize(
    ("scope", "changed", "effects"),
    [
        ('{ kinds = ["load"] }', {}, []),
        ('{ kinds = ["purchase", "load"] }', {}, [Effect.TAGGED]),
        ('{ segments = ["transit"] }', {}, []),
        ('{ segments = ["retail"], mccs = ["5411"] }', {}, [Effect.TAGGED]),
        ('{ mccs = ["5411"] }', {"mcc": ""}, [Effect.UNKNOWN]),
        ('{ kinds = ["load"], mccs = ["5411"] }', {"mcc": ""}, []),
        ('{ tiers = ["named"], products = ["citizen"] }', {}, [Effect.TAGGED]),
        ('{ merchants = ["M2"] }', {}, []),
        ('{ acquirers = ["shops"] }', {}, [Effect.TAGGED]),
    ],
)
def test_scope(
    assess_with: Callable[[str, Facts], Any],
    make_facts: Callable[..., Facts],
    scope: str,
    changed: dict[str, Any],
    effects: list[Effect],
) -> None:
    body = f"""
        [[rules]]
        id = "probe"
        version = 1
        name = "probe"
        stage = "amber"
        scope = {scope}
        when = {{ fact = "amount", op = "gt", value = 0 }}
        then = {{ tag = "hit" }}
    """
    assert [r.effect for r in assess_with(body, make_facts(**changed)).results] == effects


def test_out_of_scope_nothing_is_counted(
    assess_with: Callable[[str, Facts], Any], make_facts: Callable[..., Facts]
) -> None:
    body = """
        [[features]]
        id = "attempts"
        key = "card"
        aggregate = "count"
        basis = "attempts"
        window = "1m"

        [[rules]]
        id = "probe"
        version = 1
        name = "probe"
        stage = "amber"
        scope = { segments = ["transit"] }
        when = { feature = "attempts", plus = 1, op = "gt", value = 3 }
        then = { tag = "hit" }
    """
    assert assess_with(body, make_facts()).features == {}


def test_a_given_list_must_be_declared(load: Callable[[str], Ruleset]) -> None:
    body = """
        [[lists]]
        name = "hotlist"
        field = "card_id"

        [[rules]]
        id = "hotlist"
        version = 1
        name = "Lost"
        stage = "red"
        when = { fact = "card_id", op = "in_list", list = "hotlist" }
        then = { decline = "hotlisted", reason = "on the hotlist" }
    """
    ruleset = load(body)
    entry = ListEntry(5, "lost")
    compile_ruleset(ruleset, [NamedList("hotlist", "card_id", (entry,))])
    with pytest.raises(RulesetError, match="given_lists"):
        compile_ruleset(ruleset, [NamedList("hotlst", "card_id", (entry,))])
    with pytest.raises(RulesetError, match="given_lists"):
        compile_ruleset(ruleset, [NamedList("hotlist", "terminal", (ListEntry("T1", "lost"),))])


def test_lists_kept_outside_count_as_declared(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts], settings_toml: str
) -> None:
    body = """
        [[rules]]
        id = "hotlist"
        version = 1
        name = "Lost"
        stage = "red"
        scope = { except = ["friends"] }
        when = { fact = "card_id", op = "in_list", list = "hotlist" }
        then = { decline = "hotlisted", reason = "on the hotlist" }
    """
    book = ListBook()
    assert [f.path for f in check(settings_toml + body) if f.severity is Severity.ERROR]
    book.declare("hotlist", "card_id")
    book.declare("friends", "medium")
    assert check(settings_toml + body, outside=book.fields) == []
    ruleset = load_ruleset(settings_toml + body, outside=book.fields)
    with pytest.raises(RulesetError, match="expected a list under"):
        compile_ruleset(ruleset)
    compiled, facts = compile_ruleset(ruleset, book=book), make_facts()
    assert compiled.assess(facts).decision.approved
    book.put("hotlist", facts.card_id, facts.now_us, None)
    assert compiled.assess(facts).decision is Outcome.HOTLISTED, "seen at once"
    book.put("friends", facts.medium, facts.now_us, facts.now_us + 1)
    assert compiled.assess(facts).decision.approved


def test_a_list_that_holds_another_fact_outside_is_warned_of(settings_toml: str) -> None:
    body = """
        [[lists]]
        name = "hotlist"
        field = "card_id"
    """
    found = check(settings_toml + body, outside={"hotlist": "medium"})
    fields = [f for f in found if f.path == "lists[0].field"]
    assert [f.severity for f in fields] == [Severity.WARNING]
    assert "expected medium" in fields[0].sentence
