"""BER-TLV: the tags of a chip inside DE55 (EMV Book 3, annex B).

Only the outermost elements are taken apart; what a constructed tag holds stays as bytes,
to be parsed again where someone needs it.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from protocols.errors import DecodeError, EncodeError

ELEMENTS_MAX = 64
"""A sale carries about twenty; 64 is all that 255 bytes can reasonably hold."""
VALUE_BYTES_MAX = 65_535
"""A length in long form has at most two bytes here."""
TAG_BYTES_MAX = 3


class Element(msgspec.Struct, frozen=True, gc=False):
    """One data object: `tag` in capital hexadecimal (`9F02`), `value` as it stands."""

    tag: str
    value: bytes

    def __repr__(self) -> str:
        return f"Element(tag={self.tag[:6]!r}, value={len(self.value)} bytes)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("tag", self.tag[:6]), ("value_bytes", len(self.value))]


def parse(octets: bytes, *, path: str = "DE55") -> tuple[Element, ...]:
    """The elements in order; a tag may occur more than once (issuer scripts do).

    Raises DecodeError whose field path is `DE55` or `DE55.<tag>` and whose offset counts
    from the first byte given.
    """
    elements: list[Element] = []
    offset = 0
    while offset < len(octets):
        if len(elements) == ELEMENTS_MAX:
            raise DecodeError(
                f"there are more than {ELEMENTS_MAX} tags; send fewer",
                field_path=path,
                offset=offset,
            )
        tag, start = _read_tag(octets, offset, path)
        length, start = _read_length(octets, start, f"{path}.{tag}")
        end = start + length
        if end > len(octets):
            raise DecodeError(
                "the value ends before its length says; correct the length",
                field_path=f"{path}.{tag}",
                offset=start,
            )
        elements.append(Element(tag, octets[start:end]))
        offset = end
    return tuple(elements)


def build(elements: Iterable[Element], *, path: str = "DE55") -> bytes:
    """The bytes of the elements, each length in its shortest form. Raises EncodeError."""
    parts: list[bytes] = []
    for element in elements:
        if len(parts) == ELEMENTS_MAX:
            raise EncodeError(
                f"there are more than {ELEMENTS_MAX} tags; write fewer", field_path=path, offset=0
            )
        parts.append(_written_tag(element.tag, path) + _written_length(element, path))
        parts[-1] += element.value
    return b"".join(parts)


def value_of(elements: Iterable[Element], tag: str) -> bytes | None:
    """The value of the first element with this tag, or None."""
    return next((element.value for element in elements if element.tag == tag), None)


def _read_tag(octets: bytes, offset: int, path: str) -> tuple[str, int]:
    # all five low bits set: further bytes follow, each but the last with its high bit set
    end = offset + 1
    if octets[offset] & 0x1F == 0x1F:
        while True:
            if end == len(octets) or end - offset == TAG_BYTES_MAX:
                raise DecodeError(
                    f"the tag does not end within {TAG_BYTES_MAX} bytes; send a whole tag",
                    field_path=path,
                    offset=offset,
                )
            end += 1
            if not octets[end - 1] & 0x80:
                break
    return octets[offset:end].hex().upper(), end


def _read_length(octets: bytes, offset: int, path: str) -> tuple[int, int]:
    first = octets[offset : offset + 1]
    if not first:
        raise DecodeError(
            "the length is missing; send it after the tag", field_path=path, offset=offset
        )
    if first[0] < 0x80:
        return first[0], offset + 1
    width = first[0] & 0x7F
    if width not in (1, 2):
        raise DecodeError(
            "the length has neither one nor two bytes in long form; send it in 81 or 82 form",
            field_path=path,
            offset=offset,
        )
    end = offset + 1 + width
    if end > len(octets):
        raise DecodeError("the length is cut off; send all of it", field_path=path, offset=offset)
    return int.from_bytes(octets[offset + 1 : end], "big"), end


def _written_tag(tag: str, path: str) -> bytes:
    octets = b""
    if not tag.strip("0123456789ABCDEF") and len(tag) in (2, 4, 6):
        octets = bytes.fromhex(tag)
    try:
        if octets and _read_tag(octets, 0, path)[1] == len(octets):
            return octets
    except DecodeError:
        pass  # it says to a sender what the sentence below says to us
    raise EncodeError(
        f"a tag is not one of 1 to {TAG_BYTES_MAX} whole bytes in capital hexadecimal; correct it",
        field_path=path,
        offset=0,
    )


def _written_length(element: Element, path: str) -> bytes:
    length = len(element.value)
    if length < 0x80:
        return bytes((length,))
    if length < 0x100:
        return bytes((0x81, length))
    if length <= VALUE_BYTES_MAX:
        return b"\x82" + length.to_bytes(2, "big")
    raise EncodeError(
        f"the value is longer than {VALUE_BYTES_MAX} bytes; shorten it",
        field_path=f"{path}.{element.tag}",
        offset=0,
    )
