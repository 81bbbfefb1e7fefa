"""Chip data: tags and lengths of every permitted form, and the faults of each."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583.tlv import ELEMENTS_MAX, Element, build, parse, value_of

ONE_BYTE_TAGS = st.integers(0, 255).filter(lambda tag: tag & 0x1F != 0x1F).map("{:02X}".format)
TWO_BYTE_TAGS = st.builds(
    "{:02X}{:02X}".format, st.integers(0, 7).map(lambda high: high << 5 | 0x1F), st.integers(0, 127)
)
ELEMENTS = st.lists(
    st.builds(Element, ONE_BYTE_TAGS | TWO_BYTE_TAGS, st.binary(max_size=300)), max_size=12
)


@given(ELEMENTS)
def test_what_is_built_is_parsed(elements: list[Element]) -> None:
    assert parse(build(elements)) == tuple(elements)


@given(st.binary(max_size=255))
def test_any_bytes_are_elements_or_a_documented_error(octets: bytes) -> None:
    refusal: DecodeError | None = None
    elements: tuple[Element, ...] = ()
    try:
        elements = parse(octets)
    except DecodeError as error:
        refusal = error
    if refusal is None:
        assert sum(len(element.value) for element in elements) <= len(octets)
        assert parse(build(elements)) == elements
    else:
        assert refusal.field_path.startswith("DE55")
        assert 0 <= refusal.offset <= len(octets)
        assert not re.search(r"\d{13}", str(refusal))


def test_a_chip_sale_is_taken_apart() -> None:
    elements = parse(bytes.fromhex("9F3602001A9F02060000000018405F2A020156DF81290130"))
    assert [element.tag for element in elements] == ["9F36", "9F02", "5F2A", "DF8129"]
    assert value_of(elements, "9F02") == bytes.fromhex("000000001840")
    assert value_of(elements, "9F26") is None


def test_a_constructed_tag_stays_whole_and_may_repeat() -> None:
    script = bytes.fromhex("71099F180400000000860000")
    assert [e.tag for e in parse(script[:11] + script[:11])] == ["71", "71"]


@pytest.mark.parametrize(
    ("octets", "field_path", "offset"),
    [
        ("9F", "DE55", 0),
        ("9F8180800101", "DE55", 0),
        ("9F02", "DE55.9F02", 2),
        ("9F0280", "DE55.9F02", 2),
        ("9F0283000001AA", "DE55.9F02", 2),
        ("9F028201", "DE55.9F02", 2),
        ("5A0162 9F0206000000", "DE55.9F02", 6),
    ],
)
def test_a_fault_is_placed(octets: str, field_path: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        parse(bytes.fromhex(octets))
    assert (caught.value.field_path, caught.value.offset) == (field_path, offset)
    assert "; " in caught.value.reason


def test_elements_are_bounded_both_ways() -> None:
    with pytest.raises(DecodeError, match="more than"):
        parse(b"\x82\x00" * (ELEMENTS_MAX + 1))
    with pytest.raises(EncodeError, match="more than"):
        build([Element("82", b"")] * (ELEMENTS_MAX + 1))


@pytest.mark.parametrize("tag", ["", "9", "9F", "9f02", "8201", "XY", "9F818080", "٣٣"])
def test_a_tag_that_is_none_is_not_built(tag: str) -> None:
    with pytest.raises(EncodeError):
        build([Element(tag, b"\x01")])


def test_a_value_beyond_two_length_bytes_is_not_built() -> None:
    with pytest.raises(EncodeError) as caught:
        build([Element("9F02", bytes(65_536))])
    assert caught.value.field_path == "DE55.9F02"


def test_the_representation_shows_no_value() -> None:
    element = Element("5A", bytes.fromhex("6200000000000003"))
    assert repr(element) == "Element(tag='5A', value=8 bytes)"
    assert "62" not in repr(element.__rich_repr__())
