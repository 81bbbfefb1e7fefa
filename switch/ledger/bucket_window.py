"""Minute buckets as one worker knows them: what was read of them, and what it posted since.

The newest minutes change and are read again and again; the older ones are settled, and what
they come to is remembered until one of them changes. Whatever is in doubt counts against the
card: an own posting is added at once, and once more where a read under way may have had it; what
it gives back waits for the next read, for the last one may have had it already.

    asked ── read under way, own postings kept ──▶ replaced: these minutes are as read, and what
                                                   was posted meanwhile is added to them again
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from risk.buckets import BUCKET_US, Addition

CELLS_MAX = 500_000
"""Buckets that are kept (about 150 bytes each): a city's terminals for a day, each in use for
some minutes of it."""
SUMS_MAX = 100_000
"""Sums of settled minutes that are remembered before all are worked out anew."""


class Read(NamedTuple):
    """One bucket as read, summed over shards and slots."""

    minute: int
    series: bytes
    key: str
    amount: int


class _Series(msgspec.Struct):
    """One series: back to which minute, from when it is complete, what each minute has of whom.

    `known_minutes` is how far back all of its minutes were read once, 0 where they never were.
    `since_us` None: nobody declared it.
    """

    reach_minutes: int
    since_us: int | None = None
    known_minutes: int = 0
    newest: int = 0
    minutes: dict[int, dict[str, int]] = msgspec.field(default_factory=dict)
    settled: dict[tuple[str, int], int] = msgspec.field(default_factory=dict)

    @property
    def cells(self) -> int:
        return sum(map(len, self.minutes.values()))

    def add(self, minute: int, key: str, amount: int) -> None:
        amounts = self.minutes.setdefault(minute, {})
        amounts[key] = amounts.get(key, 0) + amount
        self.newest = max(self.newest, minute)

    def taken(self, first: int, until: int | None) -> dict[int, dict[str, int]]:
        """Take these minutes out."""
        minutes = [m for m in self.minutes if m >= first and (until is None or m < until)]
        return {minute: self.minutes.pop(minute) for minute in minutes}

    def forget_sums(self, before: Mapping[int, dict[str, int]], first: int, until: int) -> None:
        """Where one of these minutes is not what it was before; a settled one rarely changes."""
        minutes = self.minutes
        if any(minutes.get(minute) != before.get(minute) for minute in range(first, until)):
            self.settled.clear()


class BucketWindow:
    """What each series comes to from some minute on; pure, and told the time by the minute.

    `cells_max` bounds what is kept. When it is reached the largest series is given up: it is
    unknown, rather than counted in part, until other series are followed.
    """

    def __init__(self, cells_max: int = CELLS_MAX) -> None:
        self._cells_max = cells_max
        self._series: dict[bytes, _Series] = {}
        self._meanwhile: list[Addition] = []
        self._asked = False
        self._hot_from = 0
        self.given_up: set[bytes] = set()
        """Series that were too large to be followed."""

    @property
    def series(self) -> list[bytes]:
        """Which are followed, without those that were given up."""
        return [name for name in self._series if name not in self.given_up]

    @property
    def partial(self) -> list[bytes]:
        """Series of which not all minutes were read yet."""
        followed = ((name, self._series[name]) for name in self.series)
        return [name for name, each in followed if each.known_minutes < each.reach_minutes]

    @property
    def cells(self) -> int:
        return sum(each.cells for each in self._series.values())

    def follow(self, reach_minutes: Mapping[bytes, int]) -> None:
        """Follow these series, each so far back, and forget the others.

        What is followed further back than before is known as far as it was, until all is read.
        """
        kept = self._series
        self._series = {}
        for name, reach in reach_minutes.items():
            known = self._series[name] = kept.get(name) or _Series(reach)
            known.reach_minutes = max(known.reach_minutes, reach)
        self.given_up.clear()

    def distrust(self) -> None:
        """Nothing was read for long: all of it must be read again before it counts."""
        for each in self._series.values():
            each.known_minutes = 0

    def reach_minutes(self, names: Iterable[bytes]) -> int:
        """How far back the longest of these series looks."""
        return max((self._series[name].reach_minutes for name in names), default=0)

    def settle(self, hot_from: int) -> None:
        """Minutes from this one on change all the time; drops what no window reaches any more."""
        if hot_from == self._hot_from:
            return
        self._hot_from = hot_from
        for each in self._series.values():
            each.settled.clear()
            for minute in [m for m in each.minutes if m < hot_from - each.reach_minutes]:
                del each.minutes[minute]

    def asked(self) -> None:
        """A read is under way: whatever is posted from now on, it may have or not."""
        self._asked = True
        self._meanwhile.clear()

    def not_read(self) -> None:
        """The read that was under way failed; what was read before stands."""
        self._asked = False
        self._meanwhile.clear()

    def replaced(
        self, names: Iterable[bytes], first: int, until: int | None, rows: Iterable[Read]
    ) -> None:
        """These minutes of these series are as read (`until` excluded, None: all newer ones)."""
        followed = {name: self._series[name] for name in names if name in self._series}
        before = {name: each.taken(first, until) for name, each in followed.items()}
        for minute, name, key, amount in rows:
            known = followed.get(name)
            if known is not None and minute >= self._hot_from - known.reach_minutes:
                known.add(minute, sys.intern(key), amount)
        for name, each in followed.items():
            each.forget_sums(before[name], first, min(until or self._hot_from, self._hot_from))
        meanwhile, self._meanwhile = self._meanwhile, []
        self._asked = False
        for addition in meanwhile:
            inside = addition.minute >= first and (until is None or addition.minute < until)
            if inside and addition.series in followed:
                self._add(addition)
        self._keep_bounds()

    def declared(self, since_us: Mapping[bytes, int]) -> None:
        """From when on the followed series are complete; those that are not here are unknown."""
        for name, each in self._series.items():
            each.since_us = since_us.get(name)

    def read_whole(self, names: Iterable[bytes]) -> None:
        """All minutes of these were read."""
        for name in names:
            if name in self._series and name not in self.given_up:
                self._series[name].known_minutes = self._series[name].reach_minutes

    def posted(self, additions: Iterable[Addition]) -> None:
        """What this worker has just posted, so that it knows it before it reads it."""
        for addition in additions:
            if addition.amount <= 0:
                continue
            self._add(addition)
            if self._asked:
                self._meanwhile.append(addition)

    def value(self, series: bytes, key: str, first: int) -> int | None:
        """What the buckets from that minute on come to; None where nobody can vouch for it."""
        known = self._series.get(series)
        if known is None or known.since_us is None or series in self.given_up:
            return None
        hot_from, known_minutes = self._hot_from, known.known_minutes
        if not known_minutes or first < hot_from - known_minutes:
            return None
        if first * BUCKET_US < known.since_us:
            return None
        minutes = known.minutes
        settled = known.settled.get((key, first))
        if settled is None:
            settled = sum(
                amounts.get(key, 0)
                for minute, amounts in minutes.items()
                if first <= minute < hot_from
            )
            if len(known.settled) >= SUMS_MAX:
                known.settled.clear()
            known.settled[key, first] = settled
        hot = 0
        span = range(max(first, hot_from), known.newest + 1)
        # A clock that is far ahead has made the newest minute one that is long to come.
        for minute in span if len(span) <= len(minutes) else [m for m in minutes if m in span]:
            amounts = minutes.get(minute)
            if amounts is not None:
                hot += amounts.get(key, 0)
        return settled + hot

    def _add(self, addition: Addition) -> None:
        known = self._series.get(addition.series)
        if known is None or addition.series in self.given_up:
            return
        known.add(addition.minute, addition.key, addition.amount)
        if addition.minute < self._hot_from:
            known.settled.clear()

    def _keep_bounds(self) -> None:
        while self.cells > self._cells_max:
            largest = max(self.series, key=lambda name: self._series[name].cells)
            self.given_up.add(largest)
            given_up = self._series[largest]
            given_up.known_minutes = 0
            given_up.minutes.clear()
            given_up.settled.clear()
