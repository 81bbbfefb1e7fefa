"""Keys of the HTTP API: made once and shown once; the ledger keeps a hash of each.

A key is `cck_` and 12 hex digits that find its row, `_`, and 256 random bits. Nobody can try
such keys, so SHA-256 without salt or stretching is as strong as the key itself, and costs a
request nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any, Protocol

import msgspec

from switch.ledger import sql

SECRET_BYTES = 32
KEY_ID_BYTES = 6
KEY_CHARACTERS_MAX = 80
_KEY = re.compile(r"cck_([0-9a-f]{12})_[A-Za-z0-9_-]{43}\Z")
_QUERIES = sql.queries("api_keys.sql")


class Rows(Protocol):
    """A connection, or the API's own way to one."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]: ...


class ApiKeyRow(msgspec.Struct, frozen=True):
    """A key that is not revoked. `key_hash` has 32 bytes."""

    key_id: str
    acquirer: str
    key_hash: bytes
    last_used_on: date | None

    def __repr__(self) -> str:
        return f"ApiKeyRow(key_id={self.key_id!r}, acquirer={self.acquirer!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("key_id", self.key_id), ("acquirer", self.acquirer)]


class ApiKeyView(msgspec.Struct, frozen=True):
    """A key as it may be shown."""

    key_id: str
    acquirer: str
    name: str
    created_at: datetime
    last_used_on: date | None
    revoked_at: datetime | None


def new_key(entropy: Callable[[int], bytes]) -> tuple[str, str]:
    """A new key, and its id."""
    key_id = entropy(KEY_ID_BYTES).hex()
    secret = base64.urlsafe_b64encode(entropy(SECRET_BYTES)).rstrip(b"=").decode("ascii")
    return f"cck_{key_id}_{secret}", key_id


def key_id_of(key: str) -> str | None:
    """The id in front of a key; None for what is no key."""
    match = _KEY.match(key) if len(key) <= KEY_CHARACTERS_MAX else None
    return match.group(1) if match is not None else None


def hash_of(key: str) -> bytes:
    """What the ledger keeps of a key (32 bytes)."""
    return hashlib.sha256(b"citycard-api-key\0" + key.encode("ascii", "replace")).digest()


async def add(
    rows: Rows, acquirer: str, name: str, entropy: Callable[[int], bytes]
) -> tuple[str, str]:
    """Make a key for an acquirer; the key, which is nowhere else from now on, and its id."""
    key, key_id = new_key(entropy)
    await rows.fetch(_QUERIES["add_api_key"], key_id, acquirer, name, hash_of(key))
    return key, key_id


async def find(rows: Rows, key_id: str) -> ApiKeyRow | None:
    """The key with this id, unless it was revoked."""
    found = await rows.fetch(_QUERIES["api_key"], key_id)
    return ApiKeyRow(**dict(found[0])) if found else None


async def listed(rows: Rows) -> list[ApiKeyView]:
    """All keys, oldest first."""
    return [ApiKeyView(**dict(row)) for row in await rows.fetch(_QUERIES["api_keys"])]


async def revoke(rows: Rows, key_id: str) -> bool:
    """Have a key refused from now on; False where there is none with this id."""
    return bool(await rows.fetch(_QUERIES["revoke_api_key"], key_id))


async def used(rows: Rows, key_id: str, day: date) -> None:
    """Write down that a key was used on this day."""
    await rows.fetch(_QUERIES["use_api_key"], key_id, day)
