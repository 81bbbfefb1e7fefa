"""`init`, `serve` and `demo`: from an empty folder to a switch that answers."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from cyclopts import Parameter

from switch import config as configuration
from switch import logs
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import Json, complain, write, write_json
from switch.config import Config
from switch.keys import make_key
from switch.ledger import bridge
from switch.ledger.bridge import Backend
from switch.ledger.prepare import Prepared, prepare

DIRECTORY_MODE = 0o700
DATABASE_LINE = 'database = ""'

Workers = Annotated[
    int | None, Parameter(help="Processes that share the ports; as configured if not given.")
]
BackendChoice = Annotated[Backend | None, Parameter(help="Event loop; as configured if not given.")]


class Begun(msgspec.Struct, frozen=True):
    """What `init` found or made."""

    config: str
    config_written: bool
    key: str
    key_written: bool
    ledger: str
    migrations: list[str]
    partitions: list[str]


def init(*, where: Where = HERE, json: Json = False) -> int:
    """Make what a switch needs: configuration, card number key, ledger, partitions.

    What is there already is kept, so it may be run again, and is after an upgrade.
    """
    file = where.config or Path(configuration.MAIN_FILE)
    written = _write_config(file, where.database)
    config = configuration.load(file)
    where.directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    key_path = configuration.key_path(config, where.directory)
    key_written = make_key(key_path)
    key = card_number_key(where, config)
    now_us = SystemClock().now_us()

    async def body(ledger: Ledger) -> Prepared:
        return await prepare(ledger.connection, config, key=key, now_us=now_us)

    prepared = with_ledger(where, config, body)
    for notice in prepared.notices:
        complain(notice)
    url = where.url(config)
    begun = Begun(
        config=str(file),
        config_written=written,
        key=str(key_path),
        key_written=key_written,
        ledger=bridge.without_secrets(url) if url else f"embedded in {where.directory}",
        migrations=prepared.migrations,
        partitions=[day.isoformat() for day in prepared.days],
    )
    if json:
        write_json(begun)
    else:
        _write_begun(begun)
    return Exit.OK


def _write_config(file: Path, database: str | None) -> bool:
    """Write the shipped configuration where there is none; True if it was written."""
    text = files("switch").joinpath("citycard.toml").read_text(encoding="utf-8")
    if database and not urlsplit(database).password:
        quoted = msgspec.json.encode(database).decode()
        text = text.replace(DATABASE_LINE, f"database = {quoted}", 1)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        raise CommandFailed(f"{file} cannot be written ({error.strerror}); mend that") from None
    if database and urlsplit(database).password:
        complain(f"the password was not written to {file}; give --database to each command")
    return True


def _write_begun(begun: Begun) -> None:
    def state(made: bool) -> str:
        return "written" if made else "kept as it was"

    write(f"configuration  {begun.config}: {state(begun.config_written)}")
    write(f"card number key  {begun.key}: {state(begun.key_written)}")
    if begun.key_written:
        write("  keep a copy of it apart from the backups: without it no card is found")
    write(f"ledger  {begun.ledger}: {', '.join(begun.migrations) or 'up to date'}")
    days = begun.partitions
    write(f"partitions  {f'{days[0]} to {days[-1]}: made' if days else 'ready'}")
    write("next: citycard serve")


def serve(
    *,
    where: Where = HERE,
    backend: BackendChoice = None,
    workers: Workers = None,
    ready_file: Annotated[
        Path | None, Parameter(help="Written as JSON (ports, pids) once links are answered.")
    ] = None,
    log_format: Annotated[logs.Format, Parameter(help="How log lines look.")] = "auto",
    log_level: Annotated[logs.Level, Parameter(help="The least level that is logged.")] = "info",
) -> int:
    """Answer the links until SIGTERM or SIGINT, then finish what is in flight.

    SIGHUP restarts the workers one at a time: the next one answers before the one of before is
    drained, and peers that signed on are told to connect again, so no message is refused.
    """
    from switch import app

    config = where.load()
    logs.hand_down(log_format, log_level)
    logs.configure()
    for note in configuration.notes(config):
        logs.get("config").warning("worth a second look", note=str(note))
    return app.serve(
        config,
        backend=backend or config.server.backend,
        workers=workers or config.server.workers,
        directory=where.directory,
        database=where.url(config),
        ready_file=ready_file,
    )


def demo(
    *,
    seconds: Annotated[int, Parameter(help="How long traffic runs.")] = 20,
    json: Annotated[
        Path | None, Parameter(name="--json", help="Write the summary to this file as JSON.")
    ] = None,
    cards: Annotated[int, Parameter(help="Cards to issue.")] = 20_000,
    rate: Annotated[int, Parameter(help="Messages a second.")] = 500,
    workers: Workers = None,
    backend: BackendChoice = None,
    directory: Annotated[
        Path | None, Parameter(help="Where the demonstration keeps its own ledger.")
    ] = None,
) -> int:
    """Run everything for a while, with an acquirer's traffic, and audit the ledger."""
    from switch import demo as demonstration

    for name, value in (("seconds", seconds), ("cards", cards), ("rate", rate)):
        if value < 1:
            raise CommandFailed(f"--{name} is below 1; give a whole number from 1")
    logs.configure("auto", "warning", sys.stderr)
    defaults = Config().server
    return demonstration.run(
        seconds=seconds,
        json_path=json,
        cards=cards,
        workers=workers or defaults.workers,
        backend=backend or defaults.backend,
        directory=directory,
        rate=rate,
    )
