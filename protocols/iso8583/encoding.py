"""How one field is read and written: a pair of closures, made from its row in the table.

Reading gets the message in three views made once: the bytes, the text (one character per
byte) and, for packed formats, the hexadecimal digits (two characters per byte). Reader
and writer of a coding stand next to each other and mirror each other.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable
from functools import lru_cache
from typing import NoReturn, assert_never

import msgspec

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583.characters import (
    ACCEPTS,
    ALLOWED,
    Accepts,
    first_wrong,
    is_packed_track,
    is_track_nibbles,
)
from protocols.iso8583.message import FieldValue
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


def content_bytes(field: Field, length: int) -> int:
    """How many bytes a content of this length takes on the wire."""
    match field.coding:
        case Coding.ASCII | Coding.BINARY | Coding.HEX:
            return length
        case Coding.BCD:
            # the sign of x+n is one ASCII byte before the digits
            sign = 1 if field.type is FieldType.XN else 0
            return sign + (length - sign + 1) // 2
        case _:
            assert_never(field.coding)


# ---- lengths -------------------------------------------------------------------------------


def prefix_bytes(field: Field) -> int:
    """The width of the length prefix: LL is two characters or one BCD byte, LLL three or two."""
    if field.length_coding is Coding.ASCII:
        return field.length_digits
    return (field.length_digits + 1) // 2


def extent(field: Field, message: bytes, offset: int) -> int:
    """The bytes of a field from here, prefix and all, whatever they hold; 0 if unknown."""
    start = offset + prefix_bytes(field)
    length = _counted_max(field)
    if not field.fixed:
        found = _lengths(field).get(message[offset:start])
        if found is None:
            return 0
        length = found
    end = start + content_bytes(field, length)
    return end - offset if end <= len(message) else 0


def _counted_max(field: Field) -> int:
    return field.length_max * 2 if field.coding is Coding.HEX else field.length_max


def _prefixes(field: Field) -> list[bytes]:
    """The prefix of every permitted length, in order."""
    return list(_prefix_table(field.length_coding, field.length_digits, _counted_max(field)))


@lru_cache(maxsize=256)
def _prefix_table(coding: Coding, digits: int, length_max: int) -> dict[bytes, int]:
    """Prefix → length, for permitted lengths only: a look-up checks form and limit at once."""
    if digits == 0:
        return {}
    if coding is Coding.ASCII:
        return {f"{length:0{digits}}".encode(): length for length in range(length_max + 1)}
    nibbles = digits + digits % 2
    return {bytes.fromhex(f"{length:0{nibbles}}"): length for length in range(length_max + 1)}


def _lengths(field: Field) -> dict[bytes, int]:
    return _prefix_table(field.length_coding, field.length_digits, _counted_max(field))


# ---- faults --------------------------------------------------------------------------------


def _refuse_prefix(field: Field, message: bytes, offset: int) -> NoReturn:
    prefix = message[offset : offset + prefix_bytes(field)]
    if len(prefix) < prefix_bytes(field):
        reason = "the message ends inside the length of the field; send the whole field"
    elif not (prefix if field.length_coding is Coding.ASCII else prefix.hex().encode()).isdigit():
        reason = "the length of the field is not decimal; send it in decimal digits"
    else:
        reason = (
            f"the length of the field is over its maximum of {_counted_max(field)}; "
            "send no more than that"
        )
    raise DecodeError(reason, field_path=field.path, offset=offset)


def _refuse_content(
    field: Field, message: bytes, offset: int, length: int, view: str, accepts: Accepts
) -> NoReturn:
    """Say what is wrong with the content at `offset`; `view` is its characters."""
    wanted = content_bytes(field, length)
    if len(message) - offset < wanted:
        reason = (
            f"the message ends inside the field, which needs {wanted} bytes from here; "
            "send the whole field or correct its length"
        )
        raise DecodeError(reason, field_path=field.path, offset=offset)
    index = first_wrong(view, accepts)
    raise DecodeError(
        f"the field is of type {field.type} and takes only {ALLOWED[field.type]}; send it so",
        field_path=field.path,
        offset=offset + (index // 2 if field.coding is Coding.BCD else index),
    )


def _refuse_packed(field: Field, message: bytes, offset: int, length: int, digits: str) -> NoReturn:
    accepts = is_track_nibbles if field.type is FieldType.Z else str.isdecimal
    nibbles = digits[offset * 2 : (offset + content_bytes(field, length)) * 2]
    _refuse_content(field, message, offset, length, nibbles, accepts)


def _refuse_pad(field: Field, offset: int, length: int) -> NoReturn:
    last = offset + content_bytes(field, length) - 1
    raise DecodeError(
        "the padding nibble of the odd field is not zero; pad it with 0",
        field_path=field.path,
        offset=last if field.padding is Padding.RIGHT else offset,
    )


def _refuse_value(field: Field, value: FieldValue, accepts: Accepts | None) -> NoReturn:
    """Say why a value cannot be written; never what it is."""
    wanted = "bytes" if field.type is FieldType.B else "text"
    offset = 0
    if isinstance(value, bytes) is not (field.type is FieldType.B):
        reason = f"the field of type {field.type} is written from {wanted}; give it {wanted}"
    elif field.fixed and len(value) != field.length_max:
        reason = f"the field has exactly {field.length_max} characters; pad or cut the value"
    elif not field.fixed and len(value) > field.length_max:
        reason = f"the field has at most {field.length_max} characters; cut the value"
    else:
        reason = f"the field takes only {ALLOWED[field.type]}; give it those"
        if isinstance(value, str) and accepts is not None:
            offset = first_wrong(value, accepts)
    raise EncodeError(reason, field_path=field.path, offset=offset)


# ---- ASCII text ----------------------------------------------------------------------------


def _text_reader(field: Field) -> Read:
    number, accepts, width = field.number, ACCEPTS[field.type], field.length_max
    lengths, prefix_width = _lengths(field), prefix_bytes(field)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        end = offset + width
        value = text[offset:end]
        if len(value) == width and accepts(value):
            fields[number] = value
            return end
        _refuse_content(field, message, offset, width, value, accepts)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            _refuse_prefix(field, message, offset)
        end = start + length
        value = text[start:end]
        if len(value) == length and (accepts(value) or not length):
            fields[number] = value
            return end
        _refuse_content(field, message, start, length, value, accepts)

    return read_fixed if field.fixed else read_variable


def _text_writer(field: Field) -> Write:
    accepts, length_max, prefixes = ACCEPTS[field.type], field.length_max, _prefixes(field)

    def write_fixed(value: FieldValue) -> bytes:
        if (
            isinstance(value, str)
            and len(value) == length_max
            and value.isascii()
            and accepts(value)
        ):
            return value.encode("ascii")
        _refuse_value(field, value, accepts)

    def write_variable(value: FieldValue) -> bytes:
        if (
            isinstance(value, str)
            and len(value) <= length_max
            and value.isascii()
            and (accepts(value) or not value)
        ):
            return prefixes[len(value)] + value.encode("ascii")
        _refuse_value(field, value, accepts)

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
    lengths, prefix_width = _lengths(field), prefix_bytes(field)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        first = offset * 2 + fixed_shift
        last = first + width
        value = digits[first:last]
        if len(value) != width or not accepts(value):
            _refuse_packed(field, message, offset, width, digits)
        if odd and digits[last if right else first - 1] != "0":
            _refuse_pad(field, offset, width)
        fields[number] = value.upper() if track else value
        return offset + octets

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            _refuse_prefix(field, message, offset)
        first = start * 2
        if length & 1:
            if not right:
                first += 1
            value = digits[first : first + length]
            if len(value) == length and accepts(value):
                if digits[first + length if right else first - 1] != "0":
                    _refuse_pad(field, start, length)
                fields[number] = value.upper() if track else value
                return start + (length + 1) // 2
        else:
            value = digits[first : first + length]
            if len(value) == length and (accepts(value) or not length):
                fields[number] = value.upper() if track else value
                return start + length // 2
        _refuse_packed(field, message, start, length, digits)

    # card numbers and institutions: LL in one byte and an even number of digits, read with
    # half the steps; whatever else comes goes to the reader above
    even_lengths = [-1] * 256
    for prefix, length in lengths.items():
        if len(prefix) == 1 and length and length % 2 == 0:
            even_lengths[prefix[0]] = length

    def read_even(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        try:
            length = even_lengths[message[offset]]
        except IndexError:
            length = -1
        first = offset * 2 + 2
        last = first + length
        value = digits[first:last]
        if len(value) != length or not value.isdecimal():
            return read_variable(message, text, digits, fields, offset)
        fields[number] = value
        return last // 2

    if field.fixed:
        return read_fixed
    return read_even if prefix_width == 1 and not track else read_variable


def _packed_writer(field: Field) -> Write:
    if field.type is FieldType.XN:
        return _signed_writer(field)
    length_max, right, fixed = field.length_max, field.padding is Padding.RIGHT, field.fixed
    accepts = is_packed_track if field.type is FieldType.Z else str.isdecimal
    prefixes = [b""] * (length_max + 1) if fixed else _prefixes(field)

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
        _refuse_value(field, value, accepts)

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
        _refuse_content(field, message, offset, field.length_max, value, accepts)

    return read


def _signed_writer(field: Field) -> Write:
    accepts, width = ACCEPTS[FieldType.XN], field.length_max

    def write(value: FieldValue) -> bytes:
        if isinstance(value, str) and len(value) == width and value.isascii() and accepts(value):
            return value[:1].encode("ascii") + unhexlify(value[1:])
        _refuse_value(field, value, None)

    return write


# ---- bytes ---------------------------------------------------------------------------------


def _binary_reader(field: Field) -> Read:
    number, width = field.number, field.length_max
    lengths, prefix_width = _lengths(field), prefix_bytes(field)

    def read_content(message: bytes, fields: Fields, start: int, length: int) -> int:
        end = start + length
        value = message[start:end]
        if len(value) == length:
            fields[number] = value
            return end
        _refuse_content(field, message, start, length, "", str.isprintable)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        return read_content(message, fields, offset, width)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            _refuse_prefix(field, message, offset)
        return read_content(message, fields, start, length)

    return read_fixed if field.fixed else read_variable


def _binary_writer(field: Field) -> Write:
    length_max, fixed = field.length_max, field.fixed
    prefixes = [b""] * (length_max + 1) if fixed else _prefixes(field)

    def write(value: FieldValue) -> bytes:
        if isinstance(value, bytes) and (
            len(value) == length_max if fixed else len(value) <= length_max
        ):
            return prefixes[len(value)] + value
        _refuse_value(field, value, None)

    return write


# ---- bytes as hexadecimal characters -------------------------------------------------------


def _is_hexadecimal(text: str) -> bool:
    return not text.strip("0123456789ABCDEFabcdef")


def _hex_reader(field: Field) -> Read:
    number, width = field.number, field.length_max * 2
    lengths, prefix_width = _lengths(field), prefix_bytes(field)

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
        _refuse_content(field, message, start, length, value, _is_hexadecimal)

    def read_fixed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        return read_content(message, text, fields, offset, width)

    def read_variable(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        start = offset + prefix_width
        length = lengths.get(message[offset:start])
        if length is None:
            _refuse_prefix(field, message, offset)
        return read_content(message, text, fields, start, length)

    return read_fixed if field.fixed else read_variable


def _hex_writer(field: Field) -> Write:
    length_max, fixed = field.length_max, field.fixed
    prefixes = [b""] * (length_max * 2 + 1) if fixed else _prefixes(field)

    def write(value: FieldValue) -> bytes:
        if isinstance(value, bytes) and (
            len(value) == length_max if fixed else len(value) <= length_max
        ):
            return prefixes[len(value) * 2] + value.hex().upper().encode("ascii")
        _refuse_value(field, value, None)

    return write
