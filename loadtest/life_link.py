"""A connection that tills share: kept up, signed on, left in order when the switch says so.

Tills ask and wait for their own answer. Whatever breaks (no answer in time, the connection
lost, a sign-off) is theirs to resolve: a link never sends anything twice.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random

import anyio
from anyio.abc import ByteStream

from loadtest.wire import Answer, Asked, Key, Wire
from protocols.errors import FramingError
from protocols.iso8583.dialect import NetworkFunction

CHUNK_BYTES = 65_536
BACK_OFF_SECONDS = (0.02, 0.05, 0.1, 0.2)
"""Short: a test wants to see the first moment at which the switch answers again."""
SIGN_ON_SECONDS_MAX = 2.0
MANAGEMENT_CLASS = "08"

_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class _Waiter:
    """Whoever waits for one answer; `answer` stays None where the link was lost."""

    __slots__ = ("answer", "over")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.over = anyio.Event()


class LifeLink:
    """One TCP connection after the other to the same port.

    `asked` counts what the switch asked for by function; `unmatched` the answers that nobody
    waited for (any more): late ones, and copies.
    """

    def __init__(self, number: int, host: str, port: int, wire: Wire, dice: Random) -> None:
        self.asked: Counter[str] = Counter()
        self.connects = 0
        self.unmatched = 0
        self.undecodable = 0
        self._host, self._port = host, port
        self._wire = wire
        self._dice = dice
        self._management_stan = number * 1000
        self._sign_on_key = Key("", "", "")
        self._waiting: dict[Key, _Waiter] = {}
        self._outbox: list[bytes] = []
        self._bell = anyio.Event()
        self._usable = anyio.Event()
        self._told_to_go = False
        self._ends: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Keep the connection up until cancelled."""
        failures = 0
        while True:
            try:
                with anyio.fail_after(SIGN_ON_SECONDS_MAX):
                    stream = await anyio.connect_tcp(self._host, self._port)
            except (OSError, TimeoutError):
                failures += 1
            else:
                self.connects += 1
                before = self._usable
                await self._converse(stream)
                failures = 0 if before.is_set() else failures + 1
            pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
            await anyio.sleep(pause * (0.5 + self._dice.random()))

    async def usable(self, seconds: float) -> bool:
        """Wait until messages may be sent; False where that took too long, or time is up."""
        if seconds <= 0:
            return False
        with anyio.move_on_after(seconds):
            # Once more: whoever was woken first may find that it is over already.
            while not self._usable.is_set():
                await self._usable.wait()
            return True
        return False

    async def ask(self, frame: bytes, key: Key, seconds: float) -> Answer | None:
        """Send one frame and wait for its answer; None where none came, however it went."""
        waiter = self._waiting[key] = _Waiter()
        self._outbox.append(frame)
        self._bell.set()
        with anyio.move_on_after(seconds):
            await waiter.over.wait()
        if self._waiting.get(key) is waiter:
            del self._waiting[key]
        self._leave_if_done()
        return waiter.answer

    async def _converse(self, stream: ByteStream) -> None:
        self._outbox.clear()
        self._told_to_go = False
        async with stream, anyio.create_task_group() as tasks:
            self._ends = tasks.cancel_scope
            tasks.start_soon(self._write, stream)
            tasks.start_soon(self._sign_on)
            try:
                await self._read(stream)
            except (*_LOST, FramingError):
                pass
            tasks.cancel_scope.cancel()
        self._unusable()
        for waiter in self._waiting.values():
            waiter.over.set()
        self._waiting.clear()

    async def _sign_on(self) -> None:
        self._management_stan = (self._management_stan + 1) % 1_000_000
        stan = self._management_stan
        self._sign_on_key = Key("", f"{stan:06}", MANAGEMENT_CLASS)
        at_seconds = time.time_ns() // 1_000_000_000
        self._outbox.append(self._wire.management(NetworkFunction.SIGN_ON, stan, at_seconds))
        self._bell.set()
        await anyio.sleep(SIGN_ON_SECONDS_MAX)
        if not self._usable.is_set():
            self._leave()

    async def _write(self, stream: ByteStream) -> None:
        try:
            while True:
                await self._bell.wait()
                self._bell = anyio.Event()
                pieces, self._outbox = self._outbox, []
                await stream.send(b"".join(pieces))
                self._leave_if_done()
        except _LOST:
            self._leave()

    async def _read(self, stream: ByteStream) -> None:
        framer = self._wire.framer()
        while True:
            for received in framer.feed(await stream.receive(CHUNK_BYTES)):
                heard = self._wire.read(received)
                if heard is None:
                    self.undecodable += 1
                elif isinstance(heard, Asked):
                    self._take_order(heard)
                else:
                    self._take_answer(*heard)

    def _take_order(self, asked: Asked) -> None:
        """Echo, cut-over and sign-off of the switch; after the last nothing new is sent."""
        self.asked[asked.function.value] += 1
        self._outbox.append(asked.answer)
        self._bell.set()
        if asked.function is NetworkFunction.SIGN_OFF:
            self._told_to_go = True
            self._unusable()

    def _take_answer(self, key: Key, answer: Answer) -> None:
        if key.message_class == MANAGEMENT_CLASS:
            if key.stan != self._sign_on_key.stan or self._told_to_go:
                return
            if answer.code == "00":
                self._usable.set()
            else:
                self._leave()
            return
        waiter = self._waiting.pop(key, None)
        if waiter is None:
            self.unmatched += 1
            return
        waiter.answer = answer
        waiter.over.set()

    def _unusable(self) -> None:
        # Only a set one is replaced: whoever waits holds the one that is not.
        if self._usable.is_set():
            self._usable = anyio.Event()

    def _leave_if_done(self) -> None:
        if self._told_to_go and not self._waiting and not self._outbox:
            self._leave()

    def _leave(self) -> None:
        if self._ends is not None:
            self._ends.cancel()
