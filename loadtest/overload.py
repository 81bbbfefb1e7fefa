"""Overload: what the switch still does when it is offered more than it can.

The rate that it sustains is found first, on the same ledger in the same run; then multiples
of it are offered, open-loop. Goodput is answers that are not 91: what was refused for load
is no work done. The claim to look at: at three times the sustainable rate goodput stays at
90 % of the best or more, and what was accepted keeps its latency.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import msgspec

from loadtest.flood import Flooded
from loadtest.staged import Ended, Serving, staged_switch

MULTIPLES = (0.5, 1.0, 1.5, 2.0, 3.0)
SEARCH_RATES = (1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000)
SEARCH_P99_MS = 50.0
ANSWERED_SHARE_MIN = 0.98

Offer = Callable[[Serving, float], Flooded]
"""Offers a rate to a switch for the length of one rung; see flood.py."""


class OverloadRung(msgspec.Struct, frozen=True):
    """One multiple of the sustainable rate: medians over the rounds, milliseconds."""

    multiple: float
    rate: int
    goodput: float
    accepted_p50_ms: float
    accepted_p99_ms: float
    refused_share: float
    refused_p99_ms: float
    unanswered: int
    sender_cpu_us: float


class Overload(msgspec.Struct, frozen=True):
    """The curve. `goodput_kept` is the goodput at the last multiple over the best one."""

    sustainable: int
    rungs: list[OverloadRung]
    goodput_kept: float
    audit: Ended


def measure_overload(
    offer: Offer, *, cards: int, workers: int, backend: str, rounds: int, say: Callable[[str], None]
) -> Overload:
    """Find what is sustained, then climb past it, `rounds` times."""
    with staged_switch(cards=cards) as staged:
        serving = staged.serve(backend=backend, workers=workers)
        sustainable = _sustainable(serving, offer, say)
        seen: dict[float, list[Flooded]] = {multiple: [] for multiple in MULTIPLES}
        for number in range(1, rounds + 1):
            for multiple in MULTIPLES:
                say(f"overload: round {number} of {rounds}, {multiple:g} x {sustainable}/s")
                seen[multiple].append(offer(serving, multiple * sustainable))
        ended = staged.end()
    rungs = [_rung(multiple, sustainable, seen[multiple]) for multiple in MULTIPLES]
    best = max(rung.goodput for rung in rungs)
    return Overload(sustainable, rungs, round(rungs[-1].goodput / best, 3), ended)


def _sustainable(serving: Serving, offer: Offer, say: Callable[[str], None]) -> int:
    """The highest rate of the search that is kept; one that fails has a second chance."""
    found = SEARCH_RATES[0] // 2
    for rate in SEARCH_RATES:
        say(f"overload: looking for the sustainable rate, {rate}/s")
        if not any(_kept(offer(serving, rate), rate) for _ in range(2)):
            break
        found = rate
    return found


def _kept(flooded: Flooded, rate: int) -> bool:
    enough = flooded.goodput >= ANSWERED_SHARE_MIN * rate
    return enough and flooded.accepted_p99_ms <= SEARCH_P99_MS


def _rung(multiple: float, sustainable: int, seen: Sequence[Flooded]) -> OverloadRung:
    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 2)

    return OverloadRung(
        multiple=multiple,
        rate=round(multiple * sustainable),
        goodput=median([one.goodput for one in seen]),
        accepted_p50_ms=median([one.accepted_p50_ms for one in seen]),
        accepted_p99_ms=median([one.accepted_p99_ms for one in seen]),
        refused_share=round(
            statistics.median(one.refused / max(1, one.answered) for one in seen), 3
        ),
        refused_p99_ms=median([one.refused_p99_ms for one in seen]),
        unanswered=sum(one.unanswered for one in seen),
        sender_cpu_us=median([one.cpu_us for one in seen]),
    )


def overload_table(overload: Overload) -> str:
    """The curve as text."""
    lines = [
        f"{'load':>6}{'rate/s':>8}{'goodput/s':>11}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'refused':>9}{'their p99':>11}{'lost':>6}{'sender us':>11}"
    ]
    lines += [
        f"{rung.multiple:>5g}x{rung.rate:>8}{rung.goodput:>11.0f}{rung.accepted_p50_ms:>9.1f}"
        f"{rung.accepted_p99_ms:>9.1f}{rung.refused_share:>9.1%}{rung.refused_p99_ms:>11.1f}"
        f"{rung.unanswered:>6}{rung.sender_cpu_us:>11.0f}"
        for rung in overload.rungs
    ]
    audit = "clean" if overload.audit.clean else f"HAS FINDINGS: {overload.audit.findings}"
    lines.append(
        f"sustainable {overload.sustainable:,}/s; goodput at {overload.rungs[-1].multiple:g}x is "
        f"{overload.goodput_kept:.0%} of the best; audit {audit}"
    )
    return "\n".join(lines)
