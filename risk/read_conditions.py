"""From an officer's spelling of a condition to its canonical value.

    { all = [
        { fact = "tier", op = "eq", value = "named" },
        { feature = "spent_today", plus = "amount", op = "gt", value = 500000 },
        { not = { fact = "card_id", op = "in_list", list = "group_passes" } },
    ] }

A leaf is `fact` or `feature`, perhaps `plus` a number, fact or feature (or two of them), then
`op`, then `value`: a constant, `{ fact = … }`, `{ feature = … }`, or inside a feature's `where`
`{ current = … }` for a fact of the request in hand. A local time is written "21:00", and
`{ feature = …, percent = 90 }` is so much of it.
"""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from protocols.money import AMOUNT_MINOR_MAX
from risk.conditions import (
    DEPTH_MAX,
    PERCENT_MAX,
    SUM_TERMS_MAX,
    TEXT_CHARACTERS_MAX,
    VALUES_MAX,
    All,
    AnyOf,
    Between,
    Compare,
    Condition,
    Constant,
    CurrentOperand,
    FactOperand,
    FeatureOperand,
    InList,
    IsMissing,
    Membership,
    Not,
    Operand,
    PercentOperand,
    Relation,
    StartsWith,
    SumOperand,
    Term,
)
from risk.findings import FINDINGS_MAX, Finding, error, key_path, one_of
from risk.vocabulary import CURRENT_FACTS, Unit

OPERATORS = (*Relation, "in", "not_in", "between", "is_missing", "starts_with", "in_list")
NAME = re.compile(r"\A[a-z][a-z0-9_]{0,39}\Z")
NAME_EXPECTED = "a name of small letters, digits and _ that starts with a letter, 40 at most"
VALUE_EXPECTED = (
    f"a whole number (money in minor units) up to {AMOUNT_MINOR_MAX:,}, "
    f"or a text of 1 to {TEXT_CHARACTERS_MAX} characters"
)
_LEAF_KEYS = frozenset({"fact", "feature", "plus", "op", "value", "list"})
_OPERAND_KEYS = frozenset({"fact", "feature", "plus", "current", "percent"})
_LOCAL_TIME = re.compile(r"\A(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)\Z")


class ConditionReader:
    """Collects findings while it builds; every method returns None after a finding."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def refuse(self, path: str, expected: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(error(path, f"expected {expected}"))

    def known_keys(self, raw: dict[str, Any], path: str, known: frozenset[str]) -> bool:
        strange = [key for key in raw if key not in known]
        for key in strange[:FINDINGS_MAX]:
            self.refuse(key_path(path, key), f"another key: {one_of(known, key)}")
        return not strange

    def condition(self, raw: object, path: str, level: int) -> Condition | None:
        if level > DEPTH_MAX:
            self.refuse(path, f"at most {DEPTH_MAX} levels; split the rule")
            return None
        if not isinstance(raw, dict):
            self.refuse(path, "{ fact = …, op = …, value = … }, or all, any or not around such")
            return None
        for word, join in (("all", All), ("any", AnyOf)):
            if word in raw:
                children = self.children(raw, word, path, level)
                return None if children is None else join(children)
        if "not" in raw:
            if not self.known_keys(raw, path, frozenset({"not"})):
                return None
            child = self.condition(raw["not"], f"{path}.not", level + 1)
            return None if child is None else Not(child)
        return self.leaf(raw, path)

    def children(
        self, raw: dict[str, Any], word: str, path: str, level: int
    ) -> tuple[Condition, ...] | None:
        items = raw[word]
        if not self.known_keys(raw, path, frozenset({word})):
            return None
        if not isinstance(items, list) or not items:
            self.refuse(f"{path}.{word}", "a list of one or more conditions")
            return None
        built = [
            self.condition(item, f"{path}.{word}[{position}]", level + 1)
            for position, item in enumerate(items)
        ]
        whole = tuple(child for child in built if child is not None)
        return whole if len(whole) == len(built) else None

    def leaf(self, raw: dict[str, Any], path: str) -> Condition | None:
        if not self.known_keys(raw, path, _LEAF_KEYS | {"all", "any", "not"}):
            return None
        op = raw.get("op")
        if not isinstance(op, str) or op not in OPERATORS:
            self.refuse(f"{path}.op", one_of(OPERATORS, op))
            return None
        left = self.left(raw, path)
        if left is None:
            return None
        forbidden = "value" if op in ("is_missing", "in_list") else "list"
        if forbidden in raw or (op == "is_missing" and "list" in raw):
            self.refuse(f"{path}.{forbidden}", f"nothing here beside op = {op}")
            return None
        return self.right(left, op, raw, path)

    def left(self, raw: dict[str, Any], path: str) -> Operand | None:
        """`fact` or `feature`, and what `plus` adds to it."""
        named = [word for word in ("fact", "feature", "current") if word in raw]
        if len(named) != 1:
            self.refuse(path, "exactly one of fact and feature")
            return None
        word, name = named[0], raw[named[0]]
        if not isinstance(name, str) or not NAME.match(name):
            self.refuse(f"{path}.{word}", NAME_EXPECTED)
            return None
        if word == "current":
            if "plus" in raw:
                self.refuse(f"{path}.plus", "nothing beside current")
                return None
            return CurrentOperand(name)
        first = FactOperand(name) if word == "fact" else FeatureOperand(name)
        if "percent" in raw:
            return self.percent(first, raw, path)
        if "plus" not in raw:
            return first
        return self.sum(first, raw["plus"], f"{path}.plus")

    def percent(
        self, whole: FactOperand | FeatureOperand, raw: dict[str, Any], path: str
    ) -> PercentOperand | None:
        percent = raw["percent"]
        if "plus" in raw:
            self.refuse(f"{path}.plus", "nothing beside percent")
        elif type(percent) is int and 1 <= percent <= PERCENT_MAX:
            return PercentOperand(whole, percent)
        else:
            self.refuse(f"{path}.percent", f"a whole number from 1 to {PERCENT_MAX}")
        return None

    def sum(self, first: Term, raw: object, path: str) -> SumOperand | None:
        items = raw if isinstance(raw, list) else [raw]
        terms: list[Term] = [first]
        for item in items:
            if _number(item):
                terms.append(Constant(item))
            elif isinstance(item, str) and item in CURRENT_FACTS:
                terms.append(FactOperand(item))
            elif isinstance(item, str) and NAME.match(item):
                terms.append(FeatureOperand(item))
        if len(terms) != len(items) + 1 or not 2 <= len(terms) <= SUM_TERMS_MAX:
            self.refuse(path, f"a whole number, a fact or a feature, {SUM_TERMS_MAX - 1} at most")
            return None
        return SumOperand(tuple(terms))

    def right(self, left: Operand, op: str, raw: dict[str, Any], path: str) -> Condition | None:
        at = f"{path}.value"
        written = raw.get("value")
        match op:
            case "is_missing":
                return IsMissing(left)
            case "in_list":
                name = raw.get("list")
                if isinstance(name, str) and NAME.match(name):
                    return InList(left, name)
                self.refuse(f"{path}.list", "the name of a list")
            case "in" | "not_in":
                return self.membership(left, op, written, at)
            case "between":
                if isinstance(written, list) and len(written) == 2:
                    low, high = (self.operand(left, end, at) for end in written)
                    return None if low is None or high is None else Between(left, low, high)
                self.refuse(at, "[least, most], both included")
            case "starts_with":
                if isinstance(written, str) and is_text(written, TEXT_CHARACTERS_MAX):
                    return StartsWith(left, written)
                self.refuse(at, "a text in quotes")
            case _:
                right = self.operand(left, written, at)
                return None if right is None else Compare(left, Relation(op), right)
        return None

    def membership(self, left: Operand, op: str, raw: object, path: str) -> Condition | None:
        if not isinstance(raw, list) or not 1 <= len(raw) <= VALUES_MAX:
            self.refuse(path, f"a list of 1 to {VALUES_MAX} constants; more belong in a named list")
            return None
        found = [self.operand(left, item, path) for item in raw]
        if not all(isinstance(item, Constant) for item in found):
            if all(item is not None for item in found):
                self.refuse(path, "constants only")
            return None
        values = tuple(item.value for item in found if isinstance(item, Constant))
        return Membership(left, "in" if op == "in" else "not_in", values)

    def operand(self, left: Operand, raw: object, path: str) -> Operand | None:
        """A constant, or a table that names a fact or feature; HH:MM for a local time."""
        if isinstance(raw, dict):
            known = self.known_keys(raw, path, _OPERAND_KEYS)
            return self.left(raw, path) if known else None
        if _number(raw):
            return Constant(raw)
        if isinstance(raw, str) and is_text(raw, TEXT_CHARACTERS_MAX):
            if not _is_local_time(left):
                return Constant(raw)
            clock = _LOCAL_TIME.match(raw)
            if clock:
                hour, minute = clock.group(1) or "24", clock.group(2) or "00"
                return Constant(int(hour) * 3600 + int(minute) * 60)
            self.refuse(path, 'a local time in quotes, such as "21:00"')
            return None
        self.refuse(path, VALUE_EXPECTED)
        return None


def _is_local_time(operand: Operand) -> bool:
    if not isinstance(operand, FactOperand):
        return False
    word = CURRENT_FACTS.get(operand.name)
    return word is not None and word.unit is Unit.TIME_OF_DAY


def _number(raw: object) -> TypeGuard[int]:
    return type(raw) is int and abs(raw) <= AMOUNT_MINOR_MAX


def is_text(raw: str, characters_max: int) -> bool:
    return 1 <= len(raw) <= characters_max
