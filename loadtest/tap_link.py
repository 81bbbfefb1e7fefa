"""A concentrator's connection: many readers behind it, their frames under way all at once.

It seals for its devices, as they would themselves, and takes no answer whose MAC is wrong.
Nothing is sent twice and a lost connection stays lost: whoever asked is told.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
from anyio.abc import ByteStream

from protocols.errors import DecodeError, FramingError
from protocols.tap.frame import (
    Frame,
    TapFramer,
    open_frame,
    read_answer,
    sealed,
    write_said,
)
from protocols.tap.mac import FrameMac, device_key
from protocols.tap.words import Answered, Head, Hello, HelloAnswer, Refused, Said

CHUNK_BYTES = 262_144
CONNECT_SECONDS_MAX = 5.0
OUTBOX_BYTES_MAX = 8 << 20
"""More than that unsent means that the switch has stopped reading."""
SEQUENCES_FROM_SECONDS = 1_767_225_600
SEQUENCES_PER_SECOND = 32
"""A device's first sequence is made of the clock (from 2026 on), so that a new run goes on
above the last one, as a device does that remembers its own."""

Hear = Callable[[Answered | None], None]
"""Told the answer, or None where the connection was lost first."""
_LOST = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)


class LinkLost(Exception):
    """The connection ended, or never was; what was under way may have been done or not."""


class NoAnswer(Exception):
    """No answer in time; what was asked may have been done or not."""


class NotTaken(Exception):
    """The switch refused a frame, or answers it as no reader could understand."""


class TapTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to speak to, and as whom. `reader_key` is the acquirer's reader master key."""

    port: int
    acquirer: str
    reader_key: bytes
    host: str = "127.0.0.1"
    concentrator: str = "CONC0001"
    key_version: int = 1
    list_version: int = 0
    timeout_seconds: float = 5.0
    waiting_max: int = 65_536

    def __repr__(self) -> str:
        return f"TapTerms(port={self.port}, acquirer={self.acquirer!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("port", self.port), ("acquirer", self.acquirer)]


@asynccontextmanager
async def connected(terms: TapTerms) -> AsyncIterator[TapLink]:
    """A connection that has said hello. Raises LinkLost, NoAnswer, NotTaken."""
    failed: Exception | None = None
    try:
        with anyio.fail_after(CONNECT_SECONDS_MAX):
            stream = await anyio.connect_tcp(terms.host, terms.port)
    except (OSError, TimeoutError) as error:
        raise LinkLost("nobody takes connections at this port; start the switch") from error
    async with stream, anyio.create_task_group() as tasks:
        link = TapLink(stream, terms)
        tasks.start_soon(link.read_all)
        tasks.start_soon(link.write_all)
        try:
            await link.hello()
            yield link
        except Exception as error:  # noqa: BLE001 - raised again below, out of the task group
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed


class TapLink:
    """One TCP connection. `unmatched` counts answers nobody waited for (any more), `forged`
    those with a wrong MAC, `undecodable` what was no answer at all."""

    def __init__(self, stream: ByteStream, terms: TapTerms) -> None:
        self.terms = terms
        self.greeting: HelloAnswer | None = None
        self.unmatched = self.forged = self.undecodable = 0
        self.lost = anyio.Event()
        self._stream = stream
        self._macs: dict[str, FrameMac] = {}
        self._sequences: dict[str, int] = {}
        self._waiting: dict[tuple[str, int], Hear] = {}
        self._outbox: list[bytes] = []
        self._outbox_bytes = 0
        self._bell = anyio.Event()

    @property
    def waiting(self) -> int:
        """How many answers are under way."""
        return len(self._waiting)

    def next_head(self, device: str) -> Head:
        """The head of a device's next message."""
        sequence = self._sequences.get(device)
        if sequence is None:
            since = time.time_ns() // 1_000_000_000 - SEQUENCES_FROM_SECONDS
            sequence = since * SEQUENCES_PER_SECOND
        self._sequences[device] = sequence + 1
        return Head(device, sequence & 0xFFFF_FFFF, self.terms.key_version)

    def send(self, head: Head, said: Said, hear: Hear) -> None:
        """Send, and have `hear` called once, unless it is forgotten before.

        Raises LinkLost, or NoAnswer where so much is under way that nothing more can be.
        """
        signed = write_said(head, said)
        self.send_sealed(head, sealed(signed, self._mac(head.device).of(signed)), hear)

    def send_sealed(self, head: Head, octets: bytes, hear: Hear) -> None:
        """`send` for a frame that is written already: a repeat, or one that is wrong on purpose."""
        if self.lost.is_set():
            raise LinkLost("the connection is lost; connect again")
        if len(self._waiting) >= self.terms.waiting_max or self._outbox_bytes > OUTBOX_BYTES_MAX:
            raise NoAnswer("too much is under way on this connection; wait for answers")
        self._waiting[head.device, head.sequence] = hear
        self._outbox.append(octets)
        self._outbox_bytes += len(octets)
        self._bell.set()

    def forget(self, head: Head) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.pop((head.device, head.sequence), None)

    async def ask(self, head: Head, said: Said, seconds: float | None = None) -> Answered:
        """Send and wait for the answer. Raises LinkLost and NoAnswer."""
        over = anyio.Event()
        heard: list[Answered | None] = []

        def hear(answered: Answered | None) -> None:
            heard.append(answered)
            over.set()

        self.send(head, said, hear)
        with anyio.move_on_after(self.terms.timeout_seconds if seconds is None else seconds):
            await over.wait()
        if not heard:
            self.forget(head)
            raise NoAnswer("no answer came in time; ask again under the same sequence")
        if heard[0] is None:
            raise LinkLost("the connection was lost before the answer; connect and ask again")
        return heard[0]

    async def hello(self) -> None:
        """Say who we are. Raises NotTaken where the switch does not want us."""
        said = Hello(self.terms.acquirer, self.terms.list_version)
        answered = await self.ask(self.next_head(self.terms.concentrator), said)
        if not isinstance(answered, HelloAnswer) or not answered.accepted:
            raise not_taken(answered)
        self.greeting = answered

    # ---- the stream

    async def write_all(self) -> None:
        """Send what is asked, joined, until the connection is lost."""
        try:
            while True:
                await self._bell.wait()
                self._bell = anyio.Event()
                pieces, self._outbox = self._outbox, []
                self._outbox_bytes = 0
                await self._stream.send(b"".join(pieces))
        except _LOST:
            self._lose()

    async def read_all(self) -> None:
        """Take answers until the connection is lost."""
        framer = TapFramer()
        try:
            while True:
                for payload in framer.feed(await self._stream.receive(CHUNK_BYTES)):
                    self._take(payload)
        except (*_LOST, FramingError):
            self._lose()

    def _take(self, payload: bytes) -> None:
        try:
            frame = open_frame(payload)
            if not self._is_genuine(frame):
                self.forged += 1
                return
            answered = read_answer(frame)
        except DecodeError:
            self.undecodable += 1
            return
        hear = self._waiting.pop((frame.head.device, frame.head.sequence), None)
        if hear is None:
            self.unmatched += 1
        else:
            hear(answered)

    def _is_genuine(self, frame: Frame) -> bool:
        key = frame.head.device, frame.head.sequence
        # only of whom we speak for: an unknown device must not cost a key
        return key not in self._waiting or self._mac(key[0]).proves(frame.signed, frame.mac)

    def _lose(self) -> None:
        self.lost.set()
        waiting, self._waiting = self._waiting, {}
        for hear in waiting.values():
            hear(None)

    def _mac(self, device: str) -> FrameMac:
        mac = self._macs.get(device)
        if mac is None:
            mac = self._macs[device] = FrameMac(device_key(self.terms.reader_key, device))
        return mac


def not_taken(answered: Answered) -> NotTaken:
    """What to raise for an answer that is none of those expected."""
    if isinstance(answered, Refused):
        return NotTaken(f"the switch refused the frame: {answered.reason.name.lower()}")
    return NotTaken("the switch answered with something else; check the version of both")
