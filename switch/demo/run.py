"""`citycard demo`: sets the stage, runs the traffic, tells what happened and proves it.

It keeps to a directory of its own, whose ledger it made itself and makes anew each time, so
it can't touch one that matters.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import msgspec

from switch.app import ReadyState
from switch.config import Config
from switch.demo import stage
from switch.demo.children import Acquirer, ChildFailed, Figures, switch_serving
from switch.demo.proof import Proof, Scrape, prove, scrape
from switch.demo.screen import Screen, console
from switch.ledger import bridge
from switch.ledger.embedded import running
from switch.ledger.embedded_places import EmbeddedServerError
from switch.ledger.migrate import LedgerUnfit

CARDS_MIN = 200
RATE_DEFAULT = 500.0
DIRECTORY = Path(".citycard") / "demo"
EXIT_OK, EXIT_FINDINGS, EXIT_USAGE, EXIT_LEDGER = 0, 1, 2, 3


class Report(msgspec.Struct, frozen=True):
    """The demonstration as JSON. `ok` is what the exit code says."""

    ok: bool
    seconds: int
    rate_wanted: float
    cards: int
    workers: int
    backend: str
    database: str
    acquirer: msgspec.Raw
    proof: Proof
    metrics: Scrape


def run(
    *,
    seconds: int = 20,
    json_path: Path | None = None,
    cards: int = 20_000,
    workers: int = 1,
    backend: bridge.Backend = "asyncio",
    directory: Path | None = None,
    rate: float = RATE_DEFAULT,
) -> int:
    """Run the demonstration; 0 only when all was answered, repeats agreed and the audit is clean.

    `seconds` of traffic at `rate` messages a second over `cards` cards. 1 is a finding, 2 a
    wrong argument, 3 a ledger that could not be used.
    """
    screen = Screen(console())
    refused = _refused(seconds, cards, workers, rate)
    if refused:
        print(f"citycard demo: {refused}", file=sys.stderr)  # noqa: T201 - a command's sentence
        return EXIT_USAGE
    home = (directory or DIRECTORY).absolute()
    try:
        with _ending_in_order(), stage.own_directory(home):
            report = _demonstrate(screen, home, seconds, rate, cards, workers, backend)
    except (EmbeddedServerError, LedgerUnfit, *bridge.CONNECTION_LOST) as error:
        screen.failure(f"the demonstration has no ledger: {error}")
        return EXIT_LEDGER
    except (ChildFailed, stage.StageNotSet) as error:
        screen.failure(f"the demonstration was cut short: {error}")
        return EXIT_FINDINGS
    if json_path:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return EXIT_OK if report.ok else EXIT_FINDINGS


def _refused(seconds: int, cards: int, workers: int, rate: float) -> str:
    """Why these arguments make no demonstration, or nothing."""
    if find_spec("hdrh") is None or find_spec("loadtest") is None:
        return "the load generator is not installed; install citycard[load]"
    if seconds < 1 or rate <= 0 or workers < 1:
        return "seconds and workers are 1 or more, and the rate more than 0"
    if cards < CARDS_MIN:
        return f"give {CARDS_MIN} cards or more, so that some can be blocked and some poor"
    return ""


def _demonstrate(
    screen: Screen,
    home: Path,
    seconds: int,
    rate: float,
    cards: int,
    workers: int,
    backend: bridge.Backend,
) -> Report:
    config_file, config = stage.write_configuration(home)
    crowd = stage.crowd_of(cards)
    screen.heading(f"citycard demo · {cards:,} cards · {rate:,.0f} payments/s for {seconds} s")
    with running(home) as server:
        bridge.run("asyncio", stage.fresh_database, server.url_for("postgres"))
        url = server.url
        _set_stage(screen, url, config, home, crowd)
        with switch_serving(
            config=config_file, url=url, directory=home, workers=workers, backend=backend
        ) as ready:
            screen.line(_where(ready, workers, backend))
            figures, raw = _traffic(screen, ready, crowd, seconds, rate, home)
            scraped = scrape(config.server.host, ready.metrics)
        proven = bridge.run("asyncio", _prove, url, home / "journal.jsonl", config)
    ok = figures.sound and proven.audit.clean and not proven.agreement.disagreements
    _tell(screen, proven, figures, scraped, home, ok)
    return Report(ok, seconds, rate, cards, workers, backend, url, raw, proven, scraped)


def _set_stage(screen: Screen, url: str, config: Config, home: Path, crowd: stage.Crowd) -> None:
    key = stage.card_key(config, home)
    with screen.steps() as step:
        bridge.run("asyncio", stage.set_stage, url, config, key, crowd, step)
    screen.line(
        f"ledger   PostgreSQL in {home}, {config.ledger.shards} shards, fsync on; {crowd.cards:,} "
        f"cards loaded, {crowd.blocked:,} blocked, {crowd.poor:,} nearly empty"
    )


def _where(ready: ReadyState, workers: int, backend: str) -> str:
    links = ", ".join(f"{name} on port {port}" for name, port in ready.links.items())
    plural = "worker" if workers == 1 else "workers"
    return f"switch   {links}; {workers} {plural} on {backend}"


def _traffic(
    screen: Screen, ready: ReadyState, crowd: stage.Crowd, seconds: int, rate: float, home: Path
) -> tuple[Figures, msgspec.Raw]:
    acquirer = Acquirer(
        port=ready.links[stage.LINK], crowd=crowd, seconds=seconds, rate=rate, directory=home
    )
    try:
        try:
            screen.follow(seconds, acquirer)
        except KeyboardInterrupt:
            screen.line("stopping: the answers under way are waited for")
            acquirer.stop()
            screen.follow(seconds, acquirer)
        return acquirer.summary()
    finally:
        acquirer.kill()


async def _prove(url: str, journal: Path, config: Config) -> Proof:
    connection = await bridge.connect(url)
    try:
        return await prove(connection, journal, config.tiers.balance_caps_minor())
    finally:
        await connection.close()


def _tell(
    screen: Screen,
    proven: Proof,
    figures: Figures,
    scraped: Scrape,
    home: Path,
    ok: bool,
) -> None:
    screen.heading("\nWhat became of the payments")
    screen.outcomes(proven, figures)
    screen.heading("\nOne declined payment, from message to answer")
    screen.story(proven)
    screen.heading("\nWhat proves it")
    screen.proof(proven, scraped)
    if ok:
        where = f"--directory {_shown(home)}"
        screen.line("kept     until the next demonstration; look at it with")
        if proven.story:
            screen.line(f"         citycard card show {proven.story.card_id} {where}")
        screen.line(f"         citycard audit {where}")
    else:
        screen.failure("not proven: see the figures above")


def _shown(path: Path) -> str:
    """A path as a person would write it from here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """SIGTERM ends like Ctrl-C, so that no process is left behind."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
