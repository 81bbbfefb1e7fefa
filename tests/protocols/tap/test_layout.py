"""Tables of fields: whole, in order, and each value with one spelling."""

from __future__ import annotations

import msgspec
import pytest

from protocols.errors import DecodeError, EncodeError
from protocols.tap.layout import (
    INSTANT_MS,
    INSTANT_MS_MAX,
    YES_OR_NO,
    Each,
    Layout,
    Rest,
    code,
    number,
)


class Pair(msgspec.Struct, frozen=True):
    left: int
    right: str


class Piece(msgspec.Struct, frozen=True):
    octets: bytes
    at: int


class Pairs(msgspec.Struct, frozen=True):
    pairs: tuple[Pair, ...]


PAIR = Layout(Pair, {"left": number(2), "right": code(3)})


def test_a_table_has_just_the_attributes_of_its_words():
    for fields in ({"left": number(2)}, {"left": number(2), "right": code(1), "more": number(1)}):
        with pytest.raises(ValueError, match="does not have just"):
            Layout(Pair, fields)


def test_fields_stand_in_the_order_of_the_table():
    assert PAIR.write(Pair(258, "a-")) == b"\x01\x02a- "
    assert PAIR.read(b"\x01\x02a- ") == Pair(258, "a-")
    assert (PAIR.size, PAIR.offset_of("right")) == (5, 2)


def test_a_tail_may_come_after_what_the_words_name_last():
    layout = Layout(Piece, {"at": number(1)}, ("octets", Rest(3)))
    assert layout.write(Piece(b"abc", 7)) == b"\x07abc"
    assert layout.read(b"\x07abc") == Piece(b"abc", 7)
    with pytest.raises(DecodeError, match="octets at byte 16: it is over 3"):
        layout.read(b"\x07abcd", at=15)
    with pytest.raises(EncodeError, match="over 3"):
        layout.write(Piece(b"abcd", 7))


def test_many_of_a_kind_are_counted():
    layout = Layout(Pairs, {}, ("pairs", Each(PAIR, 2)))
    some = Pairs((Pair(1, "a"), Pair(2, "")))
    assert layout.read(layout.write(some)) == some
    assert layout.read(b"\x00\x00") == Pairs(())
    with pytest.raises(EncodeError, match="over 2"):
        layout.write(Pairs((Pair(1, "a"),) * 3))
    with pytest.raises(EncodeError, match=r"pairs\[1\]\.left"):
        layout.write(Pairs((Pair(1, "a"), Pair(65_536, ""))))
    for octets, says in (
        (b"\x00", "before its count"),
        (b"\x00\x03", "over 2"),
        (b"\x00\x01\x00\x01a", "do not fill"),
        (b"\x00\x01\x00\x01_  ", r"pairs\[0\]\.right at byte 4"),
    ):
        with pytest.raises(DecodeError, match=says):
            layout.read(octets)


@pytest.mark.parametrize(
    "octets", [b"\x00\x01 a ", b"\x00\x01a\x00\x00", b"\x00\x01a b", b"\x00\x01\xff  "]
)
def test_a_text_has_one_spelling(octets):
    with pytest.raises(DecodeError, match="right at byte 2"):
        PAIR.read(octets)


def test_instants_and_flags_have_bounds():
    class Moment(msgspec.Struct, frozen=True):
        at: int
        yes: bool

    layout = Layout(Moment, {"at": INSTANT_MS, "yes": YES_OR_NO})
    last = Moment(INSTANT_MS_MAX, True)
    assert layout.read(layout.write(last)) == last
    for wrong in (Moment(INSTANT_MS_MAX + 1, True), Moment(-1, True), Moment(0, 2)):
        with pytest.raises(EncodeError):
            layout.write(wrong)
    for octets in (b"\xff" * 8 + b"\x01", bytes(8) + b"\x02"):
        with pytest.raises(DecodeError):
            layout.read(octets)
