"""The processes of a demonstration: the switch under test, the billers, the acquirer, the city.

Each runs in a session of its own, so a Ctrl-C at the terminal reaches the demonstration
only, which then ends them in order: first the traffic, then the switch.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Generic, TypeVar

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


class CityProgress(msgspec.Struct, frozen=True):
    """What the city says each second; `p99_ms` by segment."""

    second: int
    sent: int
    answered: int
    p99_ms: dict[str, float]
    outcomes: dict[str, int]


class CityFigures(msgspec.Struct, frozen=True):
    """What the city says at its end, as far as it is shown."""

    sent: int
    answered: int
    not_sent: int
    visits: int
    uploaded: dict[str, int]
    bills_minor: dict[str, int]

    @property
    def sound(self) -> bool:
        """Everything was sent and answered."""
        return self.sent == self.answered > 0 and not self.not_sent


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


@contextmanager
def biller_serving(kind: str, directory: Path) -> Iterator[int]:
    """A biller's host until the body ends; its port. Raises ChildFailed."""
    ready_file, log = directory / f"{kind}.json", directory / f"{kind}.log"
    ready_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "loadtest.biller", "--kind", kind]
    with log.open("wb") as errors:
        process = _started([*command, "--ready-file", str(ready_file)], subprocess.DEVNULL, errors)
    try:
        yield _biller_port(process, ready_file, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _biller_port(process: subprocess.Popen[bytes], ready_file: Path, log: Path) -> int:
    give_up = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < give_up and process.poll() is None:
        if ready_file.exists():
            return msgspec.json.decode(ready_file.read_bytes(), type=dict[str, int])["port"]
        time.sleep(POLL_SECONDS)
    raise ChildFailed(f"a biller's host did not start: {_end_of(log)}")


def biller_book(port: int) -> Mapping[str, int]:
    """What the book of a biller's host holds as paid: minor units by serial."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/book", timeout=10) as page:
        book = msgspec.json.decode(page.read(), type=_Book)
    return {each.serial: each.amount_minor for each in book.payments if each.state == "paid"}


class _Payment(msgspec.Struct, frozen=True):
    serial: str
    amount_minor: int
    state: str


class _Book(msgspec.Struct, frozen=True):
    payments: list[_Payment]


F = TypeVar("F")
P = TypeVar("P")


class _Generator(Generic[P, F]):
    """A load generator as a process; iterate it for its progress, then ask for its summary."""

    def __init__(
        self, name: str, progress: type[P], figures: type[F], directory: Path, *arguments: str
    ) -> None:
        self.name = name
        self.journal = directory / f"{name}.jsonl"
        self._summary = directory / f"{name}.summary.json"
        self._log = directory / f"{name}.log"
        self._progress, self._figures = progress, figures
        for stale in (self.journal, self._summary):
            stale.unlink(missing_ok=True)
        command = [
            *(sys.executable, "-m", f"loadtest.{name}", "--progress", *arguments),
            *("--journal", str(self.journal), "--json", str(self._summary)),
            *("--seed", str(time.time_ns() % 1_000_000)),
        ]
        with self._log.open("wb") as errors:
            self._process = _started(command, subprocess.PIPE, errors)

    def __iter__(self) -> Iterator[P]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(b'{"second"'):
                yield msgspec.json.decode(line, type=self._progress)

    def stop(self) -> None:
        """Ask for an early end; what was sent is still waited for."""
        if self._process.poll() is None:
            self._process.terminate()

    def summary(self) -> tuple[F, msgspec.Raw]:
        """The figures, once it has ended, and all of its own JSON. Raises ChildFailed for none."""
        self._process.wait(STOP_SECONDS_MAX)
        if not self._summary.exists():
            ended = self._process.returncode
            raise ChildFailed(f"the {self.name} ended with {ended}: {_end_of(self._log)}")
        written = self._summary.read_bytes()
        return msgspec.json.decode(written, type=self._figures), msgspec.Raw(written)

    def kill(self) -> None:
        """Make sure that no process is left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Acquirer(_Generator[Progress, Figures]):
    """The retail acquirer's host."""

    def __init__(
        self, *, port: int, crowd: Crowd, seconds: float, rate: float, directory: Path
    ) -> None:
        super().__init__(
            "acquirer", Progress, Figures, directory,
            *("--port", str(port), "--seconds", str(seconds), "--rate", str(rate)),
            *("--cards", str(crowd.cards), "--blocked-cards", str(crowd.blocked)),
            # Four times the usual bursts, so that even a short run shows the count limit.
            *("--poor-cards", str(crowd.poor), "--mix", "burst=0.002"),
        )  # fmt: skip


class City(_Generator[CityProgress, CityFigures]):
    """All fifteen venues."""

    def __init__(self, *, places: Path, seconds: float, rate: float, directory: Path) -> None:
        super().__init__(
            "city", CityProgress, CityFigures, directory,
            *("--places", str(places), "--seconds", str(seconds), "--rate", str(rate)),
        )  # fmt: skip


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
