"""A switch as a user runs it: `citycard serve` as a process, spoken to over the wire."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtest.crowd import Attempt, Behaviour
from loadtest.wire import Answer, Asked, Key, Wire
from protocols.iso8583.dialect import NetworkFunction
from switch import config as configuration
from switch.app import ReadyState
from switch.demo import stage
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import audit

CHECKOUT = Path(__file__).parents[2]
PATIENCE_SECONDS = 60.0
CROWD = stage.Crowd(cards=12, blocked=1, poor=1)
"""Card 0 is blocked, card 1 has 3.00, the others have enough."""

CONFIGURATION = """\
[server]
metrics_port = 0
drain_seconds = 5

[ledger]
connect_timeout_seconds = 2

[[links]]
name = "retail-1"
port = 0

[[links]]
name = "hosts"
port = 0
dialect = "iso87_ascii"
acquirer = "48021001"
[links.framing]
length = "ascii4"
tpdu = false
header_bytes = 0
"""
WIRES = {"retail-1": ("unionpay_pos", "48021000"), "hosts": ("iso87_ascii", "48021001")}


class Home(msgspec.Struct, frozen=True):
    """A directory with a configuration and a key, and perhaps a ledger elsewhere."""

    path: Path
    url: str | None = None

    @property
    def config_file(self) -> Path:
        return self.path / "citycard.toml"

    def command(self, name: str, *arguments: str) -> list[str]:
        database = ("--database", self.url) if self.url else ()
        where = ("--config", str(self.config_file), "--directory", str(self.path), *database)
        return [sys.executable, "-m", "switch.cli", name, *where, *arguments]


class Serving:
    """One `citycard serve`, from its start to its end."""

    def __init__(self, home: Home, *arguments: str) -> None:
        self.home = home
        self._ready_file = home.path / "ready.json"
        self._ready_file.unlink(missing_ok=True)
        self._log = home.path / "switch.log"
        command = home.command("serve", "--ready-file", str(self._ready_file), *arguments)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=CHECKOUT, start_new_session=True
            )

    def ready(self) -> ReadyState:
        """Wait for it to serve."""
        until(lambda: self._ready_file.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.log()
        return msgspec.json.decode(self._ready_file.read_bytes(), type=ReadyState)

    def log(self) -> str:
        return self._log.read_text("utf-8", errors="replace")

    def end(self) -> int:
        """SIGTERM, and its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()


class Terminal:
    """A terminal of an acquirer on a blocking socket."""

    def __init__(self, port: int, link: str = "retail-1") -> None:
        dialect, acquirer = WIRES[link]
        self._wire = Wire(dialect=dialect, acquirer=acquirer, time_zone="Asia/Shanghai")  # type: ignore[arg-type]
        self._framer = self._wire.framer()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self._answers: list[tuple[Key, Answer]] = []
        self._at_seconds = int(time.time())
        self._socket.sendall(
            self._wire.management(NetworkFunction.SIGN_ON, 999_999, self._at_seconds)
        )
        assert self.hear()[1].code == "00"

    def sell(self, stan: int, card_index: int, amount_minor: int = 500) -> bytes:
        """Send a sale; its bytes, to be sent again."""
        attempt = Attempt(
            Behaviour.ORDINARY, card_index, f"T{card_index % 10**7:07}", "SHOP", "5411",
            amount_minor, f"{stan:06}",
        )  # fmt: skip
        octets = self._wire.sale(attempt, self._at_seconds)
        self._socket.sendall(octets)
        return octets

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def hear(self) -> tuple[str, Answer]:
        """The next answer with its STAN. Raises EOFError when the link closes."""
        while not self._answers:
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise EOFError
            for received in self._framer.feed(chunk):
                answered = self._wire.read(received)
                assert answered is not None
                if not isinstance(answered, Asked):
                    # It goes on whatever the switch asks, even to leave.
                    self._answers.append(answered)
        key, answer = self._answers.pop(0)
        return key.stan, answer

    def pay(self, stan: int, card_index: int, amount_minor: int = 500) -> Answer:
        self.sell(stan, card_index, amount_minor)
        heard, answer = self.hear()
        assert heard == f"{stan:06}"
        return answer

    def close(self) -> None:
        self._socket.close()


def until(condition: Callable[[], Any], patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """Look until the condition holds; what it said then."""
    give_up = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.02)
    return found


@pytest.fixture
def home() -> Iterator[Callable[..., Home]]:
    """`home(name, url)`: a directory with a configuration and a key.

    Not in pytest's folder, which every new run closes again to an embedded server's user.
    """
    with tempfile.TemporaryDirectory(prefix="citycard-whole-") as directory:

        def made(name: str = "switch", url: str | None = None) -> Home:
            path = Path(directory) / name
            path.mkdir(mode=0o700)
            (path / "citycard.toml").write_text(CONFIGURATION, "utf-8")
            make_key(path / "card_number.key")
            return Home(path, url)

        yield made


@pytest.fixture
def staged(home: Callable[..., Home], database: str) -> Iterator[Home]:
    """A home whose ledger holds CROWD's cards; its audit must be clean in the end."""
    made = home("switch", database)
    config = configuration.load(made.config_file)
    key = read_key(made.path / "card_number.key")
    bridge.run("asyncio", stage.set_stage, database, config, key, CROWD, lambda _step: None)
    yield made

    async def check() -> None:
        connection = await bridge.connect(database)
        caps_minor = config.tiers.balance_caps_minor()
        report = await audit(connection, balance_caps_minor=caps_minor)
        await connection.close()
        assert report.clean, report

    bridge.run("asyncio", check)


@pytest.fixture
def serve() -> Iterator[Callable[..., Serving]]:
    """`serve(home, "--workers", "2")` starts one; what still runs in the end is ended."""
    with ExitStack() as ended:

        def start(home: Home, *arguments: str) -> Serving:
            serving = Serving(home, *arguments)
            ended.callback(serving.end)
            return serving

        yield start


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    with ExitStack() as closed:

        def connect(port: int, link: str = "retail-1") -> Terminal:
            made = Terminal(port, link)
            closed.callback(made.close)
            return made

        yield connect


@pytest.fixture
def rows() -> Callable[[str, str], list[Any]]:
    """`rows(url, query)` of a ledger."""

    def fetch(url: str, query: str) -> list[Any]:
        async def body() -> list[Any]:
            connection = await bridge.connect(url)
            try:
                return list(await connection.fetch(query))
            finally:
                await connection.close()

        return bridge.run("asyncio", body)

    return fetch


@pytest.fixture
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture
def free_port() -> int:
    """A port that nobody has just now, for what must be named in a configuration."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def scrape() -> Callable[[int], str]:
    """`scrape(port)`: the metrics there, or nothing while nobody answers."""

    def read(port: int) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
                text: str = page.read().decode()
                return text
        except OSError:
            return ""

    return read


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a child process: this one's, without what would change its log."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CITYCARD_")}
