"""A ruleset that comes as canonical JSON, with a finding where it does not fit."""

from __future__ import annotations

import re

import msgspec

from risk.findings import Finding, RulesetError, error
from risk.read import RULESET_BYTES_MAX
from risk.ruleset import Ruleset, ruleset_from_bytes

_AT = re.compile(r" - at `\$((?:\.[a-z_]{1,32}|\[[0-9.]{1,9}\]){1,24})`\Z")
_MISSING = re.compile(r"missing required field `([a-z_]{1,32})`")


def ruleset_of_json(text: bytes) -> Ruleset:
    """The ruleset that the JSON says. Raises RulesetError, which tells where and never what."""
    if len(text) > RULESET_BYTES_MAX:
        raise RulesetError([error("", f"expected at most {RULESET_BYTES_MAX:,} bytes")])
    try:
        return ruleset_from_bytes(text)
    except msgspec.ValidationError as misfit:
        raise RulesetError([_finding(str(misfit))]) from None
    except (msgspec.DecodeError, RecursionError):
        raise RulesetError([error("", "expected JSON, not too deep")]) from None


def _finding(text: str) -> Finding:
    at, missing = _AT.search(text), _MISSING.search(text)
    path = at.group(1).removeprefix(".") if at is not None else ""
    if missing is not None:
        return error(path, f"expected the field {missing.group(1)}")
    if "unknown field" in text:
        return error(path, "expected no other fields than GET canonical of a ruleset shows")
    return error(path, "expected what GET canonical of a ruleset shows there")
