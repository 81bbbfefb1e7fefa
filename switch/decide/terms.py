"""What the operator decided: everything a decision needs that is no fact of the ledger."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from protocols.message import Segment
from risk.deployment import Assessor
from risk.moments import Settings
from switch.fares.book import EMPTY_FARE_BOOK, FareBook
from switch.posting import Purse

TRUST_ACCOUNT = ("BANK", "trust")

PIN_TRIES_MAX = 3
"""Wrong PINs in a row after which even the right one is refused, until it is reset."""


class VenueTerms(msgspec.Struct, frozen=True):
    """What a venue's payments are decided by: purses in order, the most of one payment (0: any)."""

    purse_order: tuple[Purse, ...]
    amount_max_minor: int = 0


class Terms(msgspec.Struct, frozen=True):
    """What the operator decided: the ruleset, which purse pays what, caps, own accounts.

    `settlement_accounts` maps (chart code, owner) to the account id of transfers. A payment
    from GEN of more than `pin_above_minor` asks for the PIN. A hold is freed by itself after
    `hold_expiry_minutes`, or what its merchant category has instead; a pending load goes back
    to its agent after `load_expiry_minutes`. What stand-in approved and no purse can pay is
    kept in SUSPENSE, for the owner of its segment. `venues` are by code; a payment at none of
    them follows `purse_order`. `fares` prices taps.
    """

    rules: Assessor
    rule_settings: Settings
    purse_order: tuple[Purse, ...]
    transit_mccs: frozenset[str]
    general_refused_mccs: frozenset[str]
    pin_above_minor: int
    balance_caps_minor: Mapping[str, int]
    hold_expiry_minutes: int
    hold_expiry_minutes_by_mcc: Mapping[str, int]
    load_expiry_minutes: int
    holds_open_max: int
    suspense_owners: Mapping[Segment, str]
    settlement_accounts: Mapping[tuple[str, str], int]
    venues: Mapping[str, VenueTerms] = {}
    fares: FareBook = EMPTY_FARE_BOOK
