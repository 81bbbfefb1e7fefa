"""The listening sockets of one link: connections in, and none lost when the door is closed.

Workers share a port (`SO_REUSEPORT`), and the kernel has already given a connection to one of
them before that one accepts it: a listener that closes resets what waits in its backlog. So
accepting is never cut off in the middle, and closing first takes in whoever waits.
"""

from __future__ import annotations

import socket

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup

from switch.logs import get as get_log
from switch.net.entrance import Entrance

BACKLOG = 4_096
ACCEPTED_AT_ONCE = 64
"""So many connections are taken in before others have their turn."""
ACCEPT_AGAIN_SECONDS = 0.1
ENTER_SECONDS_MAX = 1.0

_log = get_log("links")


class Doorway:
    """Accepts connections of a link into a task group, until it is closed."""

    def __init__(
        self, link: Entrance, listener: anyio.abc.Listener[SocketStream], tasks: TaskGroup
    ) -> None:
        self._link = link
        self._listener = listener
        self._tasks = tasks
        self._sockets = [
            each.extra(SocketAttribute.raw_socket)  # noqa: S610 - anyio's, not Django's
            for each in getattr(listener, "listeners", [listener])
        ]
        self._entering = 0
        self._closed = False

    @classmethod
    async def open(cls, link: Entrance, host: str, port: int, tasks: TaskGroup) -> Doorway:
        """Listen. Raises OSError where the address is not to be had."""
        listener = await anyio.create_tcp_listener(
            local_host=host, local_port=port, backlog=BACKLOG, reuse_port=True
        )
        return cls(link, listener, tasks)

    @property
    def port(self) -> int:
        """The port of the first listening socket."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def run(self) -> None:
        """Accept until cancelled."""
        async with anyio.create_task_group() as tasks:
            for listening in self._sockets:
                tasks.start_soon(self._accept_at, listening)

    async def close(self) -> None:
        """Take in who waits already, then listen no more. Not while `run` runs; once is enough."""
        if self._closed:
            return
        self._closed = True
        for listening in self._sockets:
            # New ones find the queue full and knock again, at another worker's by then.
            listening.listen(0)
            while self._accept_some(listening):
                pass
        await self._listener.aclose()
        with anyio.move_on_after(ENTER_SECONDS_MAX):
            while self._entering:  # noqa: ASYNC110 - once per process
                await anyio.sleep(0.001)

    async def _accept_at(self, listening: socket.socket) -> None:
        while True:
            await anyio.wait_readable(listening)
            try:
                self._accept_some(listening)
            except OSError as error:
                # What one accept fails of, such as too many open files, must not end the process.
                _log.error(
                    "a connection was not accepted",
                    link=self._link.name,
                    reason=error.strerror,
                )
                await anyio.sleep(ACCEPT_AGAIN_SECONDS)

    def _accept_some(self, listening: socket.socket) -> int:
        """Accept without waiting, up to a turn's worth; how many came in."""
        for count in range(ACCEPTED_AT_ONCE):
            try:
                accepted, _address = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return count
            accepted.setblocking(False)
            self._entering += 1
            self._tasks.start_soon(self._enter, accepted)
        return ACCEPTED_AT_ONCE

    async def _enter(self, accepted: socket.socket) -> None:
        try:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = await SocketStream.from_socket(accepted)
        except (OSError, ValueError):
            accepted.close()  # the peer is gone already
            return
        finally:
            # Nothing is awaited between here and the link's own count of its connections.
            self._entering -= 1
        await self._link.handle(stream)
