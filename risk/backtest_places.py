"""What terminals, merchants and acquirers came to, added up anew from history.

The value that a decision used is stored with it. Where it is not (the counter is the draft's
own, or its rule was not reached) the replay adds it up: everything that was posted before the
request, by the minute and with the same rounding, as if every worker had known it at once. How
far that is from the stored values is reported. Days are fed and forgotten as the replay goes on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from protocols.message import Outcome
from risk.buckets import BUCKET_US, Addition, Buckets, PlaceEvent
from risk.facts import HISTORY_SECONDS_MAX
from risk.features import Basis, Feature

KEPT_US = 2 * HISTORY_SECONDS_MAX * 1_000_000
"""How long before a row its places are kept: a window of a day, and rows out of their order."""


class _Kept:
    """The additions of one place, in the order in which they were posted."""

    __slots__ = ("minutes", "sums", "taken", "times_us")

    def __init__(self) -> None:
        self.times_us: list[int] = []
        self.minutes: list[int] = []
        self.sums: list[int] = [0]
        """What all additions before a position come to."""
        self.taken: list[tuple[int, int, int]] = []
        """What was taken out again: (posted, minute of the event, amount below zero)."""

    def add(self, posted_at_us: int, minute: int, amount: int) -> None:
        self.times_us.append(posted_at_us)
        self.minutes.append(minute)
        self.sums.append(self.sums[-1] + amount)

    def forget(self, before_us: int) -> None:
        cut = bisect_left(self.times_us, before_us)
        del self.times_us[:cut], self.minutes[:cut], self.sums[:cut]
        self.taken = [each for each in self.taken if each[0] >= before_us]

    def total(self, first_minute: int, now_us: int) -> int:
        # Nothing is posted before it happened, so an event of the window was posted in it.
        start = bisect_left(self.times_us, first_minute * BUCKET_US)
        end = bisect_left(self.times_us, now_us)
        minutes = self.minutes
        while start < end and minutes[start] < first_minute:
            start += 1
        total = self.sums[end] - self.sums[start] if end > start else 0
        if self.taken:
            total += sum(
                amount
                for posted_us, minute, amount in self.taken
                if posted_us < now_us and minute >= first_minute
            )
        return total


class PlaceHistory:
    """Buckets of one ruleset's features of places, fed in the order of posting."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self._buckets = Buckets(features)
        self._kept: dict[tuple[bytes, str], _Kept] = {}

    def happened(self, event: PlaceEvent, posted_at_us: int) -> None:
        """Add a decided request."""
        for series, key, minute, amount in self._buckets.additions(event):
            self._of(series, key).add(posted_at_us, minute, amount)

    def gave_back(self, original: PlaceEvent, posted_at_us: int) -> None:
        """Take an event out again, from the instant when it was given back whole."""
        for addition in self._buckets.given_back(original):
            self._take(addition, posted_at_us)

    def forget(self, before_us: int) -> None:
        """Let go of what was posted before an instant, and of places that have nothing else."""
        for kept in self._kept.values():
            kept.forget(before_us)
        self._kept = {name: kept for name, kept in self._kept.items() if kept.times_us}

    def _take(self, addition: Addition, posted_at_us: int) -> None:
        kept = self._of(addition.series, addition.key)
        kept.taken.append((posted_at_us, addition.minute, addition.amount))

    def _of(self, series: bytes, key: str) -> _Kept:
        return self._kept.setdefault((series, key), _Kept())

    def read(self, series: bytes, key: str, first_minute: int, now_us: int) -> int:
        """What was known of a place at an instant, from a minute on."""
        kept = self._kept.get((series, key))
        return kept.total(first_minute, now_us) if kept is not None else 0


class PlaceQuery(NamedTuple):
    """Which rows a replay must read of all shards; None stands for every outcome."""

    outcomes: tuple[str, ...] | None
    restores: bool


def place_query(features: Iterable[Feature]) -> PlaceQuery | None:
    """What the features of places count at most; None where there are no such features."""
    places = [feature for feature in features if feature.bucketed]
    if not places:
        return None
    restores = any(feature.restores for feature in places)
    outcomes: set[str] = set()
    for feature in places:
        if feature.basis is Basis.DECLINED and feature.codes:
            outcomes |= {code.value for code in feature.codes}
        elif feature.basis is Basis.APPROVED:
            outcomes.add(Outcome.APPROVED.value)
        else:
            return PlaceQuery(None, restores)
    return PlaceQuery(tuple(sorted(outcomes)), restores)
