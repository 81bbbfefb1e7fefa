"""The ladder: red can't be overridden, green spares from amber, watch only looks.

All rules of a stage are evaluated, so that overlap and each rule's own share are known; the
stages below a red decline are not. Among several declines of a stage the outcome that comes
first in `Outcome` is answered, then the rule that stands first in the ruleset; a challenge is
answered only where nothing declines outright. A rule that fires is recorded in any case, and
does nothing where it is snoozed for the card or a canary that the card is not in. One that is
paused or cut out is not evaluated, which is recorded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from protocols.message import Kind, Outcome
from risk.facts import Facts
from risk.record import (
    Assessment,
    Effect,
    Effects,
    ListAddition,
    ReviewRequest,
    RuleResult,
    StoredResultsInvalid,
    Tagged,
    decode_results,
    encode_results,
)
from risk.rules import (
    AddToList,
    Allow,
    Challenge,
    Decline,
    ForceOnline,
    Mark,
    Review,
    Stage,
    Tag,
    Then,
)
from risk.snooze import Snoozed, in_canary

__all__ = [
    "Assessment",
    "CompiledRule",
    "CompiledRuleset",
    "Effect",
    "Effects",
    "Evaluation",
    "Plan",
    "RuleResult",
    "StoredResultsInvalid",
    "Test",
    "decode_results",
    "encode_results",
]


class Evaluation:
    """One request being assessed: the facts, counters computed so far, what was missing."""

    __slots__ = ("facts", "features", "missing")

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.features: dict[str, int | str | None] = {}
        self.missing: list[str] = []


Test = Callable[[Evaluation], bool | None]
"""True, False, or None for unknown; names what was missing in `Evaluation.missing`."""

EVERY_CARD_PERCENT = 100


class CompiledRule(NamedTuple):
    """A rule ready to run; `because` says which figures made it fire.

    `expires_us` is exclusive, in epoch microseconds. `marks` are what it does beside the
    decision; `additions` are those of them that put something on a list.
    """

    id: str
    version: int
    stage: Stage
    then: Then
    declines_on_error: bool
    expires_us: int
    test: Test
    because: Callable[[Evaluation], str]
    marks: tuple[Mark, ...] = ()
    additions: tuple[ListAddition, ...] = ()
    canary_percent: int = EVERY_CARD_PERCENT


class Plan(NamedTuple):
    """The rules that can be about one kind of request, by stage, in the ruleset's order.

    Those in `cut_out` and `paused` are recorded and not evaluated.
    """

    red: tuple[CompiledRule, ...]
    green: tuple[CompiledRule, ...]
    amber: tuple[CompiledRule, ...]
    watch: tuple[CompiledRule, ...]
    cut_out: tuple[CompiledRule, ...] = ()
    paused: tuple[CompiledRule, ...] = ()

    def without(self, rule_ids: frozenset[str]) -> Plan:
        """The same with these cut out; a paused one stays paused."""
        left, taken = self._parted(rule_ids)
        return left._replace(cut_out=self.cut_out + taken)

    def pausing(self, rule_ids: frozenset[str]) -> Plan:
        """The same with these paused, whether or not one was cut out before."""
        left, taken = self._parted(rule_ids)
        cut = tuple(rule for rule in self.cut_out if rule.id not in rule_ids)
        taken += tuple(rule for rule in self.cut_out if rule.id in rule_ids)
        return left._replace(cut_out=cut, paused=self.paused + taken)

    def _parted(self, rule_ids: frozenset[str]) -> tuple[Plan, tuple[CompiledRule, ...]]:
        stages = (self.red, self.green, self.amber, self.watch)
        red, green, amber, watch = (
            tuple(rule for rule in stage if rule.id not in rule_ids) for stage in stages
        )
        taken = tuple(rule for stage in stages for rule in stage if rule.id in rule_ids)
        return self._replace(red=red, green=green, amber=amber, watch=watch), taken


class _Fired(NamedTuple):
    """A rule that wants something; `failed` if it declines only because it can't be evaluated."""

    rule: CompiledRule
    outcome: Outcome | None
    reason: str
    failed: bool


_PRECEDENCE = {outcome: position for position, outcome in enumerate(Outcome)}
_FAILED_REASON = "a rule could not be evaluated"
_NO_SNOOZES: Snoozed = {}


class CompiledRuleset:
    """A ruleset ready to run. Immutable; `assess` may be called from anywhere."""

    __slots__ = ("_plans", "_snoozed", "hash")

    def __init__(self, hash_: str, plans: dict[Kind, Plan], snoozed: Snoozed = _NO_SNOOZES) -> None:
        self.hash = hash_
        self._plans = plans
        self._snoozed = snoozed

    def with_snoozes(self, snoozed: Snoozed) -> CompiledRuleset:
        """The same rules, with these snoozes instead of those before; see `compile_snoozes`."""
        return CompiledRuleset(self.hash, self._plans, snoozed)

    def without(self, rule_ids: Iterable[str]) -> CompiledRuleset:
        """The same ruleset with these rules cut out: recorded, and not evaluated."""
        cut = frozenset(rule_ids)
        plans = {kind: plan.without(cut) for kind, plan in self._plans.items()}
        return CompiledRuleset(self.hash, plans, self._snoozed)

    def paused(self, rule_ids: Iterable[str]) -> CompiledRuleset:
        """The same ruleset with these rules paused: recorded, and not evaluated."""
        idle = frozenset(rule_ids)
        plans = {kind: plan.pausing(idle) for kind, plan in self._plans.items()}
        return CompiledRuleset(self.hash, plans, self._snoozed)

    def looked_on(self, facts: Facts) -> tuple[Assessment, ...]:
        """A ruleset by itself has no drafts beside it."""
        return ()

    def plan(self, kind: Kind) -> Plan:
        """The rules that can be about a kind, for who measures them."""
        return self._plans[kind]

    def assess(self, facts: Facts) -> Assessment:
        """Decide about one request. Pure: the same facts give the same assessment."""
        run = _Run(Evaluation(facts), self._snoozed)
        plan = self._plans[facts.kind]
        deciding = _first(run.stage(plan.red, allowed=False))
        overriding: _Fired | None = None
        if deciding is None:
            allows = run.stage(plan.green, allowed=False)
            deciding = _first(run.stage(plan.amber, allowed=bool(allows)))
            if allows and deciding is not None:
                overriding, deciding = allows[0], None
        run.stage(plan.watch, allowed=False)
        if plan.cut_out or plan.paused:
            run.idle(plan.cut_out, Effect.CUT_OUT)
            run.idle(plan.paused, Effect.PAUSED)
        return self._concluded(run, deciding, overriding)

    def _concluded(
        self, run: _Run, deciding: _Fired | None, overriding: _Fired | None
    ) -> Assessment:
        decision = Outcome.APPROVED
        challenge = ""
        if deciding is not None and deciding.outcome is not None:
            decision = deciding.outcome
            then = deciding.rule.then
            challenge = then.method if isinstance(then, Challenge) and not deciding.failed else ""
        effects = _effects(run, challenge) if run.marking or challenge else None
        features = run.evaluation.features
        results = tuple(run.results)
        speaking = deciding or overriding
        if speaking is None:
            return Assessment(
                decision, self.hash, results=results, features=features, effects=effects
            )
        rule = speaking.rule
        return Assessment(
            decision,
            self.hash,
            rule.id,
            rule.version,
            speaking.reason,
            "" if speaking.failed else rule.because(run.evaluation),
            results,
            features,
            effects,
        )


class _Run:
    """One assessment under way: what was recorded, and whose marks are to be left."""

    __slots__ = ("evaluation", "marking", "results", "snoozed")

    def __init__(self, evaluation: Evaluation, snoozed: Snoozed) -> None:
        self.evaluation = evaluation
        self.snoozed = snoozed
        self.results: list[RuleResult] = []
        self.marking: list[CompiledRule] = []

    def stage(self, rules: tuple[CompiledRule, ...], *, allowed: bool) -> list[_Fired]:
        """Evaluate a stage, record what fired or was unknown, and return what would decide."""
        fired: list[_Fired] = []
        evaluation = self.evaluation
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
                want = self.failed(rule, fault)
            else:
                if holds is False:
                    continue
                if holds is None:
                    self.unknown(rule)
                    continue
                want = self.fired(rule, allowed=allowed)
            if want is not None:
                fired.append(want)
        return fired

    def idle(self, rules: tuple[CompiledRule, ...], effect: Effect) -> None:
        """Record rules that are not evaluated, as long as they would be."""
        now_us = self.evaluation.facts.now_us
        self.results += [_result(rule, effect) for rule in rules if now_us < rule.expires_us]

    def unknown(self, rule: CompiledRule) -> None:
        why = ", ".join(dict.fromkeys(self.evaluation.missing))
        self.results.append(_result(rule, Effect.UNKNOWN, None, f"{why} is missing"))

    def failed(self, rule: CompiledRule, fault: Exception) -> _Fired | None:
        """Only the kind of fault is kept: its text may hold what must not be stored."""
        declines = rule.declines_on_error and rule.stage in (Stage.RED, Stage.AMBER)
        outcome = Outcome.DO_NOT_HONOUR if declines else None
        self.results.append(_result(rule, Effect.FAILED, outcome, type(fault).__name__))
        return _Fired(rule, outcome, _FAILED_REASON, failed=True) if declines else None

    def fired(self, rule: CompiledRule, *, allowed: bool) -> _Fired | None:
        spared = self.spared(rule)
        if spared is not None:
            self.results.append(_result(rule, spared, _outcome(rule.then)))
            return None
        then = rule.then
        if isinstance(then, Decline):
            self.decides(rule, Effect.DECLINED, then.outcome, allowed=allowed)
            return _Fired(rule, then.outcome, then.reason, failed=False)
        if isinstance(then, Allow):
            self.decides(rule, Effect.ALLOWED, None, allowed=False)
            return _Fired(rule, None, then.reason, failed=False)
        if isinstance(then, Challenge):
            return self.challenges(rule, then, allowed=allowed)
        effect, why = _marked(then)
        self.results.append(_result(rule, effect, None, why))
        self.marking.append(rule)
        return None

    def spared(self, rule: CompiledRule) -> Effect | None:
        """Why a rule that fired does nothing about this card, if so."""
        facts = self.evaluation.facts
        if rule.stage is Stage.WATCH:
            return Effect.WATCHED
        if self.snoozed and rule.stage is not Stage.RED:
            spans = self.snoozed.get((rule.id, facts.card_id), ())
            if any(since_us <= facts.now_us < until_us for since_us, until_us in spans):
                return Effect.SNOOZED
        percent = rule.canary_percent
        if percent < EVERY_CARD_PERCENT and not in_canary(rule.id, percent, facts):
            return Effect.HELD
        return None

    def challenges(self, rule: CompiledRule, then: Challenge, *, allowed: bool) -> _Fired | None:
        answered = self.evaluation.facts.pin
        if answered == "":
            self.evaluation.missing.append(then.method)
            self.unknown(rule)
            return None
        if answered == "verified":
            self.decides(rule, Effect.MET, None, allowed=False)
            return None
        self.decides(rule, Effect.CHALLENGED, Outcome.PIN_REQUIRED, allowed=allowed)
        return _Fired(rule, Outcome.PIN_REQUIRED, then.reason, failed=False)

    def decides(
        self, rule: CompiledRule, effect: Effect, outcome: Outcome | None, *, allowed: bool
    ) -> None:
        """Record it; what an allow overrides leaves no mark either."""
        self.results.append(_result(rule, Effect.OVERRIDDEN if allowed else effect, outcome))
        if rule.marks and not allowed:
            self.marking.append(rule)


def _effects(run: _Run, challenge: str) -> Effects:
    marks = [(mark, rule) for rule in run.marking for mark in rule.marks]
    return Effects(
        challenge,
        tuple(ReviewRequest(m.queue, rule.id) for m, rule in marks if isinstance(m, Review)),
        tuple(Tagged(m.tag, rule.id) for m, rule in marks if isinstance(m, Tag)),
        tuple(addition for rule in run.marking for addition in rule.additions),
        any(isinstance(mark, ForceOnline) for mark, _ in marks),
    )


def _marked(mark: Mark) -> tuple[Effect, str]:
    match mark:
        case Tag(tag=tag):
            return Effect.TAGGED, tag
        case Review(queue=queue):
            return Effect.QUEUED, queue
        case AddToList(list=name):
            return Effect.LISTED, name
        case ForceOnline():
            return Effect.FORCED_ONLINE, ""


def _outcome(then: Then) -> Outcome | None:
    if isinstance(then, Decline):
        return then.outcome
    return Outcome.PIN_REQUIRED if isinstance(then, Challenge) else None


def _result(
    rule: CompiledRule, effect: Effect, outcome: Outcome | None = None, why: str = ""
) -> RuleResult:
    return RuleResult(rule.id, rule.version, rule.stage, effect, outcome, why)


def _first(fired: list[_Fired]) -> _Fired | None:
    if not fired:
        return None
    return min(fired, key=_rank)


def _rank(fired: _Fired) -> tuple[bool, int]:
    challenge = fired.outcome is Outcome.PIN_REQUIRED
    return challenge, _PRECEDENCE[fired.outcome or Outcome.APPROVED]
