"""Messages written whole, by a layout for each set of lengths; the twin of `reading`."""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple

from protocols.iso8583.characters import ANY, CHARACTERS, DIGITS, TRACK_DIGITS
from protocols.iso8583.encoding import FieldCodec
from protocols.iso8583.layout import Check, Stretches, is_single, picking
from protocols.iso8583.lengths import fits, prefixes_of
from protocols.iso8583.message import FieldValue
from protocols.iso8583.spec import Coding, FieldType, Padding

Values = tuple[FieldValue, ...]
WriteAll = Callable[[Values], bytes]
"""MTI and values as set → the message. NotPlain, TypeError or ValueError: not the good case."""

MTI_DIGITS = 4


class NotPlain(ValueError):
    """Not the good case; whether it is a fault is for the fields' own twins to say."""


class Slot(NamedTuple):
    """A piece of a message to write: a literal, or in place of `%s` the value at `value_index`.

    `view` says how it becomes bytes: HEX from hexadecimal characters, ASCII as it is, BINARY
    as given, None by its `codec`. `width` is in characters of the view, `allowed` what may
    stand there (empty: whatever does).
    """

    view: Coding | None
    template: str
    width: int
    allowed: bytes = DIGITS
    value_index: int = -1
    codec: FieldCodec | None = None


def fitting(codecs: Iterable[FieldCodec], present: Sequence[int], lengths: Sequence[int]) -> bool:
    """Whether each length, first that of the MTI, is one that its field can have."""
    length_of = dict(zip(present, lengths[1:], strict=True))
    return lengths[0] == MTI_DIGITS and all(
        fits(codec.field, length_of[codec.field.number]) for codec in codecs
    )


def writer(
    head: Iterable[Slot],
    codecs: Sequence[FieldCodec],
    present: Sequence[int],
    lengths: Sequence[int],
) -> WriteAll:
    """Writes an MTI and these fields, set in the order of `present`, in these lengths.

    `head` is how MTI (value 0) and bitmap are written; `lengths` are those of the MTI and of
    the fields as set, and all of them must fit (`fitting`).
    """
    index_of = {number: index for index, number in enumerate(present, start=1)}
    indices = [index_of[codec.field.number] for codec in codecs]
    slots = list(head)
    for position, (codec, index) in enumerate(zip(codecs, indices, strict=True), start=1):
        slots += _slots(codec, lengths[index], position)
    sheets, pieces = _sheets(slots)
    as_set, in_order = indices == sorted(indices), picking([0, *indices])

    def write(values: Values) -> bytes:
        if not as_set:
            values = tuple(in_order(values))
        # loops, because a comprehension would be one more call
        written: list[bytes] = []
        for sheet in sheets:
            written.append(sheet(values))
        if len(pieces) == 1:
            return written[0]
        parts: list[bytes] = []
        for source, cut in pieces:
            parts.append(written[source][cut])
        return b"".join(parts)

    return write


def _slots(codec: FieldCodec, length: int, index: int) -> list[Slot]:
    """Length prefix and content of one field."""
    field = codec.field
    if is_single(field):
        return [Slot(None, "", 0, b"", index, codec)]
    slots: list[Slot] = []
    if not field.fixed:
        prefix = prefixes_of(field)[length]
        packed = field.length_coding is Coding.BCD
        literal = prefix.hex() if packed else prefix.decode("ascii")
        slots.append(Slot(Coding.HEX if packed else Coding.ASCII, literal, len(literal)))
    if field.coding is Coding.BINARY:
        return [*slots, Slot(Coding.BINARY, "", length, b"", index)]
    if field.coding is Coding.ASCII:
        return [*slots, Slot(Coding.ASCII, "%s", length, CHARACTERS[field.type], index)]
    template = "%s"
    if length % 2:
        template = "0%s" if field.padding is Padding.LEFT else "%s0"
    allowed = TRACK_DIGITS if field.type is FieldType.Z else DIGITS
    return [*slots, Slot(Coding.HEX, template, length + length % 2, allowed, index)]


def _sheets(slots: Iterable[Slot]) -> tuple[tuple[WriteAll, ...], tuple[tuple[int, slice], ...]]:
    """What writes all that becomes bytes in one way at once, and how to cut and join it."""
    sheets: list[list[Slot]] = []
    by_view: dict[Coding, int] = {}
    pieces: list[tuple[int, slice]] = []
    for view, group in groupby(slots, lambda slot: slot.view):
        neighbours = list(group)
        if view is Coding.HEX or view is Coding.ASCII:
            if view not in by_view:
                by_view[view] = len(sheets)
                sheets.append([])
            sheet = sheets[by_view[view]]
            first = _octets_of(sheet)
            sheet += neighbours
            pieces.append((by_view[view], slice(first, _octets_of(sheet))))
        else:
            pieces += [(len(sheets) + each, slice(None)) for each in range(len(neighbours))]
            sheets += [[slot] for slot in neighbours]
    return tuple(map(_sheet, sheets)), tuple(pieces)


def _octets_of(slots: Iterable[Slot]) -> int:
    return sum(slot.width // 2 if slot.view is Coding.HEX else slot.width for slot in slots)


def _sheet(slots: Sequence[Slot]) -> WriteAll:
    taken = [slot.value_index for slot in slots if slot.value_index >= 0]
    picked = picking(taken)
    template = "".join(slot.template for slot in slots)
    width = sum(slot.width for slot in slots)
    checks = _checks_of(slots)
    packed = slots[0].view is Coding.HEX
    codec, index = slots[0].codec, taken[0] if taken else 0

    def characters(values: Values) -> bytes:
        # a value that is not text shows longer than it is, so the width gives it away
        joined = (template % picked(values)).encode("ascii")
        if len(joined) != width:
            raise NotPlain
        for cut, allowed in checks:
            if joined[cut].translate(ANY, allowed):
                raise NotPlain
        return unhexlify(joined) if packed else joined

    def octets(values: Values) -> bytes:
        value = values[index]
        if isinstance(value, bytes):
            return value
        raise NotPlain

    match slots[0].view:
        case Coding.ASCII | Coding.HEX:
            return characters
        case _:
            return (lambda values: codec.write(values[index])) if codec else octets


def _checks_of(slots: Iterable[Slot]) -> tuple[Check, ...]:
    stretches, first = Stretches(), 0
    for slot in slots:
        if slot.allowed:
            stretches.add(first, first + slot.width, slot.allowed)
        first += slot.width
    return stretches.checks()
