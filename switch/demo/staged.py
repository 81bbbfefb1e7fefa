"""A switch on a stage for load generators: `python -m switch.demo.staged`.

It sets the stage once, then takes orders as JSON lines on standard input and answers each
with one on standard output: `{"backend": "asyncio", "workers": 1}` starts a switch (stopping
the one before), `{"shadow": true}` puts a draft in shadow beside its live ruleset, and false
takes it back; end of input stops it, audits the ledger and ends. So whoever started it
can end without leaving anything behind, even by being killed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from switch.config import Config
from switch.demo import city, stage
from switch.demo.children import ChildFailed, biller_serving, switch_serving
from switch.demo.shadowing import set_shadow
from switch.ledger import bridge
from switch.ledger.audit import AuditReport, audit
from switch.ledger.embedded import running
from switch.ledger.embedded_places import EmbeddedServerError


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which switch to start next; with `shadow`, what is to be in shadow of the one that runs."""

    backend: bridge.Backend = "asyncio"
    workers: int = 1
    shadow: bool | None = None


class Serving(msgspec.Struct, frozen=True):
    """Where it is: the link's port, the workers' metrics ports, and the issued cards.

    `places` is the file that loadtest.city reads, empty where no city was staged.
    """

    port: int
    metrics: list[int]
    cards: int
    blocked: int
    poor: int
    places: str = ""


class Ended(msgspec.Struct, frozen=True):
    """The audit at the end; `findings` names each broken invariant with its count."""

    clean: bool
    checks: int
    findings: dict[str, int]


def serve_orders(home: Path, cards: int, *, with_city: bool = False) -> int:
    """Set the stage and follow the orders on standard input; 0 when the audit is clean."""
    crowd = stage.city_crowd_of(cards) if with_city else stage.crowd_of(cards)
    with ExitStack() as set, ExitStack() as closing:
        set.enter_context(stage.own_directory(home))
        more = ""
        if with_city:
            more = city.configuration(
                {kind: set.enter_context(biller_serving(kind, home)) for kind in city.HOSTS}
            )
        config_file, config = stage.write_configuration(home, more)
        server = set.enter_context(running(home))
        bridge.run("asyncio", stage.fresh_database, server.url_for("postgres"))
        key = stage.card_key(config, home)
        keys = city.make_keys(config, home) if with_city else None
        bridge.run("asyncio", stage.set_stage, server.url, config, key, crowd, _unheard)
        api = bridge.run("asyncio", city.open_counters, server.url) if with_city else None
        serving: Serving | None = None
        for line in sys.stdin.buffer:
            order = msgspec.json.decode(line, type=Order)
            if order.shadow is not None and serving is not None:
                bridge.run("asyncio", set_shadow, server.url, serving.metrics, order.shadow)
                _say(serving)
                continue
            closing.close()
            ready = closing.enter_context(
                switch_serving(
                    config=config_file,
                    url=server.url,
                    directory=home,
                    workers=order.workers,
                    backend=order.backend,
                )
            )
            places = ""
            if keys is not None and api is not None:
                written = city.write_places(home, ready.links, config, keys, api, key, crowd)
                places = str(written)
            port = ready.links[stage.LINK]
            serving = Serving(port, ready.metrics, cards, crowd.blocked, crowd.poor, places)
            _say(serving)
        closing.close()
        report = bridge.run("asyncio", _audit, server.url, config)
    findings = {check.name: check.findings for check in report.checks if check.findings}
    _say(Ended(report.clean, len(report.checks), findings))
    return 0 if report.clean else 1


async def _audit(url: str, config: Config) -> AuditReport:
    connection = await bridge.connect(url)
    try:
        return await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
    finally:
        await connection.close()


def _unheard(_step: str) -> None:
    """Nobody watches the stage being set."""


def _say(line: Serving | Ended) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """0 for a clean audit, 1 for findings, 3 when the stage could not be set."""
    parser = argparse.ArgumentParser(prog="python -m switch.demo.staged", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="of its own ledger")
    parser.add_argument("--cards", type=int, default=20_000)
    parser.add_argument("--city", action="store_true", help="with all fifteen venues")
    given = parser.parse_args(argv)
    try:
        return serve_orders(given.directory.absolute(), given.cards, with_city=given.city)
    except (EmbeddedServerError, stage.StageNotSet, ChildFailed) as error:
        print(f"staged switch: {error}", file=sys.stderr)  # noqa: T201 - a command's sentence
        return 3


if __name__ == "__main__":
    sys.exit(main())
