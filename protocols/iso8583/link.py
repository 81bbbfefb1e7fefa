"""What an acquirer's link has agreed on: dialect, framing, budget, currencies, identity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from protocols.framing import Framing
from protocols.iso8583.client import Dialect
from protocols.message import Segment

KeyPart = Literal["acquirer", "terminal", "stan", "local_at", "message_class", "merchant"]
"""What can tell one message of an acquirer from another (domain §4.1)."""

MessageClass = Literal["01", "02", "04"]
"""Classes of messages that carry an idempotency key: version 0, and 1, 2 or 4."""

KEY_PARTS_DEFAULT: tuple[KeyPart, ...] = (
    "acquirer",
    "terminal",
    "stan",
    "local_at",
    "message_class",
)


class LinkTerms(msgspec.Struct, frozen=True):
    """The terms of one link.

    `acquirer` is the DE32 that its messages carry, or that is taken for them where they
    carry none. `budget_ms` is what a request has from its first byte to its answer.
    `currencies` are the ISO 4217 numeric codes accepted in DE49. `match_key` names the parts
    of the idempotency key, `match_key_by_class` other ones for a class of messages, such as
    "04". `partial_approval` says that its terminals take less than they ask for (response
    10). `default_mcc` stands in for DE18, which terminals do not send. `venues` are the venue
    codes by merchant category.
    Raises ValueError for terms that no message could meet.
    """

    name: str
    dialect: Dialect
    framing: Framing
    acquirer: str
    segment: Segment
    budget_ms: int
    currencies: tuple[str, ...]
    match_key: tuple[KeyPart, ...] = KEY_PARTS_DEFAULT
    default_mcc: str = ""
    partial_approval: bool = False
    match_key_by_class: Mapping[MessageClass, tuple[KeyPart, ...]] = {}
    venues: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if self.budget_ms <= 0:
            raise ValueError("budget_ms is not positive; give whole milliseconds above 0")
        if not self.currencies:
            raise ValueError("no currency is accepted; give at least one code, such as 156")
        keys = (self.match_key, *self.match_key_by_class.values())
        if any("terminal" not in key or "stan" not in key for key in keys):
            raise ValueError("match_key does not tell messages apart; name terminal and stan in it")
