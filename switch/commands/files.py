"""Text files that people name on a command line."""

from __future__ import annotations

from pathlib import Path

from switch.commands.exits import CommandFailed


def text_of(file: Path, bytes_max: int) -> str:
    """A file's text. Raises CommandFailed for one that is none, or too large."""
    try:
        with file.open("rb") as opened:
            octets = opened.read(bytes_max + 1)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read ({error.strerror}); name another") from None
    if len(octets) > bytes_max:
        raise CommandFailed(f"{file} is over {bytes_max} bytes; name another")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandFailed(f"{file} is not UTF-8; save it as UTF-8 text") from None
