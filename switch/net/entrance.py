"""What every configured port has in common: who comes in, over TLS or not, and why they left.

A link of a protocol adds what one connection is (`converse`); accepting is in `doorway.py`,
what happens once a second in `sweep.py` and the end in `draining.py`.
"""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import MutableSet

import anyio
from anyio.abc import ByteStream

from protocols.errors import DecodeError, EncodeError
from protocols.message import Refusal
from switch.clock import Clock
from switch.logs import Throttle
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.conversation import Conversation
from switch.net.encrypted import encrypted
from switch.net.limits import WHY_CLOSED, LinkLimits

_log = get_log("links")


class Entrance(ABC):
    """All connections of one configured port in this process.

    `open_connections` are those of all its ports: together they have a limit. `leaving` tells
    that the process takes its leave: nobody signs on any more.
    """

    def __init__(
        self,
        name: str,
        budget_ms: int,
        limits: LinkLimits,
        clock: Clock,
        metrics: Metrics,
        open_connections: MutableSet[Conversation],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.name = name
        self.budget_ms = budget_ms
        self.limits = limits
        self.clock = clock
        self.metrics = metrics
        self.open_connections = open_connections
        self.leaving = False
        self._tls = tls
        self._throttle = Throttle()
        self._numbered = 0

    @abstractmethod
    def converse(self, stream: ByteStream, number: int) -> Conversation:
        """What speaks on a new connection."""

    async def handle(self, stream: ByteStream) -> None:
        """Serve one accepted connection to its end; never raises for what a peer does."""
        self._numbered += 1
        if len(self.open_connections) >= self.limits.connections_max:
            await anyio.aclose_forcefully(stream)
            self._log_closed(self._numbered, "connections_max", WHY_CLOSED["connections_max"])
            return
        connection = self.converse(stream, self._numbered)
        self.open_connections.add(connection)
        self.metrics.link_connections(self.name, 1)
        try:
            if self._tls is None or await self._shake_hands(connection, self._tls):
                await connection.serve()
            else:
                connection.over()
        finally:
            self.open_connections.discard(connection)
            self.metrics.link_connections(self.name, -1)

    async def _shake_hands(self, connection: Conversation, tls: ssl.SSLContext) -> bool:
        """Begin TLS; False for a peer that cannot, or does not in the time of a frame."""
        with anyio.move_on_after(self.limits.first_frame_seconds) as connection.scope:
            try:
                connection.stream = await encrypted(connection.stream, tls, server_side=True)
                connection.scope = anyio.CancelScope()
                return True
            except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
                pass  # ssl's errors are OSErrors; their texts quote certificates
        connection.reason = "tls"
        await anyio.aclose_forcefully(connection.stream)
        self.closed(connection, WHY_CLOSED["tls"])
        return False

    def closed(self, connection: Conversation, why: str, **where: object) -> None:
        """Log and count the end of a connection."""
        self._log_closed(connection.number, connection.reason, why, **where)

    def _log_closed(self, number: int, reason: str, why: str, **where: object) -> None:
        self.metrics.link_closed(self.name, reason)
        if reason == "peer":
            return
        suppressed = self._throttle.admit(reason, self.clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(
                "link closed",
                link=self.name,
                connection=number,
                reason=reason,
                why=why,
                suppressed=suppressed,
                **where,
            )

    def faulty(self, connection: Conversation, error: DecodeError | EncodeError | Refusal) -> None:
        """Log and count a message at fault: where, never what."""
        path = error.field_path
        offset = error.offset if not isinstance(error, Refusal) else None
        self.metrics.malformed(self.name, path)
        suppressed = self._throttle.admit(f"fault {path}", self.clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(
                "message at fault",
                link=self.name,
                connection=connection.number,
                field=path,
                offset=offset,
                why=error.reason,
                suppressed=suppressed,
            )
