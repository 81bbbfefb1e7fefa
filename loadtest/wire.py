"""How the acquirer spells its messages: one dialect with its framing, both ways.

Terminal times are kept per second, because formatting a local time for each message costs
more than encoding it.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from loadtest.crowd import Attempt
from loadtest.population import population_card
from protocols.errors import DecodeError
from protocols.framing import Frame, Framer, Framing, frame
from protocols.iso8583 import Message, Spec, decode, encode, spec_named
from protocols.iso8583.client import Dialect, Sale, network_message, sale_message
from protocols.iso8583.dialect import NetworkFunction, NetworkRequest, is_request, network_reply
from protocols.iso8583.dialect import read as read_message
from protocols.iso8583.link import LinkTerms
from protocols.message import Segment

UNIONPAY_FRAMING = Framing(kind="binary2", tpdu=True, header_bytes=6)
ASCII_FRAMING = Framing(kind="ascii4", tpdu=False, header_bytes=0)
# A POS frame as seen on the wire (domain 4.1): TPDU to NII 0006, and a 6-byte header.
TPDU = bytes.fromhex("6000060000")
HEADER = bytes.fromhex("603100311003")
CARD_EXPIRY = "3012"


class Key(NamedTuple):
    """What an answer is matched by: DE41, DE11, and the MTI's version and class."""

    terminal: str
    stan: str
    message_class: str


class Answer(NamedTuple):
    """What a repeat must agree in: DE39, DE37, DE38 and DE4 (in minor units)."""

    code: str
    rrn: str
    auth_code: str
    approved_minor: int


class Asked(NamedTuple):
    """What the switch asks of the acquirer, and the frame that answers it."""

    function: NetworkFunction
    answer: bytes


class Wire:
    """Bytes of one acquirer's messages, and the meaning of what the switch says."""

    def __init__(
        self, *, dialect: Dialect, acquirer: str, time_zone: str, framing: Framing | None = None
    ) -> None:
        self._dialect = dialect
        self._acquirer = acquirer
        self._spec: Spec = spec_named(dialect)
        self._time_zone = ZoneInfo(time_zone)
        unionpay = dialect == "unionpay_pos"
        self.framing = framing or (UNIONPAY_FRAMING if unionpay else ASCII_FRAMING)
        self._tpdu = TPDU if self.framing.tpdu else b""
        self._header = HEADER[: self.framing.header_bytes]
        # The switch speaks 0800 to us as we do to it, so the same reader reads both.
        self._terms = LinkTerms(
            name="acquirer",
            dialect=dialect,
            framing=self.framing,
            acquirer=acquirer,
            segment=Segment.RETAIL,
            budget_ms=1_000,
            currencies=("156",),
        )
        self._second = -1
        self._local_at = datetime.now(self._time_zone)
        self._local_text = ""

    def framer(self) -> Framer:
        """A fresh framer, one for each connection."""
        return Framer(self.framing)

    def local_text(self, at_seconds: int) -> str:
        """DE13 + DE12 (MMDDhhmmss) of the terminals at this epoch second."""
        if at_seconds != self._second:
            self._second = at_seconds
            self._local_at = datetime.fromtimestamp(at_seconds, self._time_zone)
            self._local_text = f"{self._local_at:%m%d%H%M%S}"
        return self._local_text

    def sale(self, attempt: Attempt, at_seconds: int) -> bytes:
        """The frame of one sale, sent at this epoch second."""
        self.local_text(at_seconds)
        sale = Sale(
            card=population_card(attempt.card_index),
            amount_minor=attempt.amount_minor,
            stan=int(attempt.stan),
            terminal=attempt.terminal,
            merchant=attempt.merchant,
            local_at=self._local_at,
            mcc=attempt.mcc,
            acquirer=self._acquirer,
            expiry=CARD_EXPIRY,
        )
        return self._framed(encode(self._spec, sale_message(self._dialect, sale)))

    def spelled(self, message: Message) -> bytes:
        """The frame of any message of this dialect."""
        return self._framed(encode(self._spec, message))

    def echo(self, stan: int, at_seconds: int) -> bytes:
        """The frame of one echo test."""
        return self.management(NetworkFunction.ECHO, stan, at_seconds)

    def management(self, function: NetworkFunction, stan: int, at_seconds: int) -> bytes:
        """The frame of one network management message, such as a sign-on."""
        self.local_text(at_seconds)
        message = network_message(self._dialect, function, stan=stan, local_at=self._local_at)
        return self._framed(encode(self._spec, message))

    def read(self, received: Frame) -> tuple[Key, Answer] | Asked | None:
        """An answer with its key, or what the switch asks; None where it is neither."""
        try:
            message = decode(self._spec, received.payload)
        except DecodeError:
            return None
        if is_request(message.mti):
            return self._asked(message)
        text = message.text
        key = Key(text(41).rstrip(), text(11), message.mti[:2])
        return key, Answer(text(39), text(37).rstrip(), text(38).rstrip(), int(text(4) or 0))

    def _asked(self, message: Message) -> Asked | None:
        request = read_message(self._terms, message, 0)
        if not isinstance(request, NetworkRequest):
            return None
        reply = network_reply(self._terms, message, self._local_at)
        return Asked(request.function, self._framed(encode(self._spec, reply)))

    def _framed(self, payload: bytes) -> bytes:
        return frame(self.framing, payload, self._tpdu, self._header)
