"""A flood: sales at an open-loop rate that a switch cannot keep up with, from a cheap sender.

An acquirer's host that draws, spells and journals each message costs as much processor time
as the switch, and on a small machine the sender would be what is overloaded. Here all frames
are made before the first is due; while it runs, a message costs a slice of a joined write and
a look-up for its answer. `python -m loadtest.flood --help`.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import anyio
import msgspec
from anyio.abc import ByteStream

from loadtest.crowd import Behaviour, Cards, Crowd, Mix, arrivals
from loadtest.tally import INDEFINITE_CODES
from loadtest.wire import Asked, Key, Wire
from protocols.errors import FramingError
from protocols.iso8583.network import NetworkFunction

WAKE_SECONDS = 0.004
CHUNK_BYTES = 262_144
SALE_CLASS = "02"
DRAIN_SECONDS = 5.0
START_SECONDS = 0.3


class Flooded(msgspec.Struct, frozen=True):
    """What came of it, over the measured seconds; milliseconds from when each was due.

    `goodput` is answers a second that are not 91, 96 or the like: work that was done.
    """

    rate: float
    seconds: float
    sent: int
    answered: int
    refused: int
    unanswered: int
    goodput: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_p99_ms: float
    behind_ms_max: float
    cpu_us: float


class Stream:
    """One connection: its frames in order of their due times, and what was answered when."""

    def __init__(self, wire: Wire, frames: list[tuple[int, Key, bytes]]) -> None:
        self._wire = wire
        self._frames = frames
        self._due: dict[Key, int] = {}
        self.sent = 0
        self.behind_ns_max = 0
        self.answers: list[tuple[int, int, str]] = []
        """When it was due, when it was answered (monotonic ns), DE39."""

    async def run(self, host: str, port: int, begun_ns: int) -> None:
        stream = await anyio.connect_tcp(host, port)
        async with stream:
            await stream.send(self._sign_on())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, stream)
                await self._send(stream, begun_ns)
                with anyio.move_on_after(DRAIN_SECONDS):
                    while self._due:  # noqa: ASYNC110 - once per run
                        await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()

    def _sign_on(self) -> bytes:
        return self._wire.management(NetworkFunction.SIGN_ON, 1, time.time_ns() // 1_000_000_000)

    async def _send(self, stream: ByteStream, begun_ns: int) -> None:
        number, total = 0, len(self._frames)
        while number < total:
            now_ns = time.monotonic_ns() - begun_ns
            first = number
            pieces = []
            while number < total and self._frames[number][0] <= now_ns:
                due_ns, key, frame = self._frames[number]
                self._due[key] = due_ns
                pieces.append(frame)
                number += 1
            if pieces:
                self.behind_ns_max = max(self.behind_ns_max, now_ns - self._frames[first][0])
                await stream.send(b"".join(pieces))
                self.sent += len(pieces)
            await anyio.sleep(WAKE_SECONDS)

    async def _read(self, stream: ByteStream) -> None:
        framer = self._wire.framer()
        while True:
            try:
                frames = framer.feed(await stream.receive(CHUNK_BYTES))
            except (anyio.EndOfStream, anyio.BrokenResourceError, FramingError):
                return
            now_ns = time.monotonic_ns()
            for received in frames:
                answered = self._wire.read(received)
                if answered is None or isinstance(answered, Asked):
                    continue
                due_ns = self._due.pop(answered[0], None)
                if due_ns is not None:
                    self.answers.append((due_ns, now_ns, answered[1].code))

    @property
    def waiting(self) -> int:
        return len(self._due)


def frames_of(
    wire: Wire, *, rate: float, seconds: float, cards: Cards, links: int, seed: int
) -> list[list[tuple[int, Key, bytes]]]:
    """All frames of a run, for each link: due (ns from the start), key and bytes."""
    crowd = Crowd(cards, Mix(blocked=0, poor=0, unknown=0, burst=0, repeat=0), Random(seed))
    at_seconds = time.time_ns() // 1_000_000_000
    made = []
    for link in range(links):
        dice = Random(f"{seed} flood {link}")
        due = arrivals(rate / links, 1, int(seconds * 1e9), dice)
        link_frames = []
        for due_ns in due:
            attempt = crowd.attempt(Behaviour.ORDINARY)
            key = Key(attempt.terminal, attempt.stan, SALE_CLASS)
            link_frames.append((due_ns, key, wire.sale(attempt, at_seconds)))
        made.append(link_frames)
    return made


async def flood(
    port: int, frames: list[list[tuple[int, Key, bytes]]], wire: Wire
) -> tuple[list[Stream], int, float]:
    """Send them all; the streams, when it began, and the processor seconds it took."""
    streams = [Stream(wire, link_frames) for link_frames in frames]
    cpu_seconds = time.process_time()
    begun_ns = time.monotonic_ns() + int(START_SECONDS * 1e9)
    async with anyio.create_task_group() as tasks:
        for stream in streams:
            tasks.start_soon(stream.run, "127.0.0.1", port, begun_ns)
    return streams, begun_ns, time.process_time() - cpu_seconds


def flooded(
    streams: Sequence[Stream],
    begun_ns: int,
    cpu_seconds: float,
    *,
    rate: float,
    seconds: float,
    warm_up_seconds: float,
) -> Flooded:
    """The figures of a run, without its warm-up."""
    since_ns = int(warm_up_seconds * 1e9)
    measured = [
        (answered_ns - begun_ns - due_ns, code)
        for stream in streams
        for due_ns, answered_ns, code in stream.answers
        if due_ns >= since_ns
    ]
    accepted = sorted(ns for ns, code in measured if code not in INDEFINITE_CODES)
    refused = sorted(ns for ns, code in measured if code in INDEFINITE_CODES)
    sent = sum(stream.sent for stream in streams)
    return Flooded(
        rate=rate,
        seconds=seconds,
        sent=sent,
        answered=len(measured),
        refused=len(refused),
        unanswered=sum(stream.waiting for stream in streams),
        goodput=round(len(accepted) / (seconds - warm_up_seconds), 1),
        accepted_p50_ms=_rank_ms(accepted, 50),
        accepted_p99_ms=_rank_ms(accepted, 99),
        refused_p99_ms=_rank_ms(refused, 99),
        behind_ms_max=round(max(stream.behind_ns_max for stream in streams) / 1e6, 1),
        cpu_us=round(cpu_seconds / max(1, sent) * 1e6, 1),
    )


def _rank_ms(latencies_ns: Sequence[int], percentile: int) -> float:
    if not latencies_ns:
        return 0.0
    rank = math.ceil(len(latencies_ns) * percentile / 100)
    return round(latencies_ns[rank - 1] / 1e6, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Flood a switch and write the figures; 0 when every message was answered."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.flood", description=__doc__)
    add = parser.add_argument
    add("--port", type=int, required=True)
    add("--rate", type=float, required=True, help="messages a second over all links")
    add("--seconds", type=float, default=10.0)
    add("--warm-up-seconds", type=float, default=2.0)
    add("--links", type=int, default=4)
    add("--cards", type=int, default=20_000)
    add("--blocked-cards", type=int, default=0)
    add("--poor-cards", type=int, default=0)
    add("--seed", type=int, default=1)
    add("--json", type=Path, metavar="FILE")
    given = parser.parse_args(argv)
    wire = Wire(dialect="unionpay_pos", acquirer="48021000", time_zone="Asia/Shanghai")
    frames = frames_of(
        wire,
        rate=given.rate,
        seconds=given.seconds,
        cards=Cards(given.cards, given.blocked_cards, given.poor_cards),
        links=given.links,
        seed=given.seed,
    )
    streams, begun_ns, cpu_seconds = anyio.run(flood, given.port, frames, wire)
    figures = flooded(
        streams,
        begun_ns,
        cpu_seconds,
        rate=given.rate,
        seconds=given.seconds,
        warm_up_seconds=given.warm_up_seconds,
    )
    print(msgspec.json.encode(figures).decode(), flush=True)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0 if not figures.unanswered else 1


if __name__ == "__main__":
    sys.exit(main())
