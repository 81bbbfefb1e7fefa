"""Message ⇄ bytes, generic over the format: the field table decides, the codec is a loop.

A format is compiled once. What a head (MTI and bitmap) or a set of fields asks for is
worked out once and kept in bounded caches, because a link sends the same few shapes all day.
"""

from __future__ import annotations

from binascii import unhexlify
from functools import lru_cache
from typing import NamedTuple

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583.bitmap import BITMAP_BYTES, SECONDARY_BIT, bitmap_of, field_numbers
from protocols.iso8583.characters import ascii_view
from protocols.iso8583.encoding import FieldCodec, Fields, Read, extent, field_codec
from protocols.iso8583.message import FieldValue, Message
from protocols.iso8583.runs import WriteFrom, readers, writers
from protocols.iso8583.spec import Coding, Spec
from protocols.iso8583.specs import spec_named

MESSAGE_BYTES_MAX = 9_999
"""The longest message that a four-digit length can announce; no real one comes near."""
SHAPES_MAX = 1_024
"""Heads remembered per format. A link uses a dozen; the bound is against made-up ones."""
FORMATS_MAX = 64

# Stands for a field that is announced and not read yet. Told by identity, so no value of a
# message can be it; it never leaves `decode`.
_UNREAD: FieldValue = bytes(bytearray(b"not read"))


def decode(spec: Spec | str, message: bytes) -> Message:
    """The message in these bytes, all of them.

    Raises DecodeError and nothing else for any bytes; its `partial` is what was read before
    the fault, and after it too where contents are all that is wrong. UnknownSpec if `spec` is
    a name that no format has.
    """
    return _codec_of(spec).decode(message)


def encode(spec: Spec | str, message: Message) -> bytes:
    """The bytes of a message; bitmaps follow from the fields present.

    Values are written as given: a fixed field must have its exact length, padding included.
    Raises EncodeError. UnknownSpec if `spec` is a name that no format has.
    """
    return _codec_of(spec).encode(message)


class Shape(NamedTuple):
    """What a head announces: the MTI, the fields in order, and how to read them.

    `secondary` says that the head goes on with a secondary bitmap and is to be read again
    with it.
    """

    mti: str
    announced: Fields
    readers: tuple[Read, ...]
    secondary: bool = False


class Codec:
    """One format, compiled."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._fields = {number: field_codec(field) for number, field in spec.fields.items()}
        self._text_bitmap = spec.bitmap_coding is Coding.HEX
        self._packed_mti = spec.mti_coding is Coding.BCD
        self._mti_bytes = 2 if self._packed_mti else 4
        self._bitmap_bytes = BITMAP_BYTES * (2 if self._text_bitmap else 1)
        self._head_bytes = self._mti_bytes + self._bitmap_bytes
        self._packed = any(field.coding is Coding.BCD for field in spec.fields.values())
        self._shape_of = lru_cache(maxsize=SHAPES_MAX)(self._read_head)
        self._writers_of = lru_cache(maxsize=SHAPES_MAX)(self._writers_for)

    def decode(self, message: bytes) -> Message:
        if len(message) > MESSAGE_BYTES_MAX:
            raise DecodeError(
                f"the message is longer than {MESSAGE_BYTES_MAX} bytes; send a shorter one",
                field_path="message",
                offset=MESSAGE_BYTES_MAX,
            )
        offset = self._head_bytes
        mti, announced, steps, secondary = self._shape_of(message[:offset], False)
        if secondary:
            offset += self._bitmap_bytes
            mti, announced, steps, _ = self._shape_of(message[:offset], True)
        # copied whole, the dictionary has its final size from the start
        fields = announced.copy()
        text = ascii_view(message)
        digits = message.hex() if self._packed else ""
        try:
            for read in steps:
                offset = read(message, text, digits, fields, offset)
            if offset != len(message):
                raise DecodeError(
                    "bytes follow the last field that the bitmap announces; "
                    "correct the bitmap or a length",
                    field_path="message",
                    offset=offset,
                )
        except DecodeError as error:
            whole = {number: value for number, value in fields.items() if value is not _UNREAD}
            start = self._head_bytes + (self._bitmap_bytes if secondary else 0)
            error.partial = Message(mti, self._read_around(tuple(fields), message, start) or whole)
            raise
        return Message(mti, fields)

    def _read_around(self, announced: tuple[int, ...], message: bytes, offset: int) -> Fields:
        """The fields whose contents are sound, in a message whose lengths all are.

        A wrong amount then still names the terminal to answer. Empty where the fields do not
        end where the message does: borders that cannot be trusted tell nothing.
        """
        text, digits = ascii_view(message), message.hex()
        fields: Fields = {}
        for number in announced:
            codec = self._fields[number]
            try:
                offset = codec.read(message, text, digits, fields, offset)
            except DecodeError:
                width = extent(codec.field, message, offset)
                if not width:
                    return {}
                offset += width
        return fields if offset == len(message) else {}

    def encode(self, message: Message) -> bytes:
        mti, fields = message.mti, message.fields
        if len(mti) != 4 or not (mti.isascii() and mti.isdecimal()):
            raise EncodeError(
                "the message type is not four digits; give it four", field_path="mti", offset=0
            )
        bitmap, write_steps = self._writers_of(tuple(fields))
        parts = [unhexlify(mti) if self._packed_mti else mti.encode("ascii"), bitmap]
        for write in write_steps:
            parts.append(write(fields))
        octets = b"".join(parts)
        if len(octets) > MESSAGE_BYTES_MAX:
            raise EncodeError(
                f"the message is longer than {MESSAGE_BYTES_MAX} bytes; shorten its fields",
                field_path="message",
                offset=MESSAGE_BYTES_MAX,
            )
        return octets

    # ---- heads -----------------------------------------------------------------------------

    def _read_head(self, head: bytes, with_secondary: bool) -> Shape:
        """Understand MTI and bitmap. Raises DecodeError, with the MTI as `partial` if it is one."""
        mti = self._read_mti(head)
        try:
            primary = self._read_bitmap(head, self._mti_bytes)
            if not primary[0] & SECONDARY_BIT:
                return self._shape(mti, primary)
            self._must_have_secondary()
            if not with_secondary:
                return Shape(mti, {}, (), secondary=True)
            secondary = self._read_bitmap(head, self._head_bytes)
            self._must_not_have_tertiary(secondary)
            return self._shape(mti, primary + secondary)
        except DecodeError as error:
            error.partial = Message(mti, {})
            raise

    def _read_mti(self, head: bytes) -> str:
        mti = head[:2].hex() if self._packed_mti else ascii_view(head[:4])
        if len(mti) == 4 and mti.isdecimal():
            return mti
        if len(mti) == 4:
            reason = "the message type is not four digits; send it in digits"
        else:
            reason = f"the message type needs {self._mti_bytes} bytes; send all of them"
        raise DecodeError(reason, field_path="mti", offset=0)

    def _read_bitmap(self, head: bytes, start: int) -> bytes:
        raw = head[start : start + self._bitmap_bytes]
        if len(raw) != self._bitmap_bytes:
            reason = "the message ends inside the bitmap; send all of it"
        elif not self._text_bitmap:
            return raw
        elif raw.strip(b"0123456789ABCDEFabcdef"):
            reason = "the bitmap is not hexadecimal; send it in characters 0 to 9 and A to F"
        else:
            return unhexlify(raw)
        raise DecodeError(reason, field_path="bitmap", offset=start)

    def _must_have_secondary(self) -> None:
        if not self.spec.secondary_bitmap:
            raise DecodeError(
                f"bit 1 is set, but {self.spec.name} has no secondary bitmap; "
                "send fields 2 to 64 only",
                field_path="bitmap",
                offset=self._mti_bytes,
            )

    def _must_not_have_tertiary(self, secondary: bytes) -> None:
        if secondary[0] & SECONDARY_BIT:
            raise DecodeError(
                "bit 65 is set, but a tertiary bitmap is not supported; send fields up to 128 only",
                field_path="bitmap",
                offset=self._head_bytes,
            )

    def _shape(self, mti: str, bitmap: bytes) -> Shape:
        # fields before an undefined one are still read: they may name the terminal to answer
        known: list[FieldCodec] = []
        undefined: tuple[Read, ...] = ()
        for number in field_numbers(bitmap):
            codec = self._fields.get(number)
            if codec is None:
                undefined = (_undefined_reader(number, self.spec.name),)
                break
            known.append(codec)
        announced = {codec.field.number: _UNREAD for codec in known}
        return Shape(mti, announced, readers(known) + undefined)

    # ---- sets of fields --------------------------------------------------------------------

    def _writers_for(self, present: tuple[int, ...]) -> tuple[bytes, tuple[WriteFrom, ...]]:
        """The bitmap as written, and the writers, for fields in whatever order they were set."""
        for number in present:
            if number not in self._fields:
                raise EncodeError(
                    f"the field is not defined in {self.spec.name}; leave it out",
                    field_path=f"DE{_shown(number)}",
                    offset=0,
                )
        numbers = sorted(present)
        bitmap = bitmap_of(numbers)
        if self._text_bitmap:
            bitmap = bitmap.hex().upper().encode("ascii")
        return bitmap, writers([self._fields[number] for number in numbers])


@lru_cache(maxsize=FORMATS_MAX)
def _codec_of(spec: Spec | str) -> Codec:
    return Codec(spec_named(spec) if isinstance(spec, str) else spec)


def _shown(number: int) -> str:
    # a number that is none of a field may be anything at all, so it is not repeated
    return str(number) if 0 <= number <= 999 else "?"


def _undefined_reader(number: int, spec_name: str) -> Read:
    def refuse(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        raise DecodeError(
            f"the bitmap announces a field that is not defined in {spec_name}; leave it out",
            field_path=f"DE{number}",
            offset=offset,
        )

    return refuse
