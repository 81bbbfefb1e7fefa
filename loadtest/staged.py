"""A switch to load, started and ended from here: a process of its own, with its ledger.

Load generators know the switch only by its protocols, so this talks to
`python -m switch.demo.staged` in JSON lines and imports nothing of it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

END_SECONDS_MAX = 600.0
"""An audit of millions of rows on a slow disk."""


class StageFailed(Exception):
    """The staged switch did not start, or ended on its own; the text quotes what it said."""


class Serving(msgspec.Struct, frozen=True):
    """Where the switch listens, and which card indexes are issued, blocked and poor.

    `places` is the file for loadtest.city, where a city was staged.
    """

    port: int
    metrics: list[int]
    cards: int
    blocked: int
    poor: int
    places: str = ""


class Ended(msgspec.Struct, frozen=True):
    """The audit of its ledger; `findings` counts by broken invariant."""

    clean: bool
    checks: int
    findings: dict[str, int]


class Staged:
    """A stage with issued cards, on which switches are started one after the other."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self._process = process
        self._errors = errors

    def serve(self, *, backend: str = "asyncio", workers: int = 1) -> Serving:
        """Start a switch on this ledger, in the place of the one before."""
        return self._ordered({"backend": backend, "workers": workers})

    def shadow(self, wanted: bool) -> Serving:
        """Have a draft in shadow beside the live ruleset of the switch that runs, or none."""
        return self._ordered({"shadow": wanted})

    def _ordered(self, order: dict[str, object]) -> Serving:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return msgspec.json.decode(self._line(), type=Serving)

    def end(self) -> Ended:
        """Stop the switch and audit its ledger."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        ended = msgspec.json.decode(self._line(), type=Ended)
        self._process.wait(END_SECONDS_MAX)
        return ended

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return line

    def _failure(self) -> StageFailed:
        self._process.wait(END_SECONDS_MAX)
        said = self._errors.read_text("utf-8", errors="replace").strip().splitlines()
        quoted = " / ".join(said[-5:]) or "it said nothing"
        return StageFailed(f"the switch ended with {self._process.returncode}: {quoted}")


@contextmanager
def staged_switch(*, cards: int, city: bool = False) -> Iterator[Staged]:
    """A stage in a temporary directory, with this many cards issued and loaded.

    With a `city` it has readers, billers and an API too.
    """
    with tempfile.TemporaryDirectory(prefix="citycard-load-") as directory:
        errors = Path(directory) / "errors.log"
        command = [sys.executable, "-m", "switch.demo.staged", "--cards", str(cards)]
        command += ["--city"] if city else []
        with errors.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--directory", str(Path(directory) / "stage")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,
            )
        try:
            yield Staged(process, errors)
        finally:
            # Closing its input ends it in order, with its servers; killing would leave them.
            if process.stdin is not None:
                process.stdin.close()
            process.wait(END_SECONDS_MAX)
