"""What every start does to the ledger before the first request: all of it may be repeated."""

from __future__ import annotations

from datetime import date

import msgspec

from switch.calendar import BusinessCalendar
from switch.config import Config
from switch.ledger import migrate, partitions
from switch.ledger.bridge import Connection
from switch.ledger.cards import card_key_fingerprint


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
        acquirers=sorted({link.acquirer for link in config.links}),
    )
    today = BusinessCalendar(ledger.time_zone, ledger.cut_off).business_date(now_us)
    days = await partitions.make_ahead(connection, today, ledger.partitions_ahead_days)
    return Prepared(applied, days)
