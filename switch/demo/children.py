"""The two processes of a demonstration: the switch under test and the acquirer's host.

Each runs in a session of its own, so a Ctrl-C at the terminal reaches the demonstration
only, which then ends them in order: first the traffic, then the switch.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from switch.app import ReadyState
from switch.demo.stage import Crowd

READY_SECONDS_MAX = 120.0
STOP_SECONDS_MAX = 60.0
POLL_SECONDS = 0.05
LOG_LINES_QUOTED = 6


class ChildFailed(Exception):
    """A process of the demonstration did not start or not end well; the text quotes its log."""


class Progress(msgspec.Struct, frozen=True):
    """What the acquirer says each second."""

    second: int
    rate_wanted: float
    sent: int
    answered: int
    unanswered: int
    waiting: int
    p50_ms: float
    p99_ms: float
    outcomes: dict[str, int]


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of the whole run in milliseconds, from when a message was due."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Figures(msgspec.Struct, frozen=True):
    """What the acquirer says at its end, as far as it is shown."""

    links: int
    achieved_rate: float
    sent: int
    answered: int
    unanswered: int
    not_sent: int
    repeats_sent: int
    repeats_matched: int
    duplicates_mismatched: int
    outcomes: dict[str, int]
    latency: Latency

    @property
    def sound(self) -> bool:
        """Everything was sent and answered, and repeats got the answer of their original."""
        return self.sent == self.answered > 0 and not (self.not_sent or self.duplicates_mismatched)


@contextmanager
def switch_serving(
    *, config: Path, url: str, directory: Path, workers: int, backend: str
) -> Iterator[ReadyState]:
    """`citycard serve` until the body ends. Raises ChildFailed with the end of its log."""
    ready_file, log = directory / "ready.json", directory / "switch.log"
    ready_file.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "switch.cli", "serve", "--config", str(config)),
        *("--database", url, "--directory", str(directory), "--ready-file", str(ready_file)),
        *("--workers", str(workers), "--backend", backend),
    ]
    with log.open("wb") as output:
        process = _started(command, output, output)
    try:
        yield _ready(process, ready_file, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> ReadyState:
    give_up = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < give_up:
        if ready_file.exists() and (written := ready_file.read_bytes()):
            return msgspec.json.decode(written, type=ReadyState)
        if process.poll() is not None:
            raise ChildFailed(
                f"the switch ended with {process.returncode} before it was ready: {_end_of(log)}"
            )
        time.sleep(POLL_SECONDS)
    raise ChildFailed(f"the switch was not ready in {READY_SECONDS_MAX:.0f} s: {_end_of(log)}")


class Acquirer:
    """The load generator as a process; iterate it for its progress, then ask for its summary."""

    def __init__(
        self, *, port: int, crowd: Crowd, seconds: float, rate: float, directory: Path
    ) -> None:
        self.journal = directory / "journal.jsonl"
        self.journal.unlink(missing_ok=True)
        self._summary = directory / "acquirer.json"
        self._summary.unlink(missing_ok=True)
        self._log = directory / "acquirer.log"
        command = [
            *(sys.executable, "-m", "loadtest.acquirer", "--port", str(port), "--progress"),
            *("--seconds", str(seconds), "--rate", str(rate), "--cards", str(crowd.cards)),
            *("--blocked-cards", str(crowd.blocked), "--poor-cards", str(crowd.poor)),
            # Four times the usual bursts, so that even a short run shows the count limit.
            *("--mix", "burst=0.002"),
            *("--journal", str(self.journal), "--json", str(self._summary)),
            *("--seed", str(time.time_ns() % 1_000_000)),
        ]
        with self._log.open("wb") as errors:
            self._process = _started(command, subprocess.PIPE, errors)

    def __iter__(self) -> Iterator[Progress]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b'"rate_wanted"' in line and b'"second"' in line:
                yield msgspec.json.decode(line, type=Progress)

    def stop(self) -> None:
        """Ask for an early end; what was sent is still waited for."""
        if self._process.poll() is None:
            self._process.terminate()

    def summary(self) -> tuple[Figures, msgspec.Raw]:
        """The figures, once it has ended, and all of its own JSON. Raises ChildFailed for none."""
        self._process.wait(STOP_SECONDS_MAX)
        if not self._summary.exists():
            raise ChildFailed(
                f"the acquirer ended with {self._process.returncode}: {_end_of(self._log)}"
            )
        written = self._summary.read_bytes()
        return msgspec.json.decode(written, type=Figures), msgspec.Raw(written)

    def kill(self) -> None:
        """Make sure that no process is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _started(
    command: list[str], output: IO[bytes] | int, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own programs, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
    )


def _end_of(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return " / ".join(lines[-LOG_LINES_QUOTED:]) or "it wrote no log"
