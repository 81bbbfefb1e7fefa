"""What a protocol may raise: their fault and ours under one roof, saying where, never what.

A codec raises these and no other. The sentence names the field path, the byte offset and
what to do; the value itself stays out of the text, the arguments and the representation,
because it may be a card number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.framing import Frame
    from protocols.iso8583.message import Message


class ProtocolError(Exception):
    """Base of all protocol errors. `str()` is one sentence that is safe to log.

    `field_path` is where in the message (`mti`, `bitmap`, `DE41`, `DE55.9F02`,
    `frame.length`), `offset` the byte offset there, `reason` the sentence without them.
    """

    def __init__(self, reason: str, *, field_path: str, offset: int) -> None:
        super().__init__(f"{field_path} at byte {offset}: {reason}")
        self.reason = reason
        self.field_path = field_path
        self.offset = offset


class DecodeError(ProtocolError):
    """Their fault: bytes that are not a message of the agreed format.

    `offset` counts from the first byte of the message. `partial` is what was read before
    the fault (None when not even the MTI was), so that the edge can still answer 30.
    """

    partial: Message | None = None


class EncodeError(ProtocolError):
    """Our fault: a value that the format cannot carry. `offset` counts inside the value."""


class FramingError(ProtocolError):
    """The stream of frames is lost, so its link must be closed.

    `offset` counts from the first byte of the stream. `frames` are the whole frames of the
    same chunk that came before the fault and still deserve an answer.
    """

    frames: tuple[Frame, ...] = ()
