"""One port of the API, served by hypercorn on the backend that runs.

Its listening socket and TLS context are ours: workers share the port (`SO_REUSEPORT`), and the
files of TLS are read and judged as everywhere else. It is never cancelled but told to end: it
takes in who waits already, answers what is under way, and closes.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import hypercorn.config
import hypercorn.logging
import sniffio

from switch.logs import get as get_log

BACKLOG = 1_024
IDLE_SECONDS = 30
"""A connection that sends no whole head of a request for so long is closed."""
SILENT_SECONDS = 75
"""One that sends nothing at all, even while it waits for an answer: longer than any budget."""
HEAD_BYTES_MAX = 16_384
TAKE_IN_SECONDS = 0.05
LAST_WORDS_SECONDS = 1.0

_log = get_log("api")


class Terms(hypercorn.config.Config):
    """Hypercorn's settings, with sockets and TLS that are ready made."""

    def __init__(self, listening: socket.socket, tls: ssl.SSLContext | None) -> None:
        super().__init__()
        self._listening = listening
        self._tls = tls
        self.accesslog = None
        self.errorlog = None
        self.logger_class = Told
        self.backlog = BACKLOG
        self.alpn_protocols = ["http/1.1"]
        self.h11_max_incomplete_size = HEAD_BYTES_MAX
        self.h2_max_header_list_size = HEAD_BYTES_MAX
        self.keep_alive_timeout = IDLE_SECONDS
        self.read_timeout = SILENT_SECONDS
        self.ssl_handshake_timeout = IDLE_SECONDS
        self.include_server_header = False

    @property
    def ssl_enabled(self) -> bool:
        return self._tls is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        if self._tls is not None:
            self._tls.set_alpn_protocols(self.alpn_protocols)
        return self._tls

    def create_sockets(self) -> hypercorn.config.Sockets:
        secure = [self._listening] if self._tls is not None else []
        return hypercorn.config.Sockets(secure, [] if secure else [self._listening], [])


class Told(hypercorn.logging.Logger):
    """Hypercorn's log: a fault of the application, by its type alone, and nothing else."""

    async def exception(self, message: str, *args: Any, **keywords: Any) -> None:
        _log.error("a request failed outside of its route")


class HttpPort:
    """Serves an ASGI application at one port, from `open` to `leave`."""

    def __init__(self, name: str, app: Any, tls: ssl.SSLContext | None) -> None:
        self.name = name
        self._app = app
        self._tls = tls
        self._listening: socket.socket | None = None
        self._leaving = anyio.Event()
        self._ended = anyio.Event()
        self._graceful_seconds = LAST_WORDS_SECONDS

    def open(self, host: str, port: int, *, shared: bool = True) -> int:
        """Bind; the port that it has. Raises OSError where it is not to be had, and where it is
        not `shared` with other processes also if one of them has it."""
        listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
        self._listening = listening
        bound: int = listening.getsockname()[1]
        return bound

    async def run(self) -> None:
        """Serve until `leave` is called or this is cancelled, and what is under way is over."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._serve)
                try:
                    await self._leaving.wait()
                finally:
                    self._leaving.set()
        finally:
            self._ended.set()

    async def leave(self, seconds: float) -> None:
        """Take in who waits, answer what is under way for at most so long, and close."""
        self._graceful_seconds = seconds
        self._leaving.set()
        with anyio.move_on_after(seconds + LAST_WORDS_SECONDS):
            await self._ended.wait()

    async def _serve(self) -> None:
        assert self._listening is not None, "a port is opened before it is served"
        terms = Terms(self._listening, self._tls)

        async def told_to_leave() -> None:
            await self._leaving.wait()
            terms.graceful_timeout = self._graceful_seconds
            if self._listening is not None and self._listening.fileno() >= 0:
                self._listening.listen(0)  # new ones knock again, at another worker's by then
            await anyio.sleep(TAKE_IN_SECONDS)

        # Cancelled in the middle it would leave its tasks behind; told, it ends by itself.
        with anyio.CancelScope(shield=True):
            await _serve_of_backend()(self._app, terms, shutdown_trigger=told_to_leave)


def _serve_of_backend() -> Callable[..., Awaitable[None]]:
    """Hypercorn for the backend that runs; the other one must not even be imported."""
    if sniffio.current_async_library() == "trio":
        import hypercorn.trio

        return hypercorn.trio.serve
    import hypercorn.asyncio

    return hypercorn.asyncio.serve
