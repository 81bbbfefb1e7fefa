"""A body of a frame as data: its fields in order, read and written by the same table.

A `Kind` says how one field travels, a `Layout` puts fields in order, a `Tail` is what may
follow them in any number. All integers are unsigned and big-endian where nothing else is
said, all texts are ASCII, padded with spaces on the right to their width, so every value
has one spelling and every accepted spelling one value.
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from protocols.errors import DecodeError, EncodeError

INSTANT_MS_MAX = 7_258_118_400_000
"""The year 2200 in epoch milliseconds: a later clock is no clock, and no calendar overflows."""
SIGNED_8_MAX = (1 << 63) - 1
"""The most that a ledger's bigint holds."""

Words = TypeVar("Words", bound=msgspec.Struct)


class Kind(msgspec.Struct, frozen=True):
    """How one field travels: a code of `struct`, and what turns that into the value and back.

    `rule` ends the sentence "the field is not …". `read` and `write` raise ValueError for
    what breaks the rule; None where struct alone knows it.
    """

    code: str
    rule: str
    read: Callable[[Any], Any] | None = None
    write: Callable[[Any], Any] | None = None


class Tail(Protocol):
    """What follows the fields, to the end of the body."""

    def read(self, octets: bytes, offset: int, path: str) -> object:
        """The value that begins at offset and ends where the octets do; raises DecodeError."""

    def write(self, value: Any, path: str) -> bytes:
        """The twin of `read`; raises EncodeError."""


class Layout(Generic[Words]):
    """The fields of a fixed size, then perhaps a tail; each is an attribute of the words."""

    def __init__(
        self,
        words: type[Words],
        fields: Mapping[str, Kind],
        tail: tuple[str, Tail] | None = None,
    ) -> None:
        self.words = words
        self.fields = dict(fields)
        self.tail = tail
        names = [*self.fields, *((tail[0],) if tail else ())]
        if sorted(names) != sorted(words.__struct_fields__):
            raise ValueError(f"the layout of {words.__name__} does not have just its attributes")
        self._struct = struct.Struct(">" + "".join(kind.code for kind in fields.values()))
        self._readers = _hooks(kind.read for kind in fields.values())
        self._writers = _hooks(kind.write for kind in fields.values())
        in_order = tuple(words.__struct_fields__)
        # where in the order of the wire each argument of the words stands
        self._order = None if tuple(names) == in_order else [names.index(n) for n in in_order]
        self._values = _getter(list(self.fields))

    @property
    def size(self) -> int:
        """Bytes of the fields, without a tail."""
        return self._struct.size

    def read(self, octets: bytes, offset: int = 0, *, end: int | None = None, at: int = 0) -> Words:
        """The words that stand at `offset`, to `end` or the end of the octets.

        Raises DecodeError; `at` is what its offset adds: where the octets begin themselves.
        """
        stop = len(octets) if end is None else end
        past = offset + self._struct.size
        if past > stop:
            raise self._cut_off(stop - offset, at + stop)
        values: list[Any] = list(self._struct.unpack_from(octets, offset))
        place = 0
        try:
            for place, read in self._readers:
                values[place] = read(values[place])
        except ValueError:
            raise self._wrong(place, at + offset) from None
        if self.tail is not None:
            name, tail = self.tail
            try:
                values.append(tail.read(octets[past:stop], 0, name))
            except DecodeError as error:
                raise DecodeError(
                    error.reason, field_path=error.field_path, offset=at + past + error.offset
                ) from None
        elif past != stop:
            raise DecodeError(
                f"{stop - past} bytes follow the last field; leave them out",
                field_path="body",
                offset=at + past,
            )
        if self._order is not None:
            values = [values[place] for place in self._order]
        return self.words(*values)

    def write(self, words: Words) -> bytes:
        """The bytes of the words. Raises EncodeError for what the format cannot carry."""
        values = list(self._values(words))
        try:
            for place, write in self._writers:
                values[place] = write(values[place])
            octets = self._struct.pack(*values)
        except (ValueError, TypeError, struct.error, AttributeError):
            raise self._unfit(words) from None
        if self.tail is not None:
            name, tail = self.tail
            octets += tail.write(getattr(words, name), name)
        return octets

    def offset_of(self, name: str) -> int:
        """Where a field begins."""
        before = list(self.fields)[: list(self.fields).index(name)]
        return struct.calcsize(">" + "".join(self.fields[each].code for each in before))

    def _wrong(self, place: int, start: int) -> DecodeError:
        name = list(self.fields)[place]
        return DecodeError(
            f"it is not {self.fields[name].rule}; send it so",
            field_path=name,
            offset=start + self.offset_of(name),
        )

    def _cut_off(self, available: int, at: int) -> DecodeError:
        """The first field that is not whole."""
        ends = ((name, self.offset_of(name) + struct.calcsize(">" + kind.code))
                for name, kind in self.fields.items())  # fmt: skip
        name = next(name for name, end in ends if end > available)
        return DecodeError("the body ends before it does; send all of it", field_path=name,
                           offset=at)  # fmt: skip

    def _unfit(self, words: Words) -> EncodeError:
        """Which field it was: each by itself, as only the one who is told needs to know."""
        for name, kind in self.fields.items():
            value = getattr(words, name)
            try:
                struct.pack(">" + kind.code, kind.write(value) if kind.write else value)
            except (ValueError, TypeError, struct.error, AttributeError):
                return EncodeError(f"it is not {kind.rule}; give one", field_path=name, offset=0)
        raise AssertionError("each field fits by itself and all together do not")


def _getter(names: list[str]) -> Callable[[object], Iterable[Any]]:
    """All of these attributes; attrgetter has a form of its own for a single one."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda words: [getattr(words, name) for name in names]


def _hooks(all_of: Iterable[Callable[[Any], Any] | None]) -> list[tuple[int, Callable[[Any], Any]]]:
    return [(place, hook) for place, hook in enumerate(all_of) if hook is not None]


# ---- kinds


def number(octets: int) -> Kind:
    """An integer of 1, 2, 4 or 8 bytes; of 8 only what a signed one holds too.

    Rules never print a bound: no error has a run of digits that could be a card number.
    """
    code = {1: "B", 2: "H", 4: "I", 8: "q"}[octets]
    rule = f"a whole number of {octets} bytes"
    return _bounded(code, 0, SIGNED_8_MAX, rule) if octets == 8 else Kind(code, rule)


def signed(octets: int) -> Kind:
    """An integer of 4 or 8 bytes, two's complement."""
    return Kind({4: "i", 8: "q"}[octets], f"a signed number of {octets} bytes")


def _bounded(code: str, least: int, most: int, rule: str) -> Kind:
    def checked(value: int) -> int:
        if not least <= value <= most:
            raise ValueError
        return value

    return Kind(code, rule, checked, checked)


INSTANT_MS = _bounded("q", 0, INSTANT_MS_MAX, "an instant from 1970 to 2200 in milliseconds")


def octets(width: int) -> Kind:
    """Exactly so many bytes."""

    def sized(value: bytes) -> bytes:
        # struct would pad or cut in silence
        if len(value) != width:
            raise ValueError
        return bytes(value)

    return Kind(f"{width}s", f"{width} bytes", None, sized)


def text(width: int, pattern: str, rule: str) -> Kind:
    """Text that the pattern matches whole; it must not match one with a space at its end."""
    matches = re.compile(pattern.encode("ascii")).fullmatch

    # a city has few lines and stops, and they come again and again
    @functools.lru_cache(maxsize=4_096)
    def read(raw: bytes) -> str:
        stripped = raw.rstrip(b" ")
        if matches(stripped) is None:
            raise ValueError
        return stripped.decode("ascii")

    @functools.lru_cache(maxsize=4_096)
    def write(value: str) -> bytes:
        raw = value.encode("ascii")
        if len(raw) > width or matches(raw) is None:
            raise ValueError
        return raw.ljust(width, b" ")

    return Kind(f"{width}s", rule, read, write)


def code(width: int) -> Kind:
    """A line, a stop, a vehicle: letters, digits and -, or empty."""
    return text(width, r"[A-Za-z0-9-]*", f"at most {width} letters, digits and -")


def one_of(values: Mapping[Any, int]) -> Kind:
    """A value that is a byte on the wire."""
    by_number = {byte: value for value, byte in values.items()}

    def read(raw: int) -> Any:
        try:
            return by_number[raw]
        except KeyError:
            raise ValueError from None

    def write(value: Any) -> int:
        try:
            return values[value]
        except KeyError:
            raise ValueError from None

    return Kind("B", f"one of {', '.join(map(str, sorted(by_number)))}", read, write)


YES_OR_NO = one_of({False: 0, True: 1})
RESPONSE_CODE = text(2, r"[0-9A-Z]{2}", "the two characters of DE39")


# ---- tails


class Rest:
    """All that follows, as bytes, up to a limit."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max

    def read(self, octets: bytes, offset: int, path: str) -> bytes:
        if len(octets) - offset > self.bytes_max:
            raise DecodeError(
                f"it is over {self.bytes_max} bytes; ask for less", field_path=path, offset=offset
            )
        return octets[offset:]

    def write(self, value: bytes, path: str) -> bytes:
        if len(value) > self.bytes_max:
            raise EncodeError(
                f"it is over {self.bytes_max} bytes; send less", field_path=path, offset=0
            )
        return value


class Each(Generic[Words]):
    """A count of two bytes, then so many of the same layout, up to a limit."""

    def __init__(self, layout: Layout[Words], count_max: int) -> None:
        self.layout = layout
        self.count_max = count_max

    def read(self, octets: bytes, offset: int, path: str) -> tuple[Words, ...]:
        if len(octets) - offset < 2:
            raise DecodeError(
                "the body ends before its count does; send all of it",
                field_path=path,
                offset=len(octets),
            )
        count = int.from_bytes(octets[offset : offset + 2], "big")
        first, size = offset + 2, self.layout.size
        if count > self.count_max:
            raise DecodeError(
                f"the count is over {self.count_max}; send fewer", field_path=path, offset=offset
            )
        if len(octets) - first != count * size:
            raise DecodeError(
                f"{count} of {size} bytes each do not fill the body; send as many as are told",
                field_path=path,
                offset=offset,
            )
        return tuple(
            self._one(octets, first + place * size, f"{path}[{place}]") for place in range(count)
        )

    def _one(self, octets: bytes, offset: int, path: str) -> Words:
        try:
            return self.layout.read(octets, offset, end=offset + self.layout.size)
        except DecodeError as error:
            raise DecodeError(
                error.reason, field_path=f"{path}.{error.field_path}", offset=error.offset
            ) from None

    def write(self, value: tuple[Words, ...], path: str) -> bytes:
        if len(value) > self.count_max:
            raise EncodeError(
                f"there are over {self.count_max}; send fewer", field_path=path, offset=0
            )
        pieces = [len(value).to_bytes(2, "big")]
        for place, one in enumerate(value):
            try:
                pieces.append(self.layout.write(one))
            except EncodeError as error:
                raise EncodeError(
                    error.reason, field_path=f"{path}[{place}].{error.field_path}", offset=0
                ) from None
        return b"".join(pieces)
