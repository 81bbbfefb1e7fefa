"""What is counted: a feature is a typed value over the history of a card or an account.

What a rule concludes from it is another matter (`rules.py`), so a counter can be shared by
rules and tuned on its own. How a feature is computed is in `counting.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, assert_never

import msgspec

from protocols.message import Outcome
from risk.conditions import Condition, Name
from risk.facts import HISTORY_EVENTS_MAX, HISTORY_SECONDS_MAX
from risk.places import DISTANCE_METRES_MAX, SPEED_KMH_MAX
from risk.vocabulary import Unit

WINDOW_SECONDS_MIN = 10
WINDOW_SECONDS_MAX = HISTORY_SECONDS_MAX
FEATURES_PER_KEY_MAX = 12
"""Twelve counters over 512 events is what fits beside the ledger inside the tap budget."""


class Key(StrEnum):
    """Whose events are counted; both are exact, for the history is in the account's shard."""

    CARD = "card"
    ACCOUNT = "account"


class Aggregate(StrEnum):
    COUNT = "count"
    SUM = "sum"
    DISTINCT = "distinct"
    SECONDS_SINCE_LAST = "seconds_since_last"
    DISTANCE_M = "distance_m"
    """From the place of the last event to this one's, in metres as the crow flies."""
    SPEED_KMH = "speed_kmh"
    """That distance by the time between, in whole kilometres an hour, rounded down."""


TRAVEL = frozenset({Aggregate.DISTANCE_M, Aggregate.SPEED_KMH})
"""Aggregates that need to know where a stop is."""


class Basis(StrEnum):
    """Which events count: all that were decided, those approved, or those declined."""

    ATTEMPTS = "attempts"
    APPROVED = "approved"
    DECLINED = "declined"


class OnReversal(StrEnum):
    """Whether a reversal gives back what the event had added."""

    RESTORE = "restore"
    KEEP = "keep"


class Trailing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="trailing"):
    """Events younger than this many seconds; one exactly that old is out."""

    seconds: Annotated[int, msgspec.Meta(ge=WINDOW_SECONDS_MIN, le=WINDOW_SECONDS_MAX)]


class CalendarDay(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="calendar_day"):
    """Events since the start of the service day."""


class CalendarMonth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="calendar_month"):
    """The business month, kept by the ledger as running totals of the account."""


Window = Trailing | CalendarDay | CalendarMonth

DistinctField = Literal[
    "terminal", "merchant", "mcc", "segment", "card_id", "venue", "stop", "vehicle"
]
SameField = Literal["stop", "vehicle", "merchant", "terminal"]


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One counter. It never includes the request in hand.

    `field` is what `distinct` counts; a sum is always of amounts (minor units). `codes`
    narrows declined events to these outcomes. `same` narrows to events where this field is
    the request's own: without it in the request the counter is unknown. `on_reversal` None is
    the default: sums restore, everything else keeps. `noun` is what people call the events
    ("taps").
    """

    id: Name
    key: Key
    aggregate: Aggregate
    basis: Basis
    window: Window
    field: DistinctField | Literal["amount"] | None = None
    codes: tuple[Outcome, ...] = ()
    where: Condition | None = None
    same: SameField | None = None
    on_reversal: OnReversal | None = None
    noun: Annotated[str, msgspec.Meta(max_length=30)] = ""

    @property
    def restores(self) -> bool:
        """Whether reversed events are left out."""
        if self.on_reversal is None:
            return self.aggregate is Aggregate.SUM
        return self.on_reversal is OnReversal.RESTORE

    @property
    def unit(self) -> Unit:
        match self.aggregate:
            case Aggregate.SUM:
                return Unit.MONEY
            case Aggregate.COUNT | Aggregate.DISTINCT:
                return Unit.COUNT
            case Aggregate.SECONDS_SINCE_LAST:
                return Unit.SECONDS
            case Aggregate.DISTANCE_M:
                return Unit.METRES
            case Aggregate.SPEED_KMH:
                return Unit.SPEED
            case _:
                assert_never(self.aggregate)

    @property
    def high(self) -> int | None:
        """The most it can come to, or None where nothing bounds it."""
        if self.aggregate is Aggregate.SECONDS_SINCE_LAST:
            return self.window.seconds if isinstance(self.window, Trailing) else WINDOW_SECONDS_MAX
        if self.aggregate is Aggregate.DISTANCE_M:
            return DISTANCE_METRES_MAX
        if self.aggregate is Aggregate.SPEED_KMH:
            return SPEED_KMH_MAX
        if self.aggregate is Aggregate.SUM or isinstance(self.window, CalendarMonth):
            return None
        return HISTORY_EVENTS_MAX
