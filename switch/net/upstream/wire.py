"""How one host of another issuer is spoken to: bytes of what is sent, meaning of what comes.

No socket and no clock: the switch is the acquirer here, under the DE32 of its configuration.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from protocols.errors import DecodeError
from protocols.framing import TPDU_BYTES, Frame, Framer, Framing, answer_tpdu, frame
from protocols.iso8583 import Message, decode, encode, spec_named
from protocols.iso8583.client import forward_message, forward_reversal, network_message
from protocols.iso8583.dialect import (
    NetworkAnswer,
    NetworkFunction,
    NetworkRequest,
    network_reply,
    read,
    response_outcome,
)
from protocols.iso8583.elements import OriginalElements
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.network import KEY_BLOCK_FIELD
from protocols.message import Kind, Outcome, Request, Segment
from switch.config_trouble import Upstream
from switch.net.upstream.matching import MatchKey, match_key

if TYPE_CHECKING:
    from switch.net.guard import LinkGuard

TPDU = bytes.fromhex("6000000000")
"""Identifier of a TPDU and no addresses: between two hosts the connection says who speaks."""
DISPLAYED_CODES = frozenset(f"{number:02}" for number in range(100))
"""Response codes that may stand in a log line; a host could send anything."""

_ORIGINAL_MTIS = {Kind.COMPLETION: "0100", Kind.PREAUTHORIZATION_CANCEL: "0100"}
"""What a linked request is about, where that is no sale."""
_ANSWER_DIGITS = "13"
"""Third digit of an MTI that answers: a request's response, an advice's response."""
_MONEY_CLASSES = ("01", "02", "04")


class HostAnswer(msgspec.Struct, frozen=True, gc=False):
    """What a host said to a request or a reversal. `approved_minor` 0: it did not say."""

    key: MatchKey
    code: str
    outcome: Outcome
    approved_minor: int
    auth_code: str
    rrn: str


class HostMessage(msgspec.Struct, frozen=True, gc=False):
    """A network management message that the host began, to be answered."""

    request: NetworkRequest
    message: Message
    frame: Frame


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """Something that is no answer and no question: where it is at fault."""

    field_path: str
    offset: int
    reason: str


class HostWire:
    """Spelling of one host. Raises EncodeError and ValueError for what cannot be said to it."""

    def __init__(self, upstream: Upstream, frame_bytes_max: int, guard: LinkGuard | None) -> None:
        self.framing = Framing(
            kind=upstream.framing.length,
            tpdu=upstream.framing.tpdu,
            header_bytes=upstream.framing.header_bytes,
            frame_bytes_max=frame_bytes_max,
        )
        self._dialect = upstream.dialect
        self._acquirer = upstream.acquirer
        self._spec = spec_named(upstream.dialect)
        self._guard = guard
        # What the dialect needs to read a network message; nothing of money is read by it.
        self._terms = LinkTerms(
            name=upstream.name,
            dialect=upstream.dialect,
            framing=self.framing,
            acquirer=upstream.acquirer,
            segment=Segment.RETAIL,
            budget_ms=upstream.timeout_ms,
            currencies=("156",),
        )

    def framer(self) -> Framer:
        """A fresh framer, one for each connection."""
        return Framer(self.framing)

    def key_of(self, request: Request, stan: str, transmitted_at: str) -> MatchKey:
        """What the answer to a request would be matched by, before it is sent."""
        return match_key(self._dialect, self._request(request, stan, transmitted_at, None))

    def request(
        self, request: Request, stan: str, transmitted_at: str, original: tuple[str, str] | None
    ) -> tuple[MatchKey, bytes]:
        """A request's key and frame. `original`: STAN and DE7 of what it is about, at this host."""
        message = self._request(request, stan, transmitted_at, original)
        return match_key(self._dialect, message), self._framed(message)

    def reversal(
        self,
        request: Request,
        *,
        stan: str,
        transmitted_at: str,
        original_stan: str,
        original_transmitted_at: str,
        repeat: bool,
    ) -> tuple[MatchKey, bytes]:
        """The key and frame of what takes a request back.

        An acquirer's own reversal says of which request: one of its kind that was a sale.
        """
        if request.kind is Kind.REVERSAL:
            said = request.original
            rrn = said.rrn if said is not None and said.rrn else request.rrn
            request = msgspec.structs.replace(
                request, kind=Kind.PURCHASE, original=None, advice=False, rrn=rrn
            )
        message = forward_reversal(
            self._dialect,
            request,
            acquirer=self._acquirer,
            stan=int(stan),
            transmitted_at=moment_of(transmitted_at),
            original_stan=int(original_stan),
            original_at=moment_of(original_transmitted_at),
            replacement_minor=request.replacement_minor,
            repeat=repeat,
        )
        return match_key(self._dialect, message), self._framed(message)

    def network(self, function: NetworkFunction, stan: int, local_at: datetime) -> bytes:
        """The frame of a sign-on, sign-off, key exchange or echo."""
        message = network_message(self._dialect, function, stan=stan, local_at=local_at)
        return self._framed(message, sealed=False)

    def network_reply(self, asked: HostMessage, now_local: datetime) -> bytes:
        """The frame that says yes to a host's network message."""
        answer = network_reply(self._terms, asked.message, now_local)
        payload = encode(self._spec, answer)
        return frame(self.framing, payload, answer_tpdu(asked.frame.tpdu), asked.frame.header)

    def key_block(self, message: Message) -> str:
        """The text of the working keys in an answer to a key exchange (DE48, UnionPay DE62)."""
        return message.text(KEY_BLOCK_FIELD[self._dialect])

    def read(
        self, received: Frame, received_ns: int
    ) -> HostAnswer | HostMessage | tuple[NetworkAnswer, Message] | Unreadable:
        """What a frame of the host means."""
        try:
            message = decode(self._spec, received.payload)
        except DecodeError as error:
            return Unreadable(error.field_path, error.offset, error.reason)
        message_class, function = message.mti[:2], message.mti[2:3]
        if message_class == "08":
            network = read(self._terms, message, received_ns)
            match network:
                case NetworkRequest():
                    return HostMessage(network, message, received)
                case NetworkAnswer():
                    return network, message
                case _:
                    return Unreadable("mti", 0, "this is no network message that is known")
        if message_class not in _MONEY_CLASSES or function not in _ANSWER_DIGITS:
            return Unreadable("mti", 0, "a host answers what it is asked, and asks nothing")
        if self._guard is not None and (
            self._guard.verify(self._spec, received.payload, message) is None
        ):
            return Unreadable("MAC", 0, "its MAC is missing or wrong")
        return _answer(match_key(self._dialect, message), message)

    def _request(
        self, request: Request, stan: str, transmitted_at: str, original: tuple[str, str] | None
    ) -> Message:
        elements = None
        if original is not None:
            mti = _ORIGINAL_MTIS.get(request.kind, "0200")
            elements = OriginalElements(mti, *original, self._acquirer)
        return forward_message(
            self._dialect,
            request,
            acquirer=self._acquirer,
            stan=int(stan),
            transmitted_at=moment_of(transmitted_at),
            original=elements,
        )

    def _framed(self, message: Message, *, sealed: bool = True) -> bytes:
        if sealed and self._guard is not None:
            payload = self._guard.seal(self._spec, message)
        else:
            payload = encode(self._spec, message)
        tpdu = TPDU[:TPDU_BYTES] if self.framing.tpdu else b""
        return frame(self.framing, payload, tpdu, bytes(self.framing.header_bytes))


def moment_of(transmitted_at: str) -> datetime:
    """MMDDhhmmss as a moment of a leap year: DE7 has no year, and nothing asks for one."""
    return datetime.strptime(f"2000{transmitted_at}", "%Y%m%d%H%M%S")


def _answer(key: MatchKey, message: Message) -> HostAnswer:
    code, amount = message.text(39), message.text(4)
    digits = amount.isascii() and amount.isdigit()
    return HostAnswer(
        key=key,
        code=code if code in DISPLAYED_CODES else "??",
        outcome=response_outcome(code),
        approved_minor=int(amount) if digits else 0,
        auth_code=message.text(38).rstrip(),
        rrn=message.text(37).rstrip(),
    )
