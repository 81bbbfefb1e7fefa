"""Bitmaps against a reading of the bits as a string of 0 and 1."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.iso8583.bitmap import bitmap_of, field_numbers

NUMBERS = st.sets(st.sampled_from([n for n in range(2, 129) if n != 65]))


@given(NUMBERS)
def test_what_is_announced_is_read(numbers: set[int]) -> None:
    bitmap = bitmap_of(numbers)
    assert [n for n in field_numbers(bitmap) if n != 65] == sorted(numbers)
    assert len(bitmap) == (16 if any(n > 64 for n in numbers) else 8)


@given(st.binary(min_size=8, max_size=8) | st.binary(min_size=16, max_size=16))
def test_bits_are_numbered_from_the_left(bitmap: bytes) -> None:
    bits = "".join(f"{octet:08b}" for octet in bitmap)
    assert field_numbers(bitmap) == [
        index + 1 for index, bit in enumerate(bits) if bit == "1" and index
    ]


def test_a_secondary_bitmap_sets_bit_one() -> None:
    assert bitmap_of({3, 70}).hex() == "a0000000000000000400000000000000"
    assert bitmap_of(()).hex() == "0000000000000000"
