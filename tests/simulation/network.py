"""A network in memory: streams of bytes that are delayed, cut anywhere, broken and silenced.

What TCP promises is kept, and nothing more: the bytes of one direction arrive in order, or
a prefix of them does. Where a write is cut, how long each piece takes, how a connection ends
(closed, reset, or gone without a word) are drawn from the dice of the connection, so that
what one connection meets does not depend on the others.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Any

import anyio
import msgspec
import trio  # noqa: TID251 - the simulation owns its clock and its scheduling

QUICK_SECONDS = 0.004
SLOW_SECONDS = 3.0


class Weather(msgspec.Struct):
    """How bad the network is: chances of each write. Calm is all zero; it may change."""

    split: float = 0.0
    slow: float = 0.0
    broken: float = 0.0
    dark: float = 0.0

    def calm_down(self) -> None:
        self.split = self.slow = self.broken = self.dark = 0.0


class Direction:
    """One way of a connection: what was sent and when it arrives."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._last_due = 0.0
        self._changed = trio.Event()
        self.ended = False
        self.broken = False

    def put(self, octets: bytes, seconds: float) -> None:
        """These bytes arrive after so long, or with those before them."""
        self._last_due = max(self._last_due, trio.current_time() + seconds)
        self._pieces.append((self._last_due, octets))
        self._changed.set()

    def end(self) -> None:
        """Nothing follows what is on its way."""
        self.ended = True
        self._changed.set()

    def lose(self, kept: int) -> None:
        """All but the first so many pieces on their way are lost, and the rest is silence."""
        while len(self._pieces) > kept:
            self._pieces.pop()

    def break_off(self) -> None:
        self.broken = True
        self._changed.set()

    @property
    def pieces(self) -> int:
        return len(self._pieces)

    async def take(self, bytes_max: int) -> bytes:
        """The next bytes. Raises EndOfStream or BrokenResourceError where there are none."""
        while True:
            if self._pieces:
                due, octets = self._pieces[0]
                if due <= trio.current_time():
                    self._pieces.popleft()
                    if len(octets) > bytes_max:
                        self._pieces.appendleft((due, octets[bytes_max:]))
                    return octets[:bytes_max]
                await trio.sleep_until(due)
            elif self.broken:
                raise anyio.BrokenResourceError
            elif self.ended:
                raise anyio.EndOfStream
            else:
                self._changed = trio.Event()
                await self._changed.wait()


class Stream:
    """One end of a connection, in the shape that a link reads and writes."""

    def __init__(self, dice: Random, weather: Weather) -> None:
        self._dice = dice
        self._weather = weather
        self._outward = Direction()
        self.peer: Stream
        self.closed = False
        self.dark = False
        """What is sent from here goes nowhere, and nobody is told."""

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        if self.closed:
            raise anyio.ClosedResourceError
        octets = await self.peer._outward.take(max_bytes)
        if self.closed:
            raise anyio.ClosedResourceError
        return octets

    async def send(self, item: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.post(item)

    def post(self, octets: bytes) -> None:
        """Send without waiting. Raises what a socket would that is closed or broken."""
        if self.closed:
            raise anyio.ClosedResourceError
        if self._outward.broken:
            raise anyio.BrokenResourceError
        if self.dark:
            return
        dice, weather = self._dice, self._weather
        if weather.broken and dice.random() < weather.broken:
            self._outward.put(octets[: dice.randrange(len(octets) + 1)], self._seconds())
            self.cut()
            return
        if weather.dark and dice.random() < weather.dark:
            self.dark = True
            return
        if weather.split and dice.random() < weather.split and len(octets) > 1:
            middle = dice.randrange(1, len(octets))
            self._outward.put(octets[:middle], self._seconds())
            octets = octets[middle:]
        self._outward.put(octets, self._seconds())

    def cut(self) -> None:
        """The connection is lost: some of what is on its way, either way, still arrives."""
        for direction in (self._outward, self.peer._outward):
            direction.lose(self._dice.randrange(direction.pieces + 1))
            if self._dice.random() < 0.5:
                direction.end()
            direction.break_off()

    async def send_eof(self) -> None:
        self._outward.end()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """Close at once, even where the closing task is cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._outward.end()
            self.peer._outward.break_off()

    def extra(self, attribute: Any, default: Any = None) -> Any:
        return default

    def _seconds(self) -> float:
        if self._weather.slow and self._dice.random() < self._weather.slow:
            return self._dice.uniform(0.05, SLOW_SECONDS)
        return self._dice.random() * QUICK_SECONDS


def connected(seed: int, weather: Weather) -> tuple[Stream, Stream]:
    """Both ends of a new connection."""
    near, far = Stream(Random(seed), weather), Stream(Random(seed + 1), weather)
    near.peer, far.peer = far, near
    return near, far
