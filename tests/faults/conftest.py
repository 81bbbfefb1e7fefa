"""A switch of real processes before a real Postgres, an acquirer with a journal, and the reckoning.

Counts are small enough for every run; CITYCARD_FAULTS=20 makes twenty times as many faults.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.journal import Entry, read_journal
from loadtest.tally import INDEFINITE_CODES, Progress, Summary
from switch import config as configuration
from switch.app import ReadyState
from switch.demo import stage
from switch.demo.children import switch_serving
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import AuditReport, audit

FAULTS = int(os.environ.get("CITYCARD_FAULTS", "1"))
CARDS = 300
PATIENCE_SECONDS = 60.0
BUDGET_MS = 800
CONFIGURATION = """\
[server]
metrics_port = 0
drain_seconds = 5

[ledger]
connect_timeout_seconds = 2

[[links]]
name = "retail-1"
port = 0
budget_ms = {budget_ms}
"""

PURCHASES = """
select p.terminal, p.stan, p.local_at, p.outcome, p.approved_minor, p.rrn,
       exists (select from ledger.authorization r
               where r.shard = p.shard and r.original_id = p.authorization_id
                 and r.kind = 'reversal' and r.outcome = 'approved') as reversed
from ledger.authorization p where p.kind = 'purchase'
"""


class Staged(msgspec.Struct, frozen=True):
    """A ledger with cards on it, and the configuration of a switch before it."""

    url: str
    home: Path
    config_file: Path
    config: configuration.Config
    crowd: stage.Crowd

    @contextmanager
    def serving(self, *, workers: int = 2, backend: str = "asyncio") -> Iterator[ReadyState]:
        with switch_serving(
            config=self.config_file,
            url=self.url,
            directory=self.home,
            workers=workers,
            backend=backend,
        ) as ready:
            yield ready

    def ready(self) -> ReadyState:
        """What the supervisor says now."""
        return msgspec.json.decode((self.home / "ready.json").read_bytes(), type=ReadyState)

    def log(self) -> str:
        return (self.home / "switch.log").read_text("utf-8", errors="replace")

    def rows(self, query: str = PURCHASES) -> list[Any]:
        async def fetch() -> list[Any]:
            connection = await bridge.connect(self.url)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return bridge.run("asyncio", fetch)

    def audit(self) -> AuditReport:
        async def check() -> AuditReport:
            connection = await bridge.connect(self.url)
            try:
                caps = self.config.tiers.balance_caps_minor()
                return await audit(connection, balance_caps_minor=caps)
            finally:
                await connection.close()

        return bridge.run("asyncio", check)


class Acquirer:
    """The load generator as a process of its own; iterate it for its progress each second."""

    def __init__(self, staged: Staged, port: int, *arguments: str) -> None:
        self.journal = staged.home / "acquirer.jsonl"
        self._summary = staged.home / "acquirer.json"
        crowd = staged.crowd
        command = [
            *(sys.executable, "-m", "loadtest.acquirer", "--port", str(port), "--progress"),
            *("--cards", str(crowd.cards), "--blocked-cards", str(crowd.blocked)),
            *("--poor-cards", str(crowd.poor), "--journal", str(self.journal)),
            *("--json", str(self._summary), *arguments),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)

    def __iter__(self) -> Iterator[Progress]:
        """Each second as it happens; those are left out that passed while nobody listened."""
        assert self.process.stdout is not None
        begun = 0.0
        for line in self.process.stdout:
            if b'"second"' in line:
                progress = msgspec.json.decode(line, type=Progress)
                begun = begun or time.monotonic() - progress.second
                if time.monotonic() - begun < progress.second + 1:
                    yield progress

    def stop(self) -> None:
        """Nothing new is sent; what was sent is waited for."""
        self.process.terminate()

    def summary(self) -> Summary:
        self.process.wait(PATIENCE_SECONDS)
        return msgspec.json.decode(self._summary.read_bytes(), type=Summary)

    def entries(self) -> list[Entry]:
        return read_journal(self.journal)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def until(condition: Callable[[], Any], patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """Look until the condition holds; what it said then."""
    give_up = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.02)
    return found


def reckon(entries: list[Entry], rows: list[Any], *, unknown_may_stand: bool) -> list[str]:
    """Everything in which the journal and the ledger disagree, by key.

    An approval that was told stands once, with its amount and RRN, and is not given back.
    What was refused has moved nothing. What was answered 91 or not at all has moved nothing
    either, unless a switch died before it could settle that (`unknown_may_stand`).
    """
    stored = defaultdict(list)
    for row in rows:
        stored[row["terminal"], row["stan"], row["local_at"]].append(row)
    told = defaultdict(list)
    for entry in entries:
        told[entry.terminal, entry.stan, entry.local_at].append(entry)
    wrong = []
    for key, answers in told.items():
        name = "-".join(key)
        standing = [row for row in stored[key] if row["approved_minor"] and not row["reversed"]]
        approvals = [answer for answer in answers if answer.code == "00"]
        codes = {answer.code for answer in answers}
        refusals = codes - INDEFINITE_CODES - {"00", ""}
        if approvals and [(row["approved_minor"], row["rrn"]) for row in standing] != [
            (approvals[0].approved_minor, approvals[0].rrn)
        ]:
            wrong.append(f"{name}: told approved, in the ledger {len(standing)} times")
        if refusals and (standing or approvals):
            wrong.append(f"{name}: told {codes}, and money moved")
        if standing and not approvals and not refusals and not unknown_may_stand:
            wrong.append(f"{name}: told {codes}, and it stands approved")
    wrong += [
        f"{'-'.join(key)}: approved in the ledger and never asked for"
        for key, found in stored.items()
        if key not in told and any(row["approved_minor"] for row in found)
    ]
    return wrong


def stage_on(url: str, home: Path, crowd: stage.Crowd, budget_ms: int) -> Staged:
    home.mkdir(exist_ok=True)
    config_file = home / "citycard.toml"
    config_file.write_text(CONFIGURATION.format(budget_ms=budget_ms), "utf-8")
    config = configuration.load(config_file)
    make_key(home / "card_number.key")
    key = read_key(home / "card_number.key")
    bridge.run("asyncio", stage.set_stage, url, config, key, crowd, lambda _step: None)
    return Staged(url, home, config_file, config, crowd)


Setting = Callable[..., Staged]


@pytest.fixture
def own_ledger() -> Iterator[Path]:
    """The directory of an embedded server that a test may kill.

    Not in pytest's folder, which every new run closes again to the server's user.
    """
    with tempfile.TemporaryDirectory(prefix="citycard-faults-") as directory:
        yield Path(directory)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """`setting(url, crowd, budget_ms)` sets a stage on an empty or migrated database."""

    def set_on(url: str, crowd: stage.Crowd | None = None, budget_ms: int = BUDGET_MS) -> Staged:
        chosen = crowd or stage.Crowd(CARDS, 3, 6)
        return stage_on(url, tmp_path / "switch", chosen, budget_ms)

    return set_on


@pytest.fixture
def acquirer() -> Iterator[Callable[..., Acquirer]]:
    started: list[Acquirer] = []

    def start(staged: Staged, port: int, *arguments: str) -> Acquirer:
        started.append(Acquirer(staged, port, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.end()


class Processes:
    """Signals to the server and all its children, by number; whatever is stopped goes on."""

    def __init__(self) -> None:
        self._stopped: list[int] = []

    def family(self, pid: int) -> list[int]:
        """The process and its children."""
        family = [pid]
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    stat = (folder / "stat").read_text()
                except OSError:
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == pid:
                    family.append(int(folder.name))
        return family

    def stop(self, pid: int) -> None:
        for each in self.family(pid):
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
def reckoning() -> Callable[..., list[str]]:
    return reckon


@pytest.fixture
def patiently() -> Callable[..., Any]:
    return until


@pytest.fixture
def faults() -> int:
    """How many times as many faults as in an ordinary run."""
    return FAULTS
