"""The hotlist as a worker hands it to readers: the newest published version, followed.

Bytes are what publishing has proven with the readers' own code and stored
(hotlist_publishing.py); nothing is made here, so every worker gives out the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.logs import get as get_log
from switch.metrics import Metrics

POLL_SECONDS = 1.0
CALL_SECONDS_MAX = 10.0
"""When a silent ledger counts as lost; a whole list is a few megabytes."""

Open = Callable[[], Awaitable[Connection]]

_QUERIES = sql.queries("hotlist.sql")
_log = get_log("hotlist")


class Published(msgspec.Struct, frozen=True, gc=False):
    """A version: the whole list's bytes, their SHA-256, and changes by the version before."""

    version: int
    octets: bytes
    digest: bytes
    changes: Mapping[int, bytes]

    def __repr__(self) -> str:
        return f"Published(version={self.version}, octets={len(self.octets)})"


class Hotlists:
    """The newest version, and the one before it for readers that are half through it.

    `open_ledger` opens a connection, which is this object's own. `links` are the acquirers of
    tap links by link name, for the metrics.
    """

    def __init__(
        self,
        open_ledger: Open,
        links: Mapping[str, str] | None = None,
        metrics: Metrics | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._open_ledger = open_ledger
        self._links = dict(links or {})
        self._metrics = metrics
        self._poll_seconds = poll_seconds
        self._newest: Published | None = None
        self._before: Published | None = None
        self._connection: Connection | None = None
        self._turn = anyio.Lock()
        self._away = False

    def newest(self) -> Published | None:
        """The newest version that this worker knows; None before the first."""
        return self._newest

    def at(self, version: int) -> Published | None:
        """That version, where it is the newest or the one known before it."""
        for known in (self._newest, self._before):
            if known is not None and known.version == version:
                return known
        return None

    def change(self, from_version: int) -> bytes | None:
        """The change from that version to the newest; None where there is none to be had."""
        return None if self._newest is None else self._newest.changes.get(from_version)

    async def acknowledge(self, acquirer: str, version: int, digest: bytes) -> bool:
        """All readers of the acquirer have the version: written down if the digest proves it.

        False too where the ledger is away: nothing was written, and the readers say it again.
        """
        try:
            async with self._ledger() as connection:
                proven: bool = await guarded(
                    connection.fetchval, _QUERIES["acknowledge"], acquirer, version, digest,
                    seconds=CALL_SECONDS_MAX,
                )  # fmt: skip
        except (LedgerLost, LedgerRefused) as error:
            self._tell("an acknowledgement could not be stored", str(error))
            return False
        return proven

    async def load(self) -> None:
        """Look whether there is a newer version; a ledger that is away is no error here."""
        try:
            async with self._ledger() as connection:
                await self._look(connection)
        except (LedgerLost, LedgerRefused) as error:
            self._tell("the hotlist could not be read", str(error))

    async def run(self) -> None:
        """Follow the newest version until cancelled."""
        try:
            while True:
                await self.load()
                await anyio.sleep(self._poll_seconds)
        finally:
            self._drop()

    async def _look(self, connection: Connection) -> None:
        row = await guarded(
            connection.fetchrow, _QUERIES["newest_and_acknowledged"], seconds=CALL_SECONDS_MAX
        )
        assert row is not None
        version: int = row["version"]
        if version > (self._newest.version if self._newest else 0):
            await self._take(connection, version)
        if self._metrics is not None:
            has = dict(zip(row["acquirers"], row["acknowledged"], strict=True))
            of_links = {link: has.get(acquirer, 0) for link, acquirer in self._links.items()}
            self._metrics.hotlist(version, of_links)

    async def _take(self, connection: Connection, version: int) -> None:
        rows = await guarded(
            connection.fetch, _QUERIES["octets"], version, seconds=CALL_SECONDS_MAX
        )
        if not rows:  # A still newer one was published in between; the next look finds it.
            return
        whole = rows[0]["octets"]
        changes = {row["from_version"]: row["octets"] for row in rows[1:]}
        taken = Published(version, whole, hashlib.sha256(whole).digest(), changes)
        self._before, self._newest = self._newest, taken
        _log.info("hotlist taken", version=version, octets=len(whole))

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Connection]:
        """Our turn on the connection; after a failure the next one opens another."""
        async with self._turn:
            if self._connection is None or self._connection.closed:
                self._connection = await guarded(self._open_ledger, seconds=CALL_SECONDS_MAX)
            try:
                yield self._connection
                self._away = False
            except BaseException:
                self._drop()
                raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _tell(self, event: str, reason: str) -> None:
        """Once for each time that the ledger goes away."""
        if not self._away:
            _log.warning(event, reason=reason)
        self._away = True
