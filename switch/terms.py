"""Decision terms: what the configuration says, and the ledger's rules or the configured ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path

from protocols.message import Segment
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.deployment import Assessor
from risk.moments import Settings
from switch.config import Config, ConfigError, Problem
from switch.decide import Terms
from switch.decide.terms import VenueTerms
from switch.fares.reading import load_fares
from switch.ledger.list_feed import Rows
from switch.ledger.rules_now import deployment_now
from switch.posting import Purse
from switch.venues import VenueTable, load_venues


def ruleset_text(config: Config) -> str:
    """The ruleset's TOML: the configured file's, else the shipped one's. Raises ConfigError."""
    if config.rules.file:
        try:
            return Path(config.rules.file).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            problem = Problem("rules.file", f"it cannot be read ({reason})", "name a ruleset")
            raise ConfigError(config.rules.file, [problem]) from None
    return files("risk").joinpath("first_ruleset.toml").read_text("utf-8")


def load_terms(config: Config, settlement_accounts: Mapping[tuple[str, str], int]) -> Terms:
    """What decisions are made by where there is no ledger to ask: the configured ruleset.

    Raises RulesetError, and ConfigError for the files.
    """
    ruleset = load_ruleset(ruleset_text(config), config.rules.file)
    return _terms(config, settlement_accounts, compile_ruleset(ruleset), ruleset.settings)


async def live_terms(
    config: Config, settlement_accounts: Mapping[tuple[str, str], int], rows: Rows, now_us: int
) -> Terms:
    """What the ledger's rules say now, for a process that decides a little and ends.

    Live ruleset and canary, lists, snoozes and pauses are as every worker has them; nobody
    follows the counters of places here, so those are unknown. A ledger without a ruleset, which
    `prepare` leaves none, is decided for by the configured one. Raises RulesetUnfit where this
    version cannot use the live ruleset, LedgerLost, and ConfigError for the files.
    """
    deployment = await deployment_now(rows, now_us)
    if deployment is None:
        return load_terms(config, settlement_accounts)
    return _terms(config, settlement_accounts, deployment, deployment.settings)


def _terms(
    config: Config,
    settlement_accounts: Mapping[tuple[str, str], int],
    rules: Assessor,
    rule_settings: Settings,
) -> Terms:
    venues = load_venues(config.venues.file)
    if problems := list(unknown_venues(config, venues)):
        raise ConfigError("the configuration", problems)
    return Terms(
        rules=rules,
        rule_settings=rule_settings,
        purse_order=tuple(Purse[code] for code in config.purses.order),
        transit_mccs=frozenset(config.purses.transit.mccs),
        general_refused_mccs=frozenset(config.purses.general.refused_mccs),
        pin_above_minor=config.purses.general.pin_above_minor,
        balance_caps_minor=config.tiers.balance_caps_minor(),
        hold_expiry_minutes=config.holds.expiry_minutes,
        hold_expiry_minutes_by_mcc=config.holds.expiry_minutes_by_mcc,
        load_expiry_minutes=config.holds.load_expiry_minutes,
        holds_open_max=config.holds.open_max_per_account,
        suspense_owners={
            Segment.TRANSIT: config.standin.transit.suspense_owner,
            Segment.UTILITY: config.standin.utility.suspense_owner,
            Segment.RETAIL: config.standin.retail.suspense_owner,
        },
        settlement_accounts=settlement_accounts,
        venues={
            venue.code: VenueTerms(
                tuple(Purse[code] for code in venue.purse_order), venue.amount_max_minor
            )
            for venue in venues.venues
        },
        fares=load_fares(config.fares.file, config.ledger.time_zone),
    )


def unknown_venues(config: Config, table: VenueTable) -> Iterator[Problem]:
    """What names a venue that is not in the table: its messages would be counted nowhere."""
    codes, modes = table.by_code(), table.by_mode()
    remedy = "name one that citycard venues shows"
    for index, link in enumerate(config.links):
        for code in link.venues:
            if code not in codes:
                yield Problem(f"links[{index}].venues", f"there is no venue {code}", remedy)
    for index, tap in enumerate(config.taps):
        for mode in tap.modes:
            if mode not in modes:
                problem = f"no venue has readers of mode {mode}"
                yield Problem(f"taps[{index}].modes", problem, "give a venue that mode")
    for index, biller in enumerate(config.billers):
        if biller.venue and biller.venue not in codes:
            yield Problem(f"billers[{index}].venue", f"there is no venue {biller.venue}", remedy)
