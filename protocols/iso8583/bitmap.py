"""Bitmaps: which fields a message carries, eight bytes for 1 to 64 and eight for 65 to 128."""

from __future__ import annotations

from collections.abc import Iterable

BITMAP_BYTES = 8
SECONDARY_BIT = 0x80
"""Bit 1, the first of the first byte: a secondary bitmap follows (ISO 8583:1987, 4.1.2)."""


def field_numbers(bitmap: bytes) -> list[int]:
    """The numbers of the fields present, in order; bit 1 itself is not a field.

    `bitmap` is 8 bytes or, with the secondary bitmap, 16.
    """
    bits = int.from_bytes(bitmap, "big")
    top = len(bitmap) * 8
    return [number for number in range(2, top + 1) if bits >> (top - number) & 1]


def bitmap_of(numbers: Iterable[int]) -> bytes:
    """The 8 or 16 bytes that announce these fields (2 to 128)."""
    present = set(numbers)
    secondary = any(number > 64 for number in present)
    top = 128 if secondary else 64
    bits = sum(1 << (top - number) for number in present)
    if secondary:
        bits |= 1 << (top - 1)
    return bits.to_bytes(top // 8, "big")
