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
from anyio.abc import Listener, SocketStream

from switch import logs
from switch.calendar import BusinessCalendar
from switch.clock import Clock, SystemClock
from switch.config import Config, link_terms
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.keys import read_key
from switch.ledger import bridge, partitions
from switch.ledger.cards import medium_of
from switch.ledger.directory import Directory
from switch.ledger.failures import LedgerLost, guarded
from switch.ledger.lanes import Lane
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics
from switch.net.iso import Connection, Link, LinkLimits, sweep
from switch.pipeline import Pipeline
from switch.terms import load_terms

READY_SECONDS_MAX = 60
HOUSEKEEPING_SECONDS = 1_800
FLUSH_SECONDS = 1.0

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

    def __init__(self, assignment: Assignment, terms: Terms, clock: Clock) -> None:
        config = assignment.config
        self.assignment = assignment
        self.clock = clock
        self.calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self.metrics = Metrics(link.name for link in config.links)
        self.metrics.ruleset(terms.rules.hash)
        self.connections: set[Connection] = set()
        key = read_key(Path(assignment.card_key_file))
        seconds = float(config.ledger.connect_timeout_seconds)
        self.lanes = [
            Lane(
                shard,
                slot=assignment.slot,
                batch_max=config.limits.batch_max,
                open_ledger=functools.partial(Store.open, assignment.database, seconds),
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
            connections_max=config.limits.connections_max,
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
                        accepting.start_soon(listener.serve, link.handle, tasks)
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
        seconds = self.assignment.config.server.drain_seconds
        left = await self.pipeline.finish(seconds)
        if left:
            _log.error("drain gave up with requests unfinished", unfinished=left, seconds=seconds)
        with anyio.move_on_after(FLUSH_SECONDS):
            while any(connection.owes for connection in self.connections):  # noqa: ASYNC110
                await anyio.sleep(0.01)
        for connection in list(self.connections):
            connection.cut("drain")

    async def _keep_house(self) -> None:
        """Keep the days ahead in place, for as long as the process runs over them."""
        config = self.assignment.config.ledger
        while True:
            await anyio.sleep(HOUSEKEEPING_SECONDS)
            try:
                connection = await bridge.connect(self.assignment.database)
                try:
                    made = await guarded(
                        partitions.make_ahead,
                        connection,
                        self.calendar.business_date(self.clock.now_us()),
                        config.partitions_ahead_days,
                        seconds=config.connect_timeout_seconds,
                    )
                finally:
                    await connection.close()
            except (LedgerLost, *bridge.CONNECTION_LOST, TimeoutError) as error:
                _log.warning("partitions were not looked after", reason=type(error).__name__)
                continue
            if made:
                _log.info("partitions made", days=[day.isoformat() for day in made])


def _say_ready(worker: Worker, metrics_port: int) -> None:
    # What stands now stands for good: keep the collector from walking it during a batch.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)
    terms = worker.lanes[0].terms
    ready = Ready(worker.assignment.slot, os.getpid(), metrics_port, terms.rules.hash)
    sys.stdout.buffer.write(msgspec.json.encode(ready) + b"\n")
    sys.stdout.buffer.flush()


async def _stopped() -> None:
    """Return on SIGTERM or SIGINT, or when the supervisor's end of standard input closes."""
    async with anyio.create_task_group() as tasks:

        async def on_signal() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    tasks.cancel_scope.cancel()
                    return

        async def on_orphaned() -> None:
            await anyio.wait_readable(sys.stdin.fileno())
            tasks.cancel_scope.cancel()

        tasks.start_soon(on_signal)
        tasks.start_soon(on_orphaned)


async def _main(assignment: Assignment) -> None:
    connection = await bridge.connect(assignment.database)
    try:
        accounts = await settlement_accounts(connection)
    finally:
        await connection.close()
    worker = Worker(assignment, load_terms(assignment.config, accounts), SystemClock())
    await worker.run(_stopped)


def _raise_open_files_limit() -> None:
    """Connections need file descriptors; take as many as the system lets us without asking."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with_room = hard if hard != resource.RLIM_INFINITY else 1_048_576
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (with_room, hard))
    except (ValueError, OSError):
        _log.info("the limit of open files stays as it is")


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
    _raise_open_files_limit()
    bridge.run(assignment.backend, _main, assignment)
    return 0


if __name__ == "__main__":
    sys.exit(main())
