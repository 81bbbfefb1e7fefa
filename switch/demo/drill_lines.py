"""The acquirers' side of the drill: connections of a link, many messages at once, their answers.

Blocking sockets behind one selector: the drill sends a burst over all connections of a link
and waits until each message has its answer.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Self
from zoneinfo import ZoneInfo

import msgspec

from protocols.card_number import CardNumber
from protocols.framing import Framer, Framing, frame
from protocols.iso8583 import decode, encode, spec_named
from protocols.iso8583.client import Sale, reversal_message, sale_message
from protocols.iso8583.elements import Dialect
from protocols.iso8583.message import Message

ANSWER_SECONDS_MAX = 10.0
CHUNK_BYTES = 65_536
TPDU = bytes.fromhex("6000060000")
HEADER = bytes.fromhex("603100311003")


class LineLost(Exception):
    """The switch closed a connection of the drill, or left a message without an answer."""


class Answer(msgspec.Struct, frozen=True):
    """What was said to one message: DE39, DE37, DE38, DE4 and how long it took."""

    code: str
    rrn: str
    auth_code: str
    approved_minor: int
    milliseconds: float


class Told(msgspec.Struct, frozen=True):
    """A sale with its answer."""

    sale: Sale
    answer: Answer

    @property
    def key(self) -> str:
        """Terminal, STAN and local time, as the ledger has them."""
        sale = self.sale
        return f"{sale.terminal}-{sale.stan:06}-{sale.local_at:%m%d%H%M%S}"


class Lines:
    """Some connections of one link. A card always speaks on the same one, as a gate would."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        dialect: Dialect,
        framing: Framing,
        acquirer: str,
        mcc: str,
        time_zone: str,
        connections: int,
    ) -> None:
        self._dialect: Dialect = dialect
        self._framing = framing
        self._acquirer = acquirer
        self._mcc = mcc
        self._zone = ZoneInfo(time_zone)
        self._spec = spec_named(dialect)
        self._stan = 0
        self._sockets = [
            socket.create_connection(address, ANSWER_SECONDS_MAX) for _ in range(connections)
        ]
        self._framers = [Framer(framing) for _ in self._sockets]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._sockets:
            connection.close()

    def sale(self, index: int, card: CardNumber, amount_minor: int) -> Sale:
        """A new sale at the terminal of this card's connection."""
        self._stan += 1
        return Sale(
            card=card,
            amount_minor=amount_minor,
            stan=self._stan,
            terminal=f"D{self._line_of(index):07}",
            merchant="DRILL",
            local_at=datetime.now(self._zone).replace(microsecond=0),
            mcc=self._mcc,
            acquirer=self._acquirer,
        )

    def sell(self, sales: Sequence[tuple[int, Sale]]) -> list[Told]:
        """Send all sales, by index of the card, at once. Raises LineLost."""
        messages = [(index, sale_message(self._dialect, sale)) for index, sale in sales]
        answers = self._exchange(messages)
        return [Told(sale, answer) for (_, sale), answer in zip(sales, answers, strict=True)]

    def reverse(self, index: int, sale: Sale) -> Answer:
        """Send the reversal of a sale. Raises LineLost."""
        self._stan += 1
        message = reversal_message(self._dialect, sale, stan=self._stan)
        return self._exchange([(index, message)])[0]

    def _line_of(self, index: int) -> int:
        return index % len(self._sockets)

    def _exchange(self, messages: Sequence[tuple[int, Message]]) -> list[Answer]:
        waiting: dict[tuple[str, str, str], int] = {}
        sent_at: list[float] = []
        for position, (index, message) in enumerate(messages):
            waiting[_key(message)] = position
            payload = encode(self._spec, message)
            tpdu = TPDU if self._framing.tpdu else b""
            framed = frame(self._framing, payload, tpdu, HEADER[: self._framing.header_bytes])
            sent_at.append(time.monotonic())
            self._sockets[self._line_of(index)].sendall(framed)
        answers: list[Answer | None] = [None] * len(messages)
        give_up = time.monotonic() + ANSWER_SECONDS_MAX
        with selectors.DefaultSelector() as ready:
            for line, connection in enumerate(self._sockets):
                ready.register(connection, selectors.EVENT_READ, line)
            while waiting:
                found = ready.select(max(0.0, give_up - time.monotonic()))
                if not found:
                    raise LineLost(f"{len(waiting)} messages of a link were not answered")
                for key, _ in found:
                    for message in self._received(key.data):
                        place = waiting.pop(_key(message), None)
                        if place is not None:
                            answers[place] = _answer(message, sent_at[place])
        return [answer for answer in answers if answer is not None]

    def _received(self, line: int) -> list[Message]:
        chunk = self._sockets[line].recv(CHUNK_BYTES)
        if not chunk:
            raise LineLost("the switch closed a connection in the middle of the drill")
        return [decode(self._spec, each.payload) for each in self._framers[line].feed(chunk)]


def _key(message: Message) -> tuple[str, str, str]:
    return message.text(41).rstrip(), message.text(11), message.mti[1]


def _answer(message: Message, sent_at: float) -> Answer:
    text = message.text
    elapsed_ms = (time.monotonic() - sent_at) * 1000
    approved_minor = int(text(4) or 0)
    return Answer(text(39), text(37).rstrip(), text(38).rstrip(), approved_minor, elapsed_ms)
