"""`api-key`: keys of the HTTP API. A key is shown once, when it is made, and kept as a hash."""

from __future__ import annotations

import os
import re
from typing import Annotated

from cyclopts import App, Parameter

from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.config import acquirers
from switch.ledger import api_keys, sql

NAME_CHARACTERS_MAX = 40
_ACQUIRER = re.compile(r"[0-9]{1,11}\Z")
_KEY_ID = re.compile(r"[0-9a-f]{12}\Z")

app = App(name="api-key", help="Keys of the HTTP API.", help_format="plaintext")


@app.command
def new(
    acquirer: Annotated[str, Parameter(help="Whose requests they are: the digits of DE32.")],
    /,
    *,
    name: Annotated[str, Parameter(help="Who holds the key, for the list.")],
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Make a key for an acquirer. It is shown this once."""
    if _ACQUIRER.match(acquirer) is None:
        raise CommandFailed("the acquirer is not 1 to 11 digits; give the digits of its DE32")
    if not (name.isprintable() and 1 <= len(name) <= NAME_CHARACTERS_MAX):
        raise CommandFailed(
            f"the name is not 1 to {NAME_CHARACTERS_MAX} printable characters; give another"
        )
    config = where.load()

    async def body(ledger: Ledger) -> tuple[str, str]:
        await ledger.connection.fetch(
            sql.queries()["open_settlement_accounts"],
            ["ACQ", "AGENT", "PENDING"],
            [acquirer] * 3,
        )
        return await api_keys.add(ledger.connection, acquirer, name, os.urandom)

    key, key_id = with_ledger(where, config, body)
    if json:
        write_json({"key": key, "key_id": key_id, "acquirer": acquirer})
        return Exit.OK
    write(key)
    write(f"key {key_id} of {acquirer}: shown this once, keep it where only its holder reads")
    if acquirer not in acquirers(config):
        write("a new acquirer: it may sell after the next start, and pay bills at once")
    return Exit.OK


@app.command(name="list")
def list_keys(*, where: Where = HERE, json: Json = False) -> int:
    """List the keys, revoked ones too, and when each was last used."""

    async def body(ledger: Ledger) -> list[api_keys.ApiKeyView]:
        return await api_keys.listed(ledger.connection)

    views = with_ledger(where, where.load(), body)
    if json:
        write_json(views)
        return Exit.OK
    write_table(
        "API keys",
        ["id", "acquirer", "name", "made", "last used", "revoked"],
        (
            (
                view.key_id,
                view.acquirer,
                view.name,
                f"{view.created_at:%Y-%m-%d}",
                view.last_used_on or "never",
                f"{view.revoked_at:%Y-%m-%d %H:%M}" if view.revoked_at else "",
            )
            for view in views
        ),
    )
    return Exit.OK


@app.command
def revoke(
    key_id: Annotated[str, Parameter(help="The id of the key, as listed.")],
    /,
    *,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Have a key refused; workers believe it for three more seconds."""
    if _KEY_ID.match(key_id) is None:
        raise CommandFailed("the id is not 12 hex digits; `citycard api-key list` shows it")

    async def body(ledger: Ledger) -> bool:
        return await api_keys.revoke(ledger.connection, key_id)

    if not with_ledger(where, where.load(), body):
        raise CommandFailed("there is no key with this id; list them", Exit.FINDINGS)
    if json:
        write_json({"key_id": key_id, "revoked": True})
    else:
        write(f"key {key_id} is revoked")
    return Exit.OK
