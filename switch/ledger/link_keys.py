"""Working keys of links in the ledger: all workers share them, and they outlive restarts.

Only wrapped keys come here (TR-31 under the storage key of the key store). Rows are added
and never changed; who may still be used is told by their age.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.migrate import transaction

EXCHANGES_MAX = 4
"""Exchanges of a link that are looked at: the newest, and those it may still overlap with."""
USAGES = ("mac", "pin")

_LOCK = "link_key"
_QUERIES = sql.queries("link_keys.sql")


class WrappedKey(msgspec.Struct, frozen=True):
    """A working key to store: `usage` is "mac" or "pin", `block` its TR-31 block."""

    usage: str
    block: str
    kcv: str

    def __repr__(self) -> str:
        return f"WrappedKey(usage={self.usage!r}, kcv={self.kcv!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("usage", self.usage), ("kcv", self.kcv)]


class LinkKeyRow(msgspec.Struct, frozen=True):
    """A stored working key and its age in seconds by the ledger's clock."""

    link: str
    sequence: int
    usage: str
    block: str
    kcv: str
    age_seconds: float

    def __repr__(self) -> str:
        return f"LinkKeyRow(link={self.link!r}, sequence={self.sequence}, usage={self.usage!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("link", self.link), ("sequence", self.sequence), ("usage", self.usage)]


async def newest(connection: Connection) -> int:
    """The sequence of the newest exchange of any link; 0 where there was none."""
    sequence: int = await connection.fetchval(_QUERIES["newest_link_key"])
    return sequence


async def read(connection: Connection, links: Sequence[str]) -> list[LinkKeyRow]:
    """The keys of the newest exchanges of these links, by link and newest first."""
    rows = await connection.fetch(_QUERIES["link_keys"], list(links), EXCHANGES_MAX * len(USAGES))
    return [LinkKeyRow(**dict(row)) for row in rows]


async def append(connection: Connection, link: str, keys: Sequence[WrappedKey]) -> int:
    """Store the keys of one exchange; its sequence. Exchanges take turns, whoever makes them."""
    async with transaction(connection):
        await connection.fetch(sql.queries()["lock_until_commit"], _LOCK)
        sequence: int = await connection.fetchval(
            _QUERIES["append_link_keys"],
            link,
            [key.usage for key in keys],
            [key.block for key in keys],
            [key.kcv for key in keys],
        )
    return sequence
