"""The file of a software key store: written whole or not at all, read by its owner only."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import msgspec

from switch.keystore.seam import KeyStoreError

FILE_BYTES_MAX = 1_048_576
KEYS_MAX = 1_024
VERSION = 1


class StoredKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key, wrapped: its TR-31 block carries the label too, so labels cannot be swapped."""

    label: str
    block: str
    created_at_us: int

    def __repr__(self) -> str:
        return f"StoredKey(label={self.label!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("label", self.label)]


class _StoreFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: list[StoredKey]


def mark(path: Path) -> object:
    """What changes whenever the file is replaced; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read(path: Path) -> list[StoredKey]:
    """The keys in a file; none where there is no file. Raises KeyStoreError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            octets = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unreadable(path, error) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyStoreError(f"others may read {path}; run chmod 600 on it")
    try:
        store = msgspec.json.decode(octets, type=_StoreFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        store = None
    if store is None or len(octets) > FILE_BYTES_MAX or store.version != VERSION:
        raise KeyStoreError(f"{path} is no key store of this version; put back a copy of it")
    return store.keys


def put(path: Path, lock: Path, key: StoredKey, *, replace: bool) -> None:
    """Add a key, or put it in the place of the one with its label, durably.

    `lock` is an existing file that writers take turns by. Raises KeyStoreError.
    """
    try:
        with lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            keys = read(path)
            if not replace and any(each.label == key.label for each in keys):
                raise KeyStoreError(
                    f"there is a key {key.label} already; add --replace to put another in its place"
                )
            kept = [each for each in keys if each.label != key.label]
            if len(kept) >= KEYS_MAX:
                raise KeyStoreError(f"the store is full with {KEYS_MAX} keys; use another store")
            _write(path, msgspec.json.encode(_StoreFile(VERSION, [*kept, key])))
    except OSError as error:
        raise KeyStoreError(f"{path} cannot be written ({error.strerror}); mend that") from None


def _write(path: Path, octets: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.unlink(missing_ok=True)  # left by a process that died, and had our number
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(octets, indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unreadable(path: Path, error: OSError) -> KeyStoreError:
    return KeyStoreError(f"{path} cannot be read ({error.strerror}); mend that")
