"""Turns a parsed TOML document into structs and collects every misfit with its key path.

msgspec stops at the first problem; a person who edits a file wants all of them at once.
So the walk over tables and lists is here, and msgspec judges each value on its own. A value
that does not fit is replaced by its default, so that the checks across keys still run.
"""

from __future__ import annotations

import difflib
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from protocols.card_number import mask_digit_runs

PROBLEMS_MAX = 100
"""Nobody reads more; a file with more is not the file that was meant."""

UNKNOWN_KEY_CHARACTERS_MAX = 80


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file: where, what, and what to do about it."""

    key: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return mask_digit_runs(f"{self.key}: {self.problem}; {self.remedy}")


class ConfigError(Exception):
    """A configuration that cannot be used. `problems` are all of them, `source` the file."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = mask_digit_runs(source)
        self.problems = problems[:PROBLEMS_MAX]
        super().__init__("\n".join(f"{self.source}: {problem}" for problem in self.problems))


class _Misfit(Exception):
    """No value could be made, and the problem is already written down."""


T = TypeVar("T", bound=msgspec.Struct)


def read(wanted: type[T], document: dict[str, Any]) -> tuple[T | None, list[Problem]]:
    """The struct that a document says, and what is wrong with the document.

    With problems the struct holds defaults in their places; it is None if even that failed.
    """
    problems: list[Problem] = []
    try:
        return _table(wanted, document, "", problems), problems
    except _Misfit:
        return None, problems


def _value(hint: Any, raw: object, key: str, problems: list[Problem]) -> Any:
    if _is_struct(hint):
        if not isinstance(raw, dict):
            problems.append(Problem(key, f"{_kind_of(raw)} stands here", f"write a [{key}] table"))
            raise _Misfit
        return _table(hint, raw, key, problems)
    if get_origin(hint) is tuple:
        return _list(get_args(hint)[0], raw, key, problems)
    try:
        return msgspec.convert(raw, hint)
    except msgspec.ValidationError:
        problems.append(Problem(key, _misfit_of(hint, raw), f"give {_expected(hint)}"))
        raise _Misfit from None


def _is_struct(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _table(wanted: type[T], document: dict[str, Any], path: str, problems: list[Problem]) -> T:
    hints = get_type_hints(wanted, include_extras=True)
    fields = {field.encode_name: field for field in msgspec.structs.fields(wanted)}
    for name in document.keys() - fields.keys():
        problems.append(_unknown_key(_join(path, name), name, list(fields)))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in document:
            try:
                values[field.name] = _value(
                    hints[field.name], document[name], _join(path, name), problems
                )
                continue
            except _Misfit:
                if field.required:
                    raise
        elif field.required:
            remedy = f"give {_expected(hints[field.name])}"
            problems.append(Problem(_join(path, name), "it is missing", remedy))
            raise _Misfit
    return wanted(**values)


def _list(hint: Any, raw: object, key: str, problems: list[Problem]) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        remedy = f"write [[{key}]] tables" if _is_struct(hint) else "write a list in [ ]"
        problems.append(Problem(key, f"{_kind_of(raw)} stands here", remedy))
        raise _Misfit
    values = []
    missed = False
    for index, item in enumerate(raw):
        try:
            values.append(_value(hint, item, f"{key}[{index}]", problems))
        except _Misfit:
            missed = True
    if missed:
        raise _Misfit
    return tuple(values)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _unknown_key(key: str, name: str, known: list[str]) -> Problem:
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"use one of {', '.join(known)}"
    # the only text of the file that an error repeats
    shown = "".join(c if c.isprintable() else "?" for c in key[:UNKNOWN_KEY_CHARACTERS_MAX])
    return Problem(mask_digit_runs(shown), "there is no such key", remedy)


def _misfit_of(hint: Any, raw: object) -> str:
    base = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    # a choice is written as a text, so another text is a wrong choice, not a wrong kind
    is_choice = get_origin(base) is Literal or (isinstance(base, type) and issubclass(base, Enum))
    wanted = str if is_choice else base
    if type(raw) is (get_origin(wanted) or wanted):
        return "this value is not allowed"
    return f"{_kind_of(raw)} stands here"


def _kind_of(raw: object) -> str:
    kinds = {bool: "true or false", int: "a whole number", float: "a decimal number"}
    kinds |= {str: "a text", list: "a list", dict: "a table"}
    return kinds.get(type(raw), "a date or time")


def _expected(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        base, *metas = get_args(hint)
        described = [m.description for m in metas if isinstance(m, msgspec.Meta) and m.description]
        return described[0] if described else _expected(base)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return "one of " + ", ".join(f'"{choice.value}"' for choice in hint)
    simple = {bool: "true or false", str: 'a text in "quotes"', int: "a whole number"}
    return simple.get(hint, "what citycard.toml shows")
