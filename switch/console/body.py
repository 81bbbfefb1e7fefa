"""What a request says (body, path, question) as typed values, or the problem that says where not.

The text of a decoder's error may quote what was sent, so it only tells which field and which
kind of misfit it is; the words are ours, from the descriptions of the fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from switch.console.problems import Fault, Refused, refusal

T = TypeVar("T", bound=msgspec.Struct)

_MISSING = re.compile(r"missing required field `([a-z_]{1,32})`")
_AT = re.compile(r" - at `\$((?:\.[a-z_]{1,32}|\[[0-9.]{1,9}\]){1,8})`\Z")
_PART = re.compile(r"\.([a-z_]{1,32})|\[([0-9.]{1,9})\]")
_AT_BYTE = re.compile(r"\(byte ([0-9]{1,9})\)")

PATHS: dict[str, tuple[re.Pattern[str], str]] = {
    "ref": (
        re.compile(r"(?:[0-9a-f]{6,64}|live|canary)\Z"),
        "a ruleset is named by 6 to 64 hex digits of its hash, or live, or canary",
    ),
    "rule_id": (re.compile(r"[a-z][a-z0-9_]{0,39}\Z"), "a rule's id is as in its ruleset"),
    "name": (re.compile(r"[a-z][a-z0-9_]{0,39}\Z"), "a list is named as /v1/lists shows it"),
    "id": (re.compile(r"[0-9]{1,12}\Z"), "an id is a number, as it was answered"),
    "reference": (
        re.compile(r"(?:[0-9]{1,18}|[0-9A-Za-z]{12}|[0-9a-f]{32})\Z"),
        "an authorization is named by its id, its RRN of 12 characters or its key of 32 hex digits",
    ),
    "file": (
        re.compile(r"[a-z0-9_][a-z0-9_.-]{0,79}\Z"),
        "a file of a report is named as its index.html names it",
    ),
}
PATHS["other"] = PATHS["ref"]
"""What the parts of a path look like, and the words about one that does not fit."""


def path_of(given: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a path. Raises Refused."""
    for name, value in given.items():
        pattern, words = PATHS[name]
        if pattern.match(str(value)) is None:
            raise refusal(Fault.NOT_FOUND, words)
    return {name: str(value) for name, value in given.items()}


def question(given: list[tuple[str, Any]], wanted: type[T]) -> T:
    """The parameters of a request. Raises Refused."""
    by_name = dict(given)
    if len(by_name) != len(given):
        raise refusal(Fault.FIELD, "a parameter stands there twice; give it once")
    try:
        return msgspec.convert(by_name, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), wanted, "parameter") from None


def understood(body: bytes, wanted: type[T]) -> T:
    """The struct that a body says, whole. Raises Refused."""
    text_of(body)  # the decoder tells where in a text it is wrong, but not where in the body
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), wanted, "field") from None
    except msgspec.DecodeError as error:
        at = _AT_BYTE.search(str(error))
        where = f"at byte {at.group(1)}" if at is not None else "before its end"
        words = f"it stops being JSON {where}; send one JSON object"
        raise refusal(Fault.BODY, words) from None
    except RecursionError:
        raise refusal(Fault.BODY, "it is nested too deeply; send a flatter object") from None


def text_of(body: bytes) -> str:
    """A body as text. Raises Refused."""
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        words = f"byte {error.start} is not UTF-8; send UTF-8"
        raise refusal(Fault.BODY, words) from None


def _misfit(text: str, wanted: type[msgspec.Struct], what: str) -> Refused:
    expected = descriptions(wanted)
    missing, at = _MISSING.search(text), _AT.search(text)
    parts = [one or other for one, other in _PART.findall(at.group(1))] if at is not None else []
    name = next(iter(parts), missing.group(1) if missing is not None else "")
    pointer = "".join(f"/{part}" for part in parts)
    if missing is not None and not parts and name in expected:
        return refusal(Fault.FIELD, f"it is missing; give {expected[name]}", f"/{name}")
    if name in expected:
        return refusal(Fault.FIELD, f"give {expected[name]}", pointer)
    if "unknown field" in text:
        names = ", ".join(expected)
        words = f"a {what} stands there that is not known; " + (
            f"use {names}" if names else "there is none to give"
        )
        return refusal(Fault.FIELD, words)
    return refusal(Fault.BODY, "send one JSON object")


@cache
def descriptions(wanted: type[msgspec.Struct]) -> dict[str, str]:
    """What to give for each field, in words."""
    hints = get_type_hints(wanted, include_extras=True)
    return {
        encoded: _description(hints[name])
        for name, encoded in zip(
            wanted.__struct_fields__, wanted.__struct_encode_fields__, strict=True
        )
    }


def _description(hint: object) -> str:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, msgspec.Meta) and extra.description:
            return extra.description
    for inner in get_args(hint):
        if (words := _description(inner)) != _ANY:
            return words
    return _ANY


_ANY = "a value that fits"
