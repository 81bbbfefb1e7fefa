"""One worker process: its links, lanes and metrics, from assignment to drain.

It is told what to do in one JSON line on standard input, says in one JSON line on standard
output that it is ready, and stops in order when signalled or when standard input closes,
which is how it notices that its supervisor is gone.
"""

from __future__ import annotations

import functools
import gc
import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import msgspec
from anyio.abc import Listener, SocketStream, TaskGroup

from switch import logs
from switch.calendar import BusinessCalendar
from switch.clock import Clock, SystemClock
from switch.config import Config, link_terms
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.keys import read_key
from switch.ledger import bridge, partitions
from switch.ledger.audit import audit
from switch.ledger.cards import medium_of
from switch.ledger.directory import Directory
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.ledger.lanes import Lane
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.net.iso import Connection, Link, LinkLimits, sweep
from switch.pipeline import Pipeline
from switch.terms import load_terms

READY_SECONDS_MAX = 60
HOUSEKEEPING_FIRST_SECONDS = 60
HOUSEKEEPING_SECONDS = 600
AUDITED_DAYS = 1
AUDIT_SECONDS_MAX = 300
FLUSH_SECONDS = 1.0
ACCEPT_AGAIN_SECONDS = 0.1
OPEN_FILES_KEPT = 128
"""File descriptors that connections leave to the ledger, the metrics and the loop itself."""

_log = logs.get("worker")


class Assignment(msgspec.Struct, frozen=True):
    """What a supervisor gives a worker. `ports` are by link name; `slot` is the worker's number."""

    slot: int
    config: Config
    backend: bridge.Backend
    database: str
    card_key_file: str
    ports: dict[str, int]
    metrics_port: int


class Ready(msgspec.Struct, frozen=True):
    """What a worker says when all its links listen and its lanes are up."""

    slot: int
    pid: int
    metrics_port: int
    ruleset: str


class Worker:
    """The parts of one process, put together."""

    def __init__(
        self, assignment: Assignment, terms: Terms, clock: Clock, open_files_max: int = 1 << 20
    ) -> None:
        config = assignment.config
        self.assignment = assignment
        self.clock = clock
        self.calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self.metrics = Metrics(link.name for link in config.links)
        self.metrics.ruleset(terms.rules.hash)
        self.connections: set[Connection] = set()
        key = read_key(Path(assignment.card_key_file))
        seconds = float(config.ledger.connect_timeout_seconds)
        turns = anyio.Semaphore(config.limits.batches_at_once)
        self.lanes = [
            Lane(
                shard,
                slot=assignment.slot,
                batch_max=config.limits.batch_max,
                open_ledger=functools.partial(Store.open, assignment.database, seconds),
                turns=turns,
                terms=terms,
                calendar=self.calendar,
                clock=clock,
                metrics=self.metrics,
            )
            for shard in range(config.ledger.shards)
        ]
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(
                functools.partial(MediumStore.open, assignment.database, seconds),
                config.limits.directory_cache,
                clock,
                self.metrics,
            ),
            deadlines=DeadlineHeap(clock),
            medium_of=functools.partial(medium_of, key=key),
            in_flight_max=config.limits.in_flight_max,
            lane_queue_max=config.limits.lane_queue_max,
            clock=clock,
            metrics=self.metrics,
        )
        self.limits = LinkLimits(
            # One descriptor more than there may be would fail every accept of the process.
            connections_max=min(
                config.limits.connections_max, max(1, open_files_max - OPEN_FILES_KEPT)
            ),
            idle_seconds=config.limits.idle_seconds,
            first_frame_seconds=config.limits.first_frame_seconds,
            unanswered_bytes_max=config.limits.unanswered_bytes_max,
        )
        self.links = [
            Link(
                link_terms(link, config),
                self.limits,
                self.pipeline.submit,
                self.calendar,
                clock,
                self.metrics,
                self.connections,
                key,
            )
            for link in config.links
        ]

    async def run(self, stopped: Callable[[], Awaitable[None]]) -> None:
        """Listen, serve until `stopped` returns, then drain."""
        host = self.assignment.config.server.host
        metrics_server = self.metrics.serve(host, self.assignment.metrics_port)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run_pipeline)
                await self._until_lanes_are_up()
                listeners = await self._listen(host)
                async with anyio.create_task_group() as accepting:
                    for link, listener in zip(self.links, listeners, strict=True):
                        accepting.start_soon(_accept, listener, link, tasks)
                    tasks.start_soon(sweep, self.connections, self.limits, self.clock)
                    tasks.start_soon(self._keep_house)
                    _say_ready(self, metrics_server.port)
                    await stopped()
                    accepting.cancel_scope.cancel()
                for listener in listeners:
                    await listener.aclose()
                await self._drain()
                tasks.cancel_scope.cancel()
        finally:
            metrics_server.close()

    async def _run_pipeline(self) -> None:
        await self.pipeline.run(started=lambda: None)

    async def _until_lanes_are_up(self) -> None:
        with anyio.move_on_after(READY_SECONDS_MAX):
            while any(lane.down for lane in self.lanes):  # noqa: ASYNC110 - once per process
                await anyio.sleep(0.01)

    async def _listen(self, host: str) -> list[Listener[SocketStream]]:
        return [
            await anyio.create_tcp_listener(
                local_host=host,
                local_port=self.assignment.ports[link.terms.name],
                backlog=4_096,
                reuse_port=True,
            )
            for link in self.links
        ]

    async def _drain(self) -> None:
        for connection in list(self.connections):
            connection.drain()
        seconds = self.assignment.config.server.drain_seconds
        left = await self.pipeline.finish(seconds)
        if left:
            _log.error("drain gave up with requests unfinished", unfinished=left, seconds=seconds)
        with anyio.move_on_after(FLUSH_SECONDS):
            while self.connections:  # noqa: ASYNC110 - once per process
                await anyio.sleep(0.01)
        for connection in list(self.connections):
            connection.cut("drain")

    async def _keep_house(self) -> None:
        """Keep the days ahead in place and the audit's gauge true, for as long as it runs."""
        await anyio.sleep(HOUSEKEEPING_FIRST_SECONDS)
        while True:
            try:
                connection = await bridge.connect(self.assignment.database)
                try:
                    await self._make_partitions(connection)
                    if self.assignment.slot == 0:
                        await self._audit(connection)
                finally:
                    connection.terminate()
            except (LedgerLost, LedgerRefused, *bridge.CONNECTION_LOST, TimeoutError) as error:
                _log.warning("housekeeping was put off", reason=type(error).__name__)
            await anyio.sleep(HOUSEKEEPING_SECONDS)

    async def _make_partitions(self, connection: bridge.Connection) -> None:
        config = self.assignment.config.ledger
        made = await guarded(
            partitions.make_ahead,
            connection,
            self.calendar.business_date(self.clock.now_us()),
            config.partitions_ahead_days,
            seconds=config.connect_timeout_seconds,
        )
        if made:
            _log.info("partitions made", days=[day.isoformat() for day in made])

    async def _audit(self, connection: bridge.Connection) -> None:
        """Balances over all that is stored, single rows of the newest day; one worker does it."""
        caps = self.assignment.config.tiers.balance_caps_minor()
        report = await guarded(
            functools.partial(audit, days=AUDITED_DAYS, balance_caps_minor=caps),
            connection,
            seconds=AUDIT_SECONDS_MAX,
        )
        self.metrics.ledger_findings(sum(check.findings for check in report.checks))
        for check in report.checks:
            if check.findings:
                _log.critical("the audit found", check=check.name, first=check.first)


async def _accept(listener: Listener[SocketStream], link: Link, tasks: TaskGroup) -> None:
    """Accept until cancelled: what one accept fails of must not end the process."""
    while True:
        try:
            await listener.serve(link.handle, tasks)
        except* OSError as errors:
            _log.error("a connection was not accepted", link=link.terms.name, reason=str(errors))
        await anyio.sleep(ACCEPT_AGAIN_SECONDS)


def spare_the_collector() -> None:
    """What stands now stands for good: keep the collector from walking it during a batch.

    With ten thousand connections open, one full collection takes half a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


def _say_ready(worker: Worker, metrics_port: int) -> None:
    spare_the_collector()
    terms = worker.lanes[0].terms
    ready = Ready(worker.assignment.slot, os.getpid(), metrics_port, terms.rules.hash)
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()


async def _watch_signals(stop: anyio.Event) -> None:
    """Stop on SIGTERM or SIGINT. Watched to the very end, so that a second one kills no drain."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            stop.set()


async def _watch_supervisor(stop: anyio.Event) -> None:
    """Stop when the supervisor's end of standard input closes."""
    await anyio.wait_readable(sys.stdin.fileno())
    stop.set()


async def _main(assignment: Assignment, open_files_max: int) -> None:
    connection = await bridge.connect(assignment.database)
    try:
        accounts = await settlement_accounts(connection)
    finally:
        await connection.close()
    terms = load_terms(assignment.config, accounts)
    worker = Worker(assignment, terms, SystemClock(), open_files_max)
    stop = anyio.Event()
    async with anyio.create_task_group() as watchers:
        watchers.start_soon(_watch_signals, stop)
        watchers.start_soon(_watch_supervisor, stop)
        await worker.run(stop.wait)
        watchers.cancel_scope.cancel()


def _raise_open_files_limit() -> int:
    """Take as many file descriptors as the system lets us without asking; how many these are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with_room = hard if hard != resource.RLIM_INFINITY else 1_048_576
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (with_room, hard))
    except (ValueError, OSError):
        _log.info("the limit of open files stays as it is", limit=soft)
        return soft
    return with_room


def main() -> int:
    """Entry of the worker process (`python -m switch.worker`)."""
    logs.configure()
    line = b""
    while not line.endswith(b"\n"):
        # Unbuffered: what follows the line is only ever the end of the pipe.
        byte = os.read(sys.stdin.fileno(), 65_536)
        if not byte:
            return 2
        line += byte
    assignment = msgspec.json.decode(line, type=Assignment)
    bridge.run(assignment.backend, _main, assignment, _raise_open_files_limit())
    return 0


if __name__ == "__main__":
    sys.exit(main())
