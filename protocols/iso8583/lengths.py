"""How long a field is on the wire, and how its length is written in front of it."""

from __future__ import annotations

from functools import lru_cache
from typing import assert_never

from protocols.iso8583.spec import Coding, Field, FieldType


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


def prefix_bytes(field: Field) -> int:
    """The width of the length prefix: LL is two characters or one BCD byte, LLL three or two."""
    if field.length_coding is Coding.ASCII:
        return field.length_digits
    return (field.length_digits + 1) // 2


def extent(field: Field, message: bytes, offset: int) -> int:
    """The bytes of a field from here, prefix and all, whatever they hold; 0 if unknown."""
    start = offset + prefix_bytes(field)
    length = counted(field, field.length_max)
    if not field.fixed:
        found = lengths_of(field).get(message[offset:start])
        if found is None:
            return 0
        length = found
    end = start + content_bytes(field, length)
    return end - offset if end <= len(message) else 0


def counted(field: Field, length: int) -> int:
    """A length of value as the wire counts it: both characters of a byte in hex."""
    return length * 2 if field.coding is Coding.HEX else length


def fits(field: Field, length: int) -> bool:
    """Whether a value of this length can be written."""
    return length == field.length_max if field.fixed else length <= field.length_max


def prefixes_of(field: Field) -> list[bytes]:
    """The prefix of every permitted length, in order."""
    return list(
        _prefix_table(field.length_coding, field.length_digits, counted(field, field.length_max))
    )


@lru_cache(maxsize=256)
def _prefix_table(coding: Coding, digits: int, length_max: int) -> dict[bytes, int]:
    """Prefix → length, for permitted lengths only: a look-up checks form and limit at once."""
    if digits == 0:
        return {}
    if coding is Coding.ASCII:
        return {f"{length:0{digits}}".encode(): length for length in range(length_max + 1)}
    nibbles = digits + digits % 2
    return {bytes.fromhex(f"{length:0{nibbles}}"): length for length in range(length_max + 1)}


def lengths_of(field: Field) -> dict[bytes, int]:
    return _prefix_table(field.length_coding, field.length_digits, counted(field, field.length_max))
