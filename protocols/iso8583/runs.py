"""Neighbouring fixed fields of one kind, read and written in one go.

A sale starts with a dozen fixed numeric fields in a row. Cutting a run into fields after
one check of the whole is several times cheaper than a check for each. A run only ever
takes the good case: whatever it does not like goes to the fields' own twins, whose
judgement and sentences are the only ones.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import itemgetter

from protocols.iso8583.characters import ACCEPTS, Accepts, is_digits
from protocols.iso8583.encoding import FieldCodec, Fields, Read
from protocols.iso8583.message import FieldValue
from protocols.iso8583.spec import Coding, Field, FieldType, Padding

WriteFrom = Callable[[Fields], bytes]
"""Fields of a message → the bytes of one or several of them. Raises EncodeError."""

_RUNNABLE: dict[tuple[Coding, FieldType], Coding] = {
    (Coding.ASCII, FieldType.N): Coding.ASCII,
    (Coding.ASCII, FieldType.AN): Coding.ASCII,
    (Coding.ASCII, FieldType.ANS): Coding.ASCII,
    (Coding.BCD, FieldType.N): Coding.BCD,
}


def readers(codecs: Iterable[FieldCodec]) -> tuple[Read, ...]:
    """The fewest readers that read these fields in this order."""
    steps: list[Read] = []
    for runnable, group in groupby(codecs, key=_kind):
        run = list(group)
        if runnable is None or len(run) == 1:
            steps.extend(codec.read for codec in run)
        else:
            steps.append(_run_reader(run))
    return tuple(steps)


def writers(codecs: Iterable[FieldCodec]) -> tuple[WriteFrom, ...]:
    """The fewest writers that write these fields in this order."""
    steps: list[WriteFrom] = []
    for runnable, group in groupby(codecs, key=_kind):
        run = list(group)
        if runnable is None or len(run) == 1:
            steps.extend(_one_writer(codec) for codec in run)
        else:
            steps.append(_run_writer(run))
    return tuple(steps)


def _kind(codec: FieldCodec) -> Coding | None:
    """What a field may be in a run with; None for one that always stands alone."""
    field = codec.field
    return _RUNNABLE.get((field.coding, field.type)) if field.fixed else None


def _one_writer(codec: FieldCodec) -> WriteFrom:
    number, write = codec.field.number, codec.write

    def write_one(fields: Fields) -> bytes:
        return write(fields[number])

    return write_one


def _cuts(run: list[FieldCodec]) -> tuple[list[tuple[int, int, int]], list[int], int]:
    """(number, first, last) of each field inside the run, where pads stand, and the width."""
    cuts: list[tuple[int, int, int]] = []
    pads: list[int] = []
    position = 0
    for codec in run:
        field = codec.field
        left = right = 0
        if _padded(field):
            left, right = (1, 0) if field.padding is Padding.LEFT else (0, 1)
        first = position + left
        last = first + field.length_max
        cuts.append((field.number, first, last))
        position = last + right
        if left or right:
            pads.append(first - 1 if left else last)
    return cuts, pads, position


def _padded(field: Field) -> bool:
    return field.coding is Coding.BCD and field.length_max % 2 == 1


def _pieces(run: list[FieldCodec]) -> list[tuple[int, int, Accepts]]:
    """(first, last, check) of each stretch of the run whose fields are of one type."""
    pieces: list[tuple[int, int, Accepts]] = []
    position = 0
    for field_type, group in groupby(run, key=lambda codec: codec.field.type):
        last = position + sum(codec.field.length_max for codec in group)
        pieces.append(
            (position, last, is_digits if field_type is FieldType.N else ACCEPTS[field_type])
        )
        position = last
    return pieces


def _run_reader(run: list[FieldCodec]) -> Read:
    cuts, pads, width = _cuts(run)
    octets = width // 2

    def read_each(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        for codec in run:
            offset = codec.read(message, text, digits, fields, offset)
        return offset

    def read_packed(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        end = offset + octets
        segment = digits[offset * 2 : end * 2]
        if len(segment) != width or not segment.encode().isdigit():
            return read_each(message, text, digits, fields, offset)
        for pad in pads:
            if segment[pad] != "0":
                return read_each(message, text, digits, fields, offset)
        for number, first, last in cuts:
            fields[number] = segment[first:last]
        return end

    if run[0].field.coding is Coding.BCD:
        return read_packed
    pieces = _pieces(run)

    def read_text(message: bytes, text: str, digits: str, fields: Fields, offset: int) -> int:
        end = offset + width
        segment = text[offset:end]
        if len(segment) != width:
            return read_each(message, text, digits, fields, offset)
        for first, last, accepts in pieces:
            if not accepts(segment[first:last]):
                return read_each(message, text, digits, fields, offset)
        for number, first, last in cuts:
            fields[number] = segment[first:last]
        return end

    return read_text


def _run_writer(run: list[FieldCodec]) -> WriteFrom:
    lengths = tuple(codec.field.length_max for codec in run)
    values_of: Callable[[Fields], tuple[FieldValue, ...]] = itemgetter(
        *(codec.field.number for codec in run)
    )
    template = "".join(_slot(codec.field) for codec in run)
    _, _, width = _cuts(run)

    def joined_of(fields: Fields) -> str:
        """All values in a row; empty if one of them is not of its length."""
        values = values_of(fields)
        if tuple(map(len, values)) == lengths:
            joined = template % values
            # a value that is not text shows longer than it is, so the width gives it away
            if len(joined) == width and joined.isascii():
                return joined
        return ""

    def write_each(fields: Fields) -> bytes:
        return b"".join([codec.write(fields[codec.field.number]) for codec in run])

    def write_packed(fields: Fields) -> bytes:
        octets = joined_of(fields).encode("ascii")
        return unhexlify(octets) if octets.isdigit() else write_each(fields)

    if run[0].field.coding is Coding.BCD:
        return write_packed
    pieces = _pieces(run)

    def write_text(fields: Fields) -> bytes:
        joined = joined_of(fields)
        if not joined:
            return write_each(fields)
        for first, last, accepts in pieces:
            if not accepts(joined[first:last]):
                return write_each(fields)
        return joined.encode("ascii")

    return write_text


def _slot(field: Field) -> str:
    if not _padded(field):
        return "%s"
    return "0%s" if field.padding is Padding.LEFT else "%s0"
