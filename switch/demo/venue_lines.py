"""A line for each venue and each segment: messages, what became of them, how long they took.

Latencies are of the load generators, from when a message was due, and so hold the way through
their own process too. They are set beside the venue's budget for the switch's own time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec

from protocols.message import Segment
from switch.demo.answered import Answered
from switch.venues import Venue, VenueTable


class Line(msgspec.Struct, frozen=True):
    """Messages answered, and percentiles in milliseconds of those that somebody waited for."""

    messages: int
    approved: int
    declined: int
    p50_ms: float
    p99_ms: float


class VenueLine(msgspec.Struct, frozen=True):
    """A venue with its figures; `within`: its p99 is no more than its budget."""

    number: int
    code: str
    name: str
    name_zh: str
    segment: Segment
    line: Line
    budget_p99_ms: int
    within: bool


class SegmentLine(msgspec.Struct, frozen=True):
    """All venues of a segment together."""

    segment: Segment
    line: Line


def venue_lines(answers: Iterable[Answered], table: VenueTable) -> list[VenueLine]:
    """A line for each venue of the table, in its order."""
    by_venue = _by_venue(answers, table)
    return [
        _venue_line(venue, line_of(by_venue[venue.code]))
        for venue in sorted(table.venues, key=lambda venue: venue.number)
    ]


def segment_lines(answers: Iterable[Answered], table: VenueTable) -> list[SegmentLine]:
    """A line for each segment."""
    by_venue = _by_venue(answers, table)
    return [
        SegmentLine(
            segment,
            line_of(
                [
                    answer
                    for venue in table.venues
                    if venue.segment is segment
                    for answer in by_venue[venue.code]
                ]
            ),
        )
        for segment in Segment
    ]


def line_of(answers: Sequence[Answered]) -> Line:
    """The figures of some answers."""
    latencies_us = sorted(answer.latency_us for answer in answers if answer.latency_us)
    approved = sum(answer.approved for answer in answers)
    return Line(
        messages=len(answers),
        approved=approved,
        declined=len(answers) - approved,
        p50_ms=_rank_ms(latencies_us, 50),
        p99_ms=_rank_ms(latencies_us, 99),
    )


def _by_venue(answers: Iterable[Answered], table: VenueTable) -> dict[str, list[Answered]]:
    by_mcc = table.by_mcc()
    found: dict[str, list[Answered]] = {venue.code: [] for venue in table.venues}
    for answer in answers:
        code = answer.venue or by_mcc.get(answer.mcc, "")
        if code in found:
            found[code].append(answer)
    return found


def _venue_line(venue: Venue, line: Line) -> VenueLine:
    return VenueLine(
        number=venue.number,
        code=venue.code,
        name=venue.name,
        name_zh=venue.name_zh,
        segment=venue.segment,
        line=line,
        budget_p99_ms=venue.p99_ms,
        within=line.p99_ms <= venue.p99_ms,
    )


def _rank_ms(latencies_us: Sequence[int], percentile: int) -> float:
    """The nearest-rank percentile of sorted microseconds, in milliseconds."""
    if not latencies_us:
        return 0.0
    return round(latencies_us[math.ceil(len(latencies_us) * percentile / 100) - 1] / 1000, 1)
