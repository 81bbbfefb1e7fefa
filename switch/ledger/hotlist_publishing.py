"""A new version of the hotlist: made, read back with the readers' own code, then published.

One list of a particular length once opened the gates of a whole city (domain §11.3), so
nothing is visible before the whole list has been read, and each change applied to the version
it starts from, by the code that readers run, and both came to the same bytes. A version that
adds or takes away too large a share of the list wants a person who says that it is meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio.to_thread
import msgspec

from protocols.tap import hotlist as reader
from switch.ledger import hotlist_entries, sql
from switch.ledger.bridge import Connection
from switch.ledger.migrate import transaction

CHANGES_KEPT = 4
"""Changes are made from so many versions back; readers that are older take the whole list."""
VERSIONS_KEPT = 2
"""Versions whose bytes stay, for readers that are half through the one before."""
SHARE_PERCENT_MAX = 20
FREE_ENTRIES = 100
"""So many may come or go at once however short the list is."""
EXPIRY_AUTHOR = "expiry"

_LOCK = "hotlist"
_QUERIES = sql.queries("hotlist.sql")


class HotlistJumps(ValueError):
    """A version would change too much of the list at once; nothing was published."""

    def __init__(self, added: int, removed: int, entries_before: int, share_percent: int) -> None:
        super().__init__(
            f"this version would add {added} and take away {removed} of {entries_before} entries, "
            f"more than {share_percent} percent of the list; look at it with hotlist list, and "
            "publish with --force if it is meant"
        )


class HotlistUnproven(RuntimeError):
    """The readers' code does not read what was made; nothing was published, report it."""

    def __init__(self, version: int) -> None:
        super().__init__(
            f"hotlist version {version} does not come out as its entries when readers read it; "
            "nothing was published, report this"
        )


class Version(msgspec.Struct, frozen=True):
    """A published version as it is written down."""

    version: int
    published_at: datetime
    author: str
    entries: int
    added: int
    removed: int
    digest: bytes


class Finding(msgspec.Struct, frozen=True):
    """Something about the published list that is not as it must be."""

    sentence: str


def proven_octets(
    version: int, mediums: Sequence[bytes], before: Mapping[int, Sequence[bytes]]
) -> dict[int, bytes]:
    """The bytes of a version by the version they start from (0: the whole list).

    `before` are the mediums of earlier versions. Raises HotlistUnproven unless the readers'
    code makes the same list of each of them.
    """
    whole = reader.whole(version, mediums)
    listed = sorted(set(mediums))
    read = reader.read_list(whole)
    found = [read.added[at : at + 16] for at in range(0, len(read.added), 16)]
    if found != listed or (read.version, read.count) != (version, len(listed)):
        raise HotlistUnproven(version)
    made = {0: whole}
    for from_version, earlier in before.items():
        had, has = set(earlier), set(listed)
        change = reader.change(version, from_version, has - had, had - has)
        old = reader.read_list(reader.whole(from_version, earlier))
        after = reader.apply(old, reader.read_list(change))
        if after.version != version or reader.whole_bytes(after) != whole:
            raise HotlistUnproven(version)
        made[from_version] = change
    return made


async def publish(
    connection: Connection,
    author: str,
    *,
    share_percent_max: int = SHARE_PERCENT_MAX,
    force: bool = False,
    prove: Callable[..., dict[int, bytes]] = proven_octets,
) -> Version | None:
    """Publish the entries that stand as the next version; None where the newest has them all.

    What has expired is taken off first. The first version is published even if it is empty,
    so that readers have one. Publishers take turns. Raises HotlistJumps and HotlistUnproven;
    then nothing was published, and what expired still stands.
    """
    async with transaction(connection):
        await connection.fetch(sql.queries()["lock_until_commit"], _LOCK)
        await _take_off_expired(connection)
        newest = await newest_version(connection)
        rows = await connection.fetch(_QUERIES["entries_to_publish"])
        adds = [row["entry_id"] for row in rows if row["stands"] and not row["published"]]
        removes = [row["entry_id"] for row in rows if not row["stands"]]
        if newest is not None and not adds and not removes:
            return None
        mediums = sorted(row["medium"] for row in rows if row["stands"])
        version = 1 if newest is None else newest.version + 1
        before = await _earlier(connection, version)
        had, has = set(before.get(version - 1, ())), set(mediums)
        added, removed = len(has - had), len(had - has)
        if newest is not None and not force:
            _refuse_jump(added, removed, newest.entries, share_percent_max)
        made = await anyio.to_thread.run_sync(prove, version, mediums, before)
        digest = reader.digest_of(made[0])
        await connection.fetch(
            _QUERIES["put_version"], version, author, len(mediums), added, removed, digest
        )
        for from_version, octets in made.items():
            await connection.fetch(_QUERIES["put_octets"], version, from_version, octets)
        await connection.fetch(_QUERIES["mark_published"], version, adds, removes)
        await connection.fetch(_QUERIES["drop_old_octets"], version - VERSIONS_KEPT + 1)
        return await newest_version(connection)


async def publish_expired(connection: Connection) -> Version | None:
    """Publish the next version if an entry has expired; None if none has."""
    if not await connection.fetch(_QUERIES["expired_cards"]):
        return None
    return await publish(connection, EXPIRY_AUTHOR)


async def newest_version(connection: Connection) -> Version | None:
    row = await connection.fetchrow(_QUERIES["newest_version"])
    return None if row is None else Version(**dict(row))


async def versions(connection: Connection, limit: int = 50) -> list[Version]:
    """The published versions, newest first."""
    return [Version(**dict(row)) for row in await connection.fetch(_QUERIES["versions"], limit)]


async def check(connection: Connection) -> list[Finding]:
    """Make the newest version again from its entries, and compare with what readers get."""
    async with transaction(connection, "begin_snapshot"):
        newest = await newest_version(connection)
        if newest is None:
            return [Finding("no version was published yet; publish one")]
        mediums = await _mediums_of(connection, newest.version)
        before = await _earlier(connection, newest.version)
        rows: Iterable[Any] = await connection.fetch(_QUERIES["octets"], newest.version)
    stored = {row["from_version"]: row["octets"] for row in rows}
    made = await anyio.to_thread.run_sync(proven_octets, newest.version, mediums, before)
    return _differences(newest, made, stored)


def _differences(
    newest: Version, made: Mapping[int, bytes], stored: Mapping[int, bytes]
) -> list[Finding]:
    findings = []
    if reader.digest_of(made[0]) != newest.digest:
        findings.append(Finding(f"version {newest.version} cannot be made again from its entries"))
    for from_version, octets in made.items():
        if stored.get(from_version) != octets:
            what = f"the change from {from_version}" if from_version else "the whole list"
            findings.append(Finding(f"{what} of version {newest.version} is stored otherwise"))
    return findings


def _refuse_jump(added: int, removed: int, entries_before: int, share_percent: int) -> None:
    allowed = max(FREE_ENTRIES, entries_before * share_percent // 100)
    if added > allowed or removed > allowed:
        raise HotlistJumps(added, removed, entries_before, share_percent)


async def _take_off_expired(connection: Connection) -> None:
    expired = [row["card_id"] for row in await connection.fetch(_QUERIES["expired_cards"])]
    if expired:
        await hotlist_entries.remove(
            connection, expired, reason="its time was over", author=EXPIRY_AUTHOR
        )


async def _earlier(connection: Connection, version: int) -> dict[int, list[bytes]]:
    """The mediums of the versions before, as far back as changes are made."""
    first = max(1, version - CHANGES_KEPT)
    return {n: await _mediums_of(connection, n) for n in range(first, version)}


async def _mediums_of(connection: Connection, version: int) -> list[bytes]:
    rows = await connection.fetch(_QUERIES["mediums_of_version"], version)
    return [row["medium"] for row in rows]
