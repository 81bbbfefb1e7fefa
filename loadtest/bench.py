"""`make bench`: the codec, the ledger, the whole path at a ladder of open-loop rates, overload.

`--only city` measures taps beside a depot's upload and a debit file, see loadtest.city_bench;
`--only shadow` what a ruleset in shadow costs, see loadtest.shadow_bench.

Client, switch and Postgres share this machine, fsync is on, and every figure is the median
of interleaved rounds. The ledger of each part is audited at its end.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.city_bench import CityBench, bench_city, city_table
from loadtest.codec_bench import CodecFigure, measure
from loadtest.flood import Flooded
from loadtest.overload import Overload, measure_overload, overload_table
from loadtest.shadow_bench import ShadowCost, bench_shadow, shadow_table
from loadtest.staged import Ended, Serving, Staged, StageFailed, staged_switch
from loadtest.tally import Summary

PARTS = ("codec", "ledger", "path", "overload", "shadow", "city")
USUAL_PARTS = PARTS[:-2]
"""Without the city, which takes a quarter of an hour by itself, and the shadow."""
SHADOW_RATE = 800
"""Requests a second: enough to keep a worker busy, and few enough that nothing is refused."""
BACKENDS = ("asyncio", "trio")
RATES = (500, 1_000, 2_000, 3_000, 4_000)
ROUNDS = 3
CARDS = 100_000
WARM_UP_SECONDS = 2.0
TARGET_P99_MS = 50.0
TARGET_SHARE = 0.98
"""A rate is sustained when so much of it is answered, with p99 within the target."""
HOPELESS_P99_MS = 2_000.0
"""Above this a round does not climb any further."""


class Rung(msgspec.Struct, frozen=True):
    """One rate of the ladder on one backend: medians over the rounds, milliseconds."""

    backend: str
    rate: int
    achieved_rate: float
    p50_ms: float
    p99_ms: float
    p99_9_ms: float
    unanswered: int
    refused_for_load: int
    mismatched: int
    client_cpu_us: float
    rounds: int
    p99_ms_by_round: list[float]

    @property
    def sustained(self) -> bool:
        answered = self.achieved_rate >= TARGET_SHARE * self.rate
        lost = self.unanswered or self.refused_for_load
        return answered and not lost and self.p99_ms <= TARGET_P99_MS


class WholePath(msgspec.Struct, frozen=True):
    """The whole path: all rungs, the best sustained rate by backend, and the audit."""

    rungs: list[Rung]
    sustained: dict[str, int]
    audit: Ended


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that was measured."""

    processors: int
    codec: list[CodecFigure] | None = None
    ledger: msgspec.Raw = msgspec.Raw(b"null")
    path: WholePath | None = None
    overload: Overload | None = None
    shadow: ShadowCost | None = None
    city: CityBench | None = None


def bench_path(
    seconds: float, rounds: int, cards: int, rates: Sequence[int], workers: int
) -> WholePath:
    """Climb the ladder on each backend in turn, round after round, on one ledger."""
    seen: dict[tuple[str, int], list[Summary]] = {}
    with staged_switch(cards=cards) as staged:
        for number in range(1, rounds + 1):
            # Every other round the backends change places, so neither gets the fuller ledger.
            for backend in BACKENDS if number % 2 else BACKENDS[::-1]:
                _say(f"path: round {number} of {rounds} on {backend}")
                for rate, summary in _climb(staged, backend, workers, seconds, rates, number):
                    seen.setdefault((backend, rate), []).append(summary)
        ended = staged.end()
    rungs = [_rung(backend, rate, summaries) for (backend, rate), summaries in sorted(seen.items())]
    best = {
        backend: max(
            (rung.rate for rung in rungs if rung.backend == backend and rung.sustained), default=0
        )
        for backend in BACKENDS
    }
    return WholePath(rungs, best, ended)


def _climb(
    staged: Staged, backend: str, workers: int, seconds: float, rates: Sequence[int], seed: int
) -> list[tuple[int, Summary]]:
    serving = staged.serve(backend=backend, workers=workers)
    climbed = []
    for rate in rates:
        summary = offer(serving, rate=rate, seconds=seconds, seed=seed * 100_000 + rate)
        climbed.append((rate, summary))
        if summary.latency.p99_ms > HOPELESS_P99_MS:
            break
    return climbed


def offer(serving: Serving, *, rate: float, seconds: float, seed: int) -> Summary:
    """Run the acquirer as a process against a staged switch."""
    with tempfile.TemporaryDirectory(prefix="citycard-bench-") as directory:
        summary = Path(directory) / "summary.json"
        command = [
            *(sys.executable, "-m", "loadtest.acquirer", "--port", str(serving.port)),
            *("--rate", str(rate), "--seconds", str(seconds + WARM_UP_SECONDS)),
            *("--warm-up-seconds", str(WARM_UP_SECONDS), "--cards", str(serving.cards)),
            *("--blocked-cards", str(serving.blocked), "--poor-cards", str(serving.poor)),
            *("--seed", str(seed), "--json", str(summary)),
        ]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if not summary.exists():
            raise StageFailed(f"the acquirer ended with {done.returncode} and no figures")
        return msgspec.json.decode(summary.read_bytes(), type=Summary)


def bench_overload(seconds: float, rounds: int, cards: int, workers: int) -> Overload:
    """The curve past the sustainable rate, on the default backend."""
    seeds = itertools.count(7_000_000)

    def one_rung(serving: Serving, rate: float) -> Flooded:
        return flood(serving, rate=rate, seconds=seconds, seed=next(seeds))

    return measure_overload(
        one_rung, cards=cards, workers=workers, backend=BACKENDS[0], rounds=rounds, say=_say
    )


def flood(serving: Serving, *, rate: float, seconds: float, seed: int) -> Flooded:
    """Run the flood as a process against a staged switch."""
    with tempfile.TemporaryDirectory(prefix="citycard-bench-") as directory:
        figures = Path(directory) / "figures.json"
        command = [
            *(sys.executable, "-m", "loadtest.flood", "--port", str(serving.port)),
            *("--rate", str(rate), "--seconds", str(seconds + WARM_UP_SECONDS)),
            *("--warm-up-seconds", str(WARM_UP_SECONDS), "--cards", str(serving.cards)),
            *("--blocked-cards", str(serving.blocked), "--poor-cards", str(serving.poor)),
            *("--seed", str(seed), "--json", str(figures)),
        ]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        if not figures.exists():
            raise StageFailed(f"the flood ended with {done.returncode} and no figures")
        return msgspec.json.decode(figures.read_bytes(), type=Flooded)


def _rung(backend: str, rate: int, summaries: Sequence[Summary]) -> Rung:
    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 2)

    latencies = [summary.latency for summary in summaries]
    return Rung(
        backend=backend,
        rate=rate,
        achieved_rate=median([summary.achieved_rate for summary in summaries]),
        p50_ms=median([latency.p50_ms for latency in latencies]),
        p99_ms=median([latency.p99_ms for latency in latencies]),
        p99_9_ms=median([latency.p99_9_ms for latency in latencies]),
        unanswered=sum(summary.unanswered + summary.not_sent for summary in summaries),
        refused_for_load=sum(summary.outcomes.get("91", 0) for summary in summaries),
        mismatched=sum(summary.duplicates_mismatched for summary in summaries),
        client_cpu_us=median(
            [summary.cpu_seconds / max(1, summary.sent) * 1e6 for summary in summaries]
        ),
        rounds=len(summaries),
        p99_ms_by_round=[latency.p99_ms for latency in latencies],
    )


def path_table(path: WholePath) -> str:
    """The ladder as text."""
    lines = [
        f"{'backend':<9}{'rate/s':>7}{'answered/s':>12}{'p50 ms':>9}{'p99 ms':>9}"
        f"{'p99.9 ms':>10}{'lost':>7}{'91':>7}{'client us':>11}"
    ]
    lines += [
        f"{rung.backend:<9}{rung.rate:>7}{rung.achieved_rate:>12.0f}{rung.p50_ms:>9.1f}"
        f"{rung.p99_ms:>9.1f}{rung.p99_9_ms:>10.1f}{rung.unanswered:>7}"
        f"{rung.refused_for_load:>7}{rung.client_cpu_us:>11.0f}"
        f"{'  sustained' if rung.sustained else ''}"
        for rung in path.rungs
    ]
    best = ", ".join(f"{backend} {rate:,}/s" for backend, rate in path.sustained.items())
    audit = "clean" if path.audit.clean else f"HAS FINDINGS: {path.audit.findings}"
    lines.append(f"sustained with p99 within {TARGET_P99_MS:.0f} ms: {best}; audit {audit}")
    return "\n".join(lines)


def codec_table(figures: Sequence[CodecFigure]) -> str:
    """The codec beside pyiso8583, as text."""
    lines = [f"{'codec':<16}{'direction':<10}{'ours us':>9}{'pyiso8583 us':>14}{'ratio':>7}"]
    lines += [
        f"{one.spec:<16}{one.direction:<10}{one.ours_us:>9.1f}{one.theirs_us:>14.1f}"
        f"{one.ratio:>7.1f}"
        for one in figures
    ]
    return "\n".join(lines)


def bench_ledger(seconds: float, rounds: int) -> tuple[msgspec.Raw, bool]:
    """The ledger's own benchmark, in a process since it knows the switch; prints its table."""
    with tempfile.TemporaryDirectory(prefix="citycard-bench-") as directory:
        figures = Path(directory) / "ledger.json"
        command = [sys.executable, "-m", "switch.ledger.bench", "--json", str(figures)]
        command += ["--seconds", str(seconds), "--rounds", str(rounds)]
        done = subprocess.run(command, check=False)
        if not figures.exists():
            raise StageFailed(f"the ledger's benchmark ended with {done.returncode}")
        return msgspec.Raw(figures.read_bytes()), done.returncode == 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=10.0, help="of each rung; half of it for each ledger way")
    add("--rounds", type=int, default=ROUNDS)
    add("--only", choices=PARTS, action="append", help="one part; may be given again")
    add("--rates", default=",".join(map(str, RATES)), help="the ladder, in messages a second")
    add("--cards", type=int, default=CARDS)
    add("--workers", type=int, default=1)
    add("--tap-rate", type=float, default=300.0, help="of the city: taps a second")
    add("--records", type=int, default=100_000, help="of the city: in a depot's upload")
    add("--rows", type=int, default=100_000, help="of the city: in a debit file")
    add("--beside", default="", choices=("", "upload", "debit file", "both"), help="of the city")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print tables, write JSON; 1 when an audit has findings or repeats disagreed."""
    given = arguments().parse_args(argv)
    parts = given.only or USUAL_PARTS
    report = Report(os.cpu_count() or 0)
    sound = True
    try:
        if "codec" in parts:
            _say("codec")
            report = msgspec.structs.replace(report, codec=measure(given.seconds))
            print(codec_table(report.codec or []), end="\n\n", flush=True)
        if "ledger" in parts:
            _say("ledger")
            ledger, sound = bench_ledger(given.seconds / 2, given.rounds)
            report = msgspec.structs.replace(report, ledger=ledger)
            print(flush=True)
        if "path" in parts:
            rates = [int(rate) for rate in given.rates.split(",")]
            path = bench_path(given.seconds, given.rounds, given.cards, rates, given.workers)
            report = msgspec.structs.replace(report, path=path)
            sound = sound and path.audit.clean and not any(rung.mismatched for rung in path.rungs)
            print(path_table(path), end="\n\n", flush=True)
        if "overload" in parts:
            overload = bench_overload(given.seconds, given.rounds, given.cards, given.workers)
            report = msgspec.structs.replace(report, overload=overload)
            sound = sound and overload.audit.clean
            print(overload_table(overload), end="\n\n", flush=True)
        if "shadow" in parts:
            shadow = bench_shadow(
                lambda serving, seed: offer(
                    serving, rate=SHADOW_RATE, seconds=given.seconds, seed=9_000_000 + seed
                ),
                rounds=given.rounds,
                cards=given.cards,
                workers=given.workers,
                say=_say,
            )
            report = msgspec.structs.replace(report, shadow=shadow)
            sound = sound and shadow.audit.clean and shadow.within_target
            print(shadow_table(shadow), end="\n\n", flush=True)
        if "city" in parts:
            city = bench_city(
                rate=given.tap_rate,
                seconds=given.seconds,
                records=given.records,
                rows=given.rows,
                cards=given.cards,
                workers=given.workers,
                say=_say,
                beside=given.beside,
            )
            report = msgspec.structs.replace(report, city=city)
            sound = sound and city.audit.clean
            print(city_table(city), flush=True)
    except StageFailed as failed:
        print(f"bench: {failed}", file=sys.stderr)
        return 3
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if sound else 1


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
