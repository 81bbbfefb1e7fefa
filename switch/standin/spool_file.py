"""The spool's file: made private and durable or not at all, and its named queries."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from functools import cache
from importlib.resources import files
from pathlib import Path

FILE_NAME = "standin.sqlite"
FORMAT = 1
BUSY_SECONDS = 2.0
"""How long one worker waits for another's transaction, which takes milliseconds."""
SYNCHRONOUS_FULL = 2

_NAME_LINE = re.compile(r"^-- name: (\w+)[ \t]*\n", re.MULTILINE)


class SpoolUnusable(Exception):
    """The spool cannot be read or written; the sentence says why and what to do.

    `in_doubt`: what was being written may be found in it nevertheless.
    """

    def __init__(self, sentence: str, *, in_doubt: bool = False) -> None:
        super().__init__(sentence)
        self.in_doubt = in_doubt


@cache
def queries() -> dict[str, str]:
    text = files("switch.standin").joinpath("spool.sql").read_text(encoding="utf-8")
    _, *parts = _NAME_LINE.split(text)
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


def opened(path: Path) -> sqlite3.Connection:
    """The file, made where there is none, durable or not at all. Raises SpoolUnusable."""
    _make_private_file(path)
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        return _prepared(connection, path)
    except BaseException:
        connection.close()
        raise


def _prepared(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    (written_format,) = connection.execute("pragma user_version").fetchone()
    if written_format not in (0, FORMAT):
        raise SpoolUnusable(
            f"the stand-in spool {path} was written by another release; "
            "let that one post it before this one starts"
        )
    (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
    connection.execute("pragma synchronous = full")
    (level,) = connection.execute("pragma synchronous").fetchone()
    if mode != "wal" or level != SYNCHRONOUS_FULL:
        raise SpoolUnusable(
            f"the stand-in spool {path} is not durable on this file system; give another one"
        )
    if written_format != FORMAT:
        connection.executescript(queries()["schema"])
    return connection


def _make_private_file(path: Path) -> None:
    """An empty file of mode 0600 whose name is on disk, unless it is there. Raises SpoolUnusable.

    A file that exists is not opened here: closing it again would drop the locks that SQLite
    holds on it for this process (fcntl(2) belongs to process and file, not to a descriptor).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SpoolUnusable(
                    f"others may use the stand-in spool {path}; run chmod 600 on it"
                ) from None
            return
        folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise SpoolUnusable(
            f"the stand-in spool {path} cannot be opened ({error.strerror}); mend that"
        ) from None
