"""What may be approved while the ledger is away: a pure ladder of refusals over one request.

The first half is what the worker knows by itself; the second, the limits, is asked inside
the spool's transaction, where the sums of all workers are exact.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from protocols.message import Kind, Request
from switch.config_trouble import StandinPolicy

SALE_KINDS = frozenset({Kind.PURCHASE, Kind.FARE})
"""What may be approved: sales, and single taps by the fare that their reader knew."""

MICROSECONDS_PER_HOUR = 3_600_000_000


class Refusal(StrEnum):
    """Why stand-in does not approve, in order of precedence. On the wire each is a 91."""

    KIND = "kind"
    """Only sales and single taps are approved; whoever sends another kind repeats it."""
    SEGMENT = "segment"
    """The segment's policy is not enabled."""
    SWITCHED_OFF = "switched_off"
    """Stand-in is off: by configuration or by `citycard standin off`."""
    CURRENCY = "currency"
    PIN = "pin"
    """A PIN was entered, and nobody can verify it now."""
    AMOUNT = "amount"
    """Above the ceiling of one sale."""
    CARD_NOT_SEEN = "card_not_seen"
    """No approval of this card by this worker within `seen_hours`."""
    HOTLISTED = "hotlisted"
    CARD_COUNT = "card_count"
    CARD_AMOUNT = "card_amount"
    TOTAL = "total"
    SPOOL_FULL = "spool_full"
    SPOOL_UNUSABLE = "spool_unusable"


class CardStanding(msgspec.Struct, frozen=True, gc=False):
    """What a worker knows of a card without the ledger.

    `seen_at_us` is its latest approval in epoch microseconds, 0 for none that is remembered.
    """

    seen_at_us: int
    hotlisted: bool


class Exposure(msgspec.Struct, frozen=True, gc=False):
    """Sales approved since the outage began: how many, and minor units."""

    count: int = 0
    amount_minor: int = 0


def refusal_of(
    policy: StandinPolicy, request: Request, standing: CardStanding, now_us: int, currency: str
) -> Refusal | None:
    """Why a sale is not covered whatever the sums are; None where only they are left to ask.

    `currency` is the ledger's (ISO 4217 numeric).
    """
    if request.kind not in SALE_KINDS:
        return Refusal.KIND
    if not policy.enabled:
        return Refusal.SEGMENT
    if request.amount.currency != currency:
        return Refusal.CURRENCY
    if request.pin:
        return Refusal.PIN
    if request.amount.amount_minor > policy.amount_max_minor:
        return Refusal.AMOUNT
    known_from_us = now_us - policy.seen_hours * MICROSECONDS_PER_HOUR
    if not standing.seen_at_us or standing.seen_at_us < known_from_us:
        return Refusal.CARD_NOT_SEEN
    if standing.hotlisted:
        return Refusal.HOTLISTED
    return None


def limit_refusal(
    policy: StandinPolicy, amount_minor: int, card: Exposure, total: Exposure
) -> Refusal | None:
    """Which limit one more sale of this amount would break.

    `card` is what the card has in the segment since the outage began, `total` the segment.
    """
    if card.count + 1 > policy.card_count_max:
        return Refusal.CARD_COUNT
    if card.amount_minor + amount_minor > policy.card_amount_max_minor:
        return Refusal.CARD_AMOUNT
    if total.amount_minor + amount_minor > policy.total_max_minor:
        return Refusal.TOTAL
    return None
