"""What is wrong with a ruleset: severity, where, and what was expected instead.

A finding never repeats what was written, for a card number pasted into a rule would travel
with it into logs; it names the place, and the words that would have been right.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import StrEnum

import msgspec

from protocols.card_number import mask_digit_runs

FINDINGS_MAX = 100
"""After so many an officer starts over; the list is cut there."""
_SENTENCE_CHARACTERS_MAX = 400
_KEY = re.compile(r"\A[A-Za-z_][A-Za-z0-9_-]{0,39}\Z")


class Severity(StrEnum):
    """An error keeps the ruleset from loading; a warning is shown and doesn't."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True):
    """`path` leads to the faulty node, such as `rules[2].when.all[0].op`; "" is the whole."""

    severity: Severity
    path: str
    sentence: str
    source: str = ""

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.source, self.path) if part)
        return f"{self.severity.value}: {where}: {self.sentence}" if where else self.sentence


class RulesetError(ValueError):
    """The ruleset can't be used; `findings` tells each reason."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        errors = [f for f in self.findings if f.severity is Severity.ERROR]
        first = str(errors[0]) if errors else "no finding"
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(first + more)


def error(path: str, sentence: str) -> Finding:
    return Finding(Severity.ERROR, path, _clean(sentence))


def warning(path: str, sentence: str) -> Finding:
    return Finding(Severity.WARNING, path, _clean(sentence))


def one_of(words: Iterable[str], written: object = None) -> str:
    """The words that would have been right, and the nearest of them to what was written."""
    known = sorted(words)
    listed = ", ".join(known[:24]) + (", …" if len(known) > 24 else "")
    near = get_close_matches(written[:60], known, n=1) if isinstance(written, str) else []
    return f"one of {listed}" + (f"; perhaps {near[0]}" if near else "")


def key_path(path: str, key: str) -> str:
    """The path of a key under a node; a key that is no plain word isn't repeated."""
    shown = key if _KEY.match(key) and mask_digit_runs(key) == key else "?"
    return f"{path}.{shown}" if path else shown


def holds_digit_run(text: str) -> bool:
    """Whether a text holds what could be a card number."""
    return mask_digit_runs(text) != text


def _clean(sentence: str) -> str:
    masked = mask_digit_runs(sentence)
    if len(masked) > _SENTENCE_CHARACTERS_MAX:
        return masked[: _SENTENCE_CHARACTERS_MAX - 1] + "…"
    return masked
