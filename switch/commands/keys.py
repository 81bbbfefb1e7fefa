"""`keys`: the key store, zone and master keys by ceremony, and new working keys for a link.

Keys are shown by their check values, never themselves.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from switch.clock import Clock, SystemClock
from switch.commands import master_keys
from switch.commands.exits import CommandFailed, Exit
from switch.commands.key_places import key_store, octets_of
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.commands.secret_input import secret_lines
from switch.config import Config
from switch.config_types import MacMethod
from switch.keystore import working
from switch.keystore.seam import Algorithm, KeyHandle, Usage
from switch.keystore.software import (
    COMPONENTS_MAX,
    make_store,
    store_path,
)
from switch.ledger import link_keys

SECONDS_A_DAY = 86_400

app = App(name="keys", help="The key store, zone keys and working keys.", help_format="plaintext")
zone = App(name="zone", help="Zone keys of links and upstreams.", help_format="plaintext")
app.command(zone)
app.command(master_keys.reader)
app.command(master_keys.tac)

LinkOption = Annotated[str, Parameter(name="--link", help="Name of a configured link or upstream.")]


class KeyView(msgspec.Struct, frozen=True):
    """A key as it may be shown. `sequence` is 0 for a key of the store."""

    name: str
    usage: str
    algorithm: str
    kcv: str
    age_seconds: int
    sequence: int = 0


@app.command
def init(*, where: Where = HERE, json: Json = False) -> int:
    """Make the key store, with the key that checks PINs; an existing one is left as it is."""
    path = store_path(where.load().keys.store_file, where.directory)
    made = make_store(path, SystemClock())
    if json:
        write_json({"store": str(path), "made": made})
    elif made:
        write(f"{path} made; keep a copy of it and of {path.with_suffix('.key')}, apart")
    else:
        write(f"{path} is there already and stays as it is")
    return Exit.OK


@zone.command
def install(
    *,
    link: LinkOption,
    where: Where = HERE,
    algorithm: Annotated[
        Literal["tdes", "aes"] | None, Parameter(help="What the link's MAC needs if not given.")
    ] = None,
    kcv: Annotated[str, Parameter(help="Check value that the key must have, in hex.")] = "",
    replace: Annotated[bool, Parameter(help="Put it in the place of the zone key there is.")] = (
        False
    ),
    json: Json = False,
) -> int:
    """Install a zone key: 2 or 3 components in hex, a line each, or one key with its --kcv.

    TDES keys and components have 32 hex digits, AES ones 64. They are read from stdin.
    """
    config = where.load()
    method = _method(config, link)
    wanted = Algorithm(algorithm) if algorithm else working.algorithm_for(method)
    if method != "none" and wanted is not working.algorithm_for(method):
        needed = working.algorithm_for(method).value
        raise CommandFailed(f"the MAC of {link} is {method}; its zone key must be {needed}")
    store = key_store(config, where, SystemClock())
    prompts = [f"component {number}" for number in range(1, COMPONENTS_MAX + 1)]
    components = [octets_of(line) for line in secret_lines(prompts)]
    key = store.install(
        working.zone_label(link), Usage.ZONE, wanted, components, kcv, replace=replace
    )
    if json:
        write_json({"link": link, "algorithm": key.algorithm, "kcv": key.kcv})
    else:
        write(f"zone key of {link} installed, {key.algorithm.value}, check value {key.kcv}")
    return Exit.OK


@app.command
def rotate(*, link: LinkOption, where: Where = HERE, json: Json = False) -> int:
    """Make new working keys for a link; its peer gets them when it next exchanges keys."""
    config = where.load()
    method = _method(config, link)
    if any(upstream.name == link for upstream in config.upstreams):
        raise CommandFailed(f"the host of {link} makes its keys; ask it for an exchange there")
    store = key_store(config, where, SystemClock())
    keys = working.make(store, link, method)
    wrapped = working.wrapped(store, link, keys)

    async def body(ledger: Ledger) -> int:
        stored = [link_keys.WrappedKey(*one) for one in wrapped]
        return await link_keys.append(ledger.connection, link, stored)

    sequence = with_ledger(where, config, body)
    if json:
        check_values = {key.usage.value: key.kcv for key in keys.all}
        write_json({"link": link, "sequence": sequence, "kcv": check_values})
    else:
        shown = ", ".join(f"{key.usage.value} {key.kcv}" for key in keys.all)
        write(f"new keys of {link}: {shown}; the old ones stay good for a while")
    return Exit.OK


@app.command(name="list")
def list_keys(*, where: Where = HERE, json: Json = False) -> int:
    """List the keys of the store and the working keys of links, by check value and age."""
    config = where.load()
    clock = SystemClock()
    named = [_view(key, clock) for key in key_store(config, where, clock).labelled()]
    names = list(_methods(config))

    async def body(ledger: Ledger) -> list[link_keys.LinkKeyRow]:
        return await link_keys.read(ledger.connection, names)

    views = named + [
        KeyView(row.link, row.usage, "", row.kcv, int(row.age_seconds), row.sequence)
        for row in with_ledger(where, config, body)
    ]
    if json:
        write_json(views)
        return Exit.OK
    write_table(
        "Keys",
        ["key", "usage", "algorithm", "check value", "exchange>", "age>"],
        (
            (
                view.name,
                view.usage,
                view.algorithm,
                view.kcv,
                view.sequence or "",
                _age(view.age_seconds),
            )
            for view in views
        ),
    )
    return Exit.OK


def _view(key: KeyHandle, clock: Clock) -> KeyView:
    age_seconds = max(0, clock.now_us() - key.created_at_us) // 1_000_000
    return KeyView(key.label, key.usage.value, key.algorithm.value, key.kcv, age_seconds)


def _age(seconds: int) -> str:
    days, rest = divmod(seconds, SECONDS_A_DAY)
    return f"{days} d" if days else f"{rest // 3600} h {rest % 3600 // 60} min"


def _methods(config: Config) -> dict[str, MacMethod]:
    upstreams = {upstream.name: upstream.mac for upstream in config.upstreams}
    return {link.name: link.mac for link in config.links} | upstreams


def _method(config: Config, name: str) -> MacMethod:
    method = _methods(config).get(name)
    if method is None:
        raise CommandFailed("no link or upstream of the configuration has this name; see [[links]]")
    return method
