"""What leaves a connection: messages sealed, framed, and written in joined pieces.

One task, begun with the first message, writes whatever has gathered meanwhile. A peer that
does not read holds up to a limit and is then cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from protocols.errors import EncodeError
from protocols.framing import Frame, answer_tpdu, frame
from protocols.iso8583 import Message, encode
from switch.net.guard import Seal
from switch.net.limits import NANOSECONDS

if TYPE_CHECKING:
    from switch.net.connection import Connection


class Outbox:
    """The messages that one connection has to write."""

    __slots__ = (
        "_connection",
        "_gathered",
        "_lead",
        "_pieces",
        "_tasks",
        "_writing",
        "unwritten_bytes",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pieces: list[bytes] = []
        self._gathered = anyio.Event()
        self._writing = False
        self._lead = (b"", b"")
        self._tasks: TaskGroup | None = None
        """Only while the connection is served: an answer that comes later goes nowhere."""
        self.unwritten_bytes = 0

    def open(self, tasks: TaskGroup) -> None:
        """Take messages from now on; `tasks` gets the one that writes."""
        self._tasks = tasks

    def close(self) -> None:
        """Take no more, and forget what was not written."""
        self._tasks = None
        self._pieces.clear()

    def answer(self, one: Frame, message: Message, under: Seal | None = None) -> None:
        """Answer a frame: its addresses turned round, its MAC under the key it came under."""
        guard = self._connection.link.guard
        self._put(message, answer_tpdu(one.tpdu), one.header, under, sealed=guard is not None)

    def answer_network(self, one: Frame, message: Message) -> None:
        """Answer network management, which carries no MAC; ours to this peer travel as this."""
        self._lead = (answer_tpdu(one.tpdu), one.header)
        self._put(message, *self._lead, None, sealed=False)

    def say(self, message: Message) -> None:
        """Send a network message of our own."""
        self._put(message, *self._lead, None, sealed=False)

    def _put(
        self, message: Message, tpdu: bytes, header: bytes, under: Seal | None, *, sealed: bool
    ) -> None:
        link = self._connection.link
        try:
            if sealed and link.guard is not None:
                payload = link.guard.seal(link.spec, message, under)
            else:
                payload = encode(link.spec, message)
            octets = frame(link.terms.framing, payload, tpdu, header)
        except EncodeError as error:
            # Ours to mend: no request that decoded may lead here.
            link.faulty(self._connection, error)
            return
        if self._tasks is None or self._connection.scope.cancel_called:
            return
        self._pieces.append(octets)
        self.unwritten_bytes += len(octets)
        if self.unwritten_bytes > link.limits.unanswered_bytes_max:
            self._connection.cut("unread_answers")
            return
        if not self._writing:
            self._writing = True
            self._tasks.start_soon(self._write)
        self._gathered.set()

    async def _write(self) -> None:
        link, stream = self._connection.link, self._connection.stream
        while True:
            if not self._pieces:
                self._gathered = anyio.Event()
                await self._gathered.wait()
            octets = b"".join(self._pieces)
            self._pieces.clear()
            started_ns = link.clock.monotonic_ns()
            await stream.send(octets)
            self.unwritten_bytes -= len(octets)
            link.metrics.stage("write", (link.clock.monotonic_ns() - started_ns) / NANOSECONDS)
