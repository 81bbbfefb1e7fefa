"""What a life leaves behind: a line for each message, and figures while it goes on.

A message is a line of its own when all is known of it that ever will be: what it was about,
what it was answered, how often it was sent. A reversal is a message too. Whoever reckons
puts them together by key; see tests/faults.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from loadtest.tally import INDEFINITE_CODES

APPROVED_CODES = frozenset({"00", "10"})
"""DE39 of an approval, whole or for a part."""


class LifeLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `kind` is the switch's word for it; amounts are minor units.

    `key` and `about` (the original's, empty without one) are terminal-stan-local_at-class,
    `card` is the index in the population. `at` fields are epoch milliseconds: first sent, and
    the end, by its answer or without one. `code` is DE39 of the last answer, empty where none
    came; `sends` how often it left, `mismatched` that a repeat was answered otherwise.
    """

    kind: str
    key: str
    card: int
    amount_minor: int
    sent_at_ms: int
    ended_at_ms: int
    about: str = ""
    code: str = ""
    rrn: str = ""
    approved_minor: int = 0
    sends: int = 1
    mismatched: bool = False

    @property
    def approved(self) -> bool:
        return self.code in APPROVED_CODES

    @property
    def indefinite(self) -> bool:
        """Nobody knows from this answer, or from none, what became of it."""
        return not self.code or self.code in INDEFINITE_CODES


class LifeProgress(msgspec.Struct, frozen=True):
    """What happened since the line before, and how many visits are under way."""

    approved: int
    answered: int
    visiting: int
    at_ms: int


class LifeSummary(msgspec.Struct, frozen=True):
    """The whole run. `codes` counts answers by kind and DE39, such as "void 00".

    `unresolved` messages ended without anybody knowing what became of them; `asked` counts
    what the switch asked for, such as sign_off.
    """

    messages: int
    reversals: int
    mismatched: int
    unresolved: int
    undecodable: int
    connects: int
    codes: dict[str, int]
    asked: dict[str, int]


class LifeTally:
    """Counts lines as they are written."""

    def __init__(self) -> None:
        self.visiting = 0
        self.messages = self.reversals = self.mismatched = self.unresolved = 0
        self.codes: Counter[str] = Counter()
        self._approved = self._answered = 0

    def answered(self, code: str, *, reversal: bool) -> None:
        """One answer of any message, as it comes. A reversal that is taken approves nothing."""
        self._answered += 1
        self._approved += code in APPROVED_CODES and not reversal

    def end(self, line: LifeLine) -> None:
        """One message is over."""
        self.messages += 1
        self.reversals += line.kind == "reversal"
        self.mismatched += line.mismatched
        self.codes[f"{line.kind} {line.code or 'none'}"] += 1

    def progress(self, at_ms: int) -> LifeProgress:
        """The figures since the last call."""
        told = LifeProgress(self._approved, self._answered, self.visiting, at_ms)
        self._approved = self._answered = 0
        return told


def read_lines(path: Path) -> list[LifeLine]:
    """All whole lines of a life's journal; a last one cut short by a kill is left out."""
    decoder = msgspec.json.Decoder(LifeLine)
    *lines, _cut_short = path.read_bytes().split(b"\n")
    return [decoder.decode(line) for line in lines if line]
