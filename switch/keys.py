"""The card number key: made once, read by its owner only, never shown.

A card is found by a keyed hash of its number. Whoever loses the key loses the way from
numbers to accounts, so it is never replaced silently, and a file that others may read is
refused rather than used.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

KEY_BYTES = 32
_FILE_BYTES_MAX = 1_024


class KeyFileError(Exception):
    """The key file cannot be used; the sentence says why and what to do."""


def make_key(path: Path) -> bool:
    """Write a new random key unless the file exists; True if one was written.

    It has mode 0600 from the start and never half a key in it. Raises KeyFileError.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            return False
        _write_durably(beside, secrets.token_hex(KEY_BYTES) + "\n")
        try:
            os.link(beside, path)  # whole or not at all, and never over another key
        except FileExistsError:
            return False
        finally:
            beside.unlink()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written ({error.strerror}); mend that") from None
    return True


def _write_durably(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_key(path: Path, name: str = "card number key") -> bytes:
    """The key (32 bytes). Raises KeyFileError when it is missing, open to others or no key.

    `name` is what the sentences call it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        raise KeyFileError(
            f"there is no {name} at {path}; run `citycard init`, or put back the key of this ledger"
        ) from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror}); mend that") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileError(f"others may use the key in {path}; run chmod 600 on it")
    try:
        key = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise KeyFileError(
            f"{path} does not hold {KEY_BYTES} bytes in hex; put back the key of this ledger"
        )
    return key
