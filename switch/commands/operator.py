"""`operator`: people who work with rules. A token is shown once, when it is made.

Who may write to the ledger's database may do this: it is how the first operator comes to be.
"""

from __future__ import annotations

import getpass
import os
from typing import Annotated

from cyclopts import App, Parameter

from protocols.card_number import mask_digit_runs
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.ledger import operators
from switch.ledger.operators import OperatorView

app = App(
    name="operator", help="People who work with rules, and their roles.", help_format="plaintext"
)

Name = Annotated[str, Parameter(help="Who it is: 2 to 40 small letters, digits, dots, hyphens.")]
By = Annotated[str, Parameter(help="Who says so, for the record; you if not given.")]


@app.command
def add(
    name: Name,
    /,
    *,
    roles: Annotated[
        str, Parameter(help=f"One or more of {', '.join(operators.ROLES)}, with commas.")
    ],
    by: By = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Make an operator and show the token, this once. A revoked name gets another token."""
    wanted = [role for word in roles.split(",") if (role := word.strip())]

    async def body(ledger: Ledger) -> str:
        return await operators.add(ledger.connection, name, wanted, _by(by), os.urandom)

    token = with_ledger(where, where.load(), body)
    if json:
        write_json({"name": name, "roles": wanted, "token": token})
        return Exit.OK
    write(token)
    write(f"token of {name}: shown this once; keep it in a file that only its holder reads")
    return Exit.OK


@app.command(name="list")
def list_operators(*, where: Where = HERE, json: Json = False) -> int:
    """List the operators, the revoked ones too."""

    async def body(ledger: Ledger) -> list[OperatorView]:
        return await operators.listed(ledger.connection)

    found = with_ledger(where, where.load(), body)
    if json:
        write_json(found)
        return Exit.OK
    rows = [
        (
            each.name,
            ", ".join(each.roles),
            f"{each.created_at:%Y-%m-%d}",
            each.created_by,
            f"{each.revoked_at:%Y-%m-%d %H:%M}" if each.revoked_at else "",
        )
        for each in found
    ]
    write_table("", ["operator", "roles", "since", "added by", "revoked"], rows)
    return Exit.OK


@app.command
def revoke(name: Name, /, *, by: By = "", where: Where = HERE, json: Json = False) -> int:
    """Have an operator's token refused from now on; what was done with it stays."""

    async def body(ledger: Ledger) -> bool:
        return await operators.revoke(ledger.connection, name, _by(by))

    if not with_ledger(where, where.load(), body):
        raise CommandFailed(
            "there is no operator of this name with a good token; see `operator list`",
            Exit.FINDINGS,
        )
    if json:
        write_json({"name": name})
    else:
        write(f"the token of {name} is refused from now on")
    return Exit.OK


def _by(by: str) -> str:
    if by:
        return mask_digit_runs(by)
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise CommandFailed("nobody knows who you are here; give --by") from None
