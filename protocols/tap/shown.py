"""A frame as plain values for JSON, and back: for whoever debugs a reader, and golden traces.

Bytes are hex and enumerations their names in small letters, so that a frame reads like its
table in formats.py. What `shown` gives, `unshown` takes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, get_args, get_origin

import msgspec

from protocols.errors import DecodeError
from protocols.tap.formats import ANSWERS, REQUESTS
from protocols.tap.frame import (
    ANSWER_BIT,
    LENGTH_BYTES,
    MAC_BYTES,
    Frame,
    open_frame,
    read_answer,
    read_said,
    sealed,
    write_answer,
    write_said,
)
from protocols.tap.words import FrameType, Head

SECRET_NAMES = frozenset({"medium", "tac", "octets"})
"""What names a card or lists them, and what proves a record."""


class ShownFrame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A frame as JSON. `type` is the request's; an answer has `answer` true."""

    type: str
    device: str
    sequence: int
    body: dict[str, Any]
    answer: bool = False
    key_version: int = 1
    mac: str = "00" * MAC_BYTES


def shown(payload: bytes, *, mask: bool = False) -> ShownFrame:
    """The frame that a payload (without length) is. Raises TapError; no MAC is checked."""
    frame = open_frame(payload)
    return ShownFrame(
        type=_name(frame),
        device=frame.head.device,
        sequence=frame.head.sequence,
        body=_plain(read_answer(frame) if frame.type & ANSWER_BIT else read_said(frame), mask),
        answer=bool(frame.type & ANSWER_BIT),
        key_version=frame.head.key_version,
        mac=frame.mac.hex(),
    )


def unshown(given: ShownFrame) -> bytes:
    """The payload (without length) of a frame that is given as JSON.

    Raises DecodeError where the JSON is not a frame, and EncodeError for a value that the
    format cannot carry.
    """
    number = next((each for each in FrameType if each.name.lower() == given.type), None)
    formats = ANSWERS if given.answer else REQUESTS
    if number is None or number not in formats:
        raise _unreadable("type", "it is no frame of this direction; name one as decode does")
    try:
        mac = bytes.fromhex(given.mac)
    except ValueError:
        raise _unreadable("mac", "it is not hex; write two characters for each byte") from None
    head = Head(given.device, given.sequence, given.key_version)
    words = _words(formats[number].words, given.body, "body")
    signed = write_answer(head, number, words) if given.answer else write_said(head, words)
    return sealed(signed, mac)[LENGTH_BYTES:]


def _name(frame: Frame) -> str:
    number = frame.type & ~ANSWER_BIT
    known = number in FrameType.__members__.values()
    return FrameType(number).name.lower() if known else f"0x{number:02x}"


def _plain(value: Any, mask: bool, name: str = "") -> Any:
    if mask and name in SECRET_NAMES:
        return f"[{len(value)} bytes masked]"
    match value:
        case bytes():
            return value.hex()
        case IntEnum():
            return value.name.lower()
        case tuple():
            return [_plain(each, mask) for each in value]
        case msgspec.Struct():
            names = value.__struct_fields__
            return {each: _plain(getattr(value, each), mask, each) for each in names}
        case _:
            return msgspec.to_builtins(value)


def _words(wanted: type[Any], given: object, path: str) -> Any:
    """The value of this type that the JSON stands for; the twin of `_plain`."""
    try:
        if wanted is bytes and isinstance(given, str):
            return bytes.fromhex(given)
        if issubclass(get_origin(wanted) or wanted, tuple) and isinstance(given, list):
            one = get_args(wanted)[0]
            return tuple(_words(one, each, f"{path}[{at}]") for at, each in enumerate(given))
        if issubclass(wanted, IntEnum) and isinstance(given, str):
            return wanted[given.upper()]
        if issubclass(wanted, msgspec.Struct) and isinstance(given, dict):
            fields = msgspec.structs.fields(wanted)
            if {field.name for field in fields} == set(given):
                return wanted(*(_words(f.type, given[f.name], f"{path}.{f.name}") for f in fields))
        return msgspec.convert(given, wanted)
    except (ValueError, KeyError):
        raise _unreadable(path, "it is not what stands there; write it as decode does") from None


def _unreadable(path: str, reason: str) -> DecodeError:
    return DecodeError(reason, field_path=path, offset=0)
