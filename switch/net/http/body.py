"""A body of JSON as the struct that was expected, or the problem that says where it is wrong.

The text of a JSON decoder's error may quote what was sent, so it only tells which field and
which kind of misfit it is; the words are ours, from the descriptions of the fields.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec
from litestar import Request

from protocols.bills.api import Asked, Problem
from switch.net.http.problems import Fault, problem

T = TypeVar("T", bound=Asked)

_MISSING = re.compile(r"missing required field `([a-z_]{1,32})`")
_AT_FIELD = re.compile(r" - at `\$\.([a-z_]{1,32})`\Z")
_AT_BYTE = re.compile(r"\(byte ([0-9]{1,9})\)")


async def said(request: Request[Any, Any, Any], wanted: type[T]) -> T | Problem:
    """The body of a request. Litestar raises where it is larger than it may be."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return problem(Fault.HEADER, "send the body as Content-Type: application/json")
    return understood(await request.body(), wanted)


def understood(body: bytes, wanted: type[T]) -> T | Problem:
    """The struct that a body says, whole, or why it says none."""
    try:
        # The decoder tells where in a text it is wrong, but not where in the body.
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return problem(Fault.BODY, f"byte {error.start} is not UTF-8; send UTF-8")
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        return _misfit(str(error), wanted)
    except msgspec.DecodeError as error:
        at = _AT_BYTE.search(str(error))
        where = f"at byte {at.group(1)}" if at is not None else "before its end"
        return problem(Fault.BODY, f"it stops being JSON {where}; send one JSON object")
    except RecursionError:
        return problem(Fault.BODY, "it is nested too deeply; send one flat JSON object")


def _misfit(text: str, wanted: type[Asked]) -> Problem:
    expected = descriptions(wanted)
    missing, at = _MISSING.search(text), _AT_FIELD.search(text)
    if missing is not None and missing.group(1) in expected:
        name = missing.group(1)
        return problem(Fault.FIELD, f"it is missing; give {expected[name]}", f"/{name}")
    if at is not None and at.group(1) in expected:
        return problem(Fault.FIELD, f"give {expected[at.group(1)]}", f"/{at.group(1)}")
    if "unknown field" in text:
        names = ", ".join(expected)
        return problem(Fault.FIELD, f"a field stands there that is not known; use {names}")
    return problem(Fault.BODY, "send one JSON object")


@cache
def descriptions(wanted: type[Asked]) -> dict[str, str]:
    """What to give for each field, in words."""
    hints = get_type_hints(wanted, include_extras=True)
    return {name: _description(hints[name]) for name in wanted.__struct_fields__}


def _description(hint: object) -> str:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, msgspec.Meta) and extra.description:
            return extra.description
    return "a value that fits"
