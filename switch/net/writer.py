"""What leaves a connection is written in joined pieces, by one task, for as long as it is read.

A peer that does not read holds up to a limit and is then cut off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from switch.net.limits import NANOSECONDS

if TYPE_CHECKING:
    from switch.net.conversation import Conversation


class Writer:
    """The octets that one connection has to write."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._pieces: list[bytes] = []
        self._gathered = anyio.Event()
        self._writing = False
        self._tasks: TaskGroup | None = None
        """Only while the connection is served: an answer that comes later goes nowhere."""
        self.unwritten_bytes = 0

    def open(self, tasks: TaskGroup) -> None:
        """Take octets from now on; `tasks` gets the one that writes, begun with the first."""
        self._tasks = tasks

    def close(self) -> None:
        """Take no more, and forget what was not written."""
        self._tasks = None
        self._pieces.clear()

    def put(self, octets: bytes) -> None:
        """Have octets written, after whatever was put before."""
        conversation = self._conversation
        if self._tasks is None or conversation.scope.cancel_called:
            return
        self._pieces.append(octets)
        self.unwritten_bytes += len(octets)
        if self.unwritten_bytes > conversation.entrance.limits.unanswered_bytes_max:
            conversation.cut("unread_answers")
            return
        if not self._writing:
            self._writing = True
            self._tasks.start_soon(self._write)
        self._gathered.set()

    async def _write(self) -> None:
        entrance, stream = self._conversation.entrance, self._conversation.stream
        while True:
            if not self._pieces:
                self._gathered = anyio.Event()
                await self._gathered.wait()
            octets = b"".join(self._pieces)
            self._pieces.clear()
            started_ns = entrance.clock.monotonic_ns()
            await stream.send(octets)
            self.unwritten_bytes -= len(octets)
            took_ns = entrance.clock.monotonic_ns() - started_ns
            entrance.metrics.stage("write", took_ns / NANOSECONDS)
