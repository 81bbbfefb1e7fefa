"""Who is spared: by a person for a while, or because a canary isn't in force for the card."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protocols.message import Outcome
from risk.assess import Effect
from risk.compile import compile_ruleset
from risk.facts import Facts
from risk.findings import RulesetError
from risk.ruleset import Ruleset
from risk.snooze import Snooze, compile_snoozes, in_canary, snooze_findings

NOW = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=1_780_000_000)
BODY = """
[[features]]
id = "attempts"
key = "card"
aggregate = "count"
basis = "attempts"
window = "5m"

[[rules]]
id = "burst"
version = 1
name = "burst"
stage = "amber"
when = {{ feature = "attempts", plus = 1, op = "gt", value = 2 }}
then = {{ decline = "count_limit", reason = "too many" }}
also = [{{ review = "desk" }}]
{more}

[[rules]]
id = "law"
version = 1
name = "law"
stage = "red"
when = {{ fact = "amount", op = "gt", value = 5000 }}
then = {{ decline = "amount_limit", reason = "too much" }}
"""
TWO = ({"ago_s": 10}, {"ago_s": 20})


def snooze(**changed: Any) -> Snooze:
    usual: dict[str, Any] = {
        "rule_id": "burst",
        "card_id": 1,
        "until": NOW + timedelta(seconds=1),
        "reason": "a school outing",
        "author": "officer 7",
    }
    return Snooze(**{**usual, **changed})


@pytest.mark.parametrize(
    ("changed", "decision"),
    [
        ({}, Outcome.APPROVED),
        ({"until": NOW}, Outcome.COUNT_LIMIT),
        ({"until": NOW + timedelta(microseconds=1)}, Outcome.APPROVED),
        ({"card_id": 2}, Outcome.COUNT_LIMIT),
        ({"since": NOW}, Outcome.APPROVED),
        ({"since": NOW + timedelta(microseconds=1)}, Outcome.COUNT_LIMIT),
    ],
)
def test_a_snooze_is_recorded_and_counters_run_on(
    load: Callable[[str], Ruleset],
    make_facts: Callable[..., Facts],
    changed: dict[str, Any],
    decision: Outcome,
) -> None:
    compiled = compile_ruleset(load(BODY.format(more="")), (), [snooze(**changed)])
    found = compiled.assess(make_facts(*TWO))
    assert found.decision is decision
    effect = Effect.SNOOZED if decision.approved else Effect.DECLINED
    assert [(r.effect, r.outcome) for r in found.results] == [(effect, Outcome.COUNT_LIMIT)]
    assert found.features == {"attempts": 2}
    assert (found.effects is None) is decision.approved, "its marks are left out too"


def test_new_snoozes_take_the_place_of_the_old_ones(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    compiled = compile_ruleset(load(BODY.format(more="")), (), [snooze()])
    assert compiled.with_snoozes({}).assess(make_facts(*TWO)).decision is Outcome.COUNT_LIMIT
    over = snooze(until=NOW - timedelta(seconds=5))
    later = snooze(since=NOW + timedelta(seconds=5), until=NOW + timedelta(seconds=9))
    both = compile_snoozes([snooze(), over, later])
    assert compiled.with_snoozes(both).assess(make_facts(*TWO)).decision.approved
    between = compiled.with_snoozes(compile_snoozes([over, later]))
    assert between.assess(make_facts(*TWO)).decision is Outcome.COUNT_LIMIT


@pytest.mark.parametrize(
    ("changed", "path", "expected"),
    [
        ({"rule_id": "bust"}, "snoozes[0].rule_id", "perhaps burst"),
        ({"rule_id": "law"}, "snoozes[0].rule_id", "no red rule"),
        ({"reason": "card 6200000000000000005"}, "snoozes[0].reason", "long number"),
    ],
)
def test_unfit_snoozes(
    load: Callable[[str], Ruleset], changed: dict[str, Any], path: str, expected: str
) -> None:
    ruleset = load(BODY.format(more=""))
    (found,) = snooze_findings(ruleset, [snooze(**changed)])
    assert found.path == path
    assert expected in found.sentence
    assert "6200" not in found.sentence
    with pytest.raises(RulesetError):
        compile_ruleset(ruleset, (), [snooze(**changed)])


def test_a_canary_is_in_force_for_its_share_of_the_cards(
    load: Callable[[str], Ruleset], make_facts: Callable[..., Facts]
) -> None:
    compiled = compile_ruleset(load(BODY.format(more="canary_percent = 30")))
    effects = []
    for card in range(400):
        facts = make_facts(*TWO, medium=f"{card:032x}")
        found = compiled.assess(facts)
        (result,) = found.results
        inside = in_canary("burst", 30, facts)
        assert result.effect is (Effect.DECLINED if inside else Effect.HELD)
        assert result.outcome is Outcome.COUNT_LIMIT
        assert (found.effects is not None) is inside
        assert found.decision is (Outcome.COUNT_LIMIT if inside else Outcome.APPROVED)
        assert in_canary("burst", 60, facts) or not inside, "a greater share keeps its cards"
        effects.append(inside)
    assert 80 <= sum(effects) <= 160


def test_each_rule_has_its_own_canaries(make_facts: Callable[..., Facts]) -> None:
    cards = [make_facts(medium="", card_id=n) for n in range(200)]
    assert [in_canary("a", 50, f) for f in cards] != [in_canary("b", 50, f) for f in cards]
