"""TLS on a stream that is read by one task and written by another.

Reading may have to write: OpenSSL answers key updates, and a server sends its session tickets
with the first read. A socket takes one writer at a time, so the two take turns below TLS.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream


class OneWriter(ByteStream):
    """A byte stream whose senders take turns, in the order in which they came."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._turn = anyio.Lock()

    async def send(self, item: bytes) -> None:
        async with self._turn:
            await self._stream.send(item)

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        return await self._stream.receive(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return self._stream.extra_attributes


async def encrypted(
    stream: ByteStream, context: ssl.SSLContext, *, server_side: bool, hostname: str | None = None
) -> TLSStream:
    """The stream after its handshake; it may be closed without a farewell.

    Raises ssl.SSLError (an OSError), anyio.EndOfStream or anyio.BrokenResourceError where the
    peer refuses, is refused, or is gone.
    """
    return await TLSStream.wrap(
        OneWriter(stream),
        server_side=server_side,
        hostname=hostname,
        ssl_context=context,
        standard_compatible=False,
    )
