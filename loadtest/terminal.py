"""One blocking connection that asks and waits for its answer, as a simple terminal does.

Plain sockets: under Locust they are gevent's. Answers to something asked earlier (and
given up) are told apart by terminal and STAN and left out. A new connection signs on first;
one that the switch signed off is left as soon as nothing is asked on it.
"""

from __future__ import annotations

import socket
import time
from typing import Self

from loadtest.wire import Answer, Asked, Key, Wire
from protocols.errors import FramingError
from protocols.iso8583.dialect import NetworkFunction

CHUNK_BYTES = 65_536
SIGN_ON_KEY = Key("", "000001", "08")


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
        self._told_to_go = False

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
            return self._exchange(self._connected(deadline), frame, key, deadline)
        except TimeoutError:
            # What comes late would be taken for the answer to the next message.
            self.close()
            raise NoAnswer(f"no answer in {self._timeout_seconds:g} s") from None
        except (OSError, FramingError, LinkLost) as error:
            self.close()
            raise LinkLost(f"the link was lost ({type(error).__name__})") from None

    def _exchange(
        self, connection: socket.socket, frame: bytes, key: Key, deadline: float
    ) -> Answer:
        connection.sendall(frame)
        while True:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = connection.recv(CHUNK_BYTES)
            if not chunk:
                raise LinkLost("the switch closed the connection")
            answer = self._take(connection, chunk, key)
            if answer is not None:
                return answer

    def _take(self, connection: socket.socket, chunk: bytes, key: Key | None) -> Answer | None:
        """The answer with this key, if it is in the chunk; what the switch asks is answered."""
        found: Answer | None = None
        for received in self._framer.feed(chunk):
            heard = self._wire.read(received)
            if isinstance(heard, Asked):
                self._told_to_go |= heard.function is NetworkFunction.SIGN_OFF
                connection.sendall(heard.answer)
            elif heard is not None and heard[0] == key:
                found = heard[1]
        return found

    def _connected(self, deadline: float) -> socket.socket:
        if self._socket is not None:
            self._hear_what_came(self._socket)
        if self._socket is None:
            self._socket = socket.create_connection(self._address, self._timeout_seconds)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._framer, self._told_to_go = self._wire.framer(), False
            self._sign_on(self._socket, deadline)
        self._socket.settimeout(self._timeout_seconds)
        return self._socket

    def _sign_on(self, connection: socket.socket, deadline: float) -> None:
        sign_on = self._wire.management(NetworkFunction.SIGN_ON, 1, int(time.time()))
        answer = self._exchange(connection, sign_on, SIGN_ON_KEY, deadline)
        if answer.code != "00":
            raise LinkLost("the switch refused the sign-on")

    def _hear_what_came(self, connection: socket.socket) -> None:
        """Between two questions: answer echoes, and leave a connection that was signed off."""
        connection.setblocking(False)
        try:
            while chunk := connection.recv(CHUNK_BYTES):
                self._take(connection, chunk, None)
        except BlockingIOError:
            if not self._told_to_go:
                return
        except OSError:
            pass
        self.close()
