"""One process of the switch in the simulation: the real parts, put together as worker.py does.

What is not real is what they stand on: the clock is trio's mock time on a host whose wall
clock is off, the ledger is the model, streams come from the network in memory, the spool's
file is in memory and written without a thread. A worker can be killed at any await.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import msgspec
import trio  # noqa: TID251 - the simulation owns its clock and its scheduling

from protocols.message import Kind
from switch.admission import Ticket
from switch.config import Config, parse
from switch.deadline import DeadlineHeap
from switch.decide import Terms, derived_key
from switch.ledger.directory import Directory, Place
from switch.ledger.doorstep import Doorstep
from switch.ledger.forward_book import ForwardBook
from switch.ledger.lanes import Lane
from switch.ledger.sealed_request import RequestSealer
from switch.net.iso import Conduct, Connection, Link, LinkLimits
from switch.net.sweep import sweep
from switch.net.upstream import Upstreams
from switch.pipeline import Pipeline
from switch.posting import Hold, HoldStatus
from switch.standin.advice import Sealer
from switch.standin.desk import Desk, policies_of
from switch.standin.drain import Drain
from switch.standin.spool import Spool
from switch.standin.spool_file import SpoolUnusable
from switch.terms import load_terms
from tests.simulation.model_forwarding import ModelForwardConnection
from tests.simulation.model_ledger import CALENDAR, ModelConnection, ModelLedger, medium_of
from tests.simulation.network import Stream
from tests.simulation.spelling import LINKS

if TYPE_CHECKING:
    from tests.simulation.town import Town

T = TypeVar("T")

LIMITS = LinkLimits(
    connections_max=64, idle_seconds=120, first_frame_seconds=15, unanswered_bytes_max=65_536
)
CONDUCT = Conduct(echo_idle_seconds=15)
SWEEP_SECONDS = 5.0
"""A look every so often is enough for what takes minutes, and costs less."""
EXPIRY_SECONDS = 10.0
CARD_NUMBER_KEY = bytes(32)
FOREIGN = "city-b"
"""The upstream that cards of another city's issuer go to."""
FOREIGN_BIN = "622848"


class NoMetrics:
    """Counts nothing: what a worker says of itself is not what it is judged by."""

    def __getattr__(self, name: str) -> Any:
        return _nothing


def _nothing(*_: object, **__: object) -> None:
    return None


class SimulatedClock:
    """trio's mock time, on a host whose wall clock is off."""

    def __init__(self, start_us: int, skew_us: int = 0) -> None:
        self._start_us = start_us
        self.skew_us = skew_us

    def now_us(self) -> int:
        return self._start_us + int(trio.current_time() * 1e6) + self.skew_us

    def monotonic_ns(self) -> int:
        return int(trio.current_time() * 1e9)


class OpenConnections(set[Connection]):
    """In the order they were opened: a set's own order is another one in each process."""

    def __init__(self) -> None:
        super().__init__()
        self._ordered: dict[Connection, None] = {}

    def add(self, element: Connection) -> None:
        super().add(element)
        self._ordered[element] = None

    def discard(self, element: Connection) -> None:
        super().discard(element)
        self._ordered.pop(element, None)

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._ordered))


class OrderedConnection(ModelConnection):
    """Answers in one order, whatever order a set of mediums had."""

    async def find(self, mediums: list[bytes]) -> dict[bytes, Place]:
        return await super().find(sorted(mediums))


CONFIGURATION = """
[holds]
expiry_minutes = 2
load_expiry_minutes = 2
expiry_minutes_by_mcc = { "5542" = 1 }

[standin.transit]
enabled = true
amount_max_minor = 1000
card_amount_max_minor = 3000
card_count_max = 6
total_max_minor = 20000

[[upstreams]]
name = "city-b"
host = "127.0.0.1"
port = 8583
bins = ["622848"]
acquirer = "48020001"
timeout_ms = 400
reversal_retry_seconds = 1
reversal_retry_seconds_max = 8
echo_idle_seconds = 15

[standin.retail]
enabled = true
amount_max_minor = 900
card_amount_max_minor = 2000
card_count_max = 3
total_max_minor = 10000
"""


@cache
def configuration() -> Config:
    return parse(CONFIGURATION, "simulation")


@cache
def terms() -> Terms:
    """The shipped ruleset; each own account that a posting may touch has a number."""
    owners = [(code, link.acquirer) for link in LINKS for code in ("ACQ", "AGENT", "PENDING")]
    standin = configuration().standin
    owners += [
        ("SUSPENSE", policy.suspense_owner)
        for policy in (standin.transit, standin.utility, standin.retail)
    ]
    owners += [("BANK", "trust"), ("INTERCITY", FOREIGN)]
    accounts = {owner: number for number, owner in enumerate(owners, 1)}
    return load_terms(configuration(), accounts)


class SimulatedDesk(Desk):
    """A desk whose spool is asked at once, where the real one asks in a thread."""

    worker: Worker

    async def ask(self, call: Callable[[Spool], T]) -> T:
        dice = self.worker.dice
        async with self._turn:
            await trio.sleep(dice.random() * 0.005)
            # What comes after a kill comes from tasks that are being ended: it never was.
            if self.worker.killed:
                raise SpoolUnusable("this worker is dead")
            trouble = not self.worker.calm() and dice.random() < self.worker.bad_disk
            if trouble and dice.random() < 0.5:
                raise SpoolUnusable("the disk is full")
            answer = call(self._spool)
            if trouble:
                raise SpoolUnusable("nobody knows whether it was written", in_doubt=True)
            await trio.sleep(dice.choice((0.0, dice.random() * 0.1, dice.random())))
            return answer


class Worker:
    """One process of the switch; it can be killed."""

    def __init__(self, town: Town, number: int, slot: int) -> None:
        self.dice = dice = Random(town.seed * 131 + number)
        self.number = number
        self.slot = slot
        self.clock = SimulatedClock(town.start_us, dice.randrange(-50_000, 50_000) if number else 0)
        self.killed = False
        self.calm: Callable[[], bool] = lambda: town.ledger_weather.calm
        self.bad_disk = town.bad_disk
        self.metrics: Any = NoMetrics()
        self._ledger = town.ledger
        open_ledger = functools.partial(_opened, town.ledger, f"worker {number}")
        turns = anyio.Semaphore(dice.choice((1, 2)))
        doorstep = Doorstep(self.clock)
        self.lanes = [
            Lane(
                shard,
                slot=slot,
                batch_max=dice.choice((2, 5, 16)),
                open_ledger=open_ledger,
                turns=turns,
                doorstep=doorstep,
                terms=terms(),
                calendar=CALENDAR,
                clock=self.clock,
                metrics=self.metrics,
            )
            for shard in range(town.shards)
        ]
        self.deadlines = DeadlineHeap(self.clock)
        self.pipeline = Pipeline(
            lanes=self.lanes,
            directory=Directory(open_ledger, 4, self.clock, self.metrics),
            deadlines=self.deadlines,
            medium_of=medium_of,
            in_flight_max=40,
            lane_queue_max=24,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.desk = self._desk(town.spool_file) if town.spool_file is not None else None
        self.upstreams = self._upstreams(town) if town.forwards is not None else None
        self.connections = OpenConnections()
        self.links = {
            link.name: Link(
                link,
                LIMITS,
                self.pipeline.submit,
                CALENDAR,
                self.clock,
                self.metrics,
                self.connections,
                b"a key of the simulation",
                conduct=CONDUCT,
            )
            for link in LINKS
        }
        self._nursery: trio.Nursery | None = None

    def _desk(self, spool_file: Path) -> SimulatedDesk:
        desk = SimulatedDesk(
            spool=Spool(spool_file, slot=self.slot, rows_max=12),
            sealer=Sealer(CARD_NUMBER_KEY),
            policies=policies_of(configuration().standin),
            currency="156",
            hotlisted=lambda _medium, _now_us: False,
            terms=terms(),
            calendar=CALENDAR,
            clock=self.clock,
            metrics=self.metrics,
            seen_max=5,
        )
        desk.worker = self
        desk.ledger_is_up = lambda: self.pipeline.ledger_is_up
        desk.begin()
        self.pipeline.standin = desk
        return desk

    def _upstreams(self, town: Town) -> Upstreams:
        forwards = town.forwards
        assert forwards is not None

        async def open_book() -> ModelForwardConnection:
            await _opened(town.ledger, f"worker {self.number}")
            return ModelForwardConnection(forwards)

        upstreams = Upstreams(
            configuration().upstreams,
            pipeline=self.pipeline,
            book=ForwardBook(open_book, self.clock),
            sealer=RequestSealer(CARD_NUMBER_KEY, self.dice.randbytes),
            connectors={FOREIGN: town.dial_host},
            frame_bytes_max=4_096,
            calendar=CALENDAR,
            clock=self.clock,
            metrics=self.metrics,
        )
        self.pipeline.routes = upstreams
        return upstreams

    async def run(self) -> None:
        """Serve until killed, or cancelled with the town."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(functools.partial(self.pipeline.run, started=lambda: None))
                nursery.start_soon(sweep, self.connections, LIMITS, self.clock, SWEEP_SECONDS)
                if self.desk is not None:
                    nursery.start_soon(self.desk.run)
                if self.upstreams is not None:
                    nursery.start_soon(self.upstreams.run)
                if self.slot == 0:
                    nursery.start_soon(self._expire_holds)
                    if self.desk is not None:
                        drain = Drain(self.desk, self.pipeline, self.clock, self.metrics)
                        nursery.start_soon(drain.run)
        except BaseExceptionGroup as group:
            _, others = group.split((SpoolUnusable, trio.Cancelled))
            if others is not None or not self.killed:
                raise
        finally:
            if self.desk is not None:
                self.desk._spool.close()

    async def _expire_holds(self) -> None:
        """What the task of slot 0 does with the ledger's holds whose time is over."""
        while True:
            await trio.sleep(EXPIRY_SECONDS)
            for held in list(self._ledger.holds.values()):
                due = held.hold.expires_at_us <= self.clock.now_us()
                if due and held.status is HoldStatus.OPEN:
                    self._expire(held.hold)

    def _expire(self, hold: Hold) -> None:
        now_ns = self.clock.monotonic_ns()
        opened = self._ledger.by_id[hold.hold_id].posting.directed
        request = msgspec.structs.replace(
            opened.request,
            kind=Kind.HOLD_EXPIRY,
            key=derived_key(hold.hold_id.to_bytes(16, "big"), b"hold-expiry"),
            original=None,
            original_id=hold.authorization_id,
            received_ns=now_ns,
            deadline_ns=now_ns + 3_600_000_000_000,
        )
        directed = msgspec.structs.replace(opened, request=request)
        self.pipeline.post_own(Ticket(request, _nothing, _nothing), directed)

    def accept(self, link: str, stream: Stream) -> bool:
        """Serve a new connection; False where nobody listens."""
        if self.killed or self._nursery is None:
            return False
        self._nursery.start_soon(self.links[link].handle, stream)
        return True

    def kill(self) -> None:
        self.killed = True
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    @property
    def unfinished(self) -> int:
        unwritten = self.upstreams.unwritten if self.upstreams is not None else 0
        lanes = sum(lane.unfinished for lane in self.lanes)
        return self.pipeline.in_flight + lanes + unwritten


async def _opened(ledger: ModelLedger, worker: str) -> OrderedConnection:
    connection = OrderedConnection(ledger, worker)
    await connection.meet("open")
    return connection
