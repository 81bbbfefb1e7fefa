"""What is counted: a feature is a typed value over past events of a card, a place or a firm.

What a rule concludes from it is another matter (`rules.py`), so a counter can be shared by
rules and tuned on its own. How a feature is computed is in `counting.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, assert_never

import msgspec

from protocols.message import Outcome, Segment
from risk.conditions import Condition, Name
from risk.facts import HISTORY_EVENTS_MAX, HISTORY_SECONDS_MAX
from risk.places import DISTANCE_METRES_MAX, SPEED_KMH_MAX
from risk.vocabulary import PAST_FACTS, Unit

WINDOW_SECONDS_MIN = 10
WINDOW_SECONDS_MAX = HISTORY_SECONDS_MAX
FEATURES_PER_KEY_MAX = 12
"""Twelve counters over 512 events is what fits beside the ledger inside the tap budget."""


class Key(StrEnum):
    """Whose events are counted.

    Those of a card or an account are exact, for the history is in the account's shard. Those
    of a terminal, a merchant or an acquirer come from all shards: they are kept in buckets of
    a minute and round against the card (`buckets.py`).
    """

    CARD = "card"
    ACCOUNT = "account"
    CARD_MERCHANT = "card_merchant"
    """One card at the merchant of the request in hand."""
    TERMINAL = "terminal"
    MERCHANT = "merchant"
    ACQUIRER = "acquirer"


BUCKETED_KEYS = frozenset({Key.TERMINAL, Key.MERCHANT, Key.ACQUIRER})


class Aggregate(StrEnum):
    COUNT = "count"
    SUM = "sum"
    DISTINCT = "distinct"
    LAST = "last"
    """A field of the last event."""
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


class CalendarWeek(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="calendar_week"):
    """From the business day of Monday on: a running total of the account."""


class Lifetime(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="lifetime"):
    """Since the account was opened: a running total of it."""


Window = Trailing | CalendarDay | CalendarWeek | CalendarMonth | Lifetime
TotalWindow = CalendarWeek | CalendarMonth | Lifetime
"""Windows longer than the history: the ledger keeps their totals, and no single events."""
DistinctField = Literal[
    "terminal", "merchant", "mcc", "segment", "card_id", "venue", "stop", "vehicle"
]
SameField = Literal["stop", "vehicle", "merchant", "terminal"]
LastField = Literal["kind", "outcome"]
FIELD_VALUES_MAX = {"segment": len(Segment)}
"""Fields of which there are only so many values to tell apart."""


class Feature(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One counter. It never includes the request in hand.

    `field` is what `distinct` counts and what `last` reads; a sum is always of amounts (minor
    units). `codes`
    narrows declined events to these outcomes. `same` narrows to events where this field is
    the request's own: without it in the request the counter is unknown. `on_reversal` None is
    the default: sums restore, everything else keeps. `noun` is what people call the events
    ("taps"), `noun_zh` what they are called in Chinese ("刷卡").
    """

    id: Name
    key: Key
    aggregate: Aggregate
    basis: Basis
    window: Window
    field: DistinctField | LastField | Literal["amount"] | None = None
    codes: tuple[Outcome, ...] = ()
    where: Condition | None = None
    same: SameField | None = None
    on_reversal: OnReversal | None = None
    noun: Annotated[str, msgspec.Meta(max_length=30)] = ""
    noun_zh: Annotated[str, msgspec.Meta(max_length=20)] = ""

    @property
    def bucketed(self) -> bool:
        """Whether its value is added up from minute buckets outside, and not from history."""
        return self.key in BUCKETED_KEYS

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
            case Aggregate.LAST:
                return PAST_FACTS[self.field].unit if self.field else Unit.TEXT
            case Aggregate.SECONDS_SINCE_LAST:
                return Unit.SECONDS
            case Aggregate.DISTANCE_M:
                return Unit.METRES
            case Aggregate.SPEED_KMH:
                return Unit.SPEED
            case _:
                assert_never(self.aggregate)

    @property
    def low(self) -> int | None:
        """The least it can come to: a sum may have more given back than it had."""
        return None if self.aggregate is Aggregate.SUM else 0

    @property
    def high(self) -> int | None:
        """The most it can come to, or None where nothing bounds it."""
        if self.aggregate is Aggregate.SECONDS_SINCE_LAST:
            return self.window.seconds if isinstance(self.window, Trailing) else WINDOW_SECONDS_MAX
        if self.aggregate is Aggregate.DISTANCE_M:
            return DISTANCE_METRES_MAX
        if self.aggregate is Aggregate.SPEED_KMH:
            return SPEED_KMH_MAX
        if self.aggregate is Aggregate.LAST:
            return PAST_FACTS[self.field].high if self.field else None
        unbounded = self.bucketed or isinstance(self.window, TotalWindow)
        if self.aggregate is Aggregate.SUM or unbounded:
            return None
        if self.aggregate is Aggregate.DISTINCT:
            return FIELD_VALUES_MAX.get(self.field or "", HISTORY_EVENTS_MAX)
        return HISTORY_EVENTS_MAX
