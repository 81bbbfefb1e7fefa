"""The field tables say what the standards say."""

from __future__ import annotations

import re

import pytest

from protocols.iso8583 import SPECS, FieldType, UnknownSpec, spec_named
from protocols.iso8583.spec import Coding, Padding, field_from_notation, field_table

CODING = dict.fromkeys(FieldType, Coding.ASCII)


@pytest.mark.parametrize("name", ["iso87_ascii", "iso87_binary", "iso93_ascii", "iso93_binary"])
def test_a_standard_format_has_every_field_but_the_bitmaps(name: str) -> None:
    assert sorted(SPECS[name].fields) == [n for n in range(2, 129) if n != 65]


@pytest.mark.parametrize(
    ("name", "number", "kind", "length_max", "length_digits"),
    [
        ("iso87_ascii", 2, "n", 19, 2),
        ("iso87_ascii", 28, "x+n", 9, 0),
        ("iso87_ascii", 35, "z", 37, 2),
        ("iso87_ascii", 39, "an", 2, 0),
        ("iso87_binary", 90, "n", 42, 0),
        ("iso87_binary", 97, "x+n", 17, 0),
        ("iso93_ascii", 12, "n", 12, 0),
        ("iso93_ascii", 22, "an", 12, 0),
        ("iso93_binary", 39, "n", 3, 0),
        ("iso93_binary", 53, "b", 48, 2),
        ("iso93_binary", 96, "b", 999, 3),
        ("unionpay_pos", 60, "n", 17, 3),
        ("unionpay_pos", 55, "b", 255, 3),
    ],
)
def test_elements_are_typed_as_printed(
    name: str, number: int, kind: str, length_max: int, length_digits: int
) -> None:
    field = SPECS[name].fields[number]
    assert (field.type.value, field.length_max, field.length_digits) == (
        kind,
        length_max,
        length_digits,
    )


def test_a_hexadecimal_length_stays_within_its_digits() -> None:
    # 999 bytes would be 1,998 characters, and LLL ends at 999
    assert SPECS["iso93_ascii"].fields[96].length_max == 499


def test_unionpay_pads_left_aligned_fields_on_the_right() -> None:
    fields = SPECS["unionpay_pos"].fields
    assert fields[22].padding is Padding.RIGHT
    assert fields[23].padding is Padding.LEFT
    assert {fields[n].padding for n in (2, 32, 35, 36, 60, 61)} == {Padding.RIGHT}


def test_unionpay_has_sixty_four_bits() -> None:
    assert max(SPECS["unionpay_pos"].fields) == 64
    assert not SPECS["unionpay_pos"].secondary_bitmap


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(UnknownSpec) as caught:
        spec_named("6200000000000000003")
    assert "iso87_ascii" in str(caught.value)
    assert "unionpay_pos" in str(caught.value)
    assert not re.search(r"\d{13}", str(caught.value))


@pytest.mark.parametrize("notation", ["n19", "n ..19", "n....19", "q 4", "n 1000", "", "n..1\n"])
def test_a_misspelt_notation_is_refused(notation: str) -> None:
    with pytest.raises(ValueError, match="notation"):
        field_from_notation(2, notation, "", coding_of=CODING, length_coding=Coding.ASCII)


@pytest.mark.parametrize("numbers", [(2, 2), (1,), (65,), (129,)])
def test_a_table_gives_each_number_once_and_no_bitmap(numbers: tuple[int, ...]) -> None:
    fields = [
        field_from_notation(n, "n 6", "", coding_of=CODING, length_coding=Coding.ASCII)
        for n in numbers
    ]
    with pytest.raises(ValueError, match="no place"):
        field_table(fields)
