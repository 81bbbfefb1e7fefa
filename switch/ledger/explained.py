"""The shapes in which an authorization is told: what was asked, answered, why, what came of it.

No card number is in them, for the ledger has none; a card is its id and its last four digits.
"""

from __future__ import annotations

from datetime import date

import msgspec

from risk.record import AssessedFacts
from switch.ledger.reviews import ReviewVerdict


class Asked(msgspec.Struct, frozen=True):
    """The request as it is stored. Amounts are minor units."""

    kind: str
    message_class: str
    segment: str
    amount_minor: int
    currency: str
    card_id: int
    last4: str
    acquirer: str
    link: str
    terminal: str
    merchant: str
    mcc: str
    entry_mode: str
    stan: str
    local_at: str
    venue: str
    stop: str
    vehicle: str
    original_id: int


class Answered(msgspec.Struct, frozen=True):
    """The answer; `response_code` is DE39 of the outcome, `sentence` what was said of it."""

    outcome: str
    response_code: str
    approved_minor: int
    purse: int
    auth_code: str
    rrn: str
    sentence: str


class Decider(msgspec.Struct, frozen=True):
    """The ruleset that decided, with its state now ('' where the ledger does not have it)."""

    hash: str
    state: str
    title: str


class FeatureSeen(msgspec.Struct, frozen=True):
    """A counter as it was when it was decided (None: unknown), and what rules compare it with."""

    id: str
    says: str
    value: int | str | None
    shown: str
    limits: tuple[str, ...]


class RuleSeen(msgspec.Struct, frozen=True):
    """A rule that left a trace: it fired, was unknown, snoozed, held, paused or cut out.

    `decided` tells that the answer is this rule's.
    """

    rule_id: str
    version: int
    stage: str
    effect: str
    outcome: str
    why: str
    name: str
    sentence: str
    decided: bool


class Followed(msgspec.Struct, frozen=True):
    """A later message about the authorization; `at_us` is when it was decided."""

    authorization_id: int
    kind: str
    outcome: str
    approved_minor: int
    at_us: int
    sentence: str


class HoldSeen(msgspec.Struct, frozen=True):
    """The hold that it opened, as it stands."""

    purpose: str
    purse: int
    amount_minor: int
    status: str
    expires_at_us: int
    resolved_by: int


class TagSeen(msgspec.Struct, frozen=True):
    tag: str
    rule_id: str


class ListingSeen(msgspec.Struct, frozen=True):
    """An entry that a rule made of it, in force from `from_us` until before `until_us`."""

    list: str
    field: str
    value: str
    rule_id: str
    from_us: int
    until_us: int


class ShadowSeen(msgspec.Struct, frozen=True):
    """What a ruleset in shadow would have said, where it was kept as an example."""

    hash: str
    rule_id: str
    answered: str
    shadow: str
    sentence: str


class Became(msgspec.Struct, frozen=True):
    """What became of it."""

    followers: tuple[Followed, ...] = ()
    hold: HoldSeen | None = None
    tags: tuple[TagSeen, ...] = ()
    reviews: tuple[ReviewVerdict, ...] = ()
    listings: tuple[ListingSeen, ...] = ()
    shadows: tuple[ShadowSeen, ...] = ()


class Explained(msgspec.Struct, frozen=True):
    """One authorization. Instants are epoch microseconds, `key` is 32 hex digits.

    `facts` is what it was decided on beside the row, None where no rules were asked.
    `balance_minor` and the totals in it are of the moment before it was decided.
    """

    authorization_id: int
    business_date: date
    shard: int
    at_us: int
    posted_at_us: int
    key: str
    asked: Asked
    answered: Answered
    decider: Decider | None
    facts: AssessedFacts | None
    features: tuple[FeatureSeen, ...]
    rules: tuple[RuleSeen, ...]
    because: str
    became: Became
