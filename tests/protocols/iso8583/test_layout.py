"""Layouts take every good message, are remembered within bounds, and judge as the twins do."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from loadtest.codec_bench import SPEC_NAMES, realistic_message
from protocols.errors import DecodeError, EncodeError
from protocols.iso8583 import SPECS, Message, Spec
from protocols.iso8583.characters import (
    ACCEPTS,
    ANY,
    CHARACTERS,
    TRACK_DIGITS,
    TRACK_NIBBLES,
    is_packed_track,
    is_track_nibbles,
)
from protocols.iso8583.codec import Codec
from protocols.iso8583.layout import LAYOUTS_MAX, MISSES_MAX, Room, Stretches, picking
from protocols.iso8583.reading import NOWHERE, first_place, place_after

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


class Whole(Codec):
    """A codec that has nothing but layouts."""

    def _decode_singly(self, *_: object) -> Message:
        raise AssertionError("a good message was read field by field")

    def _encode_singly(self, *_: object) -> bytes:
        raise AssertionError("a good message was written field by field")


class Single(Codec):
    """A codec that has no layouts, only the twins of each field."""

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        for room in (self._room_to_read, self._room_to_write):
            room.take = lambda: False  # type: ignore[method-assign]


@every_spec
@settings(max_examples=100, deadline=None)
@given(sample=st.data())
def test_every_good_message_is_read_and_written_whole(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    message = sample.draw(any_message(spec))
    whole, single = Whole(spec), Single(spec)
    octets = whole.encode(message)
    assert octets == single.encode(message)
    fields = whole.decode(octets).fields
    assert fields == message.fields
    assert list(fields) == sorted(message.fields)


@every_spec
@settings(max_examples=100, deadline=None)
@given(sample=st.data())
def test_a_wrong_value_is_refused_as_its_twin_refuses_it(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    message = sample.draw(any_message(spec))
    number = sample.draw(st.sampled_from(sorted(message.fields) or [3]))
    wrong = sample.draw(st.text(max_size=20) | st.binary(max_size=20))
    changed = Message(message.mti, {**message.fields, number: wrong})
    codec = Codec(spec)
    codec.encode(message)
    assert _written(codec, changed) == _written(Single(spec), changed)


def _written(codec: Codec, message: Message) -> object:
    try:
        return codec.encode(message)
    except EncodeError as error:
        return str(error)


@pytest.mark.parametrize("name", SPEC_NAMES)
def test_any_one_changed_byte_is_judged_as_the_twins_judge_it(name: str) -> None:
    whole, single = Codec(SPECS[name]), Single(SPECS[name])
    octets = whole.encode(realistic_message("unionpay_pos" if name != "iso87_ascii" else name))
    for position in range(len(octets)):
        for octet in (0x00, 0x0F, 0x10, 0x20, 0x2F, 0x3A, 0x41, 0x61, 0x7F, 0xA0, 0xB2, 0xFF):
            changed = octets[:position] + bytes([octet]) + octets[position + 1 :]
            assert _read(whole, changed) == _read(single, changed)


def _read(codec: Codec, octets: bytes) -> object:
    try:
        return codec.decode(octets)
    except DecodeError as error:
        return str(error), error.partial


@pytest.mark.parametrize("octet", range(256))
def test_a_character_is_allowed_exactly_where_the_twins_accept_it(octet: int) -> None:
    character, one = chr(octet), bytes([octet])
    for field_type, allowed in CHARACTERS.items():
        accepted = character.isascii() and bool(ACCEPTS[field_type](character))
        assert (not one.translate(ANY, allowed)) is accepted
    assert (not one.translate(ANY, TRACK_DIGITS)) is is_packed_track(character)
    assert (not one.translate(ANY, TRACK_NIBBLES)) is is_track_nibbles(character)


def test_ever_new_lengths_stop_making_layouts_and_are_still_read() -> None:
    codec = Codec(SPECS["iso87_ascii"])
    for first in range(77):
        for second in range(77):
            message = Message("0200", {44: "x" * (first % 26), 45: "y" * second, 46: "z" * first})
            assert codec.decode(codec.encode(message)) == message
    assert len(codec._writers) == LAYOUTS_MAX


def test_a_full_memory_is_forgotten_after_many_misses() -> None:
    forgotten: list[bool] = []
    room = Room(lambda: forgotten.append(True))
    assert all(room.take() for _ in range(LAYOUTS_MAX))
    assert not any(room.take() for _ in range(MISSES_MAX))
    assert forgotten == [True]
    assert room.take()


def test_a_length_that_cannot_be_takes_no_room() -> None:
    codec = Codec(SPECS["iso87_ascii"])
    room = Room(lambda: None)
    place = first_place([codec._fields[2]], 20)
    for wrong in (b"20", b"+9", b"1", b""):
        assert place_after(place, wrong, room) is NOWHERE
    assert place.after == {}
    assert place_after(place, b"16", room) is place.after[b"16"]
    assert place.after[b"16"].end == 38


def test_stretches_of_one_set_grow_together() -> None:
    stretches = Stretches()
    for first, last, allowed in ((0, 4, b"1"), (4, 4, b"2"), (4, 9, b"1"), (9, 10, b"2")):
        stretches.add(first, last, allowed)
    stretches.add(12, 14, b"2")
    assert stretches.checks() == (
        (slice(0, 9), b"1"),
        (slice(9, 10), b"2"),
        (slice(12, 14), b"2"),
    )


@given(st.lists(st.integers(0, 9), max_size=6))
def test_picking_gives_the_items_in_order(indices: list[int]) -> None:
    values = tuple("abcdefghij")
    assert tuple(picking(indices)(values)) == tuple(values[index] for index in indices)
