"""One blocking connection that asks and waits for its answer, as a simple terminal does.

Plain sockets: under Locust they are gevent's. Answers to something asked earlier (and
given up) are told apart by terminal and STAN and left out.
"""

from __future__ import annotations

import socket
import time
from typing import Self

from loadtest.wire import Answer, Key, Wire
from protocols.errors import FramingError

CHUNK_BYTES = 65_536


class LinkLost(Exception):
    """The switch closed the connection, or sent what is no frame; connect again."""


class NoAnswer(Exception):
    """No answer came within the time a terminal waits; its outcome is unknown."""


class Terminal:
    """Sends frames of a wire over one connection, one at a time."""

    def __init__(self, host: str, port: int, wire: Wire, *, timeout_seconds: float) -> None:
        self._address = (host, port)
        self._wire = wire
        self._timeout_seconds = timeout_seconds
        self._socket: socket.socket | None = None
        self._framer = wire.framer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection; the next `ask` makes another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ask(self, frame: bytes, key: Key) -> Answer:
        """Send one frame and wait for the answer with its key. Raises LinkLost or NoAnswer."""
        deadline = time.monotonic() + self._timeout_seconds
        try:
            connection = self._connected()
            connection.sendall(frame)
            while True:
                connection.settimeout(max(0.001, deadline - time.monotonic()))
                chunk = connection.recv(CHUNK_BYTES)
                if not chunk:
                    raise LinkLost("the switch closed the connection")
                for received in self._framer.feed(chunk):
                    answered = self._wire.read(received)
                    if answered is not None and answered[0] == key:
                        return answered[1]
        except TimeoutError:
            # What comes late would be taken for the answer to the next message.
            self.close()
            raise NoAnswer(f"no answer in {self._timeout_seconds:g} s") from None
        except (OSError, FramingError, LinkLost) as error:
            self.close()
            raise LinkLost(f"the link was lost ({type(error).__name__})") from None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout_seconds)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._framer = self._wire.framer()
        self._socket.settimeout(self._timeout_seconds)
        return self._socket
