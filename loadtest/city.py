"""The city as a command: all fifteen venues at once, each over its own protocol.

It offers visits at an open-loop rate, whatever the switch makes of them, and keeps a journal
of every answer. Where the switch is, with keys and citizens, stands in a file that a staged
switch wrote (`citycard demo`, `python -m switch.demo.staged --city`). Run
`python -m loadtest.city --help`.
"""

from __future__ import annotations

import argparse
import heapq
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from zoneinfo import ZoneInfo

import anyio
import msgspec

from loadtest.chip import TacTerms
from loadtest.city_desk import Desk
from loadtest.city_lines import CityProgress, CitySummary, CityTally
from loadtest.city_plan import Citizen, Places, read_places
from loadtest.city_readers import Readers
from loadtest.city_tills import TillLink
from loadtest.city_visits import FLOWS, Hosts, Visits, visit_rates
from loadtest.crowd import arrivals
from loadtest.journal import Journal
from loadtest.tap_link import LinkLost, NoAnswer, NotTaken, connected

EXIT_SOUND, EXIT_FINDINGS, EXIT_USAGE = 0, 1, 2
START_SECONDS = 0.3
"""Connections get this long before the first visit is due."""
WAKE_SECONDS = 0.001
PATIENCE_SECONDS = 30.0
"""For visits that are under way at the end."""
BLOCKED_SHARE = 0.02
POOR_SHARE = 0.05
DEPOT_AT = 0.25
"""Of the run: when a bus comes home with what its chips' riders paid offline."""
DEPOT_RIDES = 10
DEPOT_LOAD_MINOR = 3_000
RIDE_MINOR = 200


class CityRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run: messages a second over all venues, about, and seconds of the wall."""

    rate: float = 300.0
    seconds: float = 10.0
    seed: int = 1
    chips: int = 20
    journal: Path | None = None


class City:
    """All visits of a run."""

    def __init__(
        self, places: Places, run: CityRun, hosts: Hosts, tally: CityTally, begun_ns: int
    ) -> None:
        self._places = places
        self._run = run
        self._tally = tally
        self._hosts = hosts
        self._dice = Random(f"{run.seed} visits")
        self._visits = Visits(places, hosts, tally, self._dice, f"{run.seed % 1_000_000}X")
        self._order = [each for each in places.citizens if not each.chip] or places.citizens
        self._order = self._dice.sample(self._order, len(self._order))
        self._turn = 0
        self._stopped = anyio.Event()
        self._begun_ns = begun_ns
        self._end_ns = begun_ns + int(run.seconds * 1e9)

    def stop(self) -> None:
        """No new visits; those under way come to their end."""
        self._end_ns = min(self._end_ns, time.monotonic_ns())
        self._stopped.set()

    async def go(self) -> None:
        """Offer all visits, and let them end."""
        with anyio.move_on_after(self._run.seconds + START_SECONDS + PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._bus_comes_home)
                for due_ns, venue in self._due():
                    while (left_ns := due_ns - time.monotonic_ns()) > 0:
                        if time.monotonic_ns() >= self._end_ns:
                            break
                        await anyio.sleep(max(WAKE_SECONDS, min(left_ns / 1e9, 0.1)))
                    if due_ns >= self._end_ns:
                        break
                    tasks.start_soon(self._visit, venue, due_ns)

    def _due(self) -> Iterator[tuple[int, str]]:
        """When somebody comes to which venue; at each there is one at the beginning."""

        def one(venue: str, rate: float) -> Iterator[tuple[int, str]]:
            dice = Random(f"{self._run.seed} {venue}")
            yield self._begun_ns, venue
            for due_ns in arrivals(rate, self._begun_ns, self._end_ns, dice, spacing="poisson"):
                yield due_ns, venue

        rates = visit_rates(self._run.rate)
        return heapq.merge(*(one(venue, rate) for venue, rate in rates.items()))

    async def _visit(self, venue: str, due_ns: int) -> None:
        self._tally.visits += 1
        self._tally.under_way += 1
        try:
            await FLOWS[venue].visit(self._visits, self._citizen(venue), due_ns)
        finally:
            self._tally.under_way -= 1

    def _citizen(self, venue: str) -> Citizen:
        """Everybody in turn; at the gates and tills also somebody who may not, or can't."""
        places, chance = self._places, self._dice.random()
        if venue == "bus" and chance < BLOCKED_SHARE and places.blocked:
            return self._dice.choice(places.blocked)
        if venue == "supermarket" and chance < POOR_SHARE and places.poor:
            return self._dice.choice(places.poor)
        self._turn += 1
        return self._order[self._turn % len(self._order)]

    async def _bus_comes_home(self) -> None:
        riders = [each for each in self._places.citizens if each.chip][: self._run.chips]
        if not riders:
            return
        at_ns = self._begun_ns + int(self._run.seconds * DEPOT_AT * 1e9)
        with anyio.move_on_after(max(0.0, (at_ns - time.monotonic_ns()) / 1e9)):
            await self._stopped.wait()
            return
        await self._hosts.transit.depot(
            riders,
            TacTerms(bytes.fromhex(self._places.tac_key)),
            device="DEPOT001",
            load_minor=DEPOT_LOAD_MINOR,
            rides=DEPOT_RIDES,
            amount_minor=RIDE_MINOR,
        )


@asynccontextmanager
async def opened_hosts(
    places: Places, tally: CityTally, run: str, seed: int
) -> AsyncIterator[Hosts]:
    """All connections, up for as long as the body runs. Raises LinkLost, NoAnswer, NotTaken."""
    zone = ZoneInfo(places.time_zone)
    doors = (places.shops, places.counters, places.taxis)
    shops, counters, taxis = (TillLink(door, places.host, places.time_zone, seed) for door in doors)
    failed: Exception | None = None
    async with anyio.create_task_group() as tasks:
        for till in (shops, counters, taxis):
            tasks.start_soon(till.link.run)
        try:
            async with (
                connected(places.transit.terms(places.host)) as transit,
                connected(places.sites.terms(places.host)) as sites,
                Desk(tally, places.api, places.host, run) as desk,
            ):
                yield Hosts(
                    shops=shops,
                    counters=counters,
                    taxis=taxis,
                    transit=Readers(tally, transit, zone),
                    sites=Readers(tally, sites, zone),
                    desk=desk,
                )
        except Exception as error:  # noqa: BLE001 - raised again below, out of the task group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


async def live(
    places: Places, run: CityRun, report: Callable[[CityProgress], None] | None = None
) -> CitySummary:
    """Run to the end, or to the first SIGINT or SIGTERM. Raises as `opened_hosts` does."""
    journal = Journal(run.journal)
    tally = CityTally(journal, {code: flow.segment for code, flow in FLOWS.items()})
    cpu_seconds = time.process_time()
    try:
        async with opened_hosts(places, tally, f"city{run.seed}", run.seed) as hosts:
            begun_ns = time.monotonic_ns() + int(START_SECONDS * 1e9)
            city = City(places, run, hosts, tally, begun_ns)
            async with anyio.create_task_group() as around:
                around.start_soon(_stop_on_signal, city)
                around.start_soon(_each_second, begun_ns, tally, report)
                await city.go()
                around.cancel_scope.cancel()
        elapsed = (time.monotonic_ns() - begun_ns) / 1e9
        return tally.summary(
            seconds=min(elapsed, run.seconds), cpu_seconds=time.process_time() - cpu_seconds
        )
    finally:
        journal.close()


async def _each_second(
    begun_ns: int, tally: CityTally, report: Callable[[CityProgress], None] | None
) -> None:
    second = 0
    while True:
        second += 1
        await anyio.sleep(max(0.0, (begun_ns - time.monotonic_ns()) / 1e9 + second))
        progress = tally.end_second()
        if report:
            report(progress)


async def _stop_on_signal(city: City) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _signal in signals:
            city.stop()


def arguments() -> argparse.ArgumentParser:
    """The command line, with units and defaults."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.city", description=__doc__)
    add = parser.add_argument
    add("--places", type=Path, required=True, metavar="FILE", help="what a staged switch wrote")
    add("--rate", type=float, default=300.0, help="messages a second over all venues, about")
    add("--seconds", type=float, default=10.0)
    add("--chips", type=int, default=20, help="chips whose offline rides a depot uploads")
    add("--seed", type=int, default=1)
    add("--journal", type=Path, metavar="FILE", help="append a JSON line for each message")
    add("--json", type=Path, metavar="FILE", help="write the summary there as well")
    add("--progress", action="store_true", help="print a JSON line each second")
    add("--backend", choices=("asyncio", "trio"), default="asyncio")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Live; 0 when everything was answered, 1 when not, 2 for usage."""
    given = arguments().parse_args(argv)
    if given.rate <= 0 or given.seconds <= 0 or given.chips < 0:
        print("city: rate and seconds are above 0, and chips not below", file=sys.stderr)
        return EXIT_USAGE
    run = CityRun(
        rate=given.rate,
        seconds=given.seconds,
        seed=given.seed,
        chips=given.chips,
        journal=given.journal,
    )
    try:
        places = read_places(given.places)
        summary = anyio.run(
            live, places, run, _print_line if given.progress else None, backend=given.backend
        )
    except (OSError, ValueError) as wrong:
        print(f"city: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    except (LinkLost, NoAnswer, NotTaken) as failed:
        print(f"city: {failed}", file=sys.stderr)
        return EXIT_FINDINGS
    _print_line(summary)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return EXIT_SOUND if summary.sound else EXIT_FINDINGS


def _print_line(line: CityProgress | CitySummary) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
