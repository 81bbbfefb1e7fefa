"""The shape of a message format: a typed field table, written in the standard's own notation.

A format is data. `n..19` is what ISO 8583 prints for a primary account number, and it is
what `Field` is parsed from; how those digits travel (ASCII, BCD, binary) is the format's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import msgspec

FIELD_NUMBER_MAX = 128
"""Primary and secondary bitmap; the tertiary one (bit 65) is not supported."""

_NOTATION = re.compile(r"(x\+n|ans|an|n|z|b)(?: |(\.{2,3}))(\d{1,3})")


class FieldType(StrEnum):
    """Which characters may stand in a field (ISO 8583:1987, 4.2)."""

    N = "n"
    """Digits."""
    AN = "an"
    """Letters and digits, and the space as padding."""
    ANS = "ans"
    """Printable ASCII, 20 to 7E."""
    B = "b"
    """Bytes."""
    Z = "z"
    """Track 2 and 3 code set: digits and the separator, `=` or D in text, nibble D in BCD."""
    XN = "x+n"
    """C (credit) or D (debit), then digits."""


class Coding(StrEnum):
    """How characters become bytes."""

    ASCII = "ascii"
    BCD = "bcd"
    """Two digits a byte; an odd number of digits is padded with one zero nibble."""
    BINARY = "binary"
    HEX = "hex"
    """Two hexadecimal characters a byte, for formats that are text throughout."""


class Padding(StrEnum):
    """Where the zero nibble of an odd BCD field stands."""

    LEFT = "left"
    RIGHT = "right"


class Field(msgspec.Struct, frozen=True):
    """One data element of one format.

    `length_max` is in characters of the value (bytes for b), and the exact length of a
    fixed field; x+n counts its sign. `length_digits` is 0 for fixed, 2 for LLVAR, 3 for
    LLLVAR. The length on the wire counts characters: digits of BCD, bytes of binary, both
    characters of a byte in hex.
    """

    number: int
    name: str
    type: FieldType
    length_max: int
    length_digits: int
    coding: Coding
    length_coding: Coding
    padding: Padding = Padding.LEFT

    @property
    def path(self) -> str:
        return f"DE{self.number}"

    @property
    def fixed(self) -> bool:
        return self.length_digits == 0


@dataclass(frozen=True, eq=False)
class Spec:
    """A message format: its field table and how MTI and bitmap are written.

    Compared by identity, so that what is compiled from it can be found cheaply.
    """

    name: str
    source: str
    mti_coding: Coding
    bitmap_coding: Coding
    secondary_bitmap: bool
    fields: Mapping[int, Field]


def field_from_notation(
    number: int,
    notation: str,
    name: str,
    *,
    coding_of: Mapping[FieldType, Coding],
    length_coding: Coding,
    padding: Padding = Padding.LEFT,
) -> Field:
    """The field that the standard's notation stands for: `n 6`, `n..19`, `ans...999`, `b 8`.

    b lengths are bytes here (the standard prints bits). Raises ValueError on a misspelt
    notation, which is a fault of a table in this repository.
    """
    matched = _NOTATION.fullmatch(notation)
    if matched is None:
        raise ValueError(f"DE{number} has no readable notation; write it as in 'n..19' or 'b 8'")
    field_type = FieldType(matched[1])
    length_digits = len(matched[2] or "")
    length_max = int(matched[3]) + (1 if field_type is FieldType.XN else 0)
    coding = coding_of[field_type]
    if coding is Coding.HEX and length_digits:
        # both characters of a byte are counted, and the length still has two or three digits
        length_max = min(length_max, (10**length_digits - 1) // 2)
    return Field(
        number, name, field_type, length_max, length_digits, coding, length_coding, padding
    )


def field_table(fields: Iterable[Field]) -> dict[int, Field]:
    """Fields by number. Raises ValueError for a number given twice or outside 2 to 128."""
    table: dict[int, Field] = {}
    for field in fields:
        number = field.number
        if number in table or number == 65 or not 2 <= number <= FIELD_NUMBER_MAX:
            raise ValueError(f"DE{number} has no place in the table; give each of 2 to 128 once")
        table[field.number] = field
    return table
