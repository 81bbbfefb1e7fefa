"""The ladder: red can't be overridden, green spares from amber, watch only looks.

All rules of a stage are evaluated, so that overlap and each rule's own share are known; the
stages below a red decline are not. Among several declines of a stage the outcome that comes
first in `Outcome` is answered, then the rule that stands first in the ruleset.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

import msgspec

from protocols.message import Kind, Outcome
from risk.facts import Facts
from risk.rules import Allow, Decline, Review, Stage, Tag, Then


class Effect(StrEnum):
    """What a rule that fired, or couldn't tell, came to."""

    DECLINED = "declined"
    ALLOWED = "allowed"
    OVERRIDDEN = "overridden"
    TAGGED = "tagged"
    QUEUED = "queued"
    WATCHED = "watched"
    UNKNOWN = "unknown"
    FAILED = "failed"


class RuleResult(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One rule that fired, was unknown or failed.

    `outcome` is what it would answer, if it declines. `why` names the missing facts of an
    unknown rule, the kind of fault of a failed one, the tag or the queue.
    """

    rule_id: str
    version: int
    stage: Stage
    effect: Effect
    outcome: Outcome | None = None
    why: str = ""


class Assessment(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision of a ruleset about one request, and all that led to it.

    `decision` is APPROVED when nothing declines. The deciding rule is the one that declined,
    or the green one that kept an amber rule from declining; `reason` is its own text and
    `because` the figures of its condition ("{card}" stands for the card, which is not known
    here). `features` holds the counters that were asked for; None is unknown.
    """

    decision: Outcome
    ruleset_hash: str
    rule_id: str = ""
    rule_version: int = 0
    reason: str = ""
    because: str = ""
    results: tuple[RuleResult, ...] = ()
    features: dict[str, int | None] = {}


class Evaluation:
    """One request being assessed: the facts, counters computed so far, what was missing."""

    __slots__ = ("facts", "features", "missing")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.features: dict[str, int | None] = {}
        self.missing: list[str] = []


Test = Callable[[Evaluation], bool | None]
"""True, False, or None for unknown; names what was missing in `Evaluation.missing`."""


class CompiledRule(NamedTuple):
    """A rule ready to run; `because` says which figures made it fire.

    `expires_us` is exclusive, in epoch microseconds.
    """

    id: str
    version: int
    stage: Stage
    then: Then
    declines_on_error: bool
    expires_us: int
    test: Test
    because: Callable[[Evaluation], str]


class Plan(NamedTuple):
    """The rules that can be about one kind of request, by stage, in the ruleset's order."""

    red: tuple[CompiledRule, ...]
    green: tuple[CompiledRule, ...]
    amber: tuple[CompiledRule, ...]
    watch: tuple[CompiledRule, ...]


class _Fired(NamedTuple):
    """A rule that wants something; `failed` if it declines only because it can't be evaluated."""

    rule: CompiledRule
    outcome: Outcome | None
    reason: str
    failed: bool


_PRECEDENCE = {outcome: position for position, outcome in enumerate(Outcome)}
_FAILED_REASON = "a rule could not be evaluated"


class CompiledRuleset:
    """A ruleset ready to run. Immutable; `assess` may be called from anywhere."""

    __slots__ = ("_plans", "hash")

    def __init__(self, hash_: str, plans: dict[Kind, Plan]) -> None:
        self.hash = hash_
        self._plans = plans

    def assess(self, facts: Facts) -> Assessment:
        """Decide about one request. Pure: the same facts give the same assessment."""
        evaluation = Evaluation(facts)
        plan = self._plans[facts.kind]
        results: list[RuleResult] = []
        deciding = _first(_run(plan.red, evaluation, results, None))
        overriding: _Fired | None = None
        if deciding is None:
            allows = _run(plan.green, evaluation, results, None)
            allowed = allows[0] if allows else None
            deciding = _first(_run(plan.amber, evaluation, results, allowed))
            if allowed is not None and deciding is not None:
                overriding, deciding = allowed, None
        _run(plan.watch, evaluation, results, None)
        return self._concluded(evaluation, results, deciding, overriding)

    def _concluded(
        self,
        evaluation: Evaluation,
        results: list[RuleResult],
        deciding: _Fired | None,
        overriding: _Fired | None,
    ) -> Assessment:
        decision = Outcome.APPROVED
        if deciding is not None and deciding.outcome is not None:
            decision = deciding.outcome
        speaking = deciding or overriding
        if speaking is None:
            return Assessment(
                decision, self.hash, results=tuple(results), features=evaluation.features
            )
        rule = speaking.rule
        return Assessment(
            decision,
            self.hash,
            rule.id,
            rule.version,
            speaking.reason,
            "" if speaking.failed else rule.because(evaluation),
            tuple(results),
            evaluation.features,
        )


def _run(
    rules: tuple[CompiledRule, ...],
    evaluation: Evaluation,
    results: list[RuleResult],
    allowed: _Fired | None,
) -> list[_Fired]:
    """Evaluate a stage, record what fired or was unknown, and return what wants to decide."""
    fired: list[_Fired] = []
    now_us = evaluation.facts.now_us
    missing = evaluation.missing
    for rule in rules:
        if rule.expires_us <= now_us:
            continue
        if missing:
            missing.clear()
        try:
            holds = rule.test(evaluation)
        except Exception as fault:  # noqa: BLE001 - whatever a rule does, the gate must get an answer
            failed = _failed(rule, fault, results)
            if failed is not None:
                fired.append(failed)
            continue
        if holds is False:
            continue
        if holds is None:
            why = ", ".join(dict.fromkeys(missing))
            results.append(_result(rule, Effect.UNKNOWN, None, f"{why} is missing"))
            continue
        want = _fired(rule, results, overridden=allowed is not None)
        if want is not None:
            fired.append(want)
    return fired


def _fired(rule: CompiledRule, results: list[RuleResult], *, overridden: bool) -> _Fired | None:
    then = rule.then
    if rule.stage is Stage.WATCH:
        outcome = then.outcome if isinstance(then, Decline) else None
        results.append(_result(rule, Effect.WATCHED, outcome))
        return None
    if isinstance(then, Decline):
        effect = Effect.OVERRIDDEN if overridden else Effect.DECLINED
        results.append(_result(rule, effect, then.outcome))
        return _Fired(rule, then.outcome, then.reason, failed=False)
    if isinstance(then, Allow):
        results.append(_result(rule, Effect.ALLOWED, None))
        return _Fired(rule, None, then.reason, failed=False)
    results.append(_marked(rule, then))
    return None


def _marked(rule: CompiledRule, then: Tag | Review) -> RuleResult:
    if isinstance(then, Tag):
        return _result(rule, Effect.TAGGED, None, then.tag)
    return _result(rule, Effect.QUEUED, None, then.queue)


def _failed(rule: CompiledRule, fault: Exception, results: list[RuleResult]) -> _Fired | None:
    """Only the kind of fault is kept: its text may hold what must not be stored."""
    declines = rule.declines_on_error and rule.stage in (Stage.RED, Stage.AMBER)
    outcome = Outcome.DO_NOT_HONOUR if declines else None
    results.append(_result(rule, Effect.FAILED, outcome, type(fault).__name__))
    return _Fired(rule, outcome, _FAILED_REASON, failed=True) if declines else None


def _result(
    rule: CompiledRule, effect: Effect, outcome: Outcome | None, why: str = ""
) -> RuleResult:
    return RuleResult(rule.id, rule.version, rule.stage, effect, outcome, why)


def _first(fired: list[_Fired]) -> _Fired | None:
    if not fired:
        return None
    return min(fired, key=lambda each: _PRECEDENCE[each.outcome or Outcome.APPROVED])


class StoredResultsInvalid(ValueError):
    """Stored results that can't be read; they were not written by `encode_results`."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Assessment)


def encode_results(assessment: Assessment) -> bytes:
    """The assessment as compact JSON for the authorization's row; empty fields are left out."""
    return _encoder.encode(assessment)


def decode_results(stored: bytes) -> Assessment:
    """The assessment of a row; raises `StoredResultsInvalid` without quoting what was stored."""
    try:
        return _decoder.decode(stored)
    except msgspec.DecodeError:
        raise StoredResultsInvalid(
            "the stored rule results are not an assessment; check which version wrote the row"
        ) from None
