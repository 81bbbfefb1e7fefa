"""`citycard demo`: sets the stage, runs the traffic, tells what happened and proves it.

It keeps to a directory of its own, whose ledger it made itself and makes anew each time, so
it can't touch one that matters.
"""

from __future__ import annotations

import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

import msgspec

from switch.app import ReadyState
from switch.config import Config
from switch.demo import city, stage
from switch.demo.children import (
    Acquirer,
    ChildFailed,
    City,
    CityFigures,
    Figures,
    biller_book,
    biller_serving,
    switch_serving,
)
from switch.demo.proof import Proof, Scrape, prove, scrape
from switch.demo.screen import Screen, console
from switch.demo.traffic import Traffic
from switch.ledger import bridge
from switch.ledger.embedded import running
from switch.ledger.embedded_places import EmbeddedServerError
from switch.ledger.migrate import LedgerUnfit
from switch.venues import load_venues

CARDS_MIN = 200
RATE_DEFAULT = 500.0
RETAIL_SHARE = 0.4
"""Of the messages: the shops' own acquirer, beside the city."""
PORTS_WIDTH = 80
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
    city: msgspec.Raw
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

    `seconds` of traffic at `rate` messages a second over `cards` cards, in all fifteen venues.
    1 is a finding, 2 a wrong argument, 3 a ledger that could not be used.
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
    crowd = stage.city_crowd_of(cards)
    screen.heading(f"citycard demo · {cards:,} cards · {rate:,.0f} messages/s for {seconds} s")
    with ExitStack() as open_:
        hosts = {kind: open_.enter_context(biller_serving(kind, home)) for kind in city.HOSTS}
        config_file, config = stage.write_configuration(home, city.configuration(hosts))
        server = open_.enter_context(running(home))
        url = server.url
        bridge.run("asyncio", stage.fresh_database, server.url_for("postgres"))
        keys = city.make_keys(config, home)
        card_key = _set_stage(screen, url, config, home, crowd)
        api = bridge.run("asyncio", city.open_counters, url)
        with switch_serving(
            config=config_file, url=url, directory=home, workers=workers, backend=backend
        ) as ready:
            for line in _where(ready, workers, backend):
                screen.line(line)
            places = city.write_places(home, ready.links, config, keys, api, card_key, crowd)
            traffic = _traffic(screen, ready, crowd, seconds, rate, home, places)
            figures, raw = traffic.acquirer.summary()
            city_figures, city_raw = traffic.city.summary()
            places.unlink()  # it has keys in it
            scraped = scrape(config.server.host, ready.metrics)
        books: dict[str, int] = {}
        for port in hosts.values():
            books |= biller_book(port)
        journals = [traffic.acquirer.journal, traffic.city.journal]
        proven = bridge.run("asyncio", _prove, url, config, journals, books)
    ok = figures.sound and city_figures.sound and proven.sound
    _tell(screen, proven, figures, city_figures, scraped, home, ok)
    return Report(ok, seconds, rate, cards, workers, backend, url, raw, city_raw, proven, scraped)


def _set_stage(screen: Screen, url: str, config: Config, home: Path, crowd: stage.Crowd) -> bytes:
    """Cards and money; the card number key that they were issued under."""
    key = stage.card_key(config, home)
    with screen.steps() as step:
        bridge.run("asyncio", stage.set_stage, url, config, key, crowd, step)
    screen.line(
        f"ledger   PostgreSQL in {home}, {config.ledger.shards} shards, fsync on; {crowd.cards:,} "
        f"cards, {crowd.riders:,} ride"
    )
    return key


def _where(ready: ReadyState, workers: int, backend: str) -> list[str]:
    plural = "worker" if workers == 1 else "workers"
    ports = " · ".join(f"{name} {port}" for name, port in ready.links.items())
    first, *rest = textwrap.wrap(ports, PORTS_WIDTH)
    spaces = " " * len("switch   ")
    return [
        f"switch   {workers} {plural} on {backend}",
        *(spaces + line for line in (first, *rest)),
    ]


def _traffic(
    screen: Screen,
    ready: ReadyState,
    crowd: stage.Crowd,
    seconds: int,
    rate: float,
    home: Path,
    places: Path,
) -> Traffic:
    """Run both load generators to their end, or to the first Ctrl-C."""
    shops = Acquirer(
        port=ready.links[stage.LINK],
        crowd=crowd,
        seconds=seconds,
        rate=rate * RETAIL_SHARE,
        directory=home,
    )
    venues = City(places=places, seconds=seconds, rate=rate * (1 - RETAIL_SHARE), directory=home)
    traffic = Traffic(shops, venues)
    try:
        try:
            screen.follow(seconds, traffic)
        except KeyboardInterrupt:
            screen.line("stopping: the answers under way are waited for")
            traffic.stop()
            screen.follow(seconds, traffic)
        traffic.wait()
        return traffic
    finally:
        traffic.kill()


async def _prove(url: str, config: Config, journals: list[Path], books: dict[str, int]) -> Proof:
    connection = await bridge.connect(url)
    try:
        venues = load_venues(config.venues.file)
        return await prove(connection, config, venues, journals, books, stage.LINK)
    finally:
        await connection.close()


def _tell(
    screen: Screen,
    proven: Proof,
    figures: Figures,
    city_figures: CityFigures,
    scraped: Scrape,
    home: Path,
    ok: bool,
) -> None:
    screen.heading("\nThe fifteen venues")
    screen.venues(proven)
    screen.heading("\nWhat became of the messages")
    screen.outcomes(proven, figures, city_figures)
    screen.heading("\nOne declined payment, from message to answer")
    screen.story(proven)
    screen.heading("\nWhat proves it")
    screen.proof(proven, scraped)
    if ok:
        where = f"--directory {_shown(home)}"
        screen.line("kept     until the next demonstration; look at it with")
        if proven.story:
            screen.line(f"         citycard card show {proven.story.card_id} {where}")
        screen.line(f"         citycard venues {where}")
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
