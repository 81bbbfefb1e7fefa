"""One worker process: its links, lanes and metrics, from assignment to drain.

It is told what to do in one JSON line on standard input, says in one JSON line on standard
output that it is ready, and stops in order when signalled or when standard input closes,
which is how it notices that its supervisor is gone. In a rolling restart it takes the slot
of another worker, which drains while this one answers already.
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
from anyio.abc import TaskGroup

from switch import logs
from switch.calendar import BusinessCalendar
from switch.clock import Clock, SystemClock
from switch.config import Config, doors, link_terms
from switch.deadline import DeadlineHeap
from switch.decide import Terms
from switch.fares.book import fare_date
from switch.keys import read_key
from switch.keystore.seam import KeyStore
from switch.keystore.software import open_store
from switch.ledger import bridge
from switch.ledger.cards import medium_of
from switch.ledger.directory import Directory
from switch.ledger.doorstep import Doorstep
from switch.ledger.expiry import HoldExpiry
from switch.ledger.hotlist import Hotlists
from switch.ledger.housekeeping import Housekeeping
from switch.ledger.lanes import Lane
from switch.ledger.link_totals import LinkTotals, open_for_totals
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import MediumStore, Store
from switch.metrics import Metrics, MetricsServer
from switch.net.conversation import Conversation
from switch.net.debits.assembly import collecting_of
from switch.net.doorway import Doorway
from switch.net.draining import take_leave
from switch.net.entrance import Entrance
from switch.net.guard import guards_for
from switch.net.http.wiring import http_api_of
from switch.net.iso import Link
from switch.net.limits import Conduct, LinkLimits
from switch.net.sweep import sweep
from switch.net.tap.assembly import taps_of
from switch.net.tls import server_context
from switch.net.upstream.assembly import upstreams_of
from switch.pipeline import Pipeline
from switch.rules_desk import RulesDesk
from switch.standin import Desk, Drain, desk_of
from switch.terms import live_terms
from switch.venues import load_venues

READY_SECONDS_MAX = 60
FLUSH_SECONDS = 2.5
METRICS_PORT_AGAIN_SECONDS = 0.1
OPEN_FILES_KEPT = 128
"""File descriptors that connections leave to the ledger, the metrics and the loop itself."""

_log = logs.get("worker")


class Assignment(msgspec.Struct, frozen=True):
    """What a supervisor gives a worker. `ports` are by link name; `slot` is the worker's number.

    `generation` counts the rolling restarts of a slot: above 0 the worker of before may still
    be draining, and has the metrics port until it ends.
    """

    slot: int
    config: Config
    backend: bridge.Backend
    database: str
    card_key_file: str
    ports: dict[str, int]
    metrics_port: int
    generation: int = 0


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
        self.venues = load_venues(config.venues.file)
        self.metrics = Metrics(
            (name for name, _ in doors(config)),
            (host.name for host in config.upstreams),
            (venue.code for venue in self.venues.venues),
            (biller.name for biller in config.billers),
        )
        self.metrics.ruleset(terms.rules.hash)
        self.connections: set[Conversation] = set()
        self._server = config.server
        self._metrics_server: MetricsServer | None = None
        key = read_key(Path(assignment.card_key_file))
        seconds = float(config.ledger.connect_timeout_seconds)
        turns = anyio.Semaphore(config.limits.batches_at_once)
        doorstep = Doorstep(clock)
        self.lanes = [
            Lane(
                shard,
                slot=assignment.slot,
                batch_max=config.limits.batch_max,
                open_ledger=functools.partial(
                    Store.open,
                    assignment.database,
                    seconds,
                    refund_days_max=config.refunds.days_max,
                    fare_date_of=functools.partial(fare_date, terms.fares),
                ),
                turns=turns,
                doorstep=doorstep,
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
        self.standin = self._standin(terms, key) if config.standin.spool_file else None
        self.rules = RulesDesk(
            self._connect,
            config.rules,
            slot=assignment.slot,
            pauses=assignment.slot == 0,
            terms=terms,
            lanes=self.lanes,
            standin=self.standin,
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
        self.totals = LinkTotals(
            functools.partial(open_for_totals, assignment.database, seconds), clock
        )
        self.housekeeping = Housekeeping(
            config,
            assignment.database,
            audits=assignment.slot == 0,
            calendar=self.calendar,
            clock=clock,
            metrics=self.metrics,
        )
        for lane in self.lanes:
            lane.on_day_missing = self.housekeeping.day_missing
        self.expiry = HoldExpiry(
            self._connect,
            self.pipeline.post_own,
            calendar=self.calendar,
            clock=clock,
            metrics=self.metrics,
        )
        store = self._key_store()
        self.guards = guards_for(config, store, self._connect, clock)
        self.upstreams = upstreams_of(
            config,
            database=assignment.database,
            key=key,
            pipeline=self.pipeline,
            calendar=self.calendar,
            clock=clock,
            metrics=self.metrics,
            entropy=os.urandom,
            guards={
                host.name: guard
                for host in config.upstreams
                if (guard := self.guards.of(host.name)) is not None
            },
        )
        self.pipeline.routes = self.upstreams
        self.links = [
            Link(
                link_terms(link, config, self.venues.by_mcc(link.venues)),
                self.limits,
                self.pipeline.submit,
                self.calendar,
                clock,
                self.metrics,
                self.connections,
                key,
                conduct=Conduct(link.sign_on == "required", link.echo_idle_seconds),
                guard=self.guards.of(link.name),
                ask_totals=self.totals.ask,
                tls=server_context(link.tls, f"links[{number}].tls"),
                sheds=self.pipeline.sheds,
            )
            for number, link in enumerate(config.links)
        ]
        acquirers = {link.name: link.acquirer for link in config.taps}
        self.hotlists = Hotlists(self._connect, acquirers, self.metrics) if acquirers else None
        self.taps = taps_of(
            config,
            venues=self.venues,
            store=store,
            submit=self.pipeline.submit,
            limits=self.limits,
            open_connections=self.connections,
            clock=clock,
            metrics=self.metrics,
            hash_key=key,
            lists=self.hotlists,
        )
        self.http = http_api_of(
            config,
            database=assignment.database,
            submit=self.pipeline.submit,
            venues=self.venues,
            accounts=terms.settlement_accounts,
            medium_of=functools.partial(medium_of, key=key),
            calendar=self.calendar,
            clock=clock,
            metrics=self.metrics,
            entropy=os.urandom,
        )
        self.collecting = (
            collecting_of(config, assignment.database, self.pipeline.submit, clock, self.metrics)
            if config.billers and assignment.slot == 0
            else None
        )

    @property
    def entrances(self) -> list[Entrance]:
        """Every port of this worker that readers and acquirers' hosts connect to."""
        return [*self.links, *self.taps.links]

    def _key_store(self) -> KeyStore | None:
        """The store of zone and PIN keys; none where the supervisor named none."""
        store_file = self.assignment.config.keys.store_file
        return open_store(Path(store_file), self.clock) if store_file else None

    async def _connect(self) -> bridge.Connection:
        """A connection of its own for one of the parts beside the lanes."""
        seconds = float(self.assignment.config.ledger.connect_timeout_seconds)
        return await bridge.connect(self.assignment.database, timeout_seconds=seconds)

    def _standin(self, terms: Terms, key: bytes) -> Desk:
        desk = desk_of(
            self.assignment.config,
            key=key,
            slot=self.assignment.slot,
            terms=terms,
            calendar=self.calendar,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.pipeline.standin = desk
        desk.ledger_is_up = lambda: self.pipeline.ledger_is_up
        return desk

    def _start_standin(self, tasks: TaskGroup) -> None:
        """Answer while the ledger is away; one worker posts afterwards what all of them took."""
        if self.standin is None:
            return
        tasks.start_soon(self.standin.run)
        if self.assignment.slot == 0:
            drain = Drain(self.standin, self.pipeline, self.clock, self.metrics)
            tasks.start_soon(drain.run)

    def _start_taps(self, tasks: TaskGroup) -> None:
        """Post what depots upload, and follow the hotlist that they download."""
        if self.taps.links:
            tasks.start_soon(self.taps.desk.run)
        if self.hotlists is not None:
            tasks.start_soon(self.hotlists.run)

    async def run(self, stopped: Callable[[], Awaitable[None]]) -> None:
        """Listen, serve until `stopped` returns, then drain."""
        host = self.assignment.config.server.host
        async with anyio.create_task_group() as tasks:
            metrics_port = self._serve_metrics(host, tasks)
            try:
                await self.rules.load(READY_SECONDS_MAX)
                self.rules.start(tasks)
                tasks.start_soon(self._run_pipeline)
                tasks.start_soon(self.totals.run)
                await self.guards.load()
                tasks.start_soon(self.guards.run)
                if self.upstreams is not None:
                    tasks.start_soon(self.upstreams.run)
                self._start_standin(tasks)
                self._start_taps(tasks)
                await self._until_lanes_are_up()
                doorways = await self._open_doorways(host, tasks)
                if self.http is not None:
                    self.http.open(host, self.assignment.ports)
                    self.http.start(tasks)
                tasks.start_soon(sweep, self.connections, self.limits, self.clock)
                tasks.start_soon(self.housekeeping.run)
                if self.assignment.slot == 0:
                    tasks.start_soon(self.expiry.run)
                self.metrics.ready(True)
                async with anyio.create_task_group() as accepting:
                    for doorway in doorways:
                        accepting.start_soon(doorway.run)
                    if self.collecting is not None:
                        accepting.start_soon(self.collecting.run)
                    _say_ready(self, metrics_port)
                    await stopped()
                    self.metrics.ready(False)
                    accepting.cancel_scope.cancel()
                for doorway in doorways:
                    await doorway.close()
                await self._drain()
                await self.rules.finish()
                tasks.cancel_scope.cancel()
            finally:
                if self._metrics_server is not None:
                    self._metrics_server.close()

    def _serve_metrics(self, host: str, tasks: TaskGroup) -> int:
        """Answer scrapes; a successor takes the port over when the worker before it has ended."""
        port = self.assignment.metrics_port
        try:
            self._metrics_server = self.metrics.serve(host, port, self._server.metrics_tls)
        except OSError:
            if not self.assignment.generation:
                raise
            tasks.start_soon(self._serve_metrics_later, host, port)
            return port
        return self._metrics_server.port

    async def _serve_metrics_later(self, host: str, port: int) -> None:
        while self._metrics_server is None:
            await anyio.sleep(METRICS_PORT_AGAIN_SECONDS)
            try:
                self._metrics_server = self.metrics.serve(host, port, self._server.metrics_tls)
            except OSError:
                pass  # the worker before this one still drains

    async def _run_pipeline(self) -> None:
        await self.pipeline.run(started=lambda: None)

    async def _until_lanes_are_up(self) -> None:
        with anyio.move_on_after(READY_SECONDS_MAX):
            while any(lane.down for lane in self.lanes):  # noqa: ASYNC110 - once per process
                await anyio.sleep(0.01)

    async def _open_doorways(self, host: str, tasks: TaskGroup) -> list[Doorway]:
        ports = self.assignment.ports
        return [await Doorway.open(each, host, ports[each.name], tasks) for each in self.entrances]

    @property
    def _unwritten(self) -> int:
        """What the book about other issuers' hosts does not hold yet."""
        return 0 if self.upstreams is None else self.upstreams.unwritten

    async def _drain(self) -> None:
        """Hear the peers out for half of the time at most; the rest is for what is in flight."""
        seconds = self.assignment.config.server.drain_seconds
        async with anyio.create_task_group() as leaving:
            if self.http is not None:
                leaving.start_soon(self.http.leave, seconds / 2)
            talking = await take_leave(self.entrances, self.connections, self.clock, seconds / 2)
        if talking:
            _log.warning("peers went on sending after sign-off", connections=talking)
        left = await self.pipeline.finish(seconds / 2)
        if left:
            _log.error("drain gave up with requests unfinished", unfinished=left, seconds=seconds)
        if self.upstreams is not None:
            self.upstreams.sign_off()
        with anyio.move_on_after(FLUSH_SECONDS):
            while self.connections or self._unwritten:  # noqa: ASYNC110 - once per process
                await anyio.sleep(0.01)
        for connection in list(self.connections):
            connection.cut("drain")


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
    clock = SystemClock()
    connection = await bridge.connect(assignment.database)
    try:
        accounts = await settlement_accounts(connection)
        terms = await live_terms(assignment.config, accounts, connection, clock.now_us())
    finally:
        await connection.close()
    worker = Worker(assignment, terms, clock, open_files_max)
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
