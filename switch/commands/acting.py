"""Who acts: the holder of an operator's token, from a file or from the environment.

A token is never an argument, for those are in process lists and shell histories.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import Ledger
from switch.ledger import operators
from switch.ledger.operators import NotAllowed, Operator

TOKEN_VARIABLE = "CITYCARD_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_BYTES_MAX = 256
"""Longer than any token with the line end after it."""

TokenFile = Annotated[
    Path | None,
    Parameter(
        name="--token-file",
        help=f"File with your operator's token; ${TOKEN_VARIABLE} if not given.",
    ),
]


def acting(token_file: Path | None) -> str:
    """The token of who acts. Raises CommandFailed where there is none, or others may read it."""
    if token_file is None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not token:
            raise CommandFailed(
                "this is an act of an operator, and nobody said who acts; "
                f"give --token-file, or set {TOKEN_VARIABLE}"
            )
        return _bounded(token)
    try:
        with token_file.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(TOKEN_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(
            f"{token_file} cannot be read ({error.strerror}); give the file with your token"
        ) from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CommandFailed(f"others may use the token in {token_file}; run chmod 600 on it")
    return _bounded(text.decode("ascii", "replace").strip())


def _bounded(token: str) -> str:
    if not 0 < len(token) < TOKEN_BYTES_MAX:
        raise CommandFailed("that is no operator's token; give the one that `operator add` showed")
    return token


async def operator(ledger: Ledger, token: str, *roles: str) -> Operator:
    """The operator who holds the token and has one of the roles. Raises CommandFailed."""
    found = await operators.find(ledger.connection, token)
    if found is None:
        raise CommandFailed(
            "no operator holds this token, or it was revoked; ask whoever runs the ledger "
            "for another",
            Exit.FINDINGS,
        )
    try:
        operators.require(found, *roles)
    except NotAllowed as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    return found
