"""Loads the ledger's SQL, which stands in `.sql` files and nowhere else.

A named query is what follows a line `-- name: some_name` up to the next one. The files are
package resources, so this works from a checkout, a wheel or a zip alike.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

_NAME_LINE = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)
_MIGRATION_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")


class Migration(NamedTuple):
    """One shipped step of the schema: `0001_initial.sql` has version 1."""

    version: int
    name: str
    script: str


@cache
def queries(file: str = "queries.sql") -> dict[str, str]:
    """The named queries of one file, by name."""
    _, *parts = _NAME_LINE.split(script(file))
    return dict(zip(parts[::2], (text.strip() for text in parts[1::2]), strict=True))


@cache
def script(file: str) -> str:
    """The text of one SQL file, named relative to this package."""
    return files("switch.ledger").joinpath(file).read_text(encoding="utf-8")


@cache
def functions() -> dict[str, str]:
    """The scripts of functions/*.sql by file name, in the order they are created."""
    folder = files("switch.ledger").joinpath("functions")
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return {name: script(f"functions/{name}") for name in names}


@cache
def functions_hash() -> str:
    """What tells one shipped set of functions from another (SHA-256, hex)."""
    digest = hashlib.sha256()
    for name, text in functions().items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


@cache
def migrations() -> tuple[Migration, ...]:
    """The shipped migrations, oldest first."""
    folder = files("switch.ledger").joinpath("migrations")
    matches = sorted(
        (match for entry in folder.iterdir() if (match := _MIGRATION_FILE.match(entry.name))),
        key=lambda match: match.group(1),
    )
    return tuple(
        Migration(int(match.group(1)), match.group(2), script(f"migrations/{match.group()}"))
        for match in matches
    )
