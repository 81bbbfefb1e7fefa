"""Rides and chips of the model ledger: fare days, rights and counters, worked out the long way."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from protocols.message import Kind
from switch.calendar import epoch_us
from switch.posting import ChipChange, ChipFacts, ChipGap, Entitlement, FareFacts, TapEvent


class ModelRecord(msgspec.Struct, frozen=True):
    """The first record under a counter."""

    digest: bytes
    batch: bytes
    suspense: bool


class ModelChip(msgspec.Struct):
    """What came of a card's chip, and what it said at its last load."""

    records: dict[int, ModelRecord] = msgspec.field(default_factory=dict)
    others: dict[int, set[bytes]] = msgspec.field(default_factory=dict)
    proven_counter: int = -1
    proven_missing_minor: int = 0

    def takes(self, change: ChipChange) -> bool:
        """Whether a posting may be written: a counter moves a purse once."""
        if not change.digest or change.counter not in self.records:
            return True
        return change.suspense and change.digest not in self.others.get(change.counter, set())

    def write(self, change: ChipChange) -> None:
        if change.digest:
            record = ModelRecord(change.digest, change.batch, change.suspense)
            if self.records.setdefault(change.counter, record) is not record:
                self.others.setdefault(change.counter, set()).add(change.digest)
        else:
            self.proven_counter = change.counter
            self.proven_missing_minor = change.missing_minor

    def facts(self, counter: int) -> ChipFacts:
        highest = max(self.records, default=-1)
        gaps: list[ChipGap] = []
        for number in range(highest):
            if number in self.records:
                continue
            if gaps and gaps[-1].last == number - 1:
                gaps[-1] = ChipGap(gaps[-1].first, number)
            else:
                gaps.append(ChipGap(number, number))
        stored = self.records.get(counter, ModelRecord(b"", b"", False))
        return ChipFacts(
            highest,
            tuple(gaps),
            stored.digest,
            stored.batch,
            stored.suspense,
            self.proven_counter,
            self.proven_missing_minor,
            tuple(sorted(self.others.get(counter, set()))),
        )


class ModelRight(msgspec.Struct):
    """A right to a fare class; `until_us` comes nearer when it is ended."""

    fare_class: int
    from_us: int
    until_us: int


def fare_facts(
    taps: Iterable[TapEvent], open_journeys: set[int], rights: Iterable[ModelRight], day: date
) -> FareFacts:
    """Of an account's taps that stand those of a fare day, and those that begin its journeys;
    of journeys that were over in the week before, and ended on no other day, both."""
    taps = list(taps)
    journeys = open_journeys | {tap.journey_id for tap in taps if tap.fare_date == day} - {0}
    ended = {tap.journey_id for tap in taps if tap.kind is Kind.TAP_OFF and tap.fare_date != day}
    over = [
        tap
        for tap in taps
        if tap.kind is Kind.INCOMPLETE_FARE
        and tap.fare_date >= day - timedelta(7)
        and tap.journey_id not in ended
    ]
    named = journeys | {tap.journey_id for tap in over} | {tap.authorization_id for tap in over}
    told = [tap for tap in taps if tap.fare_date == day or tap.authorization_id in named]
    told.sort(key=lambda tap: (tap.event_at_us, tap.authorization_id))
    since_us, until_us = (
        epoch_us(datetime.combine(day + timedelta(days), time(), UTC)) for days in (-1, 2)
    )
    held = [
        Entitlement(right.fare_class, right.from_us, right.until_us)
        for right in rights
        if right.from_us < until_us and right.until_us > max(right.from_us, since_us)
    ]
    held.sort(key=lambda right: right.from_us)
    return FareFacts(tuple(told), tuple(held))
