"""What is concluded: a rule is a condition, a stage on the ladder and an effect.

Stages in order: red can't be overridden (law, lost or stolen), green is an expiring allow
that spares a card from amber, amber is velocity and limits, watch is recorded and never
decides.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from protocols.message import Kind, Outcome, Segment
from risk.conditions import Condition, Name, Text

RULES_MAX = 256
"""Two hundred rules with trace fit into a millisecond; beyond this the budget is gone."""
SCOPE_VALUES_MAX = 100
EXCEPT_LISTS_MAX = 4
MARKS_MAX = 4
TTL_SECONDS_MIN = 60
TTL_SECONDS_MAX = 366 * 86_400
"""An entry made by a rule ends by itself: it was no person's decision."""

RULE_OUTCOMES = frozenset(
    {
        Outcome.CARD_STOLEN,
        Outcome.CARD_LOST,
        Outcome.HOTLISTED,
        Outcome.SUSPECTED_FRAUD,
        Outcome.DO_NOT_HONOUR,
        Outcome.AMOUNT_LIMIT,
        Outcome.COUNT_LIMIT,
        Outcome.BALANCE_CAP,
    },
)
"""The declines a rule may give; the others tell what the switch or the ledger knows."""

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]
MerchantCategory = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}\Z")]


class Stage(StrEnum):
    RED = "red"
    GREEN = "green"
    AMBER = "amber"
    WATCH = "watch"


class OnError(StrEnum):
    """What a rule that can't be evaluated does: decline (do not honour), or nothing."""

    DECLINE = "decline"
    SKIP = "skip"


class Decline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="decline"):
    outcome: Outcome
    reason: Reason


class Allow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="allow"):
    """Spare the request from amber declines; red has been passed already."""

    reason: Annotated[str, msgspec.Meta(max_length=120)] = ""


class Challenge(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="challenge"):
    """Ask for the PIN (response 55), unless one was verified; unknown where nobody can say."""

    method: Literal["pin"]
    reason: Reason


class Tag(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="tag"):
    """Mark the authorization; the decision stays."""

    tag: Name


class Review(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="review"):
    """Put the authorization before a person afterwards; the decision stays."""

    queue: Name


class AddToList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="add_to_list"):
    """Put what the list holds of this request (its medium, its stop) on it, for so long."""

    list: Name
    ttl_s: Annotated[int, msgspec.Meta(ge=TTL_SECONDS_MIN, le=TTL_SECONDS_MAX)]


class ForceOnline(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="force_online"):
    """The card's next payment must be asked online; the decision stays."""


Mark = Tag | Review | AddToList | ForceOnline
"""What leaves the decision as it is."""
Then = Decline | Allow | Challenge | Mark

_Values = Annotated[tuple[Text, ...], msgspec.Meta(max_length=SCOPE_VALUES_MAX)]


class Scope(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"except_lists": "except"}
):
    """Which requests the rule is about; an empty set means all of them.

    `except_lists` are lists whose entries are left out: cards, merchants or stops. Where the
    request lacks what such a list holds, it is unknown whether the rule is about it.
    """

    kinds: tuple[Kind, ...] = ()
    segments: tuple[Segment, ...] = ()
    mccs: Annotated[tuple[MerchantCategory, ...], msgspec.Meta(max_length=SCOPE_VALUES_MAX)] = ()
    tiers: _Values = ()
    products: _Values = ()
    merchants: _Values = ()
    acquirers: _Values = ()
    venues: _Values = ()
    except_lists: Annotated[tuple[Name, ...], msgspec.Meta(max_length=EXCEPT_LISTS_MAX)] = ()


SCOPE_FACTS = {
    "kinds": "kind",
    "segments": "segment",
    "mccs": "mcc",
    "tiers": "tier",
    "products": "product",
    "merchants": "merchant",
    "acquirers": "acquirer",
    "venues": "venue",
}
"""Field of `Scope` → the fact it restricts."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One rule. From `expires_at` on it is no longer evaluated.

    `also` is done beside `then` when the rule fires. With `canary_percent` it is in force for
    that share of the cards only, chosen by a hash; for the others it is recorded as held.
    """

    id: Name
    version: Annotated[int, msgspec.Meta(ge=1, le=999_999)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=80)]
    stage: Stage
    when: Condition
    then: Then
    scope: Scope = Scope()
    on_error: OnError | None = None
    owner: Annotated[str, msgspec.Meta(max_length=80)] = ""
    ticket: Annotated[str, msgspec.Meta(max_length=80)] = ""
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    also: Annotated[tuple[Mark, ...], msgspec.Meta(max_length=MARKS_MAX)] = ()
    canary_percent: Annotated[int, msgspec.Meta(ge=1, le=99)] | None = None

    @property
    def declines_on_error(self) -> bool:
        """The default is by stage: red fails closed, the others are skipped."""
        if self.on_error is None:
            return self.stage is Stage.RED
        return self.on_error is OnError.DECLINE
