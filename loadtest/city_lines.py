"""What the city leaves behind: a line for each message, and figures by venue.

A line has the key under which the ledger keeps the message, so that whoever proves a run can
hold each answer against it. Cards are indexes in the population, never numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec
from hdrh.histogram import HdrHistogram

from loadtest.journal import Journal
from loadtest.life_lines import APPROVED_CODES
from loadtest.tally import LATENCY_US_MAX


class CityLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message. `kind` is the switch's word for it, or the step of a bill payment.

    `key` is terminal-stan-local_at-class of a message of ISO 8583 or of a reader, `sale-` and
    the id of a sale over HTTP, `bill-` and the id of a payment. `latency_us` is from when it
    was due, 0 where nobody waited. `code` is DE39 (of HTTP: of the problem, else its status),
    empty where no answer came. Money back is below zero in `approved_minor` of a tap.
    """

    venue: str
    kind: str
    key: str
    card: int
    amount_minor: int
    due_at_ms: int
    latency_us: int = 0
    code: str = ""
    rrn: str = ""
    approved_minor: int = 0
    repeat: bool = False


class VenueFigures(msgspec.Struct, frozen=True):
    """Messages of a venue, and percentiles of those that somebody waited for, in ms."""

    messages: int
    approved: int
    declined: int
    unanswered: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class CityProgress(msgspec.Struct, frozen=True):
    """One second. `p99_ms` is by segment, where anything came; outcomes are of DE39."""

    second: int
    sent: int
    answered: int
    unanswered: int
    under_way: int
    p99_ms: dict[str, float]
    outcomes: dict[str, int]


class CitySummary(msgspec.Struct, frozen=True):
    """The whole run. `not_sent` never left, for a connection was lost; `uploaded` are records
    of chips by status; `bills_minor` is by biller what was confirmed as paid."""

    seconds: float
    sent: int
    answered: int
    unanswered: int
    not_sent: int
    visits: int
    venues: dict[str, VenueFigures]
    outcomes: dict[str, int]
    uploaded: dict[str, int]
    bills_minor: dict[str, int]
    cpu_seconds: float

    @property
    def sound(self) -> bool:
        """Everything was sent and answered."""
        return self.sent == self.answered > 0 and not self.not_sent


class _Venue:
    def __init__(self) -> None:
        self.messages = self.approved = self.unanswered = 0
        self.histogram = HdrHistogram(1, LATENCY_US_MAX, 3)

    def figures(self) -> VenueFigures:
        at = self.histogram.get_value_at_percentile
        known = int(self.histogram.get_total_count())
        p50_ms, p99_ms = (round(at(p) / 1000, 2) if known else 0.0 for p in (50.0, 99.0))
        return VenueFigures(
            messages=self.messages,
            approved=self.approved,
            declined=self.messages - self.approved - self.unanswered,
            unanswered=self.unanswered,
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            max_ms=round(self.histogram.get_max_value() / 1000, 2) if known else 0.0,
        )


class CityTally:
    """Counts lines as they end, and hands them to the journal. `segments` is by venue."""

    def __init__(self, journal: Journal, segments: Mapping[str, str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self.uploaded: Counter[str] = Counter()
        self.bills_minor: Counter[str] = Counter()
        self.not_sent = self.visits = self.under_way = 0
        self._journal = journal
        self._segments = segments
        self._venues = {code: _Venue() for code in segments}
        self._second: dict[str, list[int]] = {}
        self._second_outcomes: Counter[str] = Counter()
        self._seconds = 0

    def over(self, line: CityLine) -> None:
        """One message is over, by its answer or without one."""
        venue = self._venues[line.venue]
        venue.messages += 1
        venue.approved += line.code in APPROVED_CODES
        venue.unanswered += not line.code
        if line.latency_us:
            venue.histogram.record_value(min(line.latency_us, LATENCY_US_MAX))
            self._second.setdefault(self._segments[line.venue], []).append(line.latency_us)
        self._second_outcomes[line.code or "none"] += 1
        self._journal.write(line)

    def end_second(self) -> CityProgress:
        """The figures since the last call."""
        latencies, self._second = self._second, {}
        outcomes, self._second_outcomes = self._second_outcomes, Counter()
        self.outcomes.update(outcomes)
        self._journal.flush()
        self._seconds += 1
        sent, unanswered = outcomes.total(), outcomes["none"]
        return CityProgress(
            second=self._seconds,
            sent=sent,
            answered=sent - unanswered,
            unanswered=unanswered,
            under_way=self.under_way,
            p99_ms={segment: _p99_ms(each) for segment, each in sorted(latencies.items())},
            outcomes=dict(sorted(outcomes.items())),
        )

    def summary(self, *, seconds: float, cpu_seconds: float) -> CitySummary:
        """The whole run."""
        self.end_second()
        sent, unanswered = self.outcomes.total(), self.outcomes["none"]
        return CitySummary(
            seconds=round(seconds, 3),
            sent=sent,
            answered=sent - unanswered,
            unanswered=unanswered,
            not_sent=self.not_sent,
            visits=self.visits,
            venues={code: venue.figures() for code, venue in self._venues.items()},
            outcomes=dict(sorted(self.outcomes.items())),
            uploaded=dict(sorted(self.uploaded.items())),
            bills_minor=dict(sorted(self.bills_minor.items())),
            cpu_seconds=round(cpu_seconds, 3),
        )


def _p99_ms(latencies_us: Iterable[int]) -> float:
    ordered = sorted(latencies_us)
    return round(ordered[-(len(ordered) // 100) - 1] / 1000, 2)
