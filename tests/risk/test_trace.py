"""The tree of a rule says what the compiled rule says, and shows what it went by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocols.message import Outcome
from risk.assess import Evaluation
from risk.check import first_ruleset
from risk.compile import compile_parts, compile_ruleset, compile_sound
from risk.conditions import (
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    FactOperand,
    FeatureOperand,
    InList,
    IsMissing,
    Membership,
    Not,
    Relation,
    StartsWith,
    SumOperand,
)
from risk.facts import Facts
from risk.features import Aggregate, Basis, Feature, Key, Trailing
from risk.lists import ListBook, ListEntry, NamedList
from risk.record import Effect
from risk.rules import Rule, Scope, Stage, Tag
from risk.ruleset import Ruleset
from risk.snooze import Snooze
from risk.trace import HIDDEN, UNKNOWN, RuleTrace, TraceNode, trace

NOW_US = 1_780_000_000_000_000
CARD_NUMBER = "6225888888888888"
RULES = """
[[features]]
id = "attempts"
key = "card"
aggregate = "count"
basis = "attempts"
window = "5m"
noun = "taps"

[[features]]
id = "busy"
key = "terminal"
aggregate = "count"
basis = "attempts"
window = "10m"

[[lists]]
name = "friends"
field = "medium"

[[rules]]
id = "burst"
version = 7
name = "Burst"
stage = "amber"
scope = { segments = ["retail"], except = ["friends"] }
when = { feature = "attempts", plus = 1, op = "gt", value = 2 }
then = { decline = "count_limit", reason = "too many taps" }

[[rules]]
id = "dear"
version = 1
name = "Dear"
stage = "amber"
when = { any = [
    { fact = "amount", op = "ge", value = 5000 },
    { not = { fact = "stop", op = "in", value = ["K1/1"] } },
    { feature = "busy", op = "gt", value = 3 },
] }
then = { tag = "dear" }

[[rules]]
id = "loads"
version = 1
name = "Loads"
stage = "red"
scope = { kinds = ["load"] }
when = { fact = "amount", op = "gt", value = 9 }
then = { decline = "amount_limit", reason = "too much" }
"""
THREE = ({"ago_s": 9}, {"ago_s": 8}, {"ago_s": 7})


def by_id(found: tuple[RuleTrace, ...]) -> dict[str, RuleTrace]:
    return {each.rule_id: each for each in found}


def test_a_tree_shows_scope_counter_limit_and_effect(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    found = by_id(trace(load(RULES), make_facts(*THREE)))
    assert set(found) == {"burst", "dear"}, "rules of another kind are left out"
    burst = found["burst"]
    assert (burst.version, burst.stage, burst.holds) == (7, Stage.AMBER, True)
    assert (burst.effect, burst.outcome) == (Effect.DECLINED, Outcome.COUNT_LIMIT)
    assert burst.sentence.startswith("declines the 3rd tap in 5 min on one card with 65")
    segment, spared, counted = burst.when.parts
    assert (segment.left, segment.limit, segment.holds) == ("retail", "retail", True)
    assert (spared.form, spared.holds, spared.parts[0].limit) == ("not", True, "friends")
    assert spared.parts[0].operands[0].shown == HIDDEN
    assert spared.parts[0].operands[0].value is None
    assert (counted.left, counted.limit, counted.holds) == ("4", "2", True)
    (operand,) = counted.operands
    assert (operand.name, operand.value, operand.shown) == ("attempts", 3, "3")
    assert operand.says == "the number of taps in 5 min on one card"


def test_what_is_not_known_is_neither_true_nor_false(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    dear = by_id(trace(load(RULES), make_facts()))["dear"]
    assert (dear.holds, dear.effect) == (None, Effect.UNKNOWN)
    (any_,) = dear.when.parts
    amount, elsewhere, busy = any_.parts
    assert (any_.form, any_.holds) == ("any", None)
    assert (amount.left, amount.limit, amount.holds) == ("10.00", "50.00", False)
    assert (elsewhere.holds, elsewhere.parts[0].left) == (None, UNKNOWN)
    assert (busy.holds, busy.left, busy.limit) == (None, UNKNOWN, "3")
    told = by_id(trace(load(RULES), make_facts(buckets={"busy": 4})))["dear"]
    assert (told.holds, told.effect, told.why) == (True, Effect.TAGGED, "dear")


def test_stored_counters_take_the_place_of_history(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    found = by_id(trace(load(RULES), make_facts(*THREE), counted={"attempts": 1, "busy": 9}))
    assert (found["burst"].holds, found["burst"].effect) == (False, "")
    assert found["dear"].holds is True
    nothing = by_id(trace(load(RULES), make_facts(*THREE), counted={}))
    assert (nothing["burst"].holds, nothing["burst"].effect) == (None, Effect.UNKNOWN)


def test_lists_snoozes_and_pauses_are_those_given(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    ruleset, facts = load(RULES), make_facts(*THREE)
    book = ListBook()
    book.declare("friends", "medium")
    book.put("friends", facts.medium, NOW_US - 1, None)
    assert by_id(trace(ruleset, facts, book))["burst"].holds is False
    until = datetime(2036, 1, 1, tzinfo=UTC)
    snoozes = [Snooze("burst", 1, until, "asked", "desk"), Snooze("gone", 1, until, "old", "desk")]
    snoozed = by_id(trace(ruleset, facts, None, snoozes))["burst"]
    assert (snoozed.holds, snoozed.effect) == (True, Effect.SNOOZED)
    paused = by_id(trace(ruleset, facts, paused=["burst"]))["burst"]
    assert (paused.holds, paused.effect) == (True, Effect.PAUSED)


def test_no_long_number_and_only_plain_json(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    facts = make_facts(merchant=CARD_NUMBER, stop=CARD_NUMBER, medium=f"{CARD_NUMBER}ab" * 2)
    text = msgspec.json.encode(trace(load(RULES), facts)).decode()
    assert CARD_NUMBER not in text
    assert msgspec.json.decode(text, type=tuple[RuleTrace, ...]) == trace(load(RULES), facts)


def test_every_shipped_rule_agrees_with_the_record(make_facts: Callable[..., Facts]) -> None:
    ruleset = first_ruleset()
    facts = make_facts(*({"ago_s": 20 - n, "terminal": f"T{n}"} for n in range(14)))
    results = {each.rule_id: each for each in compile_ruleset(ruleset).assess(facts).results}
    for each in trace(ruleset, facts):
        result = results.get(each.rule_id)
        assert each.effect == (result.effect if result is not None else "")
        assert (each.holds is False) == (result is None), each.rule_id


# ---- any condition: the tree, put together from its leaves, and the compiled rule ----

OPERANDS = st.sampled_from(
    [
        FactOperand("amount"),
        FactOperand("balance"),
        FeatureOperand("attempts"),
        FeatureOperand("spent"),
        SumOperand((FeatureOperand("attempts"), Constant(1))),
        SumOperand((FeatureOperand("spent"), FactOperand("amount"))),
    ]
)
NUMBERS = st.integers(0, 40).map(lambda number: Constant(number * 100))
LEAVES: st.SearchStrategy[Condition] = st.one_of(
    st.builds(Compare, OPERANDS, st.sampled_from(Relation), NUMBERS),
    st.builds(Compare, OPERANDS, st.sampled_from(Relation), OPERANDS),
    st.builds(Between, OPERANDS, NUMBERS, NUMBERS | OPERANDS),
    st.builds(Membership, st.just(FactOperand("mcc")), st.sampled_from(["in", "not_in"]),
              st.sampled_from([("5411",), ("4111", "5499")])),
    st.builds(StartsWith, st.sampled_from([FactOperand("stop"), FactOperand("merchant")]),
              st.sampled_from(["M", "K1"])),
    st.builds(InList, st.just(FactOperand("terminal")), st.just("known")),
    st.builds(IsMissing, st.sampled_from([FactOperand("stop"), FactOperand("balance")])),
)  # fmt: skip
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: All(tuple(parts))),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: AnyOf(tuple(parts))),
        inner.map(Not),
    ),
    max_leaves=6,
)
FEATURES = (
    Feature(id="attempts", key=Key.CARD, aggregate=Aggregate.COUNT, basis=Basis.ATTEMPTS,
            window=Trailing(300)),
    Feature(id="spent", key=Key.CARD, aggregate=Aggregate.SUM, basis=Basis.APPROVED,
            window=Trailing(300), same="stop"),
)  # fmt: skip
KNOWN = NamedList("known", "terminal", (ListEntry("T1", "ours"),))


def leaves_of(node: TraceNode) -> Iterator[TraceNode]:
    if node.form == "leaf":
        yield node
    for part in node.parts:
        yield from leaves_of(part)


@given(
    when=CONDITIONS,
    scope=st.sampled_from([Scope(), Scope(mccs=("5411",)), Scope(except_lists=("known",))]),
    changed=st.fixed_dictionaries(
        {
            "balance_minor": st.sampled_from([None, 0, 900]),
            "stop": st.sampled_from(["", "K1/2"]),
            "terminal": st.sampled_from(["", "T1", "T2"]),
            "mcc": st.sampled_from(["", "5411", "4111"]),
            "amount_minor": st.sampled_from([0, 100, 1_000]),
        }
    ),
)
def test_the_tree_and_the_compiled_rule_agree(
    make_facts: Callable[..., Facts],
    load: Callable[[str], Ruleset],
    when: Condition,
    scope: Scope,
    changed: dict[str, Any],
) -> None:
    rule = Rule(id="probe", version=1, name="p", stage=Stage.AMBER, when=when, then=Tag("hit"),
                scope=scope)  # fmt: skip
    settings = load("").settings
    ruleset = Ruleset(settings, FEATURES, (rule,), (KNOWN,))
    facts = make_facts({"ago_s": 9, "stop": "K1/2"}, {"ago_s": 4}, **changed)
    (found,) = trace(ruleset, facts)
    assert found.holds is compiled_holds(ruleset, facts)
    assert (found.effect != "") is (found.holds is not False)
    for leaf in leaves_of(found.when):
        assert (
            leaf.holds is not None
            or UNKNOWN in (leaf.left, leaf.limit)
            or any(operand.shown == UNKNOWN for operand in leaf.operands)
        )


def compiled_holds(ruleset: Ruleset, facts: Facts) -> bool | None:
    """What the compiled rule says, which may not have passed the checks: it is any condition."""
    plan = compile_sound(ruleset, compile_parts(ruleset, (), None), {}).plan(facts.kind)
    return plan.amber[0].test(Evaluation(facts))
