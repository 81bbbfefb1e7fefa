"""The sentence about a decision, from the figures of the rule that made it.

It is read by a citizen at a counter, a cashier and an auditor years later, so it names the
rule, its version, the ruleset and the numbers, and it fits into one line without a card number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, assert_never

from protocols.card_number import mask_digit_runs
from protocols.message import Outcome, response_code
from protocols.money import display_minor
from risk.assess import Evaluation
from risk.conditions import (
    Between,
    Compare,
    CurrentOperand,
    FactOperand,
    FeatureOperand,
    InList,
    IsMissing,
    Leaf,
    Membership,
    Operand,
    PercentOperand,
    Relation,
    StartsWith,
    SumOperand,
)
from risk.features import (
    Aggregate,
    Basis,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Key,
    Lifetime,
    Trailing,
    Window,
)
from risk.record import Assessment, Effect, RuleResult
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS, FactWord, Unit

EXPLANATION_CHARACTERS_MAX = 300
_BECAUSE_CHARACTERS_MAX = 200
_CARD = "{card}"

Value = int | str | None
Read = Callable[[Evaluation], Value]


class Clause(NamedTuple):
    """A part of the sentence; the lower its rank, the more it tells.

    0 counters, 1 amounts and times, 2 lists and missing facts, 3 what merely narrows.
    """

    rank: int
    text: str


Clauses = Callable[[Evaluation], list[Clause]]


def explain(assessment: Assessment, card_last4: str, state: str = "live") -> str:
    """One sentence of at most `EXPLANATION_CHARACTERS_MAX` characters, without a card number.

    `card_last4` may be longer: only its last four characters are shown. `state` is the state
    of the ruleset that decided (live, shadow, draft).

        Declined 65: card_burst v1 (live, ruleset 3fa9…): 7 attempts in 5 min on card ••0042;
        limit 6.
    """
    ruleset = f"({state}, ruleset {assessment.ruleset_hash[:4]}…)"
    because = assessment.because.replace(_CARD, f"card ••{card_last4[-4:]}")
    rule = f"{assessment.rule_id} v{assessment.rule_version} {ruleset}"
    if assessment.decision is not Outcome.APPROVED:
        says = because or assessment.reason
        sentence = f"Declined {response_code(assessment.decision)}: {rule}: {says}."
    elif assessment.rule_id:
        spared = _overridden(assessment.results)
        sentence = f"Approved: {rule} overrides {spared}" + (f": {because}." if because else ".")
    else:
        sentence = f"Approved {ruleset}: no rule declines."
    return _bounded(mask_digit_runs(sentence), EXPLANATION_CHARACTERS_MAX)


def because(clauses: list[Clause]) -> str:
    """The clauses in one phrase: what narrows is said only where nothing else is."""
    ranked = sorted(clauses, key=lambda clause: clause.rank)
    telling = [clause.text for clause in ranked if clause.rank < 3]
    texts = telling or [clause.text for clause in ranked]
    return _bounded(mask_digit_runs(" and ".join(dict.fromkeys(texts))), _BECAUSE_CHARACTERS_MAX)


def leaf_clauses(
    leaf: Leaf, features: Mapping[str, Feature], read: Callable[[Operand], Read]
) -> Clauses:
    """How a leaf that holds is said; `read` turns an operand into a function of the evaluation."""
    say = _subject(leaf.left, features)
    rank = _rank(leaf.left)
    left = read(leaf.left)
    match leaf:
        case Compare(op=op, right=right):
            other, figure = read(right), _figure(leaf.left, features)
            return lambda evaluation: [
                Clause(rank, say(left(evaluation)) + _limit(op, other(evaluation), figure))
            ]
        case Between(low=low, high=high):
            least, most, figure = read(low), read(high), _figure(leaf.left, features)
            return lambda evaluation: [
                Clause(
                    rank,
                    f"{say(left(evaluation))}; between {figure(least(evaluation))} "
                    f"and {figure(most(evaluation))}",
                )
            ]
        case Membership() | StartsWith():
            return lambda evaluation: [Clause(rank, say(left(evaluation)))]
        case InList(list=name):
            named = [Clause(2, f"{_noun(leaf.left)} on list {name}")]
            return lambda evaluation: named
        case IsMissing():
            missing = [Clause(2, f"{_noun(leaf.left)} missing")]
            return lambda evaluation: missing
        case _:
            assert_never(leaf)


def _overridden(results: tuple[RuleResult, ...]) -> str:
    spared = [f"{r.rule_id} v{r.version}" for r in results if r.effect is Effect.OVERRIDDEN]
    return " and ".join(spared[:3]) or "a rule"


def _limit(op: Relation, value: Value, figure: Callable[[Value], str]) -> str:
    """The bound in the words of the person it stopped: the most or the least that passes."""
    if not isinstance(value, int):
        return "" if op is Relation.EQ else f"; not {value}"
    match op:
        case Relation.GT:
            return f"; limit {figure(value)}"
        case Relation.GE:
            return f"; limit {figure(value - 1)}"
        case Relation.LT:
            return f"; at least {figure(value)}"
        case Relation.LE:
            return f"; at least {figure(value + 1)}"
        case Relation.EQ:
            return ""
        case Relation.NE:
            return f"; expected {figure(value)}"
        case _:
            assert_never(op)


def _rank(operand: Operand) -> int:
    parts = _parts(operand)
    if any(isinstance(part, FeatureOperand) for part in parts):
        return 0
    words = [CURRENT_FACTS[part.name] for part in parts if isinstance(part, FactOperand)]
    numeric = any(word.unit not in (Unit.TEXT, Unit.IDENTITY) for word in words)
    return 1 if numeric else 3


def _parts(operand: Operand) -> tuple[Operand, ...]:
    if isinstance(operand, SumOperand):
        return operand.terms
    return (operand.of,) if isinstance(operand, PercentOperand) else (operand,)


def _figure(operand: Operand, features: Mapping[str, Feature]) -> Callable[[Value], str]:
    """How a number in the operand's unit is written."""
    for part in _parts(operand):
        if isinstance(part, FeatureOperand):
            return _FIGURES.get(features[part.id].unit, str)
        if isinstance(part, FactOperand | CurrentOperand):
            return _FIGURES.get(CURRENT_FACTS[part.name].unit, str)
    return str


def _money(value: Value) -> str:
    return display_minor(value) if isinstance(value, int) else str(value)


def _clock(value: Value) -> str:
    return f"{value // 3600:02}:{value // 60 % 60:02}" if isinstance(value, int) else str(value)


_FIGURES: dict[Unit, Callable[[Value], str]] = {
    Unit.MONEY: _money,
    Unit.TIME_OF_DAY: _clock,
    Unit.SECONDS: lambda value: f"{value} s",
    Unit.DAYS: lambda value: f"{value} days",
    Unit.METRES: lambda value: f"{value} m",
    Unit.SPEED: lambda value: f"{value} km/h",
}


def _subject(operand: Operand, features: Mapping[str, Feature]) -> Callable[[Value], str]:
    parts = _parts(operand)
    for part in parts:
        if isinstance(part, FeatureOperand):
            return _feature_subject(features[part.id])
    word = _word(parts[0])
    if word is None or not word.shown:
        noun = _noun(operand)
        return lambda value: f"{noun} matches"
    figure = _figure(operand, features)
    return lambda value: f"{word.says} {figure(value)}"


def _word(operand: Operand) -> FactWord | None:
    return CURRENT_FACTS[operand.name] if isinstance(operand, FactOperand) else None


def _noun(operand: Operand) -> str:
    word = _word(operand)
    if word is not None:
        return word.says
    return operand.id if isinstance(operand, FeatureOperand) else "value"


_KEYS = {
    Key.CARD: f"on {_CARD}",
    Key.ACCOUNT: "on the account",
    Key.CARD_MERCHANT: f"at this merchant on {_CARD}",
    Key.TERMINAL: "at this terminal",
    Key.MERCHANT: "at this merchant",
    Key.ACQUIRER: "of this acquirer",
}
_EVENTS = {Basis.ATTEMPTS: "attempts", Basis.APPROVED: "approvals", Basis.DECLINED: "declines"}
_SUMMED = {Basis.ATTEMPTS: "attempted", Basis.APPROVED: "approved", Basis.DECLINED: "declined"}
_DISTINCT = {
    "terminal": "terminals",
    "merchant": "merchants",
    "mcc": "merchant categories",
    "segment": "segments",
    "card_id": "cards",
    "venue": "venues",
    "stop": "stops",
    "vehicle": "vehicles",
}


def _feature_subject(feature: Feature) -> Callable[[Value], str]:
    key = _KEYS[feature.key]
    where = f"{_window(feature.window)} {key}"
    events = feature.noun or _EVENTS[feature.basis]
    if feature.same is not None:
        events += f" at the same {feature.same}"
    match feature.aggregate:
        case Aggregate.COUNT:
            return lambda value: f"{value} {_singular(events) if value == 1 else events} {where}"
        case Aggregate.SUM:
            summed = feature.noun or _SUMMED[feature.basis]
            return lambda value: f"{_money(value)} {summed} {where}"
        case Aggregate.DISTINCT:
            counted = _DISTINCT[feature.field or ""]
            return lambda value: f"{value} different {counted} {where}"
        case Aggregate.SECONDS_SINCE_LAST:
            last = f"since the last of the {events}"
            return lambda value: f"{value} s {last} {key}"
        case Aggregate.LAST:
            word = PAST_FACTS[feature.field or ""]
            shown = _FIGURES.get(word.unit, str) if word.shown else _hidden
            return lambda value: f"{word.says} {shown(value)} at the last of the {events} {key}"
        case Aggregate.DISTANCE_M:
            return lambda value: f"{value} m from the last of the {events} {key}"
        case Aggregate.SPEED_KMH:
            return lambda value: f"{value} km/h from the last of the {events} {key}"
        case _:
            assert_never(feature.aggregate)


def _hidden(value: Value) -> str:
    return "of its own"


def _singular(noun: str) -> str:
    """Of the first word, which is what is counted: "taps at the same stop"."""
    first, *more = noun.split(" ")
    return " ".join([first.removesuffix("s"), *more])


def _window(window: Window) -> str:
    match window:
        case CalendarDay():
            return "in the day"
        case CalendarWeek():
            return "in the week"
        case CalendarMonth():
            return "in the month"
        case Lifetime():
            return "so far"
        case Trailing(seconds=seconds):
            if seconds % 3600 == 0:
                return f"in {seconds // 3600} h"
            if seconds % 60 == 0:
                return f"in {seconds // 60} min"
            return f"in {seconds} s"
        case _:
            assert_never(window)


def _bounded(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else text[: characters_max - 2] + "…."
