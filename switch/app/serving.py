"""Prepares a ledger, takes the ports, and supervises workers until the end.

Workers share nothing but Postgres and the listening ports (`SO_REUSEPORT`), so one that
dies is replaced and the others never notice. Each port is held bound but not listening here,
which keeps the number for the next worker without taking its connections.
"""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from risk.findings import RulesetError
from switch import logs
from switch.app.supervisor import Supervisor
from switch.clock import Clock, SystemClock
from switch.config import Config, ConfigError, doors, key_path
from switch.keys import KeyFileError, read_key
from switch.keystore.seam import KeyStoreError
from switch.keystore.software import open_store, store_path
from switch.ledger import bridge, migrate
from switch.ledger.embedded import running
from switch.ledger.embedded_places import EmbeddedServerError
from switch.ledger.prepare import Prepared, prepare
from switch.net.guard import guards_for
from switch.net.tap.assembly import check_taps
from switch.net.tls import server_context
from switch.standin import with_spool_file
from switch.terms import load_terms

EXIT_CONFIGURATION, EXIT_LEDGER = 2, 3

_log = logs.get("supervisor")


class LedgerUnreachable(Exception):
    """The database does not answer; the text names it without its password."""


class PortTaken(Exception):
    """A link's port is not to be had; the text says which."""


@contextlib.contextmanager
def ledger_url(config: Config, directory: Path, database: str | None) -> Iterator[str]:
    """The URL of the ledger: the one given or configured, else the embedded server's."""
    url = database or config.ledger.database
    if url:
        yield url
        return
    with running(directory) as server:
        for notice in server.notices:
            _log.info(notice)
        yield server.url


async def open_ledger(url: str, seconds: float) -> bridge.Connection:
    """A connection for administration; raises LedgerUnreachable with what to do."""
    try:
        return await bridge.connect(url, timeout_seconds=seconds)
    except (*bridge.CONNECTION_LOST, *bridge.CONNECTION_REFUSED, TimeoutError) as error:
        reason = bridge.reason_without_secrets(error)
        raise LedgerUnreachable(
            f"the ledger at {bridge.without_secrets(url)} can't be reached ({reason}); "
            "start it or give another with --database"
        ) from None


async def prepare_ledger(
    url: str, config: Config, key: bytes, clock: Clock, *, migrating: bool
) -> Prepared:
    """Bring a ledger to where a switch can use it; see prepare(). Raises LedgerUnreachable."""
    connection = await open_ledger(url, config.ledger.connect_timeout_seconds)
    try:
        now_us = clock.now_us()
        return await prepare(connection, config, key=key, now_us=now_us, migrating=migrating)
    finally:
        await connection.close()


def serve(
    config: Config,
    *,
    backend: bridge.Backend,
    workers: int,
    directory: Path,
    database: str | None,
    ready_file: Path | None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code of `citycard serve`."""
    key_file = key_path(config, directory)
    config = _with_key_store(with_spool_file(config, directory), directory)
    try:
        key = read_key(key_file)
        _check_guards(config)
        load_terms(config, {})  # a ruleset that cannot be used is told before anything starts
        with ledger_url(config, directory, database) as url:
            embedded = not (database or config.ledger.database)
            prepared = bridge.run(
                "asyncio",
                functools.partial(prepare_ledger, migrating=embedded),
                url,
                config,
                key,
                SystemClock(),
            )
            for notice in prepared.notices:
                _log.warning(notice)
            with _held_ports(config) as ports:
                supervisor = Supervisor(config, backend, workers, url, key_file, ports, ready_file)
                return bridge.run("asyncio", supervisor.run)
    except (
        ConfigError,
        KeyFileError,
        KeyStoreError,
        PortTaken,
        RulesetError,
        migrate.LedgerUnfit,
    ) as error:
        _log.error(str(error))
        return EXIT_CONFIGURATION
    except (LedgerUnreachable, EmbeddedServerError) as error:
        _log.error(str(error))
        return EXIT_LEDGER


def _with_key_store(config: Config, directory: Path) -> Config:
    """The configuration with the path of the key store written out, as workers need it."""
    store_file = str(store_path(config.keys.store_file, directory))
    return msgspec.structs.replace(
        config, keys=msgspec.structs.replace(config.keys, store_file=store_file)
    )


def _check_guards(config: Config) -> None:
    """What would end every worker is told before any starts. Raises ConfigError, KeyStoreError."""
    for number, link in enumerate(config.links):
        server_context(link.tls, f"links[{number}].tls")
    clock = SystemClock()
    store = open_store(Path(config.keys.store_file), clock)
    guards_for(config, store, _never_opened, clock)
    check_taps(config, store)


async def _never_opened() -> bridge.Connection:
    raise AssertionError("guards that are only checked open no connection")


@contextlib.contextmanager
def _held_ports(config: Config) -> Iterator[dict[str, int]]:
    """The port of each link, tap link and API, bound for as long as the body runs."""
    with contextlib.ExitStack() as held:
        ports: dict[str, int] = {}
        for name, port in doors(config):
            holder = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                holder.bind((config.server.host, port))
            except OSError as error:
                raise PortTaken(
                    f"port {port} of {name} cannot be taken ({error.strerror}); "
                    "stop what listens there or configure another port"
                ) from None
            ports[name] = holder.getsockname()[1]
        yield ports
