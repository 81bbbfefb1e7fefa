"""Counts what an acquirer saw: answers by response code, latencies, repeats that disagreed.

Latency runs from the instant a message was due, not from when it could be sent, so that a
switch that stops reading shows in the percentiles. A message without an answer counts
with the time it was waited for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

import msgspec
from hdrh.histogram import HdrHistogram

LATENCY_US_MAX = 120_000_000
_PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)

INDEFINITE_CODES = frozenset({"09", "68", "91", "96"})
"""DE39 values after which nothing is known or kept: a repeat may be answered differently."""


class Progress(msgspec.Struct, frozen=True):
    """One second of a run, printed as a JSON line. Milliseconds are 0 when nothing came."""

    second: int
    rate_wanted: float
    sent: int
    answered: int
    unanswered: int
    waiting: int
    p50_ms: float
    p99_ms: float
    outcomes: dict[str, int]


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of all measured messages in milliseconds."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p99_9_ms: float
    max_ms: float


class Summary(msgspec.Struct, frozen=True):
    """The whole run. `sent` = `answered` + `unanswered`; `late` answers came after the wait.

    `unanswered` outcomes are unknown to the acquirer; `not_sent` never left because the
    link was down. `outcomes` counts DE39 of first answers and repeats alike.
    `achieved_rate` is answers a second over the measured seconds. `accepted_rate` and
    `accepted_latency` leave out what was refused for load or not known (INDEFINITE_CODES):
    the goodput, and what those waited who got an answer.
    """

    seconds: float
    links: int
    rate_wanted: float
    achieved_rate: float
    sent: int
    answered: int
    unanswered: int
    late: int
    not_sent: int
    unmatched: int
    undecodable: int
    approved_minor: int
    repeats_sent: int
    repeats_matched: int
    repeats_indefinite: int
    duplicates_mismatched: int
    echoes_sent: int
    echoes_answered: int
    connects: int
    drops: int
    outcomes: dict[str, int]
    behaviours: dict[str, int]
    latency: Latency
    cpu_seconds: float
    client: str
    accepted_rate: float
    accepted_latency: Latency

    @property
    def sound(self) -> bool:
        """Everything sent was answered, and every repeat got the answer of its original."""
        return not (self.unanswered or self.not_sent or self.duplicates_mismatched)


class Tally:
    """Running counts of one acquirer; the plain attributes are those of `Summary`."""

    def __init__(self, *, rate: float, links: int, measure_from_ns: int) -> None:
        self.rate = rate
        self.links = links
        self.measure_from_ns = measure_from_ns
        self.sent = self.answered = self.unanswered = self.late = self.not_sent = 0
        self.unmatched = self.undecodable = self.approved_minor = 0
        self.repeats_sent = self.repeats_matched = self.repeats_indefinite = 0
        self.duplicates_mismatched = self.echoes_sent = self.echoes_answered = 0
        self.connects = self.drops = 0
        self.outcomes: Counter[str] = Counter()
        self.behaviours: Counter[str] = Counter()
        self._answered_measured = 0
        self._histogram = HdrHistogram(1, LATENCY_US_MAX, 3)
        self._accepted = HdrHistogram(1, LATENCY_US_MAX, 3)
        self._second: list[int] = []
        self._second_accepted: list[int] = []
        self._second_outcomes: Counter[str] = Counter()
        self._before = (0, 0, 0)
        self._seconds = 0

    def answer(self, code: str, due_ns: int, answered_ns: int) -> None:
        """Count one answer in time, with its latency since it was due."""
        self.answered += 1
        self._second_outcomes[code] += 1
        self._measure(due_ns, answered_ns)
        if due_ns >= self.measure_from_ns:
            self._answered_measured += 1
            if code not in INDEFINITE_CODES:
                self._second_accepted.append(max(1, (answered_ns - due_ns) // 1000))

    def gave_up(self, due_ns: int, now_ns: int) -> None:
        """Count one message whose answer did not come within the wait, or on this link."""
        self.unanswered += 1
        self._measure(due_ns, now_ns)

    def _measure(self, due_ns: int, now_ns: int) -> None:
        if due_ns >= self.measure_from_ns:
            self._second.append(max(1, (now_ns - due_ns) // 1000))

    def end_second(self, waiting: int) -> Progress:
        """Close the running second: its figures, and its latencies into the histogram."""
        latencies = sorted(self._second)
        self._second = []
        for microseconds in latencies:
            self._histogram.record_value(min(microseconds, LATENCY_US_MAX))
        for microseconds in self._second_accepted:
            self._accepted.record_value(min(microseconds, LATENCY_US_MAX))
        self._second_accepted.clear()
        outcomes, self._second_outcomes = self._second_outcomes, Counter()
        self.outcomes.update(outcomes)
        sent, answered, unanswered = self._before
        self._before = (self.sent, self.answered, self.unanswered)
        self._seconds += 1
        return Progress(
            second=self._seconds,
            rate_wanted=self.rate,
            sent=self.sent - sent,
            answered=self.answered - answered,
            unanswered=self.unanswered - unanswered,
            waiting=waiting,
            p50_ms=_rank_ms(latencies, 50),
            p99_ms=_rank_ms(latencies, 99),
            outcomes=dict(sorted(outcomes.items())),
        )

    def summary(self, *, seconds: float, cpu_seconds: float) -> Summary:
        """The whole run; `seconds` is the measured time, without warm-up and drain."""
        self.end_second(0)
        return Summary(
            seconds=round(seconds, 3),
            links=self.links,
            rate_wanted=self.rate,
            achieved_rate=round(self._answered_measured / seconds, 1) if seconds else 0.0,
            sent=self.sent,
            answered=self.answered,
            unanswered=self.unanswered,
            late=self.late,
            not_sent=self.not_sent,
            unmatched=self.unmatched,
            undecodable=self.undecodable,
            approved_minor=self.approved_minor,
            repeats_sent=self.repeats_sent,
            repeats_matched=self.repeats_matched,
            repeats_indefinite=self.repeats_indefinite,
            duplicates_mismatched=self.duplicates_mismatched,
            echoes_sent=self.echoes_sent,
            echoes_answered=self.echoes_answered,
            connects=self.connects,
            drops=self.drops,
            outcomes=dict(sorted(self.outcomes.items())),
            behaviours=dict(sorted(self.behaviours.items())),
            latency=_latency(self._histogram),
            cpu_seconds=round(cpu_seconds, 3),
            client=f"citycard acquirer {_own_version()}",
            accepted_rate=round(self._accepted.get_total_count() / seconds, 1) if seconds else 0.0,
            accepted_latency=_latency(self._accepted),
        )


def _latency(histogram: HdrHistogram) -> Latency:
    at = histogram.get_value_at_percentile
    count = int(histogram.get_total_count())
    p50, p90, p95, p99, p99_9 = (
        round(at(percentile) / 1000, 2) if count else 0.0 for percentile in _PERCENTILES
    )
    return Latency(
        count=count,
        mean_ms=round(histogram.get_mean_value() / 1000, 2) if count else 0.0,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p99_9_ms=p99_9,
        max_ms=round(histogram.get_max_value() / 1000, 2) if count else 0.0,
    )


def _rank_ms(latencies_us: Sequence[int], percentile: int) -> float:
    """The nearest-rank percentile of sorted microseconds, in milliseconds."""
    if not latencies_us:
        return 0.0
    rank = math.ceil(len(latencies_us) * percentile / 100)
    return round(latencies_us[rank - 1] / 1000, 2)


def _own_version() -> str:
    try:
        return version("citycard")
    except PackageNotFoundError:
        return "from source"
