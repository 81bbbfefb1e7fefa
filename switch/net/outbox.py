"""What leaves an ISO 8583 connection: messages sealed and framed, then written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocols.errors import EncodeError
from protocols.framing import Frame, answer_tpdu, frame
from protocols.iso8583 import Message, encode
from switch.net.guard import Seal
from switch.net.writer import Writer

if TYPE_CHECKING:
    from switch.net.connection import Connection


class Outbox(Writer):
    """The messages that one connection has to write."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection
        self._lead = (b"", b"")

    def answer(self, one: Frame, message: Message, under: Seal | None = None) -> None:
        """Answer a frame: its addresses turned round, its MAC under the key it came under."""
        guard = self._connection.link.guard
        self._send(message, answer_tpdu(one.tpdu), one.header, under, sealed=guard is not None)

    def answer_network(self, one: Frame, message: Message) -> None:
        """Answer network management, which carries no MAC; ours to this peer travel as this."""
        self._lead = (answer_tpdu(one.tpdu), one.header)
        self._send(message, *self._lead, None, sealed=False)

    def say(self, message: Message) -> None:
        """Send a network message of our own."""
        self._send(message, *self._lead, None, sealed=False)

    def _send(
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
        self.put(octets)
