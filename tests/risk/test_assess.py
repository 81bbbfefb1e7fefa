"""The ladder of stages, what is recorded, and what happens when a rule can't be evaluated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Outcome
from risk.assess import (
    Assessment,
    CompiledRule,
    CompiledRuleset,
    Effect,
    Evaluation,
    Plan,
    StoredResultsInvalid,
    decode_results,
    encode_results,
)
from risk.facts import Facts
from risk.record import Effects, ListAddition, ReviewRequest, Tagged, listed_value
from risk.rules import Decline, Stage
from risk.vocabulary import CURRENT_FACTS

Assess = Callable[[str, Facts], Assessment]
MakeFacts = Callable[..., Facts]

ALWAYS = '{ fact = "amount", op = "gt", value = 0 }'
NEVER = '{ fact = "tier", op = "eq", value = "verified" }'


def rule(
    rule_id: str, stage: str, *, when: str = ALWAYS, decline: str = "count_limit", more: str = ""
) -> str:
    then = {
        "green": "{ allow = true }",
    }.get(stage, f'{{ decline = "{decline}", reason = "because of {rule_id}" }}')
    end = (
        "expires_at = 2030-01-01T00:00:00Z" if stage == "green" and "expires_at" not in more else ""
    )
    return f"""
        [[rules]]
        id = "{rule_id}"
        version = 3
        name = "{rule_id}"
        stage = "{stage}"
        when = {when}
        then = {then}
        {end}
        {more}
    """


def effects(assessment: Assessment) -> dict[str, Effect]:
    return {result.rule_id: result.effect for result in assessment.results}


def test_nothing_fires(assess_with: Assess, make_facts: MakeFacts) -> None:
    found = assess_with(rule("a", "red", when=NEVER) + rule("b", "amber", when=NEVER), make_facts())
    assert found.decision is Outcome.APPROVED
    assert (found.rule_id, found.results) == ("", ())


def test_an_allow_never_bypasses_red(assess_with: Assess, make_facts: MakeFacts) -> None:
    body = rule("spare", "green") + rule("limit", "amber") + rule("law", "red", decline="hotlisted")
    found = assess_with(body, make_facts())
    assert found.decision is Outcome.HOTLISTED
    assert (found.rule_id, found.rule_version, found.reason) == ("law", 3, "because of law")
    assert effects(found) == {"law": Effect.DECLINED}, "below a red decline nothing is evaluated"


def test_an_allow_spares_from_amber_and_says_so(assess_with: Assess, make_facts: MakeFacts) -> None:
    found = assess_with(rule("limit", "amber") + rule("spare", "green"), make_facts())
    assert found.decision is Outcome.APPROVED
    assert found.rule_id == "spare"
    assert effects(found) == {"spare": Effect.ALLOWED, "limit": Effect.OVERRIDDEN}


def test_an_allow_with_nothing_to_spare_decides_nothing(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    found = assess_with(rule("limit", "amber", when=NEVER) + rule("spare", "green"), make_facts())
    assert (found.decision, found.rule_id) == (Outcome.APPROVED, "")
    assert effects(found) == {"spare": Effect.ALLOWED}


def test_all_matches_of_a_stage_are_collected_and_the_first_outcome_answers(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    body = (
        rule("count", "amber")
        + rule("fraud", "amber", decline="suspected_fraud")
        + rule("fraud_too", "amber", decline="suspected_fraud")
    )
    found = assess_with(body, make_facts())
    assert (found.decision, found.rule_id) == (Outcome.SUSPECTED_FRAUD, "fraud")
    assert set(effects(found).values()) == {Effect.DECLINED}
    assert found.results[0].outcome is Outcome.COUNT_LIMIT


def test_watch_is_recorded_and_never_decides(assess_with: Assess, make_facts: MakeFacts) -> None:
    found = assess_with(rule("look", "watch"), make_facts())
    assert found.decision is Outcome.APPROVED
    assert [(r.effect, r.outcome) for r in found.results] == [(Effect.WATCHED, Outcome.COUNT_LIMIT)]


def test_unknown_does_not_fire_and_names_what_is_missing(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    body = rule("place", "red", when='{ fact = "mcc", op = "eq", value = "5411" }')
    found = assess_with(body, make_facts(mcc=""))
    assert found.decision is Outcome.APPROVED
    assert [(r.effect, r.why) for r in found.results] == [(Effect.UNKNOWN, "mcc is missing")]


def test_an_expired_rule_is_not_evaluated(assess_with: Assess, make_facts: MakeFacts) -> None:
    """The moment itself is after the rule's life: 1,780,000,000 s is 2026-05-28T20:26:40Z."""
    at = "expires_at = 2026-05-28T20:26:40Z"
    later = "expires_at = 2026-05-28T20:26:40.000001Z"
    assert assess_with(rule("old", "amber", more=at), make_facts()).results == ()
    assert assess_with(rule("old", "amber", more=later), make_facts()).results != ()


def test_tags_and_queues_are_recorded_without_deciding(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    body = rule("mark", "amber") + rule("ask", "amber")
    body = body.replace(
        '{ decline = "count_limit", reason = "because of mark" }', '{ tag = "odd" }'
    )
    body = body.replace(
        '{ decline = "count_limit", reason = "because of ask" }', '{ review = "desk" }'
    )
    found = assess_with(body, make_facts())
    assert found.decision is Outcome.APPROVED
    assert [(r.effect, r.why) for r in found.results] == [
        (Effect.TAGGED, "odd"),
        (Effect.QUEUED, "desk"),
    ]


def test_a_counter_is_computed_once_and_recorded(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    body = """
        [[features]]
        id = "attempts"
        key = "card"
        aggregate = "count"
        basis = "attempts"
        window = "5m"
    """
    limit = '{ feature = "attempts", plus = 1, op = "gt", value = 2 }'
    body += rule("burst", "amber", when=limit) + rule("again", "amber", when=limit)
    two = [{"ago_s": 10}, {"ago_s": 20}]
    assert assess_with(body, make_facts(*two[:1])).decision is Outcome.APPROVED
    found = assess_with(body, make_facts(*two))
    assert found.decision is Outcome.COUNT_LIMIT
    assert found.features == {"attempts": 2}
    assert found.because == "3 attempts in 5 min on {card}; limit 2"


@pytest.mark.parametrize(
    ("stage", "declines_on_error", "decision"),
    [
        (Stage.RED, True, Outcome.DO_NOT_HONOUR),
        (Stage.RED, False, Outcome.APPROVED),
        (Stage.AMBER, True, Outcome.DO_NOT_HONOUR),
        (Stage.AMBER, False, Outcome.APPROVED),
        (Stage.WATCH, True, Outcome.APPROVED),
    ],
)
def test_a_rule_that_breaks(
    make_facts: MakeFacts, stage: Stage, declines_on_error: bool, decision: Outcome
) -> None:
    def breaks(evaluation: Evaluation) -> bool:
        raise TypeError("6200000000000000005")

    broken = CompiledRule(
        "broken",
        1,
        stage,
        Decline(Outcome.COUNT_LIMIT, "never said"),
        declines_on_error,
        2**63,
        breaks,
        lambda evaluation: "never said",
    )
    stages = {s: (broken,) if s is stage else () for s in Stage}
    plan = Plan(*(stages[s] for s in (Stage.RED, Stage.GREEN, Stage.AMBER, Stage.WATCH)))
    found = CompiledRuleset("ab" * 32, dict.fromkeys(Kind, plan)).assess(make_facts())
    assert found.decision is decision
    assert [(r.effect, r.why) for r in found.results] == [(Effect.FAILED, "TypeError")]
    if decision is not Outcome.APPROVED:
        assert (found.rule_id, found.reason) == ("broken", "a rule could not be evaluated")


def test_on_error_defaults_by_stage(load: Callable[[str], Any]) -> None:
    loaded = load(rule("law", "red") + rule("spare", "green") + rule("limit", "amber"))
    assert [r.declines_on_error for r in loaded.rules] == [True, False, False]
    changed = load(
        rule("law", "red", more='on_error = "skip"')
        + rule("limit", "amber", more='on_error = "decline"')
    )
    assert [r.declines_on_error for r in changed.rules] == [False, True]


def test_stored_results_come_back_whole(assess_with: Assess, make_facts: MakeFacts) -> None:
    body = rule("limit", "amber") + rule(
        "place", "amber", when='{ fact = "mcc", op = "eq", value = "5411" }'
    )
    found = assess_with(body, make_facts(mcc=""))
    stored = encode_results(found)
    assert decode_results(stored) == found
    assert len(stored) < 450
    assert b'"decision":"count_limit"' in stored


@settings(max_examples=100)
@given(st.binary(max_size=40))
def test_results_that_are_none_are_refused(stored: bytes) -> None:
    with pytest.raises(StoredResultsInvalid):
        decode_results(stored)


@pytest.mark.parametrize(
    ("venue", "effect"), [("bus", Effect.DECLINED), ("metro", None), ("", Effect.UNKNOWN)]
)
def test_a_rule_of_some_venues(
    assess_with: Assess, make_facts: MakeFacts, venue: str, effect: Effect | None
) -> None:
    body = rule("limit", "amber", more='scope = { venues = ["bus", "ferry"] }')
    assert effects(assess_with(body, make_facts(venue=venue))).get("limit") is effect


CHALLENGE = """
    [[rules]]
    id = "ask"
    version = 1
    name = "ask"
    stage = "amber"
    when = { fact = "amount", op = "gt", value = 0 }
    then = { challenge = "pin", reason = "the PIN, please" }
"""


@pytest.mark.parametrize(
    ("pin", "decision", "effect", "challenge"),
    [
        ("none", Outcome.PIN_REQUIRED, Effect.CHALLENGED, "pin"),
        ("verified", Outcome.APPROVED, Effect.MET, ""),
        ("", Outcome.APPROVED, Effect.UNKNOWN, ""),
    ],
)
def test_a_challenge_asks_unless_it_was_answered(
    assess_with: Assess,
    make_facts: MakeFacts,
    pin: str,
    decision: Outcome,
    effect: Effect,
    challenge: str,
) -> None:
    found = assess_with(CHALLENGE, make_facts(pin=pin))
    assert (found.decision, effects(found)) == (decision, {"ask": effect})
    assert (found.effects.challenge if found.effects else "") == challenge
    if effect is Effect.UNKNOWN:
        assert found.results[0].why == "pin is missing"


def test_a_decline_stands_before_a_challenge_and_an_allow_spares_from_it(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    declined = assess_with(CHALLENGE + rule("limit", "amber"), make_facts(pin="none"))
    assert (declined.decision, declined.rule_id) == (Outcome.COUNT_LIMIT, "limit")
    assert declined.effects is None
    spared = assess_with(CHALLENGE + rule("spare", "green"), make_facts(pin="none"))
    assert (spared.decision, spared.rule_id) == (Outcome.APPROVED, "spare")
    assert effects(spared)["ask"] is Effect.OVERRIDDEN


MARKS = """
    [[lists]]
    name = "suspects"
    field = "medium"

    [[lists]]
    name = "places"
    field = "stop"
"""
ALSO = (
    'also = [{ add_to_list = "suspects", ttl = "48h" }, { review = "desk" }, { tag = "odd" }, '
    "{ force_online = true }]"
)


def test_marks_say_what_else_is_to_be_done(assess_with: Assess, make_facts: MakeFacts) -> None:
    alone = rule("mark", "amber", when='{ fact = "mcc", op = "eq", value = "5411" }').replace(
        'decline = "count_limit", reason = "because of mark"', 'add_to_list = "places", ttl = "1d"'
    )
    facts = make_facts()
    found = assess_with(MARKS + rule("limit", "amber", more=ALSO) + alone, facts)
    assert found.effects == Effects(
        "",
        (ReviewRequest("desk", "limit"),),
        (Tagged("odd", "limit"),),
        (
            ListAddition("suspects", "medium", 172_800, "limit"),
            ListAddition("places", "stop", 86_400, "mark"),
        ),
        force_online=True,
    )
    assert [listed_value(each, facts) for each in found.effects.additions] == ["ab" * 16, None]
    assert effects(found) == {"limit": Effect.DECLINED, "mark": Effect.LISTED}
    assert decode_results(encode_results(found)) == found


@pytest.mark.parametrize("spares", ["spare", "watch"])
def test_a_rule_that_does_not_decide_leaves_no_mark(
    assess_with: Assess, make_facts: MakeFacts, spares: str
) -> None:
    body = MARKS + rule("limit", "amber" if spares == "spare" else "watch", more=ALSO)
    found = assess_with(body + rule("spare", "green"), make_facts())
    assert found.effects is None
    wanted = Effect.OVERRIDDEN if spares == "spare" else Effect.WATCHED
    assert effects(found)["limit"] is wanted


def test_an_exception_list_is_not_what_the_rule_is_about(
    assess_with: Assess, make_facts: MakeFacts
) -> None:
    body = MARKS.replace('"stop"', '"stop"\nentries = [{ value = "M1/S01", reason = "event" }]')
    body += rule("limit", "amber", more='scope = { except = ["places"] }')
    assert effects(assess_with(body, make_facts(stop="M1/S01"))) == {}
    assert effects(assess_with(body, make_facts(stop="M1/S02"))) == {"limit": Effect.DECLINED}
    unknown = assess_with(body, make_facts(stop=""))
    assert [(r.effect, r.why) for r in unknown.results] == [(Effect.UNKNOWN, "stop is missing")]


@pytest.mark.parametrize("fact", ["balance", "card_age", "clock_skew", "event_age"])
def test_a_missing_number_is_unknown(assess_with: Assess, make_facts: MakeFacts, fact: str) -> None:
    attribute = CURRENT_FACTS[fact].attribute
    body = rule("probe", "amber", when=f'{{ fact = "{fact}", op = "gt", value = 3 }}')
    found = assess_with(body, make_facts(**{attribute: None}))
    assert [(r.effect, r.why) for r in found.results] == [(Effect.UNKNOWN, f"{fact} is missing")]
    assert effects(assess_with(body, make_facts(**{attribute: 4}))) == {"probe": Effect.DECLINED}
    missing = rule("probe", "amber", when=f'{{ fact = "{fact}", op = "is_missing" }}')
    assert effects(assess_with(missing, make_facts(**{attribute: None}))) != {}


def test_rows_of_earlier_versions_stay_readable() -> None:
    """As they were written before there were effects, texts from `last`, or the newer results."""
    stored = (
        b'{"decision":"count_limit","ruleset_hash":"3fa9","rule_id":"tap_burst","rule_version":7,'
        b'"reason":"too many","because":"7 taps in 5 min on {card}; limit 6","results":['
        b'{"rule_id":"tap_burst","version":7,"stage":"amber","effect":"declined",'
        b'"outcome":"count_limit"},{"rule_id":"place","version":1,"stage":"watch",'
        b'"effect":"unknown","why":"stop is missing"}],"features":{"taps":6,"since":null}}'
    )
    found = decode_results(stored)
    assert found.effects is None
    assert found.features == {"taps": 6, "since": None}
    assert [r.effect for r in found.results] == [Effect.DECLINED, Effect.UNKNOWN]
    assert encode_results(found) == stored, "and an assessment without anything new is written so"
