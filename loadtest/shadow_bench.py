"""What one ruleset in shadow costs: the same switch with and without it, round after round.

The draft in shadow is the live ruleset with one threshold changed. What a worker has of a core
is what ends its throughput, so the figure is processor time of the worker for each
authorization that it answered, as the worker itself tells it; the least throughput that a
shadow leaves is its inverse. Postgres and the client are not in it, and with a shadow do the
same as without.
"""

from __future__ import annotations

import re
import statistics
import urllib.request
from collections.abc import Callable, Sequence

import msgspec

from loadtest.staged import Ended, Serving, StageFailed, staged_switch
from loadtest.tally import Summary

TARGET_SHARE = 0.15
"""How much of throughput one ruleset in shadow may take."""

_SAMPLE = re.compile(r"^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)

Offer = Callable[[Serving, int], Summary]
"""(where, seed) → what came of a round of load."""


class ShadowRound(msgspec.Struct, frozen=True):
    """One round: answers, and what the workers took for each (microseconds of processor time)."""

    shadow: bool
    answered: int
    worker_us: float
    p99_ms: float


class ShadowCost(msgspec.Struct, frozen=True):
    """Medians over the rounds. `share` is the part of throughput that the shadow takes."""

    rounds: list[ShadowRound]
    without_us: float
    with_us: float
    share: float
    audit: Ended

    @property
    def within_target(self) -> bool:
        return self.share <= TARGET_SHARE


def bench_shadow(
    offer: Offer, *, rounds: int, cards: int, workers: int, say: Callable[[str], None]
) -> ShadowCost:
    """Measure so many rounds of each, in turn, on one switch that runs throughout."""
    seen: list[ShadowRound] = []
    with staged_switch(cards=cards) as staged:
        serving = staged.serve(workers=workers)
        offer(serving, 0)
        for number in range(1, rounds + 1):
            for shadow in (False, True) if number % 2 else (True, False):
                say(f"shadow: round {number} of {rounds} {'with' if shadow else 'without'}")
                serving = staged.shadow(shadow)
                seen.append(_round(serving, shadow, offer, 2 * number + shadow))
        ended = staged.end()
    return cost_of(seen, ended)


def cost_of(seen: Sequence[ShadowRound], ended: Ended) -> ShadowCost:
    """The medians of what was seen; the share by the median ratio of two rounds side by side.

    What else the machine does comes and goes, and two rounds in a row meet the same of it.
    """

    def of(shadow: bool) -> list[float]:
        return [each.worker_us for each in seen if each.shadow is shadow]

    ratio = statistics.median(
        beside / alone for alone, beside in zip(of(False), of(True), strict=True)
    )
    return ShadowCost(
        list(seen),
        round(statistics.median(of(False)), 1),
        round(statistics.median(of(True)), 1),
        1 - 1 / ratio,
        ended,
    )


def _round(serving: Serving, shadow: bool, offer: Offer, seed: int) -> ShadowRound:
    before = _told(serving)
    summary = offer(serving, seed)
    after = _told(serving)
    answered = int(after["answered"] - before["answered"])
    # A worker tells every two seconds what was looked on: some of it is of the round before.
    looked_on = after["looked_on"] - before["looked_on"] > answered / 2
    if not answered or looked_on is not shadow:
        raise StageFailed("the draft was in shadow when it should not be, or the other way round")
    seconds = after["cpu_seconds"] - before["cpu_seconds"]
    return ShadowRound(shadow, answered, round(seconds / answered * 1e6, 1), summary.latency.p99_ms)


def _told(serving: Serving) -> dict[str, float]:
    """What all workers tell, added up."""
    names = {
        "process_cpu_seconds_total": "cpu_seconds",
        "citycard_requests_total": "answered",
        "citycard_shadow_evaluations_total": "looked_on",
    }
    told = dict.fromkeys(names.values(), 0.0)
    for port in serving.metrics:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            for name, value in _SAMPLE.findall(page.read().decode()):
                if name in names:
                    told[names[name]] += float(value)
    return told


def shadow_table(cost: ShadowCost) -> str:
    """The rounds and what they come to, as text."""
    lines = [f"{'shadow':<8}{'answered':>10}{'worker us':>12}{'p99 ms':>9}"]
    lines += [
        f"{'one' if each.shadow else 'none':<8}{each.answered:>10,}{each.worker_us:>12.1f}"
        f"{each.p99_ms:>9.1f}"
        for each in cost.rounds
    ]
    verdict = "within" if cost.within_target else "ABOVE"
    audit = "clean" if cost.audit.clean else f"HAS FINDINGS: {cost.audit.findings}"
    lines.append(
        f"one ruleset in shadow: {cost.without_us:.0f} to {cost.with_us:.0f} us of a worker for "
        f"an authorization, {cost.share:.1%} of throughput, {verdict} {TARGET_SHARE:.0%}; "
        f"audit {audit}"
    )
    return "\n".join(lines)
