"""Whether one leaf makes sense: names exist, units agree, and the value can be reached.

A limit that can never be reached is worse than none, for an officer believes it is there; so
what a fact or a counter can come to at most is part of the check.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import assert_never

import msgspec

from risk.conditions import (
    DEPTH_MAX,
    LEAVES_MAX,
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
    Operand,
    PercentOperand,
    Relation,
    StartsWith,
    SumOperand,
    depth,
    leaves,
    operands,
)
from risk.features import Feature
from risk.findings import Finding, Severity, error, one_of, warning
from risk.lists import ListField
from risk.overlap import contradictions
from risk.vocabulary import CURRENT_FACTS, ORDERED_UNITS, PAST_FACTS, FactWord, Unit

_ADDABLE = frozenset({Unit.MONEY, Unit.COUNT, Unit.SECONDS, Unit.METRES})
_MERCHANT_CATEGORY = re.compile(r"\A[0-9]{4}\Z")
_ORDERING = frozenset({Relation.LT, Relation.LE, Relation.GT, Relation.GE})


class Names(msgspec.Struct, frozen=True):
    """What a condition may refer to. `past` is true inside a feature's `where`."""

    facts: Mapping[str, FactWord]
    features: Mapping[str, Feature]
    lists: Mapping[str, ListField]
    past: bool


def leaf_findings(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    """All that is wrong with a leaf; later questions are asked only if earlier ones are clear."""
    for question in (_unknown_names, _misplaced, _wrong_units, _out_of_reach):
        found = list(question(leaf, path, names))
        yield from found
        if found:
            return


def _unknown_names(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    for at, operand in _placed(leaf):
        if at.endswith(".plus") and not names.past:
            yield from _unknown_term(operand, f"{path}{at}", names)
            continue
        match operand:
            case FactOperand(name=name) if name not in names.facts:
                yield error(f"{path}{at}", f"expected {one_of(names.facts, name)}")
            case CurrentOperand(name=name) if name not in CURRENT_FACTS:
                yield error(f"{path}{at}", f"expected {one_of(CURRENT_FACTS, name)}")
            case FeatureOperand(id=name) if name not in names.features and not names.past:
                sentence = (
                    f"expected a declared feature: {one_of(names.features, name)}"
                    if names.features
                    else "expected a declared feature, and there is none under [[features]]"
                )
                yield error(f"{path}{at}", sentence)
            case _:
                pass
    if isinstance(leaf, InList) and leaf.list not in names.lists:
        sentence = f"expected a declared list: {one_of(names.lists, leaf.list)}"
        yield error(f"{path}.list", sentence if names.lists else "expected a list under [[lists]]")


def _unknown_term(operand: Operand, path: str, names: Names) -> Iterator[Finding]:
    """A word under `plus` may be a fact or a feature, so both are offered."""
    known = {*names.facts, *names.features}
    name = operand.id if isinstance(operand, FeatureOperand) else None
    name = operand.name if isinstance(operand, FactOperand) else name
    if name is not None and name not in known:
        yield error(path, f"expected a number, or {one_of(known, name)}")


def _placed(leaf: Leaf) -> Iterator[tuple[str, Operand]]:
    """Each operand with the key it was written under; sums taken apart."""
    yield from _apart(leaf.left, "")
    if isinstance(leaf, Compare):
        yield from _apart(leaf.right, ".value")
    elif isinstance(leaf, Between):
        yield from _apart(leaf.low, ".value")
        yield from _apart(leaf.high, ".value")


def _apart(operand: Operand, at: str) -> Iterator[tuple[str, Operand]]:
    match operand:
        case SumOperand(terms=(first, *others)):
            yield from _apart(first, at)
            yield from ((f"{at}.plus", term) for term in others)
        case PercentOperand(of=whole):
            yield from _apart(whole, at)
        case FactOperand():
            yield f"{at}.fact", operand
        case FeatureOperand():
            yield f"{at}.feature", operand
        case CurrentOperand():
            yield f"{at}.current", operand
        case _:
            yield at, operand


def _misplaced(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    simple = list(operands(leaf))
    if isinstance(leaf.left, Constant | CurrentOperand):
        yield error(path, "expected a fact or a feature on the left")
    elif names.past and any(isinstance(operand, FeatureOperand) for operand in simple):
        yield error(path, "expected facts only: a feature can't be counted by another feature")
    elif names.past and not isinstance(leaf.left, FactOperand):
        yield error(path, "expected one fact of the past event, without plus")
    elif names.past and any(isinstance(operand, FactOperand) for operand in simple[1:]):
        yield error(
            f"{path}.value", "expected a constant, or { current = … } for the request in hand"
        )
    elif not names.past and any(isinstance(operand, CurrentOperand) for operand in simple):
        yield error(f"{path}.value", "expected { fact = … }; current belongs in a feature's where")


def _wrong_units(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    yield from _wrong_sums(leaf, path, names)
    unit = unit_of(leaf.left, names)
    match leaf:
        case Compare(op=op, right=right):
            if op in _ORDERING and unit not in ORDERED_UNITS:
                yield error(f"{path}.op", f"expected eq, ne or in, for the left is {_said(unit)}")
            else:
                yield from _unfit(leaf.left, right, f"{path}.value", names)
        case Between(low=low, high=high):
            if unit not in ORDERED_UNITS:
                yield error(f"{path}.op", f"expected eq, ne or in, for the left is {_said(unit)}")
            else:
                yield from _unfit(leaf.left, low, f"{path}.value", names)
                yield from _unfit(leaf.left, high, f"{path}.value", names)
        case Membership(values=values):
            for value in values:
                yield from _unfit(leaf.left, Constant(value), f"{path}.value", names)
        case StartsWith():
            if unit is not Unit.TEXT:
                yield error(f"{path}.op", f"expected a comparison, for the left is {_said(unit)}")
        case InList(list=name):
            field = names.lists[name]
            if not isinstance(leaf.left, FactOperand) or leaf.left.name != field:
                yield error(path, f"expected fact = {field}, which is what the list holds")
        case IsMissing():
            pass
        case _:
            assert_never(leaf)


def _wrong_sums(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    whole = [leaf.left]
    if isinstance(leaf, Compare):
        whole.append(leaf.right)
    elif isinstance(leaf, Between):
        whole += [leaf.low, leaf.high]
    for operand in whole:
        if isinstance(operand, PercentOperand) and unit_of(operand, names) not in _ADDABLE:
            yield error(f"{path}.percent", "expected a part of an amount, a count or a duration")
        if not isinstance(operand, SumOperand):
            continue
        units = {unit_of(term, names) for term in operand.terms} - {None}
        if len(units) != 1 or not units <= _ADDABLE:
            yield error(
                f"{path}.plus",
                "expected terms of one unit: counts with counts, money with money",
            )


def _unfit(left: Operand, right: Operand, path: str, names: Names) -> Iterator[Finding]:
    unit = unit_of(left, names)
    if not isinstance(right, Constant):
        other = unit_of(right, names)
        if other is not None and other is not unit:
            yield error(path, f"expected {_said(unit)} as on the left, not {_said(other)}")
        return
    value = right.value
    if isinstance(value, str) is not (unit is Unit.TEXT):
        expected = "a text in quotes" if unit is Unit.TEXT else f"a whole number, {_said(unit)}"
        yield error(path, f"expected {expected}")
    elif isinstance(value, str):
        name, word = _word_of(left, names)
        if word is None:
            return
        if word.values and value not in word.values:
            yield error(path, f"expected {one_of(word.values, value)}")
        elif name == "mcc" and not _MERCHANT_CATEGORY.match(value):
            yield error(path, "expected a merchant category code of four digits in quotes")


def _word_of(operand: Operand, names: Names) -> tuple[str, FactWord | None]:
    """The word that a text operand is: a fact, or the field that `last` reads."""
    if isinstance(operand, FactOperand):
        return operand.name, names.facts[operand.name]
    if isinstance(operand, FeatureOperand):
        field = names.features[operand.id].field or ""
        return field, PAST_FACTS.get(field)
    return "", None


def _rounded_for_the_card(leaf: Leaf, path: str, names: Names, spares: bool) -> Iterator[Finding]:
    """Buckets round up; so a decline must ask for more, and what spares must ask for less."""
    bucketed = any(
        isinstance(operand, FeatureOperand) and names.features[operand.id].bucketed
        for operand in operands(leaf)
    )
    if not bucketed or isinstance(leaf, IsMissing):
        return
    wanted = (Relation.LT, Relation.LE) if spares else (Relation.GT, Relation.GE)
    left_only = not any(
        isinstance(operand, FeatureOperand) and names.features[operand.id].bucketed
        for operand in _right(leaf)
    )
    if not (isinstance(leaf, Compare) and leaf.op in wanted and left_only):
        yield error(
            f"{path}.op",
            f"expected {wanted[0].value} or {wanted[1].value} with it on the left: minute buckets "
            "round up, and must do so against the card",
        )


def _right(leaf: Leaf) -> list[Operand]:
    if isinstance(leaf, Compare):
        return [operand for _, operand in _apart(leaf.right, "")]
    return []


def condition_findings(
    condition: Condition, path: str, names: Names, *, spares: bool = False
) -> Iterator[Finding]:
    """All that is wrong with a condition. `spares` is true where holding is good for the card."""
    if depth(condition) > DEPTH_MAX:
        yield error(path, f"expected at most {DEPTH_MAX} levels; split the rule")
    found = list(leaves(condition, path))
    if not 1 <= len(found) <= LEAVES_MAX:
        yield error(path, f"expected 1 to {LEAVES_MAX} comparisons; split the rule")
    sound = True
    for at, leaf in found[:LEAVES_MAX]:
        of_leaf = list(leaf_findings(leaf, at, names))
        sound = sound and not any(each.severity is Severity.ERROR for each in of_leaf)
        yield from of_leaf
        if not of_leaf and not names.past:
            turned = at[len(path) :].count(".not") % 2 == 1
            yield from _rounded_for_the_card(leaf, at, names, spares is not turned)
    if sound:
        for at in contradictions(condition, path):
            yield error(at, "expected what can hold beside the rest; this never does")


def _out_of_reach(leaf: Leaf, path: str, names: Names) -> Iterator[Finding]:
    low, high = reach(leaf.left, names)
    if isinstance(leaf, Between):
        if isinstance(leaf.low, Constant) and isinstance(leaf.high, Constant):
            least, most = leaf.low.value, leaf.high.value
            if isinstance(least, int) and isinstance(most, int) and least > most:
                yield error(
                    f"{path}.value",
                    "expected the lesser number first; across midnight write any of two",
                )
        return
    if not (isinstance(leaf, Compare) and isinstance(leaf.right, Constant)):
        return
    value = leaf.right.value
    if not isinstance(value, int):
        return
    holds = _certainty(leaf.op, value, low, high)
    if holds is False:
        bounds = f"from {_shown(low)} to {_shown(high)}"
        yield error(
            f"{path}.value",
            f"expected a number within reach: the left goes {bounds}, so this never holds",
        )
    elif holds and unit_of(leaf.left, names) is not Unit.SECONDS:
        yield warning(
            f"{path}.value", "expected a number that makes a difference; this always holds"
        )


def _certainty(op: Relation, value: int, low: int | None, high: int | None) -> bool | None:
    """Whether a number between low and high always (True) or never (False) relates so."""
    under = high is not None and high < value
    over = low is not None and low > value
    match op:
        case Relation.GT:
            return True if over else False if under or high == value else None
        case Relation.GE:
            return True if over or low == value else False if under else None
        case Relation.LT:
            return True if under else False if over or low == value else None
        case Relation.LE:
            return True if under or high == value else False if over else None
        case Relation.EQ:
            return False if under or over else None
        case Relation.NE:
            return True if under or over else None
        case _:
            assert_never(op)


def unit_of(operand: Operand, names: Names) -> Unit | None:
    """The unit of an operand; a bare number has none and fits any number."""
    match operand:
        case FactOperand(name=name):
            return names.facts[name].unit
        case CurrentOperand(name=name):
            return CURRENT_FACTS[name].unit
        case FeatureOperand(id=name):
            return names.features[name].unit
        case Constant(value=value):
            return Unit.TEXT if isinstance(value, str) else None
        case PercentOperand(of=whole):
            return unit_of(whole, names)
        case SumOperand(terms=terms):
            return next((unit for term in terms if (unit := unit_of(term, names))), None)
        case _:
            assert_never(operand)


def reach(operand: Operand, names: Names) -> tuple[int | None, int | None]:
    """The least and the most a number can be; None where nothing bounds it."""
    match operand:
        case FactOperand(name=name):
            return names.facts[name].low, names.facts[name].high
        case CurrentOperand(name=name):
            return CURRENT_FACTS[name].low, CURRENT_FACTS[name].high
        case FeatureOperand(id=name):
            return names.features[name].low, names.features[name].high
        case Constant(value=value):
            return (value, value) if isinstance(value, int) else (None, None)
        case PercentOperand(of=whole, percent=percent):
            low, high = reach(whole, names)
            return (
                None if low is None else low * percent // 100,
                None if high is None else high * percent // 100,
            )
        case SumOperand(terms=terms):
            ends = [reach(term, names) for term in terms]
            lows, highs = [low for low, _ in ends], [high for _, high in ends]
            return _total(lows), _total(highs)
        case _:
            assert_never(operand)


def _total(ends: list[int | None]) -> int | None:
    known = [end for end in ends if end is not None]
    return sum(known) if len(known) == len(ends) else None


def _said(unit: Unit | None) -> str:
    return unit.value if unit else "a number"


def _shown(end: int | None) -> str:
    return "any number" if end is None else f"{end:,}"
