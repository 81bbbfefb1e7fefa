"""Frames of readers: cut from a stream, opened to their words, and written.

    length 2 | version 1 | type 1 | key version 1 | device 8 | sequence 4 | body | MAC 8

The length counts what follows it (23 to 65,535). What stands between length and MAC is
signed. The way in: `TapFramer.feed` → `open_frame` → check the MAC of `Frame.signed` →
`read_said` or `read_answer`; the way out: `write_said` or `write_answer` → MAC → `sealed`.
Offsets in errors count from the version, which is byte 0.
"""

from __future__ import annotations

import re
import struct
from typing import Any, cast

import msgspec

from protocols.errors import DecodeError, EncodeError, FramingError
from protocols.tap.formats import ANSWERS, REQUESTS
from protocols.tap.layout import Layout
from protocols.tap.words import (
    DEVICE_CHARACTERS,
    PROTOCOL_VERSION,
    Answered,
    FrameType,
    Head,
    Refused,
    RefusedReason,
    Said,
)

LENGTH_BYTES = 2
HEAD_BYTES = 15
MAC_BYTES = 8
PAYLOAD_BYTES_MIN = HEAD_BYTES + MAC_BYTES
PAYLOAD_BYTES_MAX = 65_535
ANSWER_BIT = 0x80
"""Set in the type of an answer."""

_HEAD = struct.Struct(">BBB8sI")
_DEVICE = re.compile(rb"[A-Za-z0-9]{1,8}")
_REQUEST_TYPE = {layout.words: number for number, layout in REQUESTS.items()}


class TapError(DecodeError):
    """A frame that is none of ours: `refused` is what to answer, to `head` where it was read."""

    def __init__(
        self,
        reason: str,
        *,
        field_path: str,
        offset: int,
        refused: RefusedReason = RefusedReason.FORMAT,
        head: Head | None = None,
    ) -> None:
        super().__init__(reason, field_path=field_path, offset=offset)
        self.refused = refused
        self.head = head


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame, opened as far as its head. `type` is a FrameType, plus 0x80 in an answer.

    `signed` is what the MAC (8 bytes) covers: head and body.
    """

    head: Head
    type: int
    body: bytes
    mac: bytes
    signed: bytes

    def __repr__(self) -> str:
        return f"Frame(type=0x{self.type:02X}, body={len(self.body)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # a body names a card by its medium
        return [("type", self.type), ("body_bytes", len(self.body))]


class TapFramer:
    """Cuts one direction of one connection into payloads: frames without their length.

    However the stream was cut into chunks never matters. After a FramingError the stream has
    no meaning any more, and every further `feed` raises the same error. At most one frame of
    `frame_bytes_max` is held.
    """

    def __init__(self, payload_bytes_max: int = PAYLOAD_BYTES_MAX) -> None:
        self._payload_bytes_max = payload_bytes_max
        self._rest = bytearray()
        self._wanted_bytes = LENGTH_BYTES
        self._stream_offset = 0
        self._lost: FramingError | None = None
        self.whole: tuple[bytes, ...] = ()
        """Payloads of the chunk in which framing was lost that came before that."""

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads that are whole with this chunk, in order.

        Raises FramingError when a length is out of bounds; `whole` has those before it.
        """
        if self._lost is not None:
            self.whole = ()
            raise self._lost
        stream = chunk
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._wanted_bytes:
                return []
            stream = bytes(self._rest)
            self._rest.clear()
        payloads: list[bytes] = []
        offset, available = 0, len(stream)
        self._wanted_bytes = LENGTH_BYTES
        while available - offset >= LENGTH_BYTES:
            length = stream[offset] << 8 | stream[offset + 1]
            if not PAYLOAD_BYTES_MIN <= length <= self._payload_bytes_max:
                raise self._lose(offset, payloads)
            end = offset + LENGTH_BYTES + length
            if end > available:
                self._wanted_bytes = LENGTH_BYTES + length
                break
            payloads.append(stream[offset + LENGTH_BYTES : end])
            offset = end
        self._stream_offset += offset
        if offset < available:
            self._rest += stream[offset:]
        return payloads

    def _lose(self, offset: int, payloads: list[bytes]) -> FramingError:
        self._lost = FramingError(
            f"the length is not from {PAYLOAD_BYTES_MIN} to {self._payload_bytes_max}; "
            "send whole frames, each with its length",
            field_path="length",
            offset=self._stream_offset + offset,
        )
        self.whole = tuple(payloads)
        return self._lost


def open_frame(payload: bytes) -> Frame:
    """The frame that a payload is, its body unread and its MAC unchecked.

    Raises TapError: without a head where that could not be read, and with one where it is
    of a version that is not spoken here.
    """
    if not PAYLOAD_BYTES_MIN <= len(payload) <= PAYLOAD_BYTES_MAX:
        raise TapError(
            f"a frame has {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX} bytes; send it so",
            field_path="length",
            offset=0,
        )
    version, type_, key_version, raw_device, sequence = _HEAD.unpack_from(payload)
    device = raw_device.rstrip(b" ")
    if _DEVICE.fullmatch(device) is None:
        raise TapError(
            "it is not 1 to 8 letters and digits, padded with spaces; send it so",
            field_path="device",
            offset=3,
        )
    head = Head(device.decode("ascii"), sequence, key_version)
    if version != PROTOCOL_VERSION:
        raise TapError(
            f"only version {PROTOCOL_VERSION} is spoken here; send that",
            field_path="version",
            offset=0,
            refused=RefusedReason.VERSION,
            head=head,
        )
    signed = payload[:-MAC_BYTES]
    return Frame(head, type_, signed[HEAD_BYTES:], payload[-MAC_BYTES:], signed)


def read_said(frame: Frame) -> Said:
    """What a reader says. Raises TapError; check the MAC first."""
    return cast(Said, _read(REQUESTS, frame, frame.type))


def read_answer(frame: Frame) -> Answered:
    """What the switch says. Raises TapError; check the MAC first."""
    asked = frame.type & ~ANSWER_BIT if frame.type & ANSWER_BIT else -1
    return cast(Answered, _read(ANSWERS, frame, asked))


def _read(formats: Any, frame: Frame, number: int) -> object:
    layout: Layout[Any] | None = formats.get(number)
    if layout is None:
        raise TapError(
            "there is no such frame in this direction; send a known one",
            field_path="type",
            offset=1,
            head=frame.head,
        )
    try:
        return layout.read(frame.body, at=HEAD_BYTES)
    except DecodeError as error:
        raise TapError(
            error.reason, field_path=error.field_path, offset=error.offset, head=frame.head
        ) from None


def write_said(head: Head, said: Said) -> bytes:
    """The signed part of what a reader says. Raises EncodeError."""
    number = _REQUEST_TYPE[type(said)]
    return _signed(head, number, REQUESTS[number].write(said))


def write_answer(head: Head, asked: int, answered: Answered) -> bytes:
    """The signed part of the answer to a frame of type `asked`. Raises EncodeError.

    `head` is that of the request: device, sequence and key version are said again. A
    `Refused` answers any type; everything else only the type it belongs to.
    """
    number = int(FrameType.REFUSED) if isinstance(answered, Refused) else asked & ~ANSWER_BIT
    layout = ANSWERS.get(number)
    if layout is None or not isinstance(answered, layout.words):
        raise EncodeError(
            "it does not answer a frame of this type; answer what was asked",
            field_path="type",
            offset=0,
        )
    return _signed(head, number | ANSWER_BIT, layout.write(answered))


def _signed(head: Head, number: int, body: bytes) -> bytes:
    device = head.device.encode("ascii", "replace")
    if _DEVICE.fullmatch(device) is None:
        raise EncodeError(
            f"it is not 1 to {DEVICE_CHARACTERS} letters and digits; give one",
            field_path="device",
            offset=0,
        )
    try:
        start = _HEAD.pack(
            PROTOCOL_VERSION, number, head.key_version, device.ljust(8, b" "), head.sequence
        )
    except struct.error:
        raise EncodeError(
            "sequence is of 4 bytes and key version of 1; give such numbers",
            field_path="head",
            offset=0,
        ) from None
    return start + body


def sealed(signed: bytes, mac: bytes) -> bytes:
    """The whole frame, ready to send. Raises EncodeError where it is longer than frames are."""
    length = len(signed) + len(mac)
    if len(mac) != MAC_BYTES or not PAYLOAD_BYTES_MIN <= length <= PAYLOAD_BYTES_MAX:
        raise EncodeError(
            f"a frame has {PAYLOAD_BYTES_MIN} to {PAYLOAD_BYTES_MAX} bytes with a MAC of "
            f"{MAC_BYTES}; seal it so",
            field_path="length",
            offset=0,
        )
    return length.to_bytes(LENGTH_BYTES, "big") + signed + mac
