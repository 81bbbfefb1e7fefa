"""The life of one TCP connection, whatever is spoken on it: read, answered, parted from.

One task reads and one writes. What a protocol adds is how chunks become requests and how
answers are spelt; how a connection ends, is cut off, or takes its leave is the same for all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream, TaskGroup
from anyio.streams.tls import TLSStream

from protocols.errors import FramingError
from switch.net.limits import NANOSECONDS, WHY_CLOSED

if TYPE_CHECKING:
    from switch.net.entrance import Entrance
    from switch.net.writer import Writer

RECEIVE_BYTES = 16_384
"""The largest chunk taken at once: some 80 messages, so that no link holds the process long."""
LINGER_SECONDS = 2.0
"""How long a closing link waits for the peer to close too, so that it reads its last answers."""
QUIET_SECONDS = 0.5
"""A peer that was told to go, or cannot be told, is done when nothing came for so long."""


class Conversation(ABC):
    """One TCP connection. `reason` is why it ended, one of the metrics' catalogue."""

    def __init__(self, entrance: Entrance, stream: ByteStream, number: int) -> None:
        self.entrance = entrance
        self.number = number
        self.reason = "peer"
        self.last_byte_ns = entrance.clock.monotonic_ns()
        self.frame_begun_ns = 0
        self.scope = anyio.CancelScope()
        self.stream = stream
        self._ended = False
        self._outstanding = 0
        self._reading = anyio.CancelScope()

    # ---- what a protocol adds

    @property
    @abstractmethod
    def writer(self) -> Writer:
        """What writes its answers."""

    @abstractmethod
    async def read(self) -> None:
        """Read until the peer ends. Raises FramingError where its frames are lost."""

    @abstractmethod
    def take_last(self, error: FramingError) -> None:
        """Answer the whole frames that came before framing was lost."""

    @abstractmethod
    def take_leave(self) -> None:
        """Tell the peer that we are going; what it has under way is still answered."""

    @abstractmethod
    def attend(self, now_ns: int, now_us: int) -> None:
        """One look a second at a connection that is neither idle nor slow."""

    def begun(self, tasks: TaskGroup) -> None:  # noqa: B027 - most have nothing to begin
        """It is being served now; `tasks` end with it."""

    def over(self) -> None:  # noqa: B027 - most have nothing to give up
        """It is not served any more, or never was."""

    # ---- its life

    async def serve(self) -> None:
        """Read until the peer ends, the link is lost or it is cut; then finish what is owed."""
        why: str = ""
        where: dict[str, object] = {}
        try:
            with self.scope:
                async with anyio.create_task_group() as tasks:
                    self.writer.open(tasks)
                    self.begun(tasks)
                    if self.entrance.leaving:
                        self.take_leave()
                    try:
                        with self._reading:
                            await self.read()
                    except FramingError as error:
                        self.reason = "framing"
                        why = error.reason
                        where = {"field": error.field_path, "offset": error.offset}
                        self.take_last(error)
                    self._ended = True
                    await self._finish()
                    if not self.owes:
                        await self._part()
                    tasks.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # the peer is gone: nobody is left to read what is still owed
        except* Exception as faults:  # noqa: BLE001 - one link's fault must not end the others
            self.reason = "fault"
            where = {"exc_info": faults}
        finally:
            self.writer.close()
            self.over()
            await anyio.aclose_forcefully(self.stream)
            self.entrance.closed(self, why or WHY_CLOSED[self.reason], **where)

    @property
    def unwritten_bytes(self) -> int:
        """Answers that the peer has not taken yet."""
        return self.writer.unwritten_bytes

    @property
    def owes(self) -> bool:
        """Whether answers are still to be given or written."""
        return bool(self._outstanding or self.writer.unwritten_bytes)

    def is_quiet(self, now_ns: int) -> bool:
        """Whether nothing is owed, begun or heard of lately, so that it may be drained."""
        silent_ns = now_ns - self.last_byte_ns
        return not (self.owes or self.frame_begun_ns) and silent_ns > QUIET_SECONDS * NANOSECONDS

    @property
    def draining(self) -> bool:
        """Whether nothing is read from it any more, because of us or because its peer ended."""
        return self._reading.cancel_called or self._ended

    def drain(self) -> None:
        """Read no more; what was read is answered, then the connection closes."""
        self.reason = "drain"
        self._reading.cancel()

    def cut(self, reason: str) -> None:
        """Close the connection now, for a reason of the catalogue."""
        self.reason = reason
        self.scope.cancel()

    async def _finish(self) -> None:
        """After the peer's last byte: every request it sent still gets its answer."""
        patience_seconds = self.entrance.budget_ms / 1000 + 1
        with anyio.move_on_after(patience_seconds):
            while self.owes:  # noqa: ASYNC110 - once per connection
                await anyio.sleep(0.01)

    async def _part(self) -> None:
        """Close our side first: closing on unread bytes resets a link, and loses its answers."""
        with anyio.move_on_after(LINGER_SECONDS):
            try:
                stream = self.stream
                if isinstance(stream, TLSStream):
                    unwrapped, _rest = await stream.unwrap()
                    assert isinstance(unwrapped, ByteStream)
                    stream = unwrapped
                await stream.send_eof()
                while True:
                    await stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return
