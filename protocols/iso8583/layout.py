"""Where every field of a message stands, worked out once for each set of lengths met.

A link sends the same few shapes in the same few lengths all day, so what is left to do for
a message is one check of each stretch of like characters and one cut for each field. A
layout takes only the good case: whatever it does not like is read or written again field by
field by the twins of `encoding`, whose judgement and sentences are the only ones. Here is
what `reading` and `writing` share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from protocols.iso8583.spec import Coding, Field, FieldType

Check = tuple[slice, bytes]
"""A stretch, and the characters that may stand there."""

LAYOUTS_MAX = 2_048
"""Layouts remembered per format and direction. A link uses some dozens."""
MISSES_MAX = 50_000
"""Messages without a layout, once there are LAYOUTS_MAX, before all are forgotten."""


class Room:
    """Whether one more layout may be made.

    Making one takes as long as reading ten messages field by field. Lengths that are ever
    new must not cost that each time, so in a full memory messages do without, and only
    after many of them all is forgotten, for the sake of the lengths in use now.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        self._forget = forget
        self._made = self._missed = 0

    def take(self) -> bool:
        if self._made < LAYOUTS_MAX:
            self._made += 1
            return True
        self._missed += 1
        if self._missed >= MISSES_MAX:
            self._made = self._missed = 0
            self._forget()
        return False


class Stretches:
    """Neighbouring characters of one set, collected so that one check does for many fields."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int, bytes]] = []

    def add(self, first: int, last: int, allowed: bytes) -> None:
        if first == last:
            return
        if self._found and self._found[-1][1:] == (first, allowed):
            first = self._found.pop()[0]
        self._found.append((first, last, allowed))

    def checks(self) -> tuple[Check, ...]:
        return tuple((slice(first, last), allowed) for first, last, allowed in self._found)


def is_single(field: Field) -> bool:
    """True of what is too rare to be cut from the whole: its twins read and write it."""
    return field.coding is Coding.HEX or field.type is FieldType.XN


def picking(indices: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Picks items of a sequence by index, in one call however many they are."""
    first = indices[0] if indices else 0
    stop = first + len(indices)
    if list(indices) == list(range(first, stop)):
        return itemgetter(slice(first, stop))
    return itemgetter(*indices)
