"""Messages read whole, by a layout for each set of lengths; the twin of `writing`."""

from __future__ import annotations

import dataclasses
from binascii import hexlify
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from protocols.errors import DecodeError
from protocols.iso8583.characters import ANY, CHARACTERS, DIGITS, TRACK_NIBBLES, ascii_view
from protocols.iso8583.encoding import FieldCodec, Fields
from protocols.iso8583.layout import Room, Stretches, is_single, picking
from protocols.iso8583.lengths import content_bytes, counted, lengths_of, prefix_bytes
from protocols.iso8583.spec import Coding, Field, FieldType, Padding

ReadAll = Callable[[bytes], Fields | None]
"""Message → all its fields in order, or None where it is not the good case."""

CUTS_MAX = 16_384


# ---- places --------------------------------------------------------------------------------


class Laid(NamedTuple):
    """A field whose content starts at this byte; `length` is as the wire counts it."""

    codec: FieldCodec
    start: int
    length: int


@dataclasses.dataclass(frozen=True, eq=False, slots=True)
class Place:
    """How far a message is laid out: up to `prefix`, the length to look at next.

    All of it is laid out where `prefix` is None; then `read` is what reads it. `after` is
    where the lengths met so far lead.
    """

    prefix: slice | None
    read: ReadAll
    laid: tuple[Laid, ...] = ()
    waiting: tuple[FieldCodec, ...] = ()
    end: int = 0
    after: dict[bytes, Place] = dataclasses.field(default_factory=dict)


NOWHERE = Place(None, lambda message: None)
"""Where a length leads that the field cannot have, or that there is no room to remember."""


def first_place(codecs: Iterable[FieldCodec], head_bytes: int) -> Place:
    """The place of a message of these fields before its first length is looked at."""
    return _place((), tuple(codecs), head_bytes)


def place_after(place: Place, prefix: bytes, room: Room) -> Place:
    """Where the length in `prefix` leads; remembered unless that is NOWHERE."""
    codec, waiting = place.waiting[0], place.waiting[1:]
    length = lengths_of(codec.field).get(prefix)
    if length is None or not room.take():
        return NOWHERE
    start = place.end + len(prefix)
    laid = (*place.laid, Laid(codec, start, length))
    place.after[prefix] = _place(laid, waiting, start + content_bytes(codec.field, length))
    return place.after[prefix]


def _place(laid: tuple[Laid, ...], waiting: tuple[FieldCodec, ...], end: int) -> Place:
    """Lay the fixed fields up to the next one whose length must be looked at."""
    for index, codec in enumerate(waiting):
        field = codec.field
        if not field.fixed:
            prefix = slice(end, end + prefix_bytes(field))
            return Place(prefix, NOWHERE.read, laid, waiting[index:], end)
        length = counted(field, field.length_max)
        laid = (*laid, Laid(codec, end, length))
        end += content_bytes(field, length)
    return Place(None, _reader(laid, end), laid, (), end)


# ---- cuts ----------------------------------------------------------------------------------


class _Cuts:
    """Where to cut each view of a message, and what to check first."""

    def __init__(self, laid: Iterable[Laid]) -> None:
        self.text: list[tuple[int, slice]] = []
        self.nibbles: list[tuple[int, slice]] = []
        self.tracks: list[tuple[int, slice]] = []
        self.octets: list[tuple[int, slice]] = []
        self.single: list[tuple[FieldCodec, int]] = []
        self.pads: list[int] = []
        self.octet_stretches, self.nibble_stretches = Stretches(), Stretches()
        for each in laid:
            self._add(each)

    def _add(self, laid: Laid) -> None:
        field, start, length = laid.codec.field, laid.start, laid.length
        if is_single(field):
            self.single.append((laid.codec, start - prefix_bytes(field)))
        elif field.coding is Coding.BCD:
            self._add_nibbles(field, start * 2, length)
        elif field.coding is Coding.BINARY:
            self.octets.append(_cut(field.number, start, start + length))
        else:
            self.text.append(_cut(field.number, start, start + length))
            if field.type is FieldType.N and field.length_coding is Coding.ASCII:
                # a length is digits too, and joins the stretches on both sides of it
                self.octet_stretches.add(start - prefix_bytes(field), start, DIGITS)
            self.octet_stretches.add(start, start + length, CHARACTERS[field.type])

    def _add_nibbles(self, field: Field, first: int, length: int) -> None:
        last = first + length + length % 2
        track = field.type is FieldType.Z
        if not track and field.length_coding is Coding.BCD:
            self.nibble_stretches.add(first - prefix_bytes(field) * 2, first, DIGITS)
        self.nibble_stretches.add(first, last, TRACK_NIBBLES if track else DIGITS)
        if length % 2:
            left = field.padding is Padding.LEFT
            self.pads.append(first if left else last - 1)
            first += left
        cuts = self.tracks if track else self.nibbles
        cuts.append(_cut(field.number, first, first + length))


def _reader(laid: tuple[Laid, ...], end: int) -> ReadAll:
    cuts = _Cuts(laid)
    text_cuts, nibble_cuts, track_cuts = tuple(cuts.text), tuple(cuts.nibbles), tuple(cuts.tracks)
    octet_cuts, single = tuple(cuts.octets), tuple(cuts.single)
    checks, nibble_checks = cuts.octet_stretches.checks(), cuts.nibble_stretches.checks()
    packed = bool(nibble_cuts or track_cuts)
    pads_of = picking(cuts.pads)
    pads = pads_of(b"0" * end * 2)
    # copied whole, the dictionary has its final size and order from the start
    blank: Fields = {each.codec.field.number: "" for each in laid}

    def read(message: bytes) -> Fields | None:
        if len(message) != end:
            return None
        for cut, allowed in checks:
            if message[cut].translate(ANY, allowed):
                return None
        fields = blank.copy()
        if packed:
            nibbles = hexlify(message)
            for cut, allowed in nibble_checks:
                if nibbles[cut].translate(ANY, allowed):
                    return None
            if pads_of(nibbles) != pads:
                return None
            digits = nibbles.decode("ascii")
            for number, cut in nibble_cuts:
                fields[number] = digits[cut]
            for number, cut in track_cuts:
                fields[number] = digits[cut].upper()
        if text_cuts:
            # one character a byte; bytes that are not ASCII are not among those cut
            text = message.decode("latin-1")
            for number, cut in text_cuts:
                fields[number] = text[cut]
        for number, cut in octet_cuts:
            fields[number] = message[cut]
        return _read_single(single, message, fields) if single else fields

    return read


def _read_single(
    single: tuple[tuple[FieldCodec, int], ...], message: bytes, fields: Fields
) -> Fields | None:
    text, digits = ascii_view(message), message.hex()
    try:
        for codec, offset in single:
            codec.read(message, text, digits, fields, offset)
    except DecodeError:
        return None
    return fields


@lru_cache(maxsize=CUTS_MAX)
def _cut(number: int, first: int, last: int) -> tuple[int, slice]:
    # one for all layouts that have it keeps them small, and so in the processor's cache
    return number, slice(first, last)
