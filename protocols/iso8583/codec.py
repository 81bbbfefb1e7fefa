"""Message ⇄ bytes, generic over the format: the field table decides, the codec is a loop.

A format is compiled once. What a head (MTI and bitmap) or a set of fields asks for is
worked out once and kept in bounded caches, because a link sends the same few shapes all day.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583.bitmap import BITMAP_BYTES, SECONDARY_BIT, bitmap_of, field_numbers
from protocols.iso8583.characters import ascii_view
from protocols.iso8583.encoding import FieldCodec, Fields, field_codec
from protocols.iso8583.layout import Room
from protocols.iso8583.lengths import extent
from protocols.iso8583.message import Message
from protocols.iso8583.reading import NOWHERE, Place, first_place, place_after
from protocols.iso8583.spec import Coding, Spec
from protocols.iso8583.specs import spec_named
from protocols.iso8583.writing import MTI_DIGITS, NotPlain, Slot, WriteAll, fitting, writer

MESSAGE_BYTES_MAX = 9_999
"""The longest message that a four-digit length can announce; no real one comes near."""
SHAPES_MAX = 1_024
"""Heads remembered per format. A link uses a dozen; the bound is against made-up ones."""
FORMATS_MAX = 64


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


Lengths = tuple[tuple[int, ...], tuple[int, ...]]
"""The fields in the order they were set, and the lengths of the MTI and of each."""


class Shape(NamedTuple):
    """What a head announces: the MTI, and the fields in order up to one that is `undefined`.

    `secondary` says that the head goes on with a secondary bitmap and is to be read again
    with it.
    """

    mti: str
    codecs: tuple[FieldCodec, ...]
    place: Place
    undefined: int = 0
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
        self._shape_of = lru_cache(maxsize=SHAPES_MAX)(self._read_head)
        self._room_to_read = Room(self._shape_of.cache_clear)
        self._writers: dict[Lengths, WriteAll] = {}
        self._room_to_write = Room(self._writers.clear)

    def decode(self, message: bytes) -> Message:
        if len(message) > MESSAGE_BYTES_MAX:
            raise DecodeError(
                f"the message is longer than {MESSAGE_BYTES_MAX} bytes; send a shorter one",
                field_path="message",
                offset=MESSAGE_BYTES_MAX,
            )
        head_bytes = self._head_bytes
        shape = self._shape_of(message[:head_bytes], False)
        if shape.secondary:
            head_bytes += self._bitmap_bytes
            shape = self._shape_of(message[:head_bytes], True)
        place = shape.place
        while place.prefix is not None:
            prefix = message[place.prefix]
            place = place.after.get(prefix) or place_after(place, prefix, self._room_to_read)
        fields = place.read(message)
        if fields is not None:
            return Message(shape.mti, fields)
        return self._decode_singly(shape, message, head_bytes)

    def _decode_singly(self, shape: Shape, message: bytes, head_bytes: int) -> Message:
        """The message read field by field: the only judge of what is wrong with one."""
        fields: Fields = {}
        offset = head_bytes
        text, digits = ascii_view(message), message.hex()
        try:
            for codec in shape.codecs:
                offset = codec.read(message, text, digits, fields, offset)
            self._must_end(shape, message, offset)
        except DecodeError as error:
            around = self._read_around(shape.codecs, message, head_bytes)
            error.partial = Message(shape.mti, around or fields)
            raise
        return Message(shape.mti, fields)

    def _must_end(self, shape: Shape, message: bytes, offset: int) -> None:
        if shape.undefined:
            raise DecodeError(
                f"the bitmap announces a field that is not defined in {self.spec.name}; "
                "leave it out",
                field_path=f"DE{shape.undefined}",
                offset=offset,
            )
        if offset != len(message):
            raise DecodeError(
                "bytes follow the last field that the bitmap announces; "
                "correct the bitmap or a length",
                field_path="message",
                offset=offset,
            )

    def _read_around(
        self, announced: tuple[FieldCodec, ...], message: bytes, offset: int
    ) -> Fields:
        """The fields whose contents are sound, in a message whose lengths all are.

        A wrong amount then still names the terminal to answer. Empty where the fields do not
        end where the message does: borders that cannot be trusted tell nothing.
        """
        text, digits = ascii_view(message), message.hex()
        fields: Fields = {}
        for codec in announced:
            try:
                offset = codec.read(message, text, digits, fields, offset)
            except DecodeError:
                width = extent(codec.field, message, offset)
                if not width:
                    return {}
                offset += width
        return fields if offset == len(message) else {}

    def encode(self, message: Message) -> bytes:
        fields = message.fields
        values = (message.mti, *fields.values())
        try:
            lengths = tuple(fields), tuple(map(len, values))
            write = self._writers.get(lengths) or self._writer_for(lengths)
            octets = write(values)
            if len(octets) <= MESSAGE_BYTES_MAX:
                return octets
        except (EncodeError, TypeError, ValueError):
            # not the good case, and which one it is, the fields' own twins know best
            pass
        return self._encode_singly(message)

    def _encode_singly(self, message: Message) -> bytes:
        """The message written field by field: the only judge of what is wrong with one."""
        mti, fields = message.mti, message.fields
        if len(mti) != 4 or not (mti.isascii() and mti.isdecimal()):
            raise EncodeError(
                "the message type is not four digits; give it four", field_path="mti", offset=0
            )
        codecs = self._codecs_of(fields)
        parts = [unhexlify(mti) if self._packed_mti else mti.encode("ascii")]
        parts.append(self._bitmap_for(codecs))
        parts += [codec.write(fields[codec.field.number]) for codec in codecs]
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
                return self._shape(mti, primary, self._head_bytes)
            self._must_have_secondary()
            if not with_secondary:
                return Shape(mti, (), NOWHERE, secondary=True)
            secondary = self._read_bitmap(head, self._head_bytes)
            self._must_not_have_tertiary(secondary)
            return self._shape(mti, primary + secondary, self._head_bytes + self._bitmap_bytes)
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

    def _shape(self, mti: str, bitmap: bytes, head_bytes: int) -> Shape:
        # fields before an undefined one are still read: they may name the terminal to answer
        codecs: list[FieldCodec] = []
        for number in field_numbers(bitmap):
            codec = self._fields.get(number)
            if codec is None:
                return Shape(mti, tuple(codecs), NOWHERE, undefined=number)
            codecs.append(codec)
        return Shape(mti, tuple(codecs), first_place(codecs, head_bytes))

    # ---- sets of fields --------------------------------------------------------------------

    def _codecs_of(self, present: Iterable[int]) -> list[FieldCodec]:
        """The twins of these fields, in the order of the wire."""
        for number in present:
            if number not in self._fields:
                raise EncodeError(
                    f"the field is not defined in {self.spec.name}; leave it out",
                    field_path=f"DE{_shown(number)}",
                    offset=0,
                )
        return [self._fields[number] for number in sorted(present)]

    def _bitmap_for(self, codecs: list[FieldCodec]) -> bytes:
        bitmap = bitmap_of(codec.field.number for codec in codecs)
        return bitmap.hex().upper().encode("ascii") if self._text_bitmap else bitmap

    def _writer_for(self, lengths: Lengths) -> WriteAll:
        """What writes fields of these lengths. Raises NotPlain or EncodeError."""
        codecs = self._codecs_of(lengths[0])
        if not fitting(codecs, *lengths) or not self._room_to_write.take():
            raise NotPlain
        bitmap = self._bitmap_for(codecs)
        mti = Slot(
            Coding.HEX if self._packed_mti else Coding.ASCII, "%s", MTI_DIGITS, value_index=0
        )
        shown = bitmap.decode("ascii") if self._text_bitmap else bitmap.hex()
        view = Coding.ASCII if self._text_bitmap else Coding.HEX
        write = writer((mti, Slot(view, shown, len(shown), b"")), codecs, *lengths)
        self._writers[lengths] = write
        return write


@lru_cache(maxsize=FORMATS_MAX)
def _codec_of(spec: Spec | str) -> Codec:
    return Codec(spec_named(spec) if isinstance(spec, str) else spec)


def _shown(number: int) -> str:
    # a number that is none of a field may be anything at all, so it is not repeated
    return str(number) if 0 <= number <= 999 else "?"
