"""Everything that one seed draws: workers, links, ledger, acquirers, and what goes wrong.

The switch is the real one from the bytes of a link to the calls of a lane; around it are a
network in memory, a ledger in memory, and trio's mock clock. Workers have wall clocks of
their own, which are off and are stepped; they are killed and started again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import trio  # noqa: TID251 - the simulation owns its clock and its scheduling
import trio.testing  # noqa: TID251

from protocols.iso8583.link import LinkTerms
from switch.ledger import forward_book
from switch.net.upstream import host_link
from switch.posting import HoldStatus
from switch.standin import desk as standin_desk
from switch.standin import drain as standin_drain
from tests.simulation.acquirer import Acquirer
from tests.simulation.customers import Customers
from tests.simulation.model_forwarding import ModelForwards, SimulatedHost
from tests.simulation.model_ledger import NOON_US, Fault, ModelConnection, ModelLedger
from tests.simulation.network import Stream, Weather, connected
from tests.simulation.spelling import LINKS
from tests.simulation.weather import LedgerWeather
from tests.simulation.workers import SimulatedClock, Worker

COURSE_SECONDS = 900.0
"""By then every deal has ended: its last repeats came when all faults had stopped."""
SETTLING_SECONDS = 600.0
POLL_SECONDS = 2.0
ZONE = ZoneInfo("Asia/Shanghai")
NEAR_MIDNIGHT_US = NOON_US + 12 * 3_600_000_000 - 90_000_000
"""A minute and a half before the business day, and its month, end."""
IN_MEMORY = Path("/dev/shm")
"""A folder that is memory, where there is one."""


class Town:
    """One seed's world, and its course."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.dice = Random(seed)
        dice = self.dice
        self.shards = dice.choice((1, 1, 2))
        self.start_us = dice.choice((NOON_US, NOON_US, NOON_US, NEAR_MIDNIGHT_US))
        self.killing = dice.random() < 0.3
        self.stepping = dice.random() < 0.3
        self.spool_file = folder / "spool.sqlite" if dice.random() < 0.5 else None
        self.bad_disk = dice.choice((0.0, 0.0, 0.1))
        self.lost_frames = dice.choice((0.0, 0.0, 0.1))
        self.lost_answers = dice.choice((0.0, 0.0, 0.1))
        self.doubled = dice.choice((0.0, 0.05, 0.3))
        self.delayed = dice.choice((0.0, 0.0, 0.1))
        self.rush = dice.random() < 0.08
        """Everyone comes at once, with the same card."""
        self.weather = Weather(
            split=dice.choice((0.0, 0.1, 0.5)),
            slow=dice.choice((0.0, 0.02, 0.1)),
            broken=dice.choice((0.0, 0.0, 0.02, 0.1)),
            dark=dice.choice((0.0, 0.0, 0.01)),
        )
        self.ledger_weather = LedgerWeather(Random(seed + 1), 0.1 if self.rush else 0.02)
        self.ledger_weather.outages = 0.3 if self.spool_file is not None else 0.0
        self.ledger = ModelLedger(SimulatedClock(self.start_us), self._fault)
        self.opening_minor: dict[int, int] = {}
        for number in range(1, dice.randrange(2, 8)):
            balance_minor = dice.choice((0, 1_000, 5_000, 20_000, 100_000))
            if self.rush and number == 1:
                balance_minor = 100_000
            account = self.ledger.issue(number, shards=self.shards, balance_minor=balance_minor)
            self.opening_minor[account.account_id] = balance_minor
        self.forwards = ModelForwards(self) if dice.random() < 0.3 else None
        self.host = SimulatedHost()
        self.workers: list[Worker] = []
        self._dialled = 0
        self.acquirers = [
            Acquirer(self, terms, Random(seed * 31 + index))
            for index, terms in enumerate(self._links())
        ]
        self.customers = Customers(self, Random(seed + 3))
        self.settled_at = 0.0

    def _links(self) -> list[LinkTerms]:
        if self.rush:
            return [self.dice.choice([terms for terms in LINKS if terms.budget_ms >= 800])]
        return self.dice.sample(LINKS, self.dice.choice((1, 1, 2)))

    def local_now(self) -> datetime:
        """The terminals' clock, which is right."""
        now_us = self.start_us + int(trio.current_time() * 1e6)
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)).astimezone(ZONE)

    def dial(self, terms: LinkTerms) -> tuple[Stream, int] | None:
        """A connection to whichever worker takes it; None where none listens."""
        living = [worker for worker in self.workers if not worker.killed]
        if not living:
            return None
        worker = self.dice.choice(living)
        self._dialled += 1
        near, far = connected(self.seed * 1_009 + 2 * self._dialled, self.weather)
        return (near, worker.number) if worker.accept(terms.name, far) else None

    async def dial_host(self) -> Stream:
        """A connection of the switch to the host of another city's issuer."""
        await trio.sleep(self.dice.random() * 0.01)
        if not self.ledger_weather.calm and self.dice.random() < 0.2:
            raise ConnectionRefusedError
        self._dialled += 1
        near, far = connected(self.seed * 1_009 + 2 * self._dialled, self.weather)
        self._tasks.start_soon(self.host.serve, far, self._tasks)
        return near

    def _fault(self, call: str, _connection: ModelConnection) -> Fault:
        return self.ledger_weather.fault(call, self.ledger)

    # ---- the course of events ----

    async def run(self) -> None:
        async with trio.open_nursery() as tasks:
            self._tasks = tasks
            for slot in range(3 if self.rush else self.dice.randrange(1, 4)):
                self._start_worker(slot)
            await trio.sleep(self.dice.choice((0.0, 0.5)))
            for acquirer in self.acquirers:
                await acquirer.run(tasks)
            await trio.sleep(0.1)
            with trio.move_on_after(COURSE_SECONDS):
                async with trio.open_nursery() as deals:
                    await self.customers.come(deals)
                    self._calm_down()
            await self._settle()
            self.ledger.run_zombies()
            tasks.cancel_scope.cancel()

    def _start_worker(self, slot: int) -> None:
        worker = Worker(self, len(self.workers), slot)
        self.workers.append(worker)
        self._tasks.start_soon(worker.run)

    def something_happens(self) -> None:
        """Between two customers: a worker dies, a clock is stepped, a connection is cut."""
        dice = self.dice
        living = [worker for worker in self.workers if not worker.killed]
        if self.killing and dice.random() < 0.05:
            victim = dice.choice(living)
            victim.kill()
            self._start_worker(victim.slot)
        if self.stepping and dice.random() < 0.05:
            dice.choice(living).clock.skew_us = dice.randrange(-300_000_000, 300_000_001)
        if dice.random() < 0.02 and not self.rush:
            self._change_a_card()

    def _change_a_card(self) -> None:
        account = self.dice.choice(list(self.ledger.accounts.values()))
        account.card_status = self.dice.choice(("active", "active", "lost", "blocked"))
        account.version += 1

    def _calm_down(self) -> None:
        self.ledger_weather.calm = True
        self.weather.calm_down()
        self.lost_frames = self.lost_answers = self.doubled = self.delayed = 0.0

    async def _settle(self) -> None:
        """Time passes until nobody has anything left to do, or the oracle shall see who has."""
        with trio.move_on_after(SETTLING_SECONDS):
            while self.unsettled():  # noqa: ASYNC110 - mock time costs nothing
                await trio.sleep(2)
        self.settled_at = trio.current_time()

    def unsettled(self) -> str:
        """What is still to be done, in words; empty when nothing is."""
        for worker in self.workers:
            if not worker.killed and worker.unfinished:
                return f"worker {worker.number} has {worker.unfinished} unfinished"
            if not worker.killed and worker.desk is not None and worker.desk.open_rows:
                return f"{worker.desk.open_rows} rows of the spool are not posted"
        if self.forwards is not None and self.forwards.open_rows:
            states = ", ".join(row.state.value for row in self.forwards.open_rows)
            return f"forwarded requests have not come to an end: {states}"
        if any(held.status is HoldStatus.OPEN for held in self.ledger.holds.values()):
            return "a hold is open though its time is over"
        return ""


def simulate(seed: int) -> Town:
    """One town, from its seed alone."""
    core: Any = trio._core._run
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    parent = IN_MEMORY if IN_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(dir=parent) as folder, _patient_polls():
        town = Town(seed, Path(folder))
        trio.run(town.run, clock=trio.testing.MockClock(autojump_threshold=0))
    return town


@contextmanager
def _patient_polls() -> Iterator[None]:
    """Polls every two seconds: time that passes for nothing costs real time."""
    before = [(module, name, getattr(module, name)) for module, name in _POLLS]
    for module, name in _POLLS:
        setattr(module, name, POLL_SECONDS)
    try:
        yield
    finally:
        for module, name, seconds in before:
            setattr(module, name, seconds)


_POLLS: tuple[tuple[Any, str], ...] = (
    (standin_desk, "LOOK_SECONDS"),
    (standin_drain, "CHECK_SECONDS"),
    (host_link, "LOOK_SECONDS"),
    (forward_book, "TEND_SECONDS"),
)


def seeds(chunk: int, chunks: int, usual: int) -> list[int]:
    """The seeds of a chunk: SIMULATION_SEED alone, or SIMULATION_SEEDS of them."""
    if "SIMULATION_SEED" in os.environ:
        return [int(os.environ["SIMULATION_SEED"])] if chunk == 0 else []
    return list(range(chunk, int(os.environ.get("SIMULATION_SEEDS", usual)), chunks))
