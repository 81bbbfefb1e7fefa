"""The readers' hotlist on its way out: which there is, its bytes piece by piece, who has it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Protocol

from protocols.tap.formats import CHUNK_BYTES_MAX
from protocols.tap.words import DIGEST_BYTES, ListAnswer, ListAsk, ListChunk, ListChunkAnswer


class PublishedList(Protocol):
    """One published version: its whole bytes, their SHA-256, and changes by version before."""

    @property
    def version(self) -> int: ...
    @property
    def octets(self) -> bytes: ...
    @property
    def digest(self) -> bytes: ...
    @property
    def changes(self) -> Mapping[int, bytes]: ...


class Hotlists(Protocol):
    """The published hotlists, followed by each worker; see switch/ledger/hotlist.py."""

    def newest(self) -> PublishedList | None:
        """The newest version; None before the first."""
        ...

    def at(self, version: int) -> PublishedList | None:
        """A version that is still handed out: the newest or the one before it."""
        ...

    async def acknowledge(self, acquirer: str, version: int, digest: bytes) -> bool:
        """Write down that all readers of an acquirer have a version; False if that is not
        proven, or cannot be written now. Raises nothing for a ledger that is away."""
        ...


def version_of(lists: Hotlists | None) -> int:
    """The newest version, 0 where there is none."""
    newest = None if lists is None else lists.newest()
    return 0 if newest is None else newest.version


def answer_ask(lists: Hotlists | None, said: ListAsk) -> ListAnswer:
    """Which hotlist there is; version 0 and no bytes where there is none."""
    newest = None if lists is None else lists.newest()
    if newest is None:
        return ListAnswer(0, 0, 0, bytes(DIGEST_BYTES))
    change = newest.changes.get(said.have_version, b"") if said.have_version else b""
    return ListAnswer(newest.version, len(newest.octets), len(change), newest.digest)


def answer_chunk(lists: Hotlists | None, said: ListChunk) -> ListChunkAnswer:
    """The bytes at a place of a list; empty for one that is not handed out, or past the end.

    Who finds nothing, because newer versions were published meanwhile, asks which there is.
    """
    published = None if lists is None else lists.at(said.version)
    octets = b""
    if published is not None:
        from_version = said.from_version
        octets = published.changes.get(from_version, b"") if from_version else published.octets
    piece = octets[said.offset : said.offset + min(said.length, CHUNK_BYTES_MAX)]
    return ListChunkAnswer(said.version, said.from_version, said.offset, piece, zlib.crc32(piece))
