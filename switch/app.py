"""The supervisor: prepares the ledger, shares out the ports, keeps N workers alive.

Workers share nothing but Postgres and the listening ports (`SO_REUSEPORT`), so one that
dies is replaced and the others never notice. The supervisor holds each port bound but not
listening, which keeps the number for the next worker without taking its connections.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Process

from risk.findings import RulesetError
from switch import logs
from switch.clock import Clock, SystemClock
from switch.config import Config, key_path
from switch.keys import KeyFileError, read_key
from switch.ledger import bridge, migrate
from switch.ledger.embedded import running
from switch.ledger.embedded_places import EmbeddedServerError
from switch.ledger.prepare import Prepared, prepare
from switch.terms import load_terms
from switch.worker import Assignment, Ready

RESTART_FIRST_SECONDS = 0.1
RESTART_MAX_SECONDS = 5.0
STEADY_SECONDS = 10
"""A worker that ran so long is restarted without delay."""
KILL_MARGIN_SECONDS = 5

EXIT_OK, EXIT_FAILED, EXIT_CONFIGURATION, EXIT_LEDGER = 0, 1, 2, 3

_log = logs.get("supervisor")


class LedgerUnreachable(Exception):
    """The database does not answer; the text names it without its password."""


class PortTaken(Exception):
    """A link's port is not to be had; the text says which."""


class ReadyState(msgspec.Struct):
    """What `--ready-file` holds once every worker is ready, and after each restart."""

    pid: int
    database: str
    links: dict[str, int]
    metrics: list[int]
    workers: list[int]


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
    try:
        key = read_key(key_file)
        load_terms(config, {})  # a ruleset that cannot be used is told before anything starts
        with ledger_url(config, directory, database) as url:
            embedded = not (database or config.ledger.database)
            bridge.run(
                "asyncio",
                functools.partial(prepare_ledger, migrating=embedded),
                url,
                config,
                key,
                SystemClock(),
            )
            with _held_ports(config) as ports:
                supervisor = Supervisor(config, backend, workers, url, key_file, ports, ready_file)
                return bridge.run("asyncio", supervisor.run)
    except (KeyFileError, PortTaken, RulesetError, migrate.LedgerUnfit) as error:
        _log.error(str(error))
        return EXIT_CONFIGURATION
    except (LedgerUnreachable, EmbeddedServerError) as error:
        _log.error(str(error))
        return EXIT_LEDGER


@contextlib.contextmanager
def _held_ports(config: Config) -> Iterator[dict[str, int]]:
    """Each link's port, bound for as long as the body runs."""
    with contextlib.ExitStack() as held:
        ports: dict[str, int] = {}
        for link in config.links:
            holder = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                holder.bind((config.server.host, link.port))
            except OSError as error:
                raise PortTaken(
                    f"port {link.port} of link {link.name} cannot be taken ({error.strerror}); "
                    "stop what listens there or configure another port"
                ) from None
            ports[link.name] = holder.getsockname()[1]
        yield ports


class Supervisor:
    """Starts the workers, replaces those that die, and ends them in order."""

    def __init__(
        self,
        config: Config,
        backend: bridge.Backend,
        workers: int,
        url: str,
        key_file: Path,
        ports: dict[str, int],
        ready_file: Path | None,
    ) -> None:
        self._config = config
        self._backend = backend
        self._url = url
        self._key_file = key_file
        self._ports = ports
        self._ready_file = ready_file
        self._ready: dict[int, Ready] = {}
        self._slots = range(workers)
        self._was_up = False
        self._stop_asked = anyio.Event()
        self._exit_code = EXIT_OK
        self._processes: dict[int, Process] = {}

    async def run(self) -> int:
        """Until a signal, or until a worker cannot even start."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._await_signal)
            tasks.start_soon(self._kill_late)
            async with anyio.create_task_group() as keepers:
                for slot in self._slots:
                    keepers.start_soon(self._keep, slot)
            tasks.cancel_scope.cancel()
        return self._exit_code

    async def _await_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                _log.info("stopping: links drain", workers=len(self._processes))
                await self._stop()

    async def _stop(self) -> None:
        self._stop_asked.set()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.terminate()

    async def _kill_late(self) -> None:
        """Kill what has not ended long after its drain should have."""
        await self._stop_asked.wait()
        await anyio.sleep(self._config.server.drain_seconds + KILL_MARGIN_SECONDS)
        for slot, process in self._processes.items():
            _log.error("worker does not end; killing it", slot=slot, pid=process.pid)
            self._exit_code = EXIT_FAILED
            process.kill()

    async def _keep(self, slot: int) -> None:
        """Keep one slot filled."""
        back_off_seconds = RESTART_FIRST_SECONDS
        while not self._stop_asked.is_set():
            started = anyio.current_time()
            code = await self._run_worker(slot)
            was_ready = self._ready.pop(slot, None) is not None
            if self._stop_asked.is_set():
                return
            if (
                not was_ready
                and not self._was_up
                and anyio.current_time() - started < STEADY_SECONDS
            ):
                _log.error("a worker could not start; stopping", slot=slot, exit_code=code)
                self._exit_code = EXIT_FAILED
                await self._stop()
                return
            if anyio.current_time() - started > STEADY_SECONDS:
                back_off_seconds = RESTART_FIRST_SECONDS
            _log.error("worker ended; starting another", slot=slot, exit_code=code)
            await anyio.sleep(back_off_seconds)
            back_off_seconds = min(back_off_seconds * 2, RESTART_MAX_SECONDS)

    async def _run_worker(self, slot: int) -> int:
        process = await anyio.open_process(
            [sys.executable, "-m", "switch.worker"],
            stdin=-1,
            stdout=-1,
            stderr=None,
            # A Ctrl-C in the terminal reaches the supervisor, which then drains the workers.
            start_new_session=True,
        )
        async with process:
            self._processes[slot] = process
            if self._stop_asked.is_set():
                process.terminate()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                await process.stdin.send(msgspec.json.encode(self._assignment(slot)) + b"\n")
                line = b""
                async for chunk in process.stdout:
                    line += chunk
                    if line.endswith(b"\n"):
                        self._worker_ready(msgspec.json.decode(line, type=Ready))
                        line = b""
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
            code = await process.wait()
            del self._processes[slot]
            return code

    def _assignment(self, slot: int) -> Assignment:
        first_port = self._config.server.metrics_port
        return Assignment(
            slot=slot,
            config=self._config,
            backend=self._backend,
            database=self._url,
            card_key_file=str(self._key_file),
            ports=self._ports,
            metrics_port=first_port + slot if first_port else 0,
        )

    def _worker_ready(self, ready: Ready) -> None:
        self._ready[ready.slot] = ready
        # From now on a worker that cannot start is tried again: its ledger may come back.
        self._was_up = True
        _log.info(
            "worker ready",
            slot=ready.slot,
            pid=ready.pid,
            metrics_port=ready.metrics_port,
            ruleset=ready.ruleset[:12],
            links=self._ports,
            backend=self._backend,
        )
        if len(self._ready) == len(self._slots) and self._ready_file is not None:
            self._write_ready_file(self._ready_file)

    def _write_ready_file(self, path: Path) -> None:
        """Whole or not at all: whoever waits for the file reads it at once."""
        by_slot = [self._ready[slot] for slot in self._slots]
        state = ReadyState(
            pid=os.getpid(),
            database=bridge.without_secrets(self._url),
            links=self._ports,
            metrics=[ready.metrics_port for ready in by_slot],
            workers=[ready.pid for ready in by_slot],
        )
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        beside.write_bytes(msgspec.json.encode(state))
        beside.replace(path)
