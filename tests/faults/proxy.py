"""A TCP proxy that treats messages badly: it drops, doubles, delays, reorders, truncates and cuts.

It stands between an acquirer and a switch, knows where frames begin (a two-byte length), and
draws what happens to each from a seed. It counts what it did, so that a test can show that
the faults were there. Between a switch and Postgres it knows no frames and cuts only: after
what the switch sent has reached the server and before the answer comes back, which is where
a commit becomes an unknown outcome.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup

LENGTH_BYTES = 2
_BIND = b"B"
_PREPARES_POSTING = re.compile(rb"P.{4}(\w+\0)[^\0]*\bpost_batch\b", re.DOTALL)
"""The name under which a connection prepares its postings (Parse of the wire protocol)."""
CHUNK_BYTES = 65_536
START_SECONDS_MAX = 10.0


class Shares(msgspec.Struct, frozen=True):
    """What share of the frames (each way) meets which fault; delays in seconds."""

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    truncate: float = 0.0
    cut: float = 0.0
    delay_seconds_max: float = 0.3


class Proxy:
    """A listener in a thread of its own, at `port`; see `proxied`."""

    def __init__(self) -> None:
        self.port = 0
        self._listening = threading.Event()
        self._stop: Callable[[], None] = lambda: None

    def run(self) -> None:
        """Serve until stopped; the body of the proxy's thread."""
        anyio.run(self._serve)

    def started(self) -> None:
        assert self._listening.wait(START_SECONDS_MAX), "the proxy did not start"

    def stop(self) -> None:
        self._stop()

    async def _serve(self) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        self.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.from_thread.BlockingPortal() as portal, listener:
            stopped = anyio.Event()
            self._stop = lambda: portal.call(stopped.set)
            self._listening.set()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, self._connection)
                await stopped.wait()
                tasks.cancel_scope.cancel()

    async def _connection(self, near: SocketStream) -> None:
        raise NotImplementedError


class FaultProxy(Proxy):
    """Counts what was done by name; `trouble` turns the faults on and off while it runs."""

    def __init__(self, host: str, port: int, shares: Shares, seed: int) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()
        self.trouble = True
        self._target = (host, port)
        self._shares = shares
        self._dice = Random(seed)

    async def _connection(self, near: SocketStream) -> None:
        try:
            far = await anyio.connect_tcp(*self._target)
        except OSError:
            await near.aclose()
            return
        async with near, far, anyio.create_task_group() as tasks:
            tasks.start_soon(self._carry, near, far, tasks)
            tasks.start_soon(self._carry, far, near, tasks)
            await anyio.sleep_forever()

    async def _carry(self, source: SocketStream, sink: SocketStream, tasks: TaskGroup) -> None:
        """One direction, frame by frame, until either side ends; then both do."""
        held = b""
        sending = anyio.Lock()
        try:
            while True:
                held += await source.receive(CHUNK_BYTES)
                while len(held) >= LENGTH_BYTES and not tasks.cancel_scope.cancel_called:
                    end = LENGTH_BYTES + int.from_bytes(held[:LENGTH_BYTES])
                    if len(held) < end:
                        break
                    one, held = held[:end], held[end:]
                    await self._pass_on(one, sink, sending, tasks)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            tasks.cancel_scope.cancel()

    async def _pass_on(
        self, one: bytes, sink: SocketStream, sending: anyio.Lock, tasks: TaskGroup
    ) -> None:
        fault = self._draw()
        if fault:
            self.done[fault] += 1
        if fault == "drop":
            return
        if fault == "delay":
            tasks.start_soon(self._later, one, sink, sending, tasks)
            return
        if fault == "truncate":
            one = one[: max(1, len(one) // 2)]
        async with sending:
            await sink.send(one * 2 if fault == "double" else one)
        if fault in ("truncate", "cut"):
            tasks.cancel_scope.cancel()

    async def _later(
        self, one: bytes, sink: SocketStream, sending: anyio.Lock, tasks: TaskGroup
    ) -> None:
        """Frames after it overtake it: a delay is a reordering too."""
        await anyio.sleep(self._dice.random() * self._shares.delay_seconds_max)
        try:
            async with sending:
                await sink.send(one)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            tasks.cancel_scope.cancel()

    def _draw(self) -> str:
        if not self.trouble:
            return ""
        share = self._dice.random()
        for name in ("drop", "double", "delay", "truncate", "cut"):
            share -= getattr(self._shares, name)
            if share < 0:
                return name
        return ""


class LedgerProxy(Proxy):
    """Carries Postgres connections; `cut_next()` lets the next request reach the server, and
    drops the connection before the server's answer comes back. `cuts` counts them."""

    def __init__(self, socket_path: str) -> None:
        super().__init__()
        self.cuts = 0
        self._socket_path = socket_path
        self._armed = 0

    def cut_next(self) -> None:
        """Cut the connection that carries the next posting, after it was handed over."""
        self._armed += 1

    async def _connection(self, near: SocketStream) -> None:
        try:
            far = await anyio.connect_unix(self._socket_path)
        except OSError:
            await near.aclose()
            return
        async with near, far, anyio.create_task_group() as tasks:
            doomed = anyio.Event()
            tasks.start_soon(self._requests, near, far, doomed, tasks)
            tasks.start_soon(self._answers, far, near, doomed, tasks)
            await anyio.sleep_forever()

    async def _requests(
        self, near: SocketStream, far: anyio.abc.ByteStream, doomed: anyio.Event, tasks: TaskGroup
    ) -> None:
        posting = b""
        try:
            while True:
                chunk = await near.receive(CHUNK_BYTES)
                if (prepared := _PREPARES_POSTING.search(chunk)) is not None:
                    posting = prepared[1]
                elif self._armed and posting and posting in chunk and chunk[:1] == _BIND:
                    self._armed -= 1
                    self.cuts += 1
                    doomed.set()
                await far.send(chunk)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            tasks.cancel_scope.cancel()

    async def _answers(
        self, far: anyio.abc.ByteStream, near: SocketStream, doomed: anyio.Event, tasks: TaskGroup
    ) -> None:
        try:
            while True:
                chunk = await far.receive(CHUNK_BYTES)
                if doomed.is_set():
                    # The server has answered, so it has committed: nobody will hear of it.
                    tasks.cancel_scope.cancel()
                    return
                await near.send(chunk)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            tasks.cancel_scope.cancel()


@contextmanager
def proxied(proxy: Proxy) -> Iterator[None]:
    """Run a proxy in a thread of its own for as long as the body runs."""
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    proxy.started()
    try:
        yield
    finally:
        proxy.stop()
        thread.join(START_SECONDS_MAX)
