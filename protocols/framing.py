"""Frames on a stream: a length, then TPDU, header and message; bytes in, frames out.

A TCP stream has no message borders, so every link agrees on a length prefix. Here it is
read incrementally and without I/O: how the stream was cut into chunks never matters.
"""

from __future__ import annotations

from typing import Literal, assert_never

import msgspec

from protocols.errors import EncodeError, FramingError

LengthKind = Literal["binary2", "ascii4"]
"""Two bytes, most significant first, or four decimal characters; both exclude themselves."""

TPDU_BYTES = 5
"""Transport protocol data unit: identifier, two bytes of destination, two of source."""
PAYLOAD_BYTES_MIN = 10
"""The least a message can be: a packed MTI and a primary bitmap."""
FRAME_BYTES_DEFAULT = 4_096
HEADER_BYTES_MAX = 64
_LENGTH_LIMIT = {"binary2": 65_535, "ascii4": 9_999}


class Framing(msgspec.Struct, frozen=True):
    """How the frames of a link begin.

    `tpdu` and `header_bytes` (6 on UnionPay POS links) say what stands between length and
    message. `frame_bytes_max` limits what a length may announce. Raises ValueError for
    terms that contradict each other.
    """

    kind: LengthKind = "binary2"
    tpdu: bool = False
    header_bytes: int = 0
    frame_bytes_max: int = FRAME_BYTES_DEFAULT

    def __post_init__(self) -> None:
        if not 0 <= self.header_bytes <= HEADER_BYTES_MAX:
            raise ValueError(f"header_bytes is out of range; give 0 to {HEADER_BYTES_MAX}")
        if not self.frame_bytes_min <= self.frame_bytes_max <= _LENGTH_LIMIT[self.kind]:
            raise ValueError(
                f"frame_bytes_max does not fit a {self.kind} length; "
                f"give {self.frame_bytes_min} to {_LENGTH_LIMIT[self.kind]}"
            )

    @property
    def lead_bytes(self) -> int:
        """What stands between the length and the message."""
        return (TPDU_BYTES if self.tpdu else 0) + self.header_bytes

    @property
    def frame_bytes_min(self) -> int:
        return self.lead_bytes + PAYLOAD_BYTES_MIN


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame without its length. `tpdu` and `header` are empty where the link has none."""

    payload: bytes
    tpdu: bytes = b""
    header: bytes = b""

    def __repr__(self) -> str:
        return (
            f"Frame(payload={len(self.payload)} bytes, "
            f"tpdu={len(self.tpdu)} bytes, header={len(self.header)} bytes)"
        )

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # msgspec would hand the payload, card number and all, to rich's pretty printer
        return [("payload_bytes", len(self.payload))]


class Framer:
    """Cuts one direction of one connection into frames.

    `keep_alives` counts empty frames (length zero), which many hosts send on an idle link:
    they are skipped. After a FramingError the stream has no meaning any more, and every
    further `feed` raises the same error.
    """

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.keep_alives = 0
        self._prefix_bytes = 2 if framing.kind == "binary2" else 4
        # bytes of a frame that is not whole yet: never more than one prefix and one frame
        self._rest = bytearray()
        self._wanted_bytes = self._prefix_bytes
        self._stream_offset = 0
        self._lost: FramingError | None = None

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that are whole with this chunk, in order.

        Raises FramingError when a length is not one, or out of bounds; its `frames` are the
        whole frames of this chunk before the fault.
        """
        if self._lost is not None:
            self._lost.frames = ()
            raise self._lost
        stream = chunk
        if self._rest:
            self._rest += chunk
            if len(self._rest) < self._wanted_bytes:
                return []
            stream = bytes(self._rest)
            self._rest.clear()
        frames: list[Frame] = []
        offset = self._cut(stream, frames)
        self._stream_offset += offset
        if offset < len(stream):
            self._rest += stream[offset:]
        return frames

    def _cut(self, stream: bytes, frames: list[Frame]) -> int:
        """Append the whole frames of the stream; the offset where the unfinished one starts."""
        framing, prefix_bytes = self.framing, self._prefix_bytes
        binary = framing.kind == "binary2"
        tpdu_bytes = TPDU_BYTES if framing.tpdu else 0
        lead_bytes = framing.lead_bytes
        shortest, longest = framing.frame_bytes_min, framing.frame_bytes_max
        available = len(stream)
        offset = 0
        while available - offset >= prefix_bytes:
            start = offset + prefix_bytes
            if binary:
                length = stream[offset] << 8 | stream[offset + 1]
            else:
                length = self._ascii_length(stream[offset:start], offset, frames)
            if not shortest <= length <= longest:
                if length == 0:
                    self.keep_alives += 1
                    offset = start
                    continue
                self._refuse_length(length, offset, frames)
            end = start + length
            if end > available:
                self._wanted_bytes = prefix_bytes + length
                return offset
            message = start + lead_bytes
            header = start + tpdu_bytes
            frames.append(Frame(stream[message:end], stream[start:header], stream[header:message]))
            offset = end
        self._wanted_bytes = prefix_bytes
        return offset

    def _ascii_length(self, prefix: bytes, offset: int, frames: list[Frame]) -> int:
        if prefix.isdigit():
            return int(prefix)
        raise self._lose("the length is not four decimal digits; send it so", offset, frames)

    def _refuse_length(self, length: int, offset: int, frames: list[Frame]) -> None:
        if length > self.framing.frame_bytes_max:
            reason = f"the length is over {self.framing.frame_bytes_max}; send shorter frames"
        else:
            reason = (
                f"the length is under {self.framing.frame_bytes_min}, too short for the TPDU, "
                "the header and a message of this link; send whole frames"
            )
        raise self._lose(reason, offset, frames)

    def _lose(self, reason: str, offset: int, frames: list[Frame]) -> FramingError:
        error = FramingError(reason, field_path="frame.length", offset=self._stream_offset + offset)
        error.frames = tuple(frames)
        self._lost = error
        return error


def frame(framing: Framing, payload: bytes, tpdu: bytes = b"", header: bytes = b"") -> bytes:
    """The frame around a message, ready to send.

    Raises EncodeError when TPDU or header have another size than the link agreed on, or the
    whole is longer than its frames may be.
    """
    if len(tpdu) != (TPDU_BYTES if framing.tpdu else 0):
        raise _unframed("frame.tpdu", f"a TPDU has {TPDU_BYTES} bytes, and only where agreed")
    if len(header) != framing.header_bytes:
        raise _unframed("frame.header", f"the header has {framing.header_bytes} bytes")
    length = framing.lead_bytes + len(payload)
    if not framing.frame_bytes_min <= length <= framing.frame_bytes_max:
        raise _unframed(
            "frame.length",
            f"a frame has {framing.frame_bytes_min} to {framing.frame_bytes_max} bytes",
        )
    match framing.kind:
        case "binary2":
            prefix = length.to_bytes(2, "big")
        case "ascii4":
            prefix = b"%04d" % length
        case _:
            assert_never(framing.kind)
    return prefix + tpdu + header + payload


def answer_tpdu(tpdu: bytes) -> bytes:
    """The TPDU of the answer: destination and source change places; empty stays empty.

    Raises EncodeError for another size than five bytes.
    """
    if not tpdu:
        return b""
    if len(tpdu) != TPDU_BYTES:
        raise _unframed("frame.tpdu", f"a TPDU has {TPDU_BYTES} bytes")
    return tpdu[:1] + tpdu[3:5] + tpdu[1:3]


def _unframed(field_path: str, rule: str) -> EncodeError:
    return EncodeError(f"{rule}; frame it so", field_path=field_path, offset=0)
