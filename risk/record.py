"""What a decision leaves behind: the result of each rule, what is to be done, and the counters.

It is stored with the authorization, so a row of any earlier version must stay readable: fields
are only ever added, with a default that means "as it was before".
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from protocols.message import Kind, Outcome
from risk.conditions import Name
from risk.facts import Facts
from risk.lists import ListField
from risk.rules import Stage
from risk.vocabulary import CURRENT_FACTS


class Effect(StrEnum):
    """What a rule that fired, or couldn't tell, came to."""

    DECLINED = "declined"
    ALLOWED = "allowed"
    OVERRIDDEN = "overridden"
    CHALLENGED = "challenged"
    MET = "met"
    """A challenge that the request had answered already."""
    TAGGED = "tagged"
    QUEUED = "queued"
    LISTED = "listed"
    FORCED_ONLINE = "forced_online"
    WATCHED = "watched"
    SNOOZED = "snoozed"
    HELD = "held"
    """A canary that fired for a card it isn't in force for yet."""
    UNKNOWN = "unknown"
    FAILED = "failed"
    CUT_OUT = "cut_out"
    """Not evaluated: the rule overran its cost."""
    PAUSED = "paused"
    """Not evaluated: a person, or the switch by itself, has paused the rule."""


class RuleResult(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One rule that fired, was unknown, failed, or was not evaluated (cut out, paused).

    `outcome` is what it would answer, if it declines. `why` names the missing facts of an
    unknown rule, the kind of fault of a failed one, the tag, the queue or the list.
    """

    rule_id: str
    version: int
    stage: Stage
    effect: Effect
    outcome: Outcome | None = None
    why: str = ""


class ReviewRequest(msgspec.Struct, frozen=True, gc=False):
    """Put the authorization into this queue, on behalf of this rule."""

    queue: Name
    rule_id: Name


class Tagged(msgspec.Struct, frozen=True, gc=False):
    tag: Name
    rule_id: Name


class ListAddition(msgspec.Struct, frozen=True, gc=False):
    """Add what the list holds of this request for `ttl_s` seconds; `listed_value` reads it.

    The value itself isn't stored beside the results: the authorization has it.
    """

    list: Name
    field: ListField
    ttl_s: int
    rule_id: Name


class Effects(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be done beside the decision, by whoever posts it.

    `challenge` is what the answer asks for: "pin", or nothing.
    """

    challenge: str = ""
    reviews: tuple[ReviewRequest, ...] = ()
    tags: tuple[Tagged, ...] = ()
    additions: tuple[ListAddition, ...] = ()
    force_online: bool = False


class AssessedFacts(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The facts of an assessment that the authorization's own row does not have.

    With the row and the account's history they are all that was decided on, so that it can be
    explained, and decided again by a backtest. The fields are those of `Facts`; `kind` is there
    where the posting is of another kind than the request.
    """

    amount_minor: int = 0
    balance_minor: int | None = None
    card_status: str = "active"
    tier: str = ""
    product: str = ""
    kind: Kind | None = None
    line: str = ""
    mode: str = ""
    event_age_s: int | None = 0
    channel: str = "online"
    pin: str = "none"
    clock_skew_s: int | None = None
    card_age_days: int | None = None
    holder_class: str = ""
    month_count: int | None = 0
    month_minor: int | None = 0
    week_count: int | None = None
    week_minor: int | None = None
    lifetime_count: int | None = None
    lifetime_minor: int | None = None
    medium_known: bool = True
    """Whether the card's medium was a fact: a counter that finds a card by its id has none."""


def assessed_facts(facts: Facts) -> AssessedFacts:
    """What of the facts is stored beside the results."""
    totals = facts.totals
    return AssessedFacts(
        facts.amount_minor,
        facts.balance_minor,
        facts.card_status,
        facts.tier,
        facts.product,
        None,
        facts.line,
        facts.mode,
        facts.event_age_s,
        facts.channel,
        facts.pin,
        facts.clock_skew_s,
        facts.card_age_days,
        facts.holder_class,
        totals.month_count,
        totals.month_minor,
        totals.week_count,
        totals.week_minor,
        totals.lifetime_count,
        totals.lifetime_minor,
        bool(facts.medium),
    )


class Assessment(msgspec.Struct, frozen=True, omit_defaults=True):
    """The decision of a ruleset about one request, and all that led to it.

    `decision` is APPROVED when nothing declines. The deciding rule is the one that declined,
    or the green one that kept an amber rule from declining; `reason` is its own text and
    `because` the figures of its condition ("{card}" stands for the card, which is not known
    here). `features` holds the counters that were asked for; None is unknown. `effects` is
    None where there is nothing else to do. `facts` is None in rows of before there were any.
    """

    decision: Outcome
    ruleset_hash: str
    rule_id: str = ""
    rule_version: int = 0
    reason: str = ""
    because: str = ""
    results: tuple[RuleResult, ...] = ()
    features: dict[str, int | str | None] = {}
    effects: Effects | None = None
    facts: AssessedFacts | None = None


def listed_value(addition: ListAddition, facts: Facts) -> int | str | None:
    """What an addition puts on its list; None where the request lacks it."""
    value: int | str | None = getattr(facts, CURRENT_FACTS[addition.field].attribute)
    return None if value == "" else value


class StoredResultsInvalid(ValueError):
    """Stored results that can't be read; they were not written by `encode_results`."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Assessment)


def encode_results(assessment: Assessment) -> bytes:
    """The assessment as compact JSON for the authorization's row; empty fields are left out."""
    return _encoder.encode(assessment)


def decode_results(stored: bytes) -> Assessment:
    """The assessment of a row; raises `StoredResultsInvalid` without quoting what was stored."""
    try:
        return _decoder.decode(stored)
    except msgspec.DecodeError:
        raise StoredResultsInvalid(
            "the stored rule results are not an assessment; check which version wrote the row"
        ) from None
