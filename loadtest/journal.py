"""The acquirer's own record of every answer, to be held against the ledger afterwards.

JSON lines, one an answer (or one a message that was given up). A card is its index in the
population, never its number.
"""

from __future__ import annotations

from pathlib import Path

import msgspec


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One answer. `at` fields are epoch milliseconds; amounts are minor units.

    `key` is terminal-stan-local_at-class, the acquirer's part of the idempotency key.
    `code` is DE39, or empty when no answer came (`unanswered`). `repeat` marks the answer
    to the same bytes sent again; `late` one that came after the wait. `latency_us` runs from
    when it was due to its answer; `mcc` is DE18, which tells the venue.
    """

    key: str
    link: int
    card: int
    behaviour: str
    terminal: str
    stan: str
    local_at: str
    amount_minor: int
    due_at_ms: int
    sent_at_ms: int
    answered_at_ms: int = 0
    code: str = ""
    rrn: str = ""
    auth_code: str = ""
    approved_minor: int = 0
    repeat: bool = False
    late: bool = False
    unanswered: bool = False
    mcc: str = ""
    latency_us: int = 0


class Journal:
    """Appends entries to a file in blocks; with no path it keeps nothing."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("ab") if path else None
        self._encoder = msgspec.json.Encoder()
        self._lines: list[bytes] = []

    @property
    def kept(self) -> bool:
        return self._file is not None

    def write(self, entry: msgspec.Struct) -> None:
        """Take one entry, an `Entry` or a line of a life; the next `flush` hands it on."""
        self._lines.append(self._encoder.encode(entry))

    def flush(self) -> None:
        """Hand what was taken to the operating system."""
        if self._file and self._lines:
            self._lines.append(b"")
            self._file.write(b"\n".join(self._lines))
            self._file.flush()
        self._lines.clear()

    def close(self) -> None:
        self.flush()
        if self._file:
            self._file.close()


def read_journal(path: Path) -> list[Entry]:
    """All whole entries of a journal; a last line cut short by a kill is left out."""
    decoder = msgspec.json.Decoder(Entry)
    *lines, _cut_short = path.read_bytes().split(b"\n")
    return [decoder.decode(line) for line in lines if line]
