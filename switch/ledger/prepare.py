"""What every start does to the ledger before the first request: all of it may be repeated."""

from __future__ import annotations

from datetime import date

import msgspec

from switch.calendar import BusinessCalendar
from switch.config import Config, acquirers
from switch.ledger import migrate, partitions, sql
from switch.ledger.bridge import Connection
from switch.ledger.cards import card_key_fingerprint

_QUERIES = sql.queries()


class Prepared(msgspec.Struct, frozen=True):
    """What had to be done: migrations applied, and business days that got their partitions."""

    migrations: list[str]
    days: list[date]


async def prepare(
    connection: Connection, config: Config, *, key: bytes, now_us: int, migrating: bool = True
) -> Prepared:
    """Check the server, migrate, write down the settings, open accounts, make partitions.

    Several processes may do this at once. With `migrating` False a ledger that lacks a
    migration is refused, so that starting a newer switch never changes a production schema
    by surprise. Raises LedgerUnfit (a server that may lose money, a ledger begun with other
    settings or another key, an older or a newer ledger).
    """
    await migrate.assert_durable(connection)
    if migrating:
        applied = await migrate.migrate(connection)
    else:
        applied = []
        await migrate.assert_migrated(connection)
    ledger = config.ledger
    await migrate.initialise(
        connection,
        shards=ledger.shards,
        time_zone=ledger.time_zone,
        cut_off=ledger.cut_off,
        currency=ledger.currency,
        card_key_fingerprint=card_key_fingerprint(key),
        acquirers=acquirers(config),
    )
    owned = accounts_to_open(config)
    codes, owners = [code for code, _ in owned], [owner for _, owner in owned]
    await connection.fetch(_QUERIES["open_settlement_accounts"], codes, owners)
    today = BusinessCalendar(ledger.time_zone, ledger.cut_off).business_date(now_us)
    days = await partitions.make_ahead(connection, today, ledger.partitions_ahead_days)
    return Prepared(applied, days)


def accounts_to_open(config: Config) -> list[tuple[str, str]]:
    """The operator's own accounts that a configuration needs, as (chart code, owner).

    An acquirer is owed its sales; as an agent it owes the loads that it took, which wait in
    PENDING; the issuer behind an upstream owes what its cards paid here; somebody answers
    for what stand-in approved and no purse could pay.
    """
    codes = ("ACQ", "AGENT", "PENDING")
    standin = config.standin
    policies = (standin.transit, standin.utility, standin.retail)
    return [
        *((code, acquirer) for acquirer in acquirers(config) for code in codes),
        *(("INTERCITY", upstream.name) for upstream in config.upstreams),
        *(("SUSPENSE", owner) for owner in sorted({p.suspense_owner for p in policies})),
    ]
