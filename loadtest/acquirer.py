"""An acquirer's host as a command: real ISO 8583 over TCP at an open-loop rate.

It offers load as terminals do, whatever the switch makes of it, and keeps a journal of
every answer. Run `python -m loadtest.acquirer --help`.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Literal, get_args

import anyio
import msgspec

from loadtest.crowd import Cards, Crowd, Mix, arrivals, parse_mix
from loadtest.journal import Journal
from loadtest.link import AcquirerLink, LinkPlan
from loadtest.tally import Progress, Summary, Tally
from loadtest.wire import Wire
from protocols.iso8583.client import Dialect

EXIT_SOUND, EXIT_FINDINGS, EXIT_USAGE = 0, 1, 2
START_SECONDS = 0.2
"""Links get this long to connect before the first message is due."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Seconds are of the wall; `mix` holds shares, `cards` the issued indexes."""

    host: str
    port: int
    rate: float
    seconds: float
    cards: Cards
    links: int = 4
    mix: Mix = Mix()
    seed: int = 1
    spacing: Literal["poisson", "fixed"] = "poisson"
    dialect: Dialect = "unionpay_pos"
    acquirer: str = "48021000"
    time_zone: str = "Asia/Shanghai"
    timeout_seconds: float = 5.0
    warm_up_seconds: float = 0.0
    echo_seconds: float = 10.0
    resends: int = 0
    sign_on: bool = True
    journal: Path | None = None


async def offer(plan: Plan, report: Callable[[Progress], None] | None = None) -> Summary:
    """Run the plan to its end, or to the first SIGINT or SIGTERM; `report` comes each second."""
    begun_ns = time.monotonic_ns() + int(START_SECONDS * 1e9)
    tally = Tally(
        rate=plan.rate,
        links=plan.links,
        measure_from_ns=begun_ns + int(plan.warm_up_seconds * 1e9),
    )
    journal = Journal(plan.journal)
    cpu_seconds = time.process_time()
    try:
        links = _links(plan, begun_ns, tally, journal)
        async with anyio.create_task_group() as watchers:
            watchers.start_soon(_each_second, begun_ns, links, tally, journal, report)
            watchers.start_soon(_stop_on_signal, links)
            async with anyio.create_task_group() as tasks:
                for link in links:
                    tasks.start_soon(link.run)
            watchers.cancel_scope.cancel()
    finally:
        journal.close()
    elapsed = (time.monotonic_ns() - begun_ns) / 1e9
    return tally.summary(
        seconds=max(0.0, min(elapsed, plan.seconds) - plan.warm_up_seconds),
        cpu_seconds=time.process_time() - cpu_seconds,
    )


def _links(plan: Plan, begun_ns: int, tally: Tally, journal: Journal) -> list[AcquirerLink]:
    end_ns = begun_ns + int(plan.seconds * 1e9)
    timeout_ns = int(plan.timeout_seconds * 1e9)
    link_plan = LinkPlan(
        host=plan.host,
        port=plan.port,
        end_ns=end_ns,
        timeout_ns=timeout_ns,
        echo_ns=int(plan.echo_seconds * 1e9),
        resends=plan.resends,
        sign_on=plan.sign_on,
        drain_ns=timeout_ns * (1 + plan.resends) + 500_000_000,
    )
    wire = Wire(dialect=plan.dialect, acquirer=plan.acquirer, time_zone=plan.time_zone)
    crowd = Crowd(plan.cards, plan.mix, Random(plan.seed))

    def due(number: int) -> Iterator[int]:
        # Links share the rate: independent Poisson streams add up to one, and fixed ones
        # are spread over the gap by their random start.
        dice = Random(f"{plan.seed} arrivals {number}")
        return arrivals(plan.rate / plan.links, begun_ns, end_ns, dice, spacing=plan.spacing)

    return [
        AcquirerLink(
            number, link_plan, wire, crowd, due(number), tally, journal, Random(plan.seed + number)
        )
        for number in range(plan.links)
    ]


async def _each_second(
    begun_ns: int,
    links: list[AcquirerLink],
    tally: Tally,
    journal: Journal,
    report: Callable[[Progress], None] | None,
) -> None:
    second = 0
    while True:
        second += 1
        await anyio.sleep(max(0.0, (begun_ns - time.monotonic_ns()) / 1e9 + second))
        journal.flush()
        progress = tally.end_second(sum(link.waiting for link in links))
        if report:
            report(progress)


async def _stop_on_signal(links: list[AcquirerLink]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _signal in signals:
            for link in links:
                link.stop()


def arguments() -> argparse.ArgumentParser:
    """The command line, with units and defaults."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.acquirer", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--links", type=int, default=4, help="TCP connections")
    add("--rate", type=float, default=500.0, help="messages a second over all links")
    add("--seconds", type=float, default=10.0)
    add("--cards", type=int, default=20_000, help="issued card indexes: 0 to this less one")
    add("--blocked-cards", type=int, default=0, help="the first indexes, blocked by the issuer")
    add("--poor-cards", type=int, default=0, help="the indexes after them, with hardly any money")
    add("--mix", default="", help="shares of arrivals, such as blocked=0.01,repeat=0.02,burst=0")
    add("--seed", type=int, default=1)
    add("--spacing", choices=("poisson", "fixed"), default="poisson")
    add("--dialect", choices=get_args(Dialect), default="unionpay_pos")
    add("--acquirer", default="48021000", help="DE32")
    add("--time-zone", default="Asia/Shanghai", help="of DE12 and DE13")
    add("--timeout-seconds", type=float, default=5.0, help="how long an answer is waited for")
    add("--warm-up-seconds", type=float, default=0.0, help="first seconds left out of latency")
    add("--echo-seconds", type=float, default=10.0, help="idle time before an echo test")
    add("--resend", type=int, default=0, metavar="N", help="send unanswered bytes again, N times")
    add("--no-sign-on", dest="sign_on", action="store_false", help="where the link takes none")
    add("--journal", type=Path, metavar="FILE", help="append a JSON line for each answer")
    add("--json", type=Path, metavar="FILE", help="write the summary there as well")
    add("--progress", action="store_true", help="print a JSON line each second")
    add("--backend", choices=("asyncio", "trio"), default="asyncio")
    return parser


def plan_of(given: argparse.Namespace) -> Plan:
    """The plan that a command line asks for. Raises ValueError with what to mend."""
    if given.links < 1 or given.seconds <= 0 or given.rate < 0:
        raise ValueError("links are 1 or more, seconds more than 0, and the rate is not negative")
    if given.blocked_cards + given.poor_cards >= given.cards:
        raise ValueError("no ordinary card is left; raise --cards")
    return Plan(
        host=given.host,
        port=given.port,
        rate=given.rate,
        seconds=given.seconds,
        cards=Cards(given.cards, given.blocked_cards, given.poor_cards),
        links=given.links,
        mix=parse_mix(given.mix),
        seed=given.seed,
        spacing=given.spacing,
        dialect=given.dialect,
        acquirer=given.acquirer,
        time_zone=given.time_zone,
        timeout_seconds=given.timeout_seconds,
        warm_up_seconds=given.warm_up_seconds,
        echo_seconds=given.echo_seconds,
        resends=given.resend,
        sign_on=given.sign_on,
        journal=given.journal,
    )


def main(argv: list[str] | None = None) -> int:
    """Offer the load; 0 when all was answered and repeats agreed, 1 when not, 2 for usage."""
    given = arguments().parse_args(argv)
    try:
        plan = plan_of(given)
    except ValueError as wrong:
        print(f"acquirer: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    summary = anyio.run(offer, plan, _print_line if given.progress else None, backend=given.backend)
    _print_line(summary)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
    return EXIT_SOUND if summary.sound else EXIT_FINDINGS


def _print_line(line: Progress | Summary) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
