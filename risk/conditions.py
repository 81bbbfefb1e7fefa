"""Conditions as values: operands, leaves and the three ways to join them.

The form here is the canonical one that is hashed and stored; `read.py` makes it out of the
shorter form officers write. A condition is a tree of `all`, `any` and `not` over leaves, and
every leaf is an operand, an operator and a constant, an operand or a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal, assert_never

import msgspec

from protocols.money import AMOUNT_MINOR_MAX

DEPTH_MAX = 4
"""Levels of a condition, the leaf included: all → any → not → leaf is as deep as it goes."""
LEAVES_MAX = 20
"""Leaves of one condition; more than a person can hold in the head is two rules."""
SUM_TERMS_MAX = 3
PERCENT_MAX = 1_000
TEXT_CHARACTERS_MAX = 64
VALUES_MAX = 100
"""Constants after `in`; longer sets belong in a list, which has dates and reasons."""

Name = Annotated[str, msgspec.Meta(pattern=r"\A[a-z][a-z0-9_]{0,39}\Z")]
Number = Annotated[int, msgspec.Meta(ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
Value = Number | Text


class FactOperand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="fact"):
    """A fact: of the request in a rule, of the past event in a feature's `where`."""

    name: Name


class CurrentOperand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="current"):
    """A fact of the request in hand, compared with a past event inside `where`."""

    name: Name


class FeatureOperand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="feature"):
    """A counter by its id."""

    id: Name


class Constant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="constant"):
    """A number (money in minor units, durations in seconds) or a text."""

    value: Value


Term = FactOperand | FeatureOperand | Constant


class SumOperand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="sum"):
    """Two or three numbers added up: the counter and what this request would add to it."""

    terms: Annotated[tuple[Term, ...], msgspec.Meta(min_length=2, max_length=SUM_TERMS_MAX)]


class PercentOperand(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="percent"):
    """So many hundredths of a fact or a feature, rounded down to a whole unit."""

    of: FactOperand | FeatureOperand
    percent: Annotated[int, msgspec.Meta(ge=1, le=PERCENT_MAX)]


Operand = FactOperand | CurrentOperand | FeatureOperand | Constant | SumOperand | PercentOperand


class Relation(StrEnum):
    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LE = "le"
    GT = "gt"
    GE = "ge"


class Compare(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="compare"
):
    left: Operand
    op: Relation
    right: Operand


class Membership(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="membership"
):
    left: Operand
    op: Literal["in", "not_in"]
    values: Annotated[tuple[Value, ...], msgspec.Meta(min_length=1, max_length=VALUES_MAX)]


class Between(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="between"
):
    """Both ends included."""

    left: Operand
    low: Operand
    high: Operand


class IsMissing(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="is_missing"
):
    """The one leaf that is never unknown."""

    left: Operand


class StartsWith(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="starts_with"
):
    left: Operand
    prefix: Text


class InList(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="in_list"
):
    """The fact has an entry in the named list that is in force at the time of the request."""

    left: Operand
    list: Name


class All(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="all"):
    of: tuple[Condition, ...]


class AnyOf(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="any"):
    of: tuple[Condition, ...]


class Not(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="form", tag="not"):
    of: Condition


Leaf = Compare | Membership | Between | IsMissing | StartsWith | InList
Condition = Leaf | All | AnyOf | Not


def leaves(condition: Condition, path: str) -> Iterator[tuple[str, Leaf]]:
    """Every leaf with its path as the officer wrote it, such as `when.all[0]`."""
    match condition:
        case All(of=children):
            for position, child in enumerate(children):
                yield from leaves(child, f"{path}.all[{position}]")
        case AnyOf(of=children):
            for position, child in enumerate(children):
                yield from leaves(child, f"{path}.any[{position}]")
        case Not(of=child):
            yield from leaves(child, f"{path}.not")
        case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
            yield path, condition
        case _:
            assert_never(condition)


def depth(condition: Condition) -> int:
    """Levels of the tree; a bare leaf is 1, an empty `all` too."""
    match condition:
        case All(of=children) | AnyOf(of=children):
            return 1 + max((depth(child) for child in children), default=0)
        case Not(of=child):
            return 1 + depth(child)
        case Compare() | Membership() | Between() | IsMissing() | StartsWith() | InList():
            return 1
        case _:
            assert_never(condition)


def operands(leaf: Leaf) -> Iterator[Operand]:
    """The operands of a leaf, sums taken apart."""
    whole: tuple[Operand, ...]
    match leaf:
        case Compare(left=left, right=right):
            whole = (left, right)
        case Between(left=left, low=low, high=high):
            whole = (left, low, high)
        case Membership(left=left) | IsMissing(left=left):
            whole = (left,)
        case StartsWith(left=left) | InList(left=left):
            whole = (left,)
        case _:
            assert_never(leaf)
    for operand in whole:
        if isinstance(operand, SumOperand):
            yield from operand.terms
        elif isinstance(operand, PercentOperand):
            yield operand.of
        else:
            yield operand
