"""Tills that live the whole life of authorizations over real TCP, and leave nothing open.

Sales, voids, refunds, preauthorizations with completion or cancel, inquiries, repeats and
reversals; what nobody answered is taken back. At SIGTERM no new customer comes, and the run
goes on until everything is answered or reversed. Run `python -m loadtest.lifecycle --help`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import get_args
from zoneinfo import ZoneInfo

import anyio
import msgspec

from loadtest.journal import Journal
from loadtest.life_lines import LifeProgress, LifeSummary, LifeTally
from loadtest.life_link import LifeLink
from loadtest.till import SHARED_BY, Till, TillPlan
from loadtest.wire import Wire
from protocols.iso8583.client import Dialect

EXIT_SOUND, EXIT_FINDINGS, EXIT_USAGE = 0, 1, 2
TICK_SECONDS = 0.1
NANOSECONDS = 1_000_000_000


class LifePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `rate` is customers a second over all tills; seconds are of the wall.

    `patience_seconds` is how long what is under way at the end may take to be resolved.
    """

    port: int
    host: str = "127.0.0.1"
    rate: float = 50.0
    seconds: float = 10.0
    cards: int = 1_000
    links: int = 4
    tills: int = 40
    seed: int = 1
    dialect: Dialect = "unionpay_pos"
    acquirer: str = "48021000"
    time_zone: str = "Asia/Shanghai"
    timeout_seconds: float = 1.5
    patience_seconds: float = 30.0
    journal: Path | None = None


class _Life:
    """The links and tills of one run."""

    def __init__(self, plan: LifePlan, begun_ns: int) -> None:
        self.tally = LifeTally()
        self.journal = Journal(plan.journal)
        wire = Wire(dialect=plan.dialect, acquirer=plan.acquirer, time_zone=plan.time_zone)
        self.links = [
            LifeLink(number, plan.host, plan.port, wire, Random(f"{plan.seed} link {number}"))
            for number in range(plan.links)
        ]
        till_plan = TillPlan(
            dialect=plan.dialect,
            acquirer=plan.acquirer,
            time_zone=ZoneInfo(plan.time_zone),
            cards=plan.cards,
            tills=plan.tills,
            gap_seconds=plan.tills / plan.rate,
            timeout_seconds=plan.timeout_seconds,
            until_ns=begun_ns + int(plan.seconds * NANOSECONDS),
            patience_seconds=plan.patience_seconds,
        )
        self.tills = [
            Till(
                number,
                f"L{plan.seed % 1000:03}{number:04}",
                till_plan,
                self.links[number % plan.links],
                wire,
                self.journal,
                self.tally,
                Random(f"{plan.seed} till {number}"),
            )
            for number in range(plan.tills)
        ]

    def stop(self) -> None:
        now_ns = time.monotonic_ns()
        for till in self.tills:
            till.stop(now_ns)

    def summary(self) -> LifeSummary:
        asked: Counter[str] = Counter()
        for link in self.links:
            asked += link.asked
        return LifeSummary(
            messages=self.tally.messages,
            reversals=self.tally.reversals,
            mismatched=self.tally.mismatched,
            unresolved=self.tally.unresolved,
            undecodable=sum(link.undecodable for link in self.links),
            connects=sum(link.connects for link in self.links),
            codes=dict(sorted(self.tally.codes.items())),
            asked=dict(asked),
        )


async def live(plan: LifePlan, report: Callable[[LifeProgress], None] | None = None) -> LifeSummary:
    """Run the plan to its end, or to the first SIGINT or SIGTERM, and leave nothing open."""
    life = _Life(plan, time.monotonic_ns())
    try:
        async with anyio.create_task_group() as around:
            around.start_soon(_stop_on_signal, life)
            around.start_soon(_each_tick, life, report)
            for link in life.links:
                around.start_soon(link.run)
            async with anyio.create_task_group() as tills:
                for till in life.tills:
                    tills.start_soon(till.run)
            around.cancel_scope.cancel()
    finally:
        life.journal.close()
    return life.summary()


async def _stop_on_signal(life: _Life) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _signal in signals:
            life.stop()


async def _each_tick(life: _Life, report: Callable[[LifeProgress], None] | None) -> None:
    while True:
        await anyio.sleep(TICK_SECONDS)
        life.journal.flush()
        progress = life.tally.progress(time.time_ns() // 1_000_000)
        if report:
            report(progress)


def arguments() -> argparse.ArgumentParser:
    """The command line, with units and defaults."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.lifecycle", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--links", type=int, default=4, help="TCP connections")
    add("--tills", type=int, default=40, help="terminals, spread over the links")
    add("--rate", type=float, default=50.0, help="customers a second over all tills")
    add("--seconds", type=float, default=10.0)
    add("--cards", type=int, default=1_000, help="issued card indexes: 0 to this less one")
    add("--seed", type=int, default=1, help="of all chance, and part of the terminals' names")
    add("--dialect", choices=get_args(Dialect), default="unionpay_pos")
    add("--acquirer", default="48021000", help="DE32")
    add("--time-zone", default="Asia/Shanghai", help="of DE12 and DE13")
    add("--timeout-seconds", type=float, default=1.5, help="how long an answer is waited for")
    add("--patience-seconds", type=float, default=30.0, help="to resolve what is open at the end")
    add("--journal", type=Path, metavar="FILE", help="append a JSON line for each message")
    add("--json", type=Path, metavar="FILE", help="write the summary there as well")
    add("--progress", action="store_true", help="print a JSON line ten times a second")
    add("--backend", choices=("asyncio", "trio"), default="asyncio")
    return parser


def plan_of(given: argparse.Namespace) -> LifePlan:
    """The plan that a command line asks for. Raises ValueError with what to mend."""
    if given.links < 1 or given.tills < given.links:
        raise ValueError("links are 1 or more, and each has a till; raise --tills")
    if given.rate <= 0 or given.seconds <= 0 or given.timeout_seconds <= 0:
        raise ValueError("rate and seconds are more than 0; give more")
    if given.cards < max(given.tills, SHARED_BY):
        raise ValueError("every till needs a card of its own; raise --cards or lower --tills")
    named = {name: getattr(given, name) for name in LifePlan.__struct_fields__}
    return LifePlan(**named)


def main(argv: list[str] | None = None) -> int:
    """Live; 0 when all is resolved and repeats agreed, 1 when not, 2 for usage."""
    given = arguments().parse_args(argv)
    try:
        plan = plan_of(given)
    except ValueError as wrong:
        print(f"lifecycle: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    report = _print_line if given.progress else None
    summary = anyio.run(live, plan, report, backend=given.backend)
    _print_line(summary)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    sound = not summary.unresolved and not summary.mismatched
    return EXIT_SOUND if sound else EXIT_FINDINGS


def _print_line(line: LifeProgress | LifeSummary) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
