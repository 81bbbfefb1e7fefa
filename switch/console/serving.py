"""The console as a process: from its port to its end by a signal."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import msgspec

from switch.clock import SystemClock
from switch.config import Config, ConfigError
from switch.console.assembly import Console, console
from switch.ledger import bridge
from switch.ledger.migrate import LedgerUnfit, assert_migrated
from switch.logs import get as get_log

EXIT_OK, EXIT_CONFIGURATION, EXIT_LEDGER = 0, 2, 3
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_log = get_log("console")


class LedgerAway(Exception):
    """The database does not answer; the text names it without its password."""


class ReadyConsole(msgspec.Struct, frozen=True):
    """What the ready file says, once the port answers."""

    pid: int
    database: str
    port: int


def serve(
    config: Config,
    *,
    backend: bridge.Backend,
    database: str,
    reports: Path,
    ready_file: Path | None,
) -> int:
    """Serve until SIGTERM or SIGINT; the exit code of `citycard console`."""
    try:
        return bridge.run(backend, _run, config, database, reports, ready_file)
    except (ConfigError, LedgerUnfit) as error:
        _log.error(str(error))
        return EXIT_CONFIGURATION
    except LedgerAway as error:
        _log.error(str(error))
        return EXIT_LEDGER
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


async def _run(config: Config, database: str, reports: Path, ready_file: Path | None) -> int:
    built = console(config, database=database, reports=reports, clock=SystemClock())
    await _require_ledger(config, database)
    if config.server.host not in LOOPBACK and not config.console.tls.certificate_file:
        _log.warning("tokens travel in the clear; set [console.tls], or a proxy with TLS before it")
    number = config.console.port
    try:
        bound = built.open(config.server.host, number)
    except OSError as error:
        words = "stop what listens there or configure another port"
        _log.error(f"port {number} of the console cannot be taken ({error.strerror}); {words}")
        return EXIT_CONFIGURATION
    ready = ReadyConsole(os.getpid(), bridge.without_secrets(database), bound)
    async with anyio.create_task_group() as tasks:
        await tasks.start(_await_signal, built, float(config.server.drain_seconds))
        _log.info("the console answers", port=ready.port, database=ready.database)
        if ready_file is not None:
            _write_ready_file(ready_file, ready)
        await built.run()
        tasks.cancel_scope.cancel()
    return EXIT_OK


async def _require_ledger(config: Config, database: str) -> None:
    """Raise LedgerAway where it does not answer, LedgerUnfit where it is of another version."""
    seconds = float(config.ledger.connect_timeout_seconds)
    try:
        connection = await bridge.connect(database, timeout_seconds=seconds)
    except (*bridge.CONNECTION_LOST, *bridge.CONNECTION_REFUSED, TimeoutError) as error:
        reason = bridge.reason_without_secrets(error)
        raise LedgerAway(
            f"the ledger at {bridge.without_secrets(database)} can't be reached ({reason}); "
            "start it or give another with --database"
        ) from None
    try:
        await assert_migrated(connection)
    finally:
        connection.terminate()


async def _await_signal(
    built: Console,
    seconds: float,
    *,
    task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Watched to the very end, so that a second signal breaks nothing off."""
    async with anyio.create_task_group() as leaving:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                _log.info("stopping: what is under way is answered")
                leaving.start_soon(built.leave, seconds)


def _write_ready_file(path: Path, ready: ReadyConsole) -> None:
    """Whole or not at all: whoever waits for the file reads it at once."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    beside.write_bytes(msgspec.json.encode(ready))
    beside.replace(path)
