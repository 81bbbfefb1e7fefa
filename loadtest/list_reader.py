"""A station and the hotlist: fetch the change or all of it, prove it, put it in force, say so."""

from __future__ import annotations

from loadtest.tap_link import NotTaken, TapLink, not_taken
from protocols.errors import DecodeError
from protocols.tap.hotlist import (
    HOTLIST_BYTES_MAX,
    HotlistFile,
    apply,
    chunk_is_intact,
    digest_of,
    read_list,
    whole_bytes,
)
from protocols.tap.words import (
    ListAcknowledge,
    ListAcknowledged,
    ListAnswer,
    ListAsk,
    ListChunk,
    ListChunkAnswer,
)

CHUNK_BYTES = 32_768


async def download(
    link: TapLink, device: str, have: HotlistFile | None = None, *, chunk_bytes: int = CHUNK_BYTES
) -> HotlistFile | None:
    """The newest list, acknowledged; the one that is there already where it is the newest.

    None where the switch has published none. A change that does not lead to what was told is
    dropped and the whole list fetched. Raises NotTaken where that is not right either, and
    LinkLost and NoAnswer.
    """
    have_version = have.version if have is not None else 0
    told = await link.ask(link.next_head(device), ListAsk(have_version))
    if not isinstance(told, ListAnswer):
        raise not_taken(told)
    if told.version == 0:
        return None
    if have is not None and told.version == have.version:
        newest: HotlistFile | None = have
    else:
        newest = await _changed(link, device, have, told, chunk_bytes) if have else None
        newest = newest or await _whole(link, device, told, chunk_bytes)
    acknowledged = await link.ask(
        link.next_head(device), ListAcknowledge(told.version, told.digest)
    )
    if not isinstance(acknowledged, ListAcknowledged) or not acknowledged.accepted:
        raise not_taken(acknowledged)
    return newest


async def _changed(
    link: TapLink, device: str, have: HotlistFile, told: ListAnswer, chunk_bytes: int
) -> HotlistFile | None:
    if told.change_bytes == 0:
        return None
    octets = await _fetch(link, device, told.version, have.version, told.change_bytes, chunk_bytes)
    try:
        newest = apply(have, read_list(octets))
    except DecodeError:
        return None
    return newest if digest_of(whole_bytes(newest)) == told.digest else None


async def _whole(link: TapLink, device: str, told: ListAnswer, chunk_bytes: int) -> HotlistFile:
    octets = await _fetch(link, device, told.version, 0, told.whole_bytes, chunk_bytes)
    if digest_of(octets) != told.digest:
        raise NotTaken("the list is not the one that was told of; ask again")
    try:
        newest = read_list(octets)
    except DecodeError as error:
        raise NotTaken(f"the list cannot be read: {error}") from None
    return newest


async def _fetch(
    link: TapLink, device: str, version: int, from_version: int, total: int, chunk_bytes: int
) -> bytes:
    """All bytes by offset, each piece proven by its CRC; a damaged one is asked for again once."""
    if total > HOTLIST_BYTES_MAX:
        raise NotTaken("the list is longer than lists are; publish it anew")
    pieces: list[bytes] = []
    done, damaged = 0, 0
    while done < total:
        asked = ListChunk(version, from_version, done, min(chunk_bytes, total - done))
        chunk = await link.ask(link.next_head(device), asked)
        if not isinstance(chunk, ListChunkAnswer) or not chunk.octets:
            raise not_taken(chunk)
        if not chunk_is_intact(chunk):
            damaged += 1
            if damaged > 1:
                raise NotTaken("the pieces arrive damaged; check the line")
            continue
        pieces.append(chunk.octets)
        done += len(chunk.octets)
    return b"".join(pieces)
