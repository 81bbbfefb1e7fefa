"""A line of gates: taps at an open-loop rate, whatever the switch makes of them.

Every tap is due at an instant that was fixed before; its latency counts from then. Cards
take turns in an order drawn once, so that one is not tapped again before all others were.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Literal

import anyio
import msgspec

from loadtest.crowd import arrivals
from loadtest.tally import Progress, Summary, Tally
from loadtest.tap_link import LinkLost, NoAnswer, NotTaken, TapLink, TapTerms, connected
from protocols.message import Mode
from protocols.tap.words import (
    Answered,
    Head,
    Refused,
    RefusedReason,
    TapAnswer,
    TapKind,
    TapSaid,
)

RideKind = Literal["single", "journey", "inspect"]
START_SECONDS = 0.2
"""The link gets this long to connect before the first tap is due."""
WAKE_SECONDS = 0.001
AGAIN_SECONDS = 0.1
_NO_TIME = (RefusedReason.OVERLOADED, RefusedReason.LEAVING)


class GatePlan(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a line of gates. `mediums` are the cards, in any order.

    A journey is a tap on and, at the card's next turn, a tap off at another stop.
    `device` is what all names of devices begin with (at most 4 characters); `vehicles` says
    that each of them is a vehicle.
    """

    mediums: tuple[bytes, ...]
    rate: float
    seconds: float
    kind: RideKind = "single"
    mode: Mode = Mode.BUS
    line: str = ""
    stops: tuple[str, ...] = ()
    vehicles: bool = True
    devices: int = 32
    device: str = "GATE"
    nominal_minor: int = 0
    fare_version: int = 1
    spacing: Literal["poisson", "fixed"] = "poisson"
    warm_up_seconds: float = 0.0
    seed: int = 1

    def __repr__(self) -> str:
        return f"GatePlan(mode={self.mode.value!r}, rate={self.rate}, seconds={self.seconds})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("mode", self.mode.value), ("rate", self.rate), ("seconds", self.seconds)]


class Riders:
    """Who taps next, where, and whether to come or to go."""

    def __init__(self, plan: GatePlan, dice: Random) -> None:
        self._plan = plan
        self._dice = dice
        self._order = list(plan.mediums)
        dice.shuffle(self._order)
        self._turn = 0
        self._inside: dict[bytes, str] = {}

    def next(self, at_ms: int) -> tuple[str, TapSaid]:
        """The device, and what it says at this instant (epoch milliseconds)."""
        plan = self._plan
        medium = self._order[self._turn % len(self._order)]
        number = self._turn % plan.devices
        self._turn += 1
        device = f"{plan.device}{number:04}"
        kind, stop = self._kind_and_stop(medium)
        vehicle = f"V{number:04}" if plan.vehicles else ""
        return device, TapSaid(
            kind, medium, at_ms, plan.mode, plan.line, stop, vehicle, plan.fare_version,
            0 if kind in (TapKind.ON, TapKind.INSPECT) else plan.nominal_minor,
        )  # fmt: skip

    def _kind_and_stop(self, medium: bytes) -> tuple[TapKind, str]:
        stops = self._plan.stops
        match self._plan.kind:
            case "single":
                return TapKind.SINGLE, self._dice.choice(stops) if stops else ""
            case "inspect":
                return TapKind.INSPECT, self._dice.choice(stops) if stops else ""
            case "journey":
                came = self._inside.pop(medium, None)
                if came is None:
                    self._inside[medium] = self._dice.choice(stops) if stops else ""
                    return TapKind.ON, self._inside[medium]
                others = [stop for stop in stops if stop != came]
                return TapKind.OFF, self._dice.choice(others) if others else came


class GateLine:
    """Taps of one plan over one connection after the other."""

    def __init__(
        self,
        plan: GatePlan,
        terms: TapTerms,
        begun_ns: int,
        report: Callable[[Progress], None] | None = None,
    ) -> None:
        self._report = report
        self._terms = terms
        self._riders = Riders(plan, Random(plan.seed))
        self._end_ns = begun_ns + int(plan.seconds * 1e9)
        dice = Random(f"{plan.seed} taps")
        self._due: Iterator[int] = arrivals(
            plan.rate, begun_ns, self._end_ns, dice, spacing=plan.spacing
        )
        self._next_due: int | None = next(self._due, None)
        self._timeout_ns = int(terms.timeout_seconds * 1e9)
        self._under_way: deque[tuple[int, Head]] = deque()
        self._open: set[tuple[str, int]] = set()
        self.charged_minor = 0
        self.tally = Tally(
            rate=plan.rate,
            links=1,
            measure_from_ns=begun_ns + int(plan.warm_up_seconds * 1e9),
        )

    def stop(self) -> None:
        """No new taps; answers under way are waited for."""
        self._next_due = None

    async def run(self) -> None:
        """Offer all taps; connect again whenever the connection is lost."""
        while self._next_due is not None:
            try:
                async with connected(self._terms) as link:
                    self.tally.connects += 1
                    try:
                        await self._tap_along(link)
                    finally:
                        self.tally.undecodable += link.undecodable + link.forged
                        self.tally.unmatched += link.unmatched
            except (LinkLost, NoAnswer, NotTaken):
                self.tally.drops += 1
                self._skip_overdue(time.monotonic_ns())
                await anyio.sleep(AGAIN_SECONDS)

    async def _tap_along(self, link: TapLink) -> None:
        second_ns = time.monotonic_ns() + 1_000_000_000
        while self._next_due is not None or self._open:
            now_ns = time.monotonic_ns()
            while self._next_due is not None and self._next_due <= now_ns:
                self._tap(link, self._next_due)
                self._next_due = next(self._due, None) if self._next_due is not None else None
            self._give_up(link, now_ns)
            if now_ns >= second_ns:
                progress = self.tally.end_second(len(self._open))
                second_ns += 1_000_000_000
                if self._report is not None:
                    self._report(progress)
            if link.lost.is_set():
                raise LinkLost("the connection was lost")
            wake_ns = self._next_due or now_ns + 20_000_000
            await anyio.sleep(max(WAKE_SECONDS, (wake_ns - time.monotonic_ns()) / 1e9))

    def _tap(self, link: TapLink, due_ns: int) -> None:
        device, said = self._riders.next(time.time_ns() // 1_000_000)
        head = link.next_head(device)
        key = head.device, head.sequence

        def hear(answered: Answered | None) -> None:
            if key in self._open:
                self._open.remove(key)
                self._take(answered, due_ns)

        try:
            link.send(head, said, hear)
        except NoAnswer:
            self.tally.not_sent += 1
            return
        self.tally.sent += 1
        self._open.add(key)
        self._under_way.append((due_ns, head))

    def _take(self, answered: Answered | None, due_ns: int) -> None:
        now_ns = time.monotonic_ns()
        match answered:
            case None:
                self.tally.gave_up(due_ns, now_ns)
            case TapAnswer():
                self.tally.answer(answered.response_code, due_ns, now_ns)
                if answered.response_code == "00" and not answered.replayed:
                    self.charged_minor += answered.charged_minor
            case Refused():
                name = f"refused_{answered.reason.name.lower()}"
                self.tally.answer("91" if answered.reason in _NO_TIME else name, due_ns, now_ns)
            case _:
                self.tally.undecodable += 1

    def _give_up(self, link: TapLink, now_ns: int) -> None:
        """Count what was waited for in vain; links forget it."""
        under_way = self._under_way
        while under_way:
            due_ns, head = under_way[0]
            key = head.device, head.sequence
            if key in self._open and now_ns - due_ns <= self._timeout_ns:
                return
            under_way.popleft()
            if key in self._open:
                self._open.remove(key)
                link.forget(head)
                self.tally.gave_up(due_ns, now_ns)

    def _skip_overdue(self, now_ns: int) -> None:
        """Let pass, and count, what was due while there was no connection."""
        while self._next_due is not None and self._next_due <= now_ns:
            self._next_due = next(self._due, None)
            self.tally.not_sent += 1


async def tap(
    terms: TapTerms,
    plan: GatePlan,
    report: Callable[[Progress], None] | None = None,
    *,
    stop_on_signals: bool = False,
) -> Summary:
    """Run a line of gates to its end, or to the first SIGINT or SIGTERM where that is wanted.

    `report` comes each second; `approved_minor` of the summary is what was charged.
    """
    begun_ns = time.monotonic_ns() + int(START_SECONDS * 1e9)
    cpu_seconds = time.process_time()
    line = GateLine(plan, terms, begun_ns, report)
    async with anyio.create_task_group() as watchers:
        if stop_on_signals:
            watchers.start_soon(_stop_on_signal, line)
        await line.run()
        watchers.cancel_scope.cancel()
    line.tally.approved_minor = line.charged_minor
    summary = line.tally.summary(
        seconds=plan.seconds - plan.warm_up_seconds,
        cpu_seconds=time.process_time() - cpu_seconds,
    )
    return msgspec.structs.replace(summary, client=summary.client.replace("acquirer", "readers"))


async def _stop_on_signal(line: GateLine) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _signal in signals:
            line.stop()
