"""Fixtures of the faults: a stage, a switch on it, tills before it, and the judgement after it.

Counts are small enough for every run; CITYCARD_FAULTS=25 makes 25 times as many faults. Each
test ends with the reckoning and the audit, and adds a row to the table that the run ends with.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from switch.demo import stage
from tests.faults.life_reckoning import Reckoned
from tests.faults.lived import Life, until
from tests.faults.outage import family
from tests.faults.reckoning_table import FaultRow, Record, fault_row, rows_of, table
from tests.faults.staged import Staged, stage_on

__all__ = ["fault_row"]

FAULTS = int(os.environ.get("CITYCARD_FAULTS", "1"))
CARDS = 300
BUDGET_MS = 800
LIFE_CROWD = stage.Crowd(1_000, 5, 15)
LIFE_LINK = "partial_approval = true"

Setting = Callable[..., Staged]


@pytest.fixture
def free_port() -> int:
    """A port that nobody has just now, for a switch that starts more than once on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def own_ledger() -> Iterator[Path]:
    """The directory of an embedded server that a test may kill.

    Not in pytest's folder, which every new run closes again to the server's user.
    """
    with tempfile.TemporaryDirectory(prefix="citycard-faults-") as directory:
        yield Path(directory)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """`setting(url, crowd, budget_ms)` sets a stage on an empty or migrated database.

    `ledger` and `link` are lines for these sections of the configuration, `port` the link's.
    """

    def set_on(
        url: str, crowd: stage.Crowd | None = None, budget_ms: int = BUDGET_MS, **more: Any
    ) -> Staged:
        chosen = crowd or stage.Crowd(CARDS, 3, 6)
        return stage_on(url, tmp_path / "switch", chosen, budget_ms=budget_ms, **more)

    return set_on


@pytest.fixture
def life() -> Iterator[Callable[..., Life]]:
    """`life(staged, port, *arguments)` lets tills live before a switch or a proxy."""
    started: list[Life] = []

    def start(staged: Staged, port: int, *arguments: str) -> Life:
        started.append(Life(staged, port, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def life_setting(setting: Setting) -> Setting:
    """As `setting`, for tills: more cards, and a link that takes partial approvals."""

    def set_on(url: str, **chosen: Any) -> Staged:
        return setting(url, **({"crowd": LIFE_CROWD, "link": LIFE_LINK} | chosen))

    return set_on


@pytest.fixture
def judged(fault_row: Record) -> Callable[..., Reckoned]:
    """`judged(life, fault, injected)`: the reckoning as a row of the table; fails if unsound."""

    def judge(lived: Life, fault: str, injected: int, note: str = "", late: int = 0) -> Reckoned:
        found = lived.reckoned()
        found.unresolved += late
        fault_row(
            FaultRow(
                fault,
                injected,
                found.acknowledged,
                len(found.lost),
                len(found.double),
                found.unresolved,
                note,
            )
        )
        assert found.sound, found.worst
        assert not found.unresolved, f"{found.unresolved} messages are unresolved"
        return found

    return judge


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What the faults did to the money, in a table."""
    reports = [
        report for name in ("passed", "failed") for report in terminalreporter.getreports(name)
    ]
    rows = rows_of(reports)
    if rows:
        terminalreporter.section("faults under traffic")
        terminalreporter.write_line(table(rows))


class Processes:
    """Signals to the server and all its children, by number; whatever is stopped goes on."""

    def __init__(self) -> None:
        self._stopped: list[int] = []

    def stop(self, pid: int) -> None:
        for each in family(pid):
            os.kill(each, signal.SIGSTOP)
            self._stopped.append(each)

    def go_on(self) -> None:
        for each in self._stopped:
            try:
                os.kill(each, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self._stopped.clear()


@pytest.fixture
def processes() -> Iterator[Processes]:
    known = Processes()
    yield known
    known.go_on()


@pytest.fixture
def scraped() -> Callable[[int, str], float]:
    """`scraped(port, name)`: all samples of a metric of a worker, added up."""

    def scrape(port: int, name: str) -> float:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        samples = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        assert samples, f"there is no metric {name}"
        return sum(float(line.rpartition(" ")[2]) for line in samples)

    return scrape


@pytest.fixture
def patiently() -> Callable[..., Any]:
    return until


@pytest.fixture
def faults() -> int:
    """How many times as many faults as in an ordinary run."""
    return FAULTS
