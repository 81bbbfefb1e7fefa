"""Makes a database a ledger of this version, and refuses the ones that cannot be.

`migrate` brings the schema up to the shipped migrations and the functions to the shipped
text. `initialise` writes down what must never change under a ledger in use. Each refusal
is one sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import asyncpg

from switch.ledger import sql
from switch.ledger.bridge import CONNECTION_LOST, Connection

SERVER_VERSION_NUM_MIN = 150_000
"""PostgreSQL 15: the oldest on which the functions were meant to run."""

ROLLBACK_SECONDS_MAX = 5
DURABLE_COMMITS = frozenset({"on", "local", "remote_write", "remote_apply"})
"""Values of synchronous_commit under which this server's own disk has the commit."""

FUNCTIONS_HASH = "functions_hash"
_CARD_KEY_SETTING = "card_key_fingerprint"
"""A setting that nobody writes in a configuration: it follows from a key file."""
_LOCK = "migrate"
_QUERIES = sql.queries()


class LedgerUnfit(Exception):
    """This database cannot be the ledger as it is; the text says what to do."""


class LedgerTooNew(LedgerUnfit):
    """The ledger was written by a newer version of the switch."""


class LedgerNotMigrated(LedgerUnfit):
    """There are ledger tables, and no record of which migrations made them."""


class LedgerSettingMismatch(LedgerUnfit):
    """The configuration contradicts what the ledger was begun with."""

    def __init__(self, setting: str, stored: str, wanted: str) -> None:
        remedy = f"set {setting} back to {stored!r} in the configuration"
        if setting == _CARD_KEY_SETTING:
            remedy = "give the card number key that it was begun with (keys.card_number_key_file)"
        super().__init__(
            f"setting {setting} of this ledger is {stored!r} and cannot become {wanted!r}; "
            f"{remedy}, or start a new ledger in an empty database"
        )
        self.setting, self.stored, self.wanted = setting, stored, wanted


class NotDurable(LedgerUnfit):
    """The server may lose a commit that it has confirmed."""


class ServerTooOld(LedgerUnfit):
    """The server is older than the functions of the ledger need."""


async def migrate(connection: Connection) -> list[str]:
    """Apply what is pending, oldest first; return the names of what was applied.

    Each migration is one transaction under an advisory lock, so workers that start at the
    same time apply each of them once. Functions are dropped and made anew, in one
    transaction, whenever the shipped text differs from the stored hash ("functions").
    Raises LedgerTooNew or LedgerNotMigrated, and what the database raises for a migration.
    """
    applied: list[str] = []
    for migration in sql.migrations():
        async with transaction(connection):
            await connection.fetch(_QUERIES["lock_until_commit"], _LOCK)
            if migration.version not in await _applied_versions(connection):
                await connection.execute(migration.script)
                await connection.fetch(
                    _QUERIES["record_migration"], migration.version, migration.name
                )
                applied.append(f"{migration.version:04}_{migration.name}")
    async with transaction(connection):
        await connection.fetch(_QUERIES["lock_until_commit"], _LOCK)
        if (await settings(connection)).get(FUNCTIONS_HASH) != sql.functions_hash():
            await make_functions(connection)
            await connection.fetch(_QUERIES["put_setting"], FUNCTIONS_HASH, sql.functions_hash())
            applied.append("functions")
    return applied


async def assert_migrated(connection: Connection) -> None:
    """Refuse a ledger that this version would have to change first (LedgerNotMigrated)."""
    missing = {migration.version for migration in sql.migrations()} - await _applied_versions(
        connection
    )
    if missing or (await settings(connection)).get(FUNCTIONS_HASH) != sql.functions_hash():
        raise LedgerNotMigrated(
            "the ledger is not at the version of this citycard; run `citycard init` with the "
            "same --database first"
        )


async def make_functions(connection: Connection) -> None:
    """Replace all functions of the schema by the shipped ones; wants a transaction around it."""
    await connection.execute(_QUERIES["drop_functions"])
    for text in sql.functions().values():
        await connection.execute(text)


async def _applied_versions(connection: Connection) -> set[int]:
    if not await connection.fetchval(_QUERIES["has_ledger"]):
        return set()
    versions = {row["version"] for row in await connection.fetch(_QUERIES["applied_migrations"])}
    if not versions:
        raise LedgerNotMigrated(
            "the database has ledger tables but no record of the migrations that made them; "
            "give an empty database, or restore one that `citycard init` made"
        )
    newest = sql.migrations()[-1].version
    if max(versions) > newest:
        raise LedgerTooNew(
            f"the ledger is at migration {max(versions)} and this version knows only {newest}; "
            "run the newer version of citycard that wrote it"
        )
    return versions


async def initialise(
    connection: Connection,
    *,
    shards: int,
    time_zone: str,
    cut_off: str,
    currency: str,
    card_key_fingerprint: str,
    acquirers: Sequence[str],
) -> None:
    """Write the ledger's settings and open the operator's own accounts; repeat at each start.

    A setting is written once; raises LedgerSettingMismatch when it is there with another
    value. An acquirer that is new in the configuration gets its account.
    """
    wanted = {
        "shards": str(shards),
        "time_zone": time_zone,
        "cut_off": cut_off,
        "currency": currency,
        _CARD_KEY_SETTING: card_key_fingerprint,
    }
    owned = [("BANK", "trust"), *(("ACQ", acquirer) for acquirer in sorted(set(acquirers)))]
    async with transaction(connection):
        await connection.fetch(
            _QUERIES["put_new_settings"], list(wanted), [wanted[name] for name in wanted]
        )
        stored = await settings(connection)
        for name, value in wanted.items():
            if stored[name] != value:
                raise LedgerSettingMismatch(name, stored[name], value)
        await connection.fetch(
            _QUERIES["open_settlement_accounts"],
            [code for code, _ in owned],
            [owner for _, owner in owned],
        )


async def settings(connection: Connection) -> dict[str, str]:
    """What the ledger was begun with, by name; also the hash of its functions."""
    rows = await connection.fetch(_QUERIES["settings"])
    return {row["name"]: row["value"] for row in rows}


async def settlement_accounts(connection: Connection) -> dict[tuple[str, str], int]:
    """The operator's own accounts: (chart code, owner) to the account id of transfers."""
    rows = await connection.fetch(_QUERIES["settlement_accounts"])
    return {(row["chart_code"], row["owner"]): row["settlement_account_id"] for row in rows}


async def assert_durable(connection: Connection) -> None:
    """Refuse a server that is too old or may forget a commit (ServerTooOld, NotDurable).

    synchronous_commit is looked at as this connection has it.
    """
    row = await connection.fetchrow(_QUERIES["durability"])
    assert row is not None
    if row["server_version_num"] < SERVER_VERSION_NUM_MIN:
        raise ServerTooOld(
            f"the server is PostgreSQL {row['server_version']} and the ledger needs "
            f"{SERVER_VERSION_NUM_MIN // 10_000} or newer; upgrade the server"
        )
    for name in ("fsync", "full_page_writes"):
        if row[name] != "on":
            raise NotDurable(
                f"{name} is {row[name]} on this server, so an approval may be lost; "
                f"set {name} = on in postgresql.conf and reload"
            )
    if row["synchronous_commit"] not in DURABLE_COMMITS:
        raise NotDurable(
            f"synchronous_commit is {row['synchronous_commit']} on this connection, so an "
            "approval may be lost; set synchronous_commit = on for the server, the database "
            "and the role"
        )


@asynccontextmanager
async def transaction(connection: Connection, begin: str = "begin") -> AsyncIterator[None]:
    """One transaction around the body: committed at its end, rolled back when it raises.

    `begin` names the query that opens it ("begin" or "begin_snapshot").
    """
    await connection.execute(_QUERIES[begin])
    try:
        yield
    except BaseException:
        # Shielded: a cancelled body must not leave its transaction open. Where the
        # connection is gone or busy there is nothing left to roll back from here.
        with anyio.move_on_after(ROLLBACK_SECONDS_MAX, shield=True):
            await _roll_back(connection)
        raise
    await connection.execute(_QUERIES["commit"])


async def _roll_back(connection: Connection) -> None:
    try:
        await connection.execute(_QUERIES["rollback"])
    except (asyncpg.PostgresError, *CONNECTION_LOST):
        connection.terminate()
