"""How one field is read and written: a pair of closures, made from its row in the table.

Reading gets the message in three views made once: the bytes, the text (one character per
byte) and, for packed formats, the hexadecimal digits (two characters per byte). Reader
and writer of a coding stand next to each other and mirror each other.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from typing import assert_never

import msgspec

from protocols.errors import DecodeError
from protocols.iso8583.characters import ACCEPTS, Accepts, is_packed_track, is_track_nibbles
from protocols.iso8583.lengths import content_bytes, lengths_of, prefix_bytes, prefixes_of
from protocols.iso8583.message import FieldValue
from protocols.iso8583.refusals import (
    wrong_content,
    wrong_packed,
    wrong_pad,
    wrong_prefix,
    wrong_value,
)
from protocols.iso8583.spec import Coding, Field, FieldType, Padding

Fields = dict[int, FieldValue]
Read = Callable[[bytes, str, str, Fields, int], int]
"""(message, its text view, its hexadecimal view, fields to fill, offset) → next offset."""
Write = Callable[[FieldValue], bytes]
"""Value → length prefix and content. Raises EncodeError."""


class FieldCodec(msgspec.Struct, frozen=True):
    """The twins of one field."""

    field: Field
    read: Read
    write: Write


def field_codec(field: Field) -> FieldCodec:
    """The reader and writer that this row of the table describes."""
    match field.coding:
        case Coding.ASCII:
            return FieldCodec(field, _text_reader(field), _text_writer(field))
        case Coding.BCD:
            return FieldCodec(field, _packed_reader(field), _packed_writer(field))
        case Coding.BINARY:
            return FieldCodec(field, _binary_reader(field), _binary_writer(field))
        case Coding.HEX:
            return FieldCodec(field, _hex_reader(field), _hex_writer(field))
        case _:
            assert_never(field.coding)


# ---- ASCII text ----------------------------------------------------------------------------


def _text_reader(field: Field) -> Read:
    number, accepts, width = field.number, ACCEPTS[field.type], field.length_max
    lengths, prefix_width = lengths_of(field), prefix_bytes(field)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        end = offset + width
        value = text[offset:end]
        if len(value) == width and accepts(value):
            fields[number] = value
            return end
        raise wrong_content(field, message, offset, width, value, accepts)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            raise wrong_prefix(field, message, offset)
        end = start + length
        value = text[start:end]
        if len(value) == length and (accepts(value) or not length):
            fields[number] = value
            return end
        raise wrong_content(field, message, start, length, value, accepts)

    return read_fixed if field.fixed else read_variable


def _text_writer(field: Field) -> Write:
    accepts, length_max, prefixes = ACCEPTS[field.type], field.length_max, prefixes_of(field)

    def write_fixed(value: FieldValue) -> bytes:
        if (
            isinstance(value, str)
            and len(value) == length_max
            and value.isascii()
            and accepts(value)
        ):
            return value.encode("ascii")
        raise wrong_value(field, value, accepts)

    def write_variable(value: FieldValue) -> bytes:
        if (
            isinstance(value, str)
            and len(value) <= length_max
            and value.isascii()
            and (accepts(value) or not value)
        ):
            return prefixes[len(value)] + value.encode("ascii")
        raise wrong_value(field, value, accepts)

    return write_fixed if field.fixed else write_variable


# ---- BCD -----------------------------------------------------------------------------------


def _packed_reader(field: Field) -> Read:
    if field.type is FieldType.XN:
        return _signed_reader(field)
    number, width, right = field.number, field.length_max, field.padding is Padding.RIGHT
    track = field.type is FieldType.Z
    accepts: Accepts = is_track_nibbles if track else str.isdecimal
    odd, octets = width % 2 == 1, (width + 1) // 2
    fixed_shift = 1 if odd and not right else 0
    lengths, prefix_width = lengths_of(field), prefix_bytes(field)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        first = offset * 2 + fixed_shift
        last = first + width
        value = digits[first:last]
        if len(value) != width or not accepts(value):
            raise wrong_packed(field, message, offset, width, digits)
        if odd and digits[last if right else first - 1] != "0":
            raise wrong_pad(field, offset, width)
        fields[number] = value.upper() if track else value
        return offset + octets

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            raise wrong_prefix(field, message, offset)
        first = start * 2
        if length & 1:
            if not right:
                first += 1
            value = digits[first : first + length]
            if len(value) == length and accepts(value):
                if digits[first + length if right else first - 1] != "0":
                    raise wrong_pad(field, start, length)
                fields[number] = value.upper() if track else value
                return start + (length + 1) // 2
        else:
            value = digits[first : first + length]
            if len(value) == length and (accepts(value) or not length):
                fields[number] = value.upper() if track else value
                return start + length // 2
        raise wrong_packed(field, message, start, length, digits)

    return read_fixed if field.fixed else read_variable


def _packed_writer(field: Field) -> Write:
    if field.type is FieldType.XN:
        return _signed_writer(field)
    length_max, right, fixed = field.length_max, field.padding is Padding.RIGHT, field.fixed
    accepts = is_packed_track if field.type is FieldType.Z else str.isdecimal
    prefixes = [b""] * (length_max + 1) if fixed else prefixes_of(field)

    def write(value: FieldValue) -> bytes:
        if (
            isinstance(value, str)
            and (len(value) == length_max if fixed else len(value) <= length_max)
            and value.isascii()
            and (accepts(value) or not value)
        ):
            nibbles = value
            if len(value) & 1:
                nibbles = value + "0" if right else "0" + value
            return prefixes[len(value)] + unhexlify(nibbles)
        raise wrong_value(field, value, accepts)

    return write


def _signed_reader(field: Field) -> Read:
    """x+n in packed formats: the sign is an ASCII byte, the digits after it are BCD."""
    number, width = field.number, content_bytes(field, field.length_max)
    accepts = ACCEPTS[FieldType.XN]

    def read(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        end = offset + width
        value = text[offset : offset + 1] + digits[offset * 2 + 2 : end * 2]
        if end <= len(message) and accepts(value):
            fields[number] = value
            return end
        raise wrong_content(field, message, offset, field.length_max, value, accepts)

    return read


def _signed_writer(field: Field) -> Write:
    accepts, width = ACCEPTS[FieldType.XN], field.length_max

    def write(value: FieldValue) -> bytes:
        if isinstance(value, str) and len(value) == width and value.isascii() and accepts(value):
            return value[:1].encode("ascii") + unhexlify(value[1:])
        raise wrong_value(field, value, None)

    return write


# ---- bytes ---------------------------------------------------------------------------------


def _binary_reader(field: Field) -> Read:
    number, width = field.number, field.length_max
    lengths, prefix_width = lengths_of(field), prefix_bytes(field)

    def read_content(message: bytes, fields: Fields, start: int, length: int) -> int:
        end = start + length
        value = message[start:end]
        if len(value) == length:
            fields[number] = value
            return end
        raise wrong_content(field, message, start, length, "", str.isprintable)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        return read_content(message, fields, offset, width)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            raise wrong_prefix(field, message, offset)
        return read_content(message, fields, start, length)

    return read_fixed if field.fixed else read_variable


def _binary_writer(field: Field) -> Write:
    length_max, fixed = field.length_max, field.fixed
    prefixes = [b""] * (length_max + 1) if fixed else prefixes_of(field)

    def write(value: FieldValue) -> bytes:
        if isinstance(value, bytes) and (
            len(value) == length_max if fixed else len(value) <= length_max
        ):
            return prefixes[len(value)] + value
        raise wrong_value(field, value, None)

    return write


# ---- bytes as hexadecimal characters -------------------------------------------------------


def _is_hexadecimal(text: str) -> bool:
    return not text.strip("0123456789ABCDEFabcdef")


def _hex_reader(field: Field) -> Read:
    number, width = field.number, field.length_max * 2
    lengths, prefix_width = lengths_of(field), prefix_bytes(field)

    def read_content(message: bytes, text: str, fields: Fields, start: int, length: int) -> int:
        end = start + length
        value = text[start:end]
        if len(value) == length and not length & 1 and _is_hexadecimal(value):
            fields[number] = unhexlify(value)
            return end
        if len(value) == length and _is_hexadecimal(value):
            raise DecodeError(
                "the field has half a byte; send two hexadecimal characters for each byte",
                field_path=field.path,
                offset=start,
            )
        raise wrong_content(field, message, start, length, value, _is_hexadecimal)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        return read_content(message, text, fields, offset, width)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            raise wrong_prefix(field, message, offset)
        return read_content(message, text, fields, start, length)

    return read_fixed if field.fixed else read_variable


def _hex_writer(field: Field) -> Write:
    length_max, fixed = field.length_max, field.fixed
    prefixes = [b""] * (length_max * 2 + 1) if fixed else prefixes_of(field)

    def write(value: FieldValue) -> bytes:
        if isinstance(value, bytes) and (
            len(value) == length_max if fixed else len(value) <= length_max
        ):
            return prefixes[len(value) * 2] + value.hex().upper().encode("ascii")
        raise wrong_value(field, value, None)

    return write
