"""What every start does to the ledger before the first request: all of it may be repeated."""

from __future__ import annotations

from datetime import date

import msgspec

from risk.check import load_ruleset
from risk.findings import RulesetError
from risk.ruleset import ruleset_hash
from switch.calendar import BusinessCalendar
from switch.config import Config, ConfigError, acquirers
from switch.ledger import migrate, partitions, rulesets, sql
from switch.ledger.bridge import Connection
from switch.ledger.cards import card_key_fingerprint
from switch.ledger.rules_in_force import RulesetUnfit
from switch.ledger.ruleset_views import LIVE
from switch.terms import ruleset_text

_QUERIES = sql.queries()


class Prepared(msgspec.Struct, frozen=True):
    """What had to be done: migrations applied, and business days that got their partitions.

    `ruleset` is the hash of the first ruleset, where the ledger had none. `notices` are
    sentences for whoever starts the switch.
    """

    migrations: list[str]
    days: list[date]
    ruleset: str | None = None
    notices: tuple[str, ...] = ()


async def prepare(
    connection: Connection, config: Config, *, key: bytes, now_us: int, migrating: bool = True
) -> Prepared:
    """Check the server, migrate, write down settings, accounts, partitions, the first ruleset.

    Several processes may do this at once. With `migrating` False a ledger that lacks a
    migration is refused, so that starting a newer switch never changes a production schema
    by surprise. Raises LedgerUnfit (a server that may lose money, a ledger begun with other
    settings or another key, an older or a newer ledger, a live ruleset of a newer version), and
    what `ruleset_text` and `load_ruleset` raise for the ruleset of a fresh ledger.
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
    begun = await _first_ruleset(connection, config, now_us)
    live = await _live(connection)
    return Prepared(applied, days, begun, _notices(config, live))


async def _first_ruleset(connection: Connection, config: Config, now_us: int) -> str | None:
    """Give a ledger that has no ruleset the configured one, or the shipped one."""
    if await rulesets.listed(connection, count_max=1):
        return None
    source = ruleset_text(config)
    ruleset = load_ruleset(source, config.rules.file)
    return await rulesets.bootstrap(connection, ruleset, source, now_us)


async def _live(connection: Connection) -> str:
    """The hash of the live ruleset, '' where there is none. Raises RulesetUnfit.

    It is told here, once, what would keep each worker from starting.
    """
    try:
        hash = (await rulesets.found(connection, LIVE)).hash
    except rulesets.RulesetUnknown:
        return ""
    try:
        (await rulesets.text(connection, hash)).ruleset()
    except msgspec.DecodeError:
        raise RulesetUnfit(hash) from None
    return hash


def _notices(config: Config, live: str) -> tuple[str, ...]:
    """A configured ruleset that is not the one that decides is likely to be a mistake."""
    if not (config.rules.file and live):
        return ()
    try:
        configured = ruleset_hash(load_ruleset(ruleset_text(config), config.rules.file))
    except (ConfigError, RulesetError):
        configured = ""
    if configured == live:
        return ()
    return (
        f"the ledger's live ruleset {live[:8]} decides, and not the one of [rules] file; "
        "to change it run `citycard rules new FILE`, then have it approved and promoted",
    )


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
