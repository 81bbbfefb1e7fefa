"""Counters of a terminal, a merchant or an acquirer: what each event adds to which minute.

The events of a place come from cards of every shard, so no account's history has them all.
What they add up to is kept by the minute; a window is then the sum of all buckets from the one
in which it begins, whole. So it *rounds against the card*: never below the exact window, and
above it by no more than what the oldest bucket holds. A window of an hour is its 60 minutes
and the rest of the minute in which the hour began.

    add:    additions(event)  → (series, key, minute, +1 or +amount)
    back:   the same additions, negative, where a reversal gives back (`on_reversal`)
    sum:    everything of (series, key) from `first_minute` on

Nothing here keeps a bucket: the ledger writes them with the posting, and whoever follows them
hands the sums to `Facts.buckets`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple, assert_never

import msgspec

from protocols.message import Kind, Outcome, Segment
from risk.counting import event_counts
from risk.facts import Facts, History, empty_history
from risk.features import (
    Aggregate,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Key,
    Lifetime,
    Trailing,
)

BUCKET_SECONDS = 60
BUCKET_US = BUCKET_SECONDS * 1_000_000


class PlaceEvent(msgspec.Struct, frozen=True, gc=False):
    """One decided request as buckets see it: where it was, and what a feature's `where` reads.

    `at_us` is epoch microseconds of the decision; of what is given back, those of the event
    itself. Amounts are minor units. Empty text is a missing field.
    """

    at_us: int
    acquirer: str
    merchant: str
    terminal: str
    card_id: int
    kind: Kind
    amount_minor: int
    outcome: Outcome
    segment: Segment
    mcc: str
    venue: str = ""
    stop: str = ""
    vehicle: str = ""


class Addition(NamedTuple):
    """What to add to one bucket. `series` (8 bytes) names what is counted, `key` of whom.

    `minute` counts whole minutes since the epoch; `amount` is minor units for a sum and a
    number of events for a count, below zero where something is given back.
    """

    series: bytes
    key: str
    minute: int
    amount: int


class _Counter(NamedTuple):
    series: bytes
    key: Key
    sums: bool
    restores: bool
    counts: Callable[[History], bool]


class Buckets:
    """The bucketed features of a ruleset, ready to tell what an event adds."""

    __slots__ = ("_counters",)

    def __init__(self, features: Iterable[Feature]) -> None:
        by_series: dict[bytes, _Counter] = {}
        for feature in features:
            if feature.bucketed:
                by_series.setdefault(series_of(feature), _counter(feature))
        self._counters = tuple(by_series.values())

    def additions(self, event: PlaceEvent) -> list[Addition]:
        """What a decided request adds; nothing where it names no terminal, merchant, acquirer."""
        history = _alone(event)
        return [
            Addition(each.series, key, minute_of(event.at_us), _amount(each, event))
            for each in self._counters
            if (key := key_of(each.key, event.acquirer, event.merchant, event.terminal))
            and each.counts(history)
        ]

    def given_back(self, event: PlaceEvent) -> list[Addition]:
        """What is taken out again when the event is reversed, whole."""
        restoring = {each.series for each in self._counters if each.restores}
        return [
            addition._replace(amount=-addition.amount)
            for addition in self.additions(event)
            if addition.series in restoring
        ]


def minute_of(at_us: int) -> int:
    """The bucket of a moment: whole minutes since the epoch."""
    return at_us // BUCKET_US


def first_minute(feature: Feature, now_us: int, day_start_us: int) -> int:
    """The oldest bucket of the feature's window, which is counted whole.

    An event exactly as old as a trailing window is out; a service day begins with a minute,
    so its sum is exact.
    """
    match feature.window:
        case Trailing(seconds=seconds):
            return minute_of(now_us - seconds * 1_000_000 + 1)
        case CalendarDay():
            return minute_of(day_start_us)
        case CalendarWeek() | CalendarMonth() | Lifetime():
            raise AssertionError("buckets are kept for a day; the checks refuse longer windows")
        case _:
            assert_never(feature.window)


def window_sum(by_minute: Mapping[int, int], first: int) -> int:
    """All from that minute on: what a faster clock has put into the next minute counts too."""
    return sum(amount for minute, amount in by_minute.items() if minute >= first)


def key_of(key: Key, acquirer: str, merchant: str, terminal: str) -> str:
    """Who a bucket belongs to; terminals and merchants are numbered by their acquirer.

    Empty where the request does not name one.
    """
    match key:
        case Key.TERMINAL:
            return f"{acquirer}/{terminal}" if terminal else ""
        case Key.MERCHANT:
            return f"{acquirer}/{merchant}" if merchant else ""
        case Key.ACQUIRER:
            return acquirer
        case Key.CARD | Key.ACCOUNT | Key.CARD_MERCHANT:
            raise AssertionError("cards and accounts have their history")
        case _:
            assert_never(key)


@lru_cache(maxsize=1_024)
def series_of(feature: Feature) -> bytes:
    """8 bytes that name what is counted, whatever the feature is called and however long it looks.

    So a renamed feature, or one with another window, goes on with the buckets that there are,
    and one that counts anything else begins with none.
    """
    counted = (
        feature.key,
        feature.aggregate,
        feature.basis,
        sorted(feature.codes),
        feature.where,
        feature.restores,
    )
    return hashlib.blake2b(msgspec.json.encode(counted), digest_size=8).digest()


def bucket_values(
    features: Iterable[Feature],
    facts: Facts,
    read: Callable[[bytes, str, int], int | None],
) -> dict[str, int | None]:
    """`Facts.buckets` for a request: by feature id, None where nobody knows.

    `read` (series, key, first minute) adds up what is known of these buckets, or is None
    while it cannot vouch for them.
    """
    values: dict[str, int | None] = {}
    for feature in features:
        if not feature.bucketed:
            continue
        key = key_of(feature.key, facts.acquirer, facts.merchant, facts.terminal)
        first = first_minute(feature, facts.now_us, facts.day_start_us)
        values[feature.id] = read(series_of(feature), key, first) if key else None
    return values


def _counter(feature: Feature) -> _Counter:
    return _Counter(
        series_of(feature),
        feature.key,
        feature.aggregate is Aggregate.SUM,
        feature.restores,
        event_counts(feature),
    )


def _amount(counter: _Counter, event: PlaceEvent) -> int:
    return event.amount_minor if counter.sums else 1


def _alone(event: PlaceEvent) -> History:
    """A history of this one event, so that it is judged by the filters that history is."""
    history = empty_history()
    history.append(
        at_us=event.at_us,
        card_id=event.card_id,
        kind=event.kind,
        amount_minor=event.amount_minor,
        outcome=event.outcome,
        segment=event.segment,
        mcc=event.mcc,
        merchant=event.merchant,
        terminal=event.terminal,
        venue=event.venue,
        stop=event.stop,
        vehicle=event.vehicle,
    )
    return history
