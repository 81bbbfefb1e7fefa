"""The hotlist as readers download it: all of its bytes are proven before one of them is used.

    magic "CCHL" | format 1 | form 1 | version 4 | from version 4 | count 4 | entries | SHA-256 32

A whole list (form 1, from version 0) has entries of 16 bytes: mediums, rising. A change
(form 2) has entries of 17 bytes: 1 (added) or 2 (removed), then the medium, by which they
rise. The SHA-256 is of all bytes before it. Gates of a whole city once opened because a
list of one particular length was read half (domain §11.3): here a list is read whole or
refused, and a reader that refuses one keeps the list that it has.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise

import msgspec

from protocols.errors import DecodeError, EncodeError
from protocols.tap.words import DIGEST_BYTES, MEDIUM_BYTES, ListChunkAnswer

HOTLIST_ENTRIES_MAX = 1_000_000
"""In 16 MB: more than a city ever lists, and what a reader has memory for."""
MAGIC = b"CCHL"
FORMAT_VERSION = 1
WHOLE, CHANGE = 1, 2
ADDED, REMOVED = 1, 2
VERSION_MAX = (1 << 32) - 1

_HEADER = struct.Struct(">4sBBIII")
HEADER_BYTES = _HEADER.size
CHANGE_ENTRY_BYTES = 1 + MEDIUM_BYTES
HOTLIST_BYTES_MAX = HEADER_BYTES + HOTLIST_ENTRIES_MAX * CHANGE_ENTRY_BYTES + DIGEST_BYTES


class HotlistFile(msgspec.Struct, frozen=True, gc=False):
    """A list that was read whole, or a change from `from_version` (0: it is a whole list).

    `added` are the mediums on the list, or that come onto it, and `removed` those that leave
    it: each 16 bytes after the other, rising.
    """

    version: int
    from_version: int
    added: bytes
    removed: bytes = b""

    def __repr__(self) -> str:
        return f"HotlistFile(version={self.version}, from_version={self.from_version})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # mediums name cards
        return [("version", self.version), ("from_version", self.from_version)]

    @property
    def count(self) -> int:
        """How many mediums are listed, or change."""
        return (len(self.added) + len(self.removed)) // MEDIUM_BYTES

    def lists(self, medium: bytes) -> bool:
        """Whether a medium is on the list (or added by the change): a search by halves."""
        low, high = 0, len(self.added) // MEDIUM_BYTES
        while low < high:
            middle = (low + high) // 2
            if self.added[middle * MEDIUM_BYTES : (middle + 1) * MEDIUM_BYTES] < medium:
                low = middle + 1
            else:
                high = middle
        return self.added[low * MEDIUM_BYTES : (low + 1) * MEDIUM_BYTES] == medium


def whole(version: int, mediums: Iterable[bytes]) -> bytes:
    """The bytes of a whole list. Raises EncodeError; an order or repeats do not matter."""
    entries = sorted(set(mediums))
    _refuse(entries, "mediums")
    return _list(WHOLE, version, 0, len(entries), b"".join(entries))


def change(
    version: int, from_version: int, added: Iterable[bytes], removed: Iterable[bytes]
) -> bytes:
    """The bytes of the change from one version to a later one. Raises EncodeError."""
    coming, leaving = set(added), set(removed)
    if not 0 < from_version < version:
        raise EncodeError(
            "a change leads from an earlier version, 1 or more; name one",
            field_path="from_version",
            offset=0,
        )
    if coming & leaving:
        raise EncodeError(
            "a medium is both added and removed; decide for one", field_path="removed", offset=0
        )
    action = dict.fromkeys(coming, ADDED) | dict.fromkeys(leaving, REMOVED)
    entries = sorted(action)
    _refuse(entries, "mediums")
    body = b"".join(bytes([action[medium]]) + medium for medium in entries)
    return _list(CHANGE, version, from_version, len(entries), body)


def _refuse(entries: list[bytes], path: str) -> None:
    if len(entries) > HOTLIST_ENTRIES_MAX:
        raise EncodeError(
            f"there are over {HOTLIST_ENTRIES_MAX}; list fewer", field_path=path, offset=0
        )
    if any(len(medium) != MEDIUM_BYTES for medium in entries):
        raise EncodeError(
            f"a medium has {MEDIUM_BYTES} bytes; give such", field_path=path, offset=0
        )


def _list(form: int, version: int, from_version: int, count: int, entries: bytes) -> bytes:
    if not 0 < version <= VERSION_MAX:
        raise EncodeError(
            f"a version is a number from 1 to {VERSION_MAX}; give one",
            field_path="version",
            offset=0,
        )
    header = _HEADER.pack(MAGIC, FORMAT_VERSION, form, version, from_version, count)
    proven = header + entries
    return proven + hashlib.sha256(proven).digest()


def digest_of(octets: bytes) -> bytes:
    """What a list is known by (32 bytes): the SHA-256 of all its bytes, its own proof too."""
    return hashlib.sha256(octets).digest()


def read_list(octets: bytes) -> HotlistFile:
    """The list, or the change, that these bytes are. Raises DecodeError for anything else."""
    if len(octets) < HEADER_BYTES + DIGEST_BYTES:
        raise _refused(
            "it is shorter than header and digest; download all of it", "length", len(octets)
        )
    magic, format_version, form, version, from_version, count = _HEADER.unpack_from(octets)
    if magic != MAGIC:
        raise _refused("it is not a hotlist; download one", "magic", 0)
    if format_version != FORMAT_VERSION:
        raise _refused(f"only format {FORMAT_VERSION} is read here; download that", "format", 4)
    if form not in (WHOLE, CHANGE):
        raise _refused("it is not 1 (whole) or 2 (change); download it anew", "form", 5)
    if version == 0 or (form == WHOLE) != (from_version == 0) or from_version >= version:
        raise _refused("the versions contradict each other; download it anew", "version", 6)
    if count > HOTLIST_ENTRIES_MAX:
        raise _refused(f"it is over {HOTLIST_ENTRIES_MAX}; list fewer", "count", 14)
    width = MEDIUM_BYTES if form == WHOLE else CHANGE_ENTRY_BYTES
    end = HEADER_BYTES + count * width
    if len(octets) != end + DIGEST_BYTES:
        raise _refused("the entries do not fill it; download it anew", "count", 14)
    if not hmac.compare_digest(hashlib.sha256(octets[:end]).digest(), octets[end:]):
        raise _refused("the bytes are not those that it proves; download it anew", "sha256", end)
    if form == WHOLE:
        return HotlistFile(version, 0, _rising(octets[HEADER_BYTES:end], MEDIUM_BYTES))
    return _read_change(octets[HEADER_BYTES:end], version, from_version)


def _read_change(entries: bytes, version: int, from_version: int) -> HotlistFile:
    split: dict[int, list[bytes]] = {ADDED: [], REMOVED: []}
    mediums = []
    for at in range(0, len(entries), CHANGE_ENTRY_BYTES):
        medium = entries[at + 1 : at + CHANGE_ENTRY_BYTES]
        if entries[at] not in split:
            raise _refused(
                "it is not 1 (added) or 2 (removed); download it anew",
                f"entries[{at // CHANGE_ENTRY_BYTES}]",
                HEADER_BYTES + at,
            )
        split[entries[at]].append(medium)
        mediums.append(medium)
    _rising(b"".join(mediums), CHANGE_ENTRY_BYTES)
    return HotlistFile(version, from_version, b"".join(split[ADDED]), b"".join(split[REMOVED]))


def _rising(mediums: bytes, width: int) -> bytes:
    """The mediums, which must rise; `width` is an entry's where they came from."""
    for place, (one, after) in enumerate(pairwise(_each(mediums))):
        if one >= after:
            raise _refused(
                "it does not come after the one before it; sort them, each once",
                f"entries[{place + 1}]",
                HEADER_BYTES + (place + 1) * width,
            )
    return mediums


def _each(mediums: bytes) -> Iterator[bytes]:
    for at in range(0, len(mediums), MEDIUM_BYTES):
        yield mediums[at : at + MEDIUM_BYTES]


def apply(old: HotlistFile, changed: HotlistFile) -> HotlistFile:
    """The whole list after a change. Raises DecodeError where the one is not made for the other.

    Whoever gets that downloads the whole list; what it has stays in force until then. The
    digest of `whole_bytes(…)` must be the one that was told for the new version.
    """
    if old.from_version != 0:
        raise _refused("the old one is a change; keep whole lists", "old", 0)
    if changed.from_version == 0:
        raise _refused("it is a whole list; use it as it is", "from_version", 10)
    if changed.from_version != old.version:
        raise _refused(
            "it is the change from another version; download the whole list", "from_version", 10
        )
    listed = set(_each(old.added))
    coming, leaving = set(_each(changed.added)), set(_each(changed.removed))
    if coming & listed or not leaving <= listed:
        raise _refused(
            "it does not fit the list it changes; download the whole list", "entries", HEADER_BYTES
        )
    after = sorted((listed - leaving) | coming)
    if len(after) > HOTLIST_ENTRIES_MAX:
        raise _refused(f"the list would be over {HOTLIST_ENTRIES_MAX}; list fewer", "count", 14)
    return HotlistFile(changed.version, 0, b"".join(after))


def whole_bytes(file: HotlistFile) -> bytes:
    """The bytes of a whole list, as `whole` writes them. Raises EncodeError for a change."""
    if file.from_version != 0:
        raise EncodeError("it is a change; apply it first", field_path="from_version", offset=0)
    return _list(WHOLE, file.version, 0, file.count, file.added)


def chunk_of(
    octets: bytes, version: int, from_version: int, offset: int, length: int
) -> ListChunkAnswer:
    """A piece of a list's bytes with its CRC-32, cut short, or empty, where the list ends."""
    piece = octets[offset : offset + length]
    return ListChunkAnswer(version, from_version, offset, piece, zlib.crc32(piece))


def chunk_is_intact(chunk: ListChunkAnswer) -> bool:
    """Whether the CRC-32 of a piece is that of its bytes."""
    return zlib.crc32(chunk.octets) == chunk.crc32


def _refused(reason: str, path: str, offset: int) -> DecodeError:
    return DecodeError(reason, field_path=f"hotlist.{path}", offset=offset)
