"""The journals of the load generators, line by line: what was answered to whom, and how soon."""

from __future__ import annotations

from pathlib import Path

import msgspec

from protocols.message import PARTIALLY_APPROVED_CODE

APPROVED_CODES = frozenset({"00", PARTIALLY_APPROVED_CODE})


class Answered(msgspec.Struct, frozen=True):
    """A line of a journal, as far as it is compared with the ledger or shown.

    `key` is terminal-stan-local_at-class, or `sale-` or `bill-` and an id. `venue` or `mcc`
    says where it was; `latency_us` is 0 where nobody waited.
    """

    key: str
    due_at_ms: int
    code: str = ""
    rrn: str = ""
    approved_minor: int = 0
    answered_at_ms: int = 0
    repeat: bool = False
    venue: str = ""
    mcc: str = ""
    kind: str = "purchase"
    latency_us: int = 0

    @property
    def approved(self) -> bool:
        return self.code in APPROVED_CODES


def read_journal(path: Path) -> list[Answered]:
    """The answers that came; messages that were given up have none."""
    decoder = msgspec.json.Decoder(Answered)
    answers = [decoder.decode(line) for line in path.read_bytes().splitlines()]
    return [answer for answer in answers if answer.code]
