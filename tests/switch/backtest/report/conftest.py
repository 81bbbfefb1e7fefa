"""Results of backtests to be written up: a big one, an empty one and an odd one."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import pytest

from risk.backtest_result import (
    Affected,
    Agreement,
    BacktestResult,
    DayReport,
    Difference,
    Example,
    FeatureReport,
    Labels,
    Overlap,
    Recount,
    RuleReport,
    Sweep,
)
from switch.backtest.report import write_report

NO_HOURS = tuple((0,) * 24 for _ in range(7))
FIRST_DAY = date(2026, 10, 26)
AT_US = 1_793_000_000_123_456
ODD = '<b>&"\'</script>\u202e\x00换乘 $x$ id="a"'
"""What a name never is, and a page must bear."""


def rule_of(rule_id: str, fired: int, **more: object) -> RuleReport:
    rule = RuleReport(
        rule_id=rule_id,
        version=3,
        stage="amber",
        sentence="Declines with 65 the 7th tap in 5 minutes on one card.",
        evaluated=1_234_567,
        fired=fired,
        declined=fired * 9 // 10,
        alone=fired // 2,
        unknown=12,
        spared=fired // 10,
        failed=0,
        declined_minor=fired * 200,
        cards=fired // 3,
    )
    return msgspec.structs.replace(rule, **more)


def example_of(number: int, rule_id: str = "tap_burst") -> Example:
    return Example(
        authorization_id=9_007_199_254_740_993 + number,
        at_us=AT_US + number * 61_000_000,
        rrn=f"{630_112_000_000 + number}",
        kind="fare",
        amount_minor=200 + number,
        answered="approved",
        decided="declined 65",
        rule_id=rule_id,
        sentence="Declined 65: tap_burst v7: 7 taps in 5 min on card ••42; limit 6.",
    )


@pytest.fixture(scope="session")
def empty() -> BacktestResult:
    """No row was read."""
    return BacktestResult(
        hash="0" * 64,
        title="",
        from_date=FIRST_DAY,
        to_date=FIRST_DAY,
        closed_loop=False,
        rows=0,
        assessed=0,
        seconds=0.0,
        shards=0,
        warm_up_from=FIRST_DAY,
        live_hashes=(),
        agreement=Agreement(),
        approved=0,
        approved_declined=0,
        gained=0,
        lost=0,
        gained_minor=0,
        lost_minor=0,
        labelled=0,
        rules=(),
        days=(),
        hours_answered=NO_HOURS,
        hours_tested=NO_HOURS,
    )


@pytest.fixture(scope="session")
def big() -> BacktestResult:
    """Five weeks of a city, with everything that a report can have."""
    names = ("tap_burst", "load_ladder", "terminal_testing", "passback", "bill_scan", "big_spend")
    silent = ("lost_stolen", "anonymous_balance")
    rules = [
        rule_of(
            name,
            40_000 >> number,
            labels=Labels(fraud=80, genuine=20, missed=40) if number < 2 else Labels(),
            examples=tuple(example_of(each, name) for each in range(20)),
        )
        for number, name in enumerate(names)
    ]
    days = tuple(
        DayReport(
            day=FIRST_DAY + timedelta(days=number),
            authorizations=1_000_000 + number,
            answered_declines=900 + 300 * (number % 7 > 4) + number * 7 % 60,
            tested_declines=1_100 + 380 * (number % 7 > 4) + number * 11 % 70,
            gained=230,
            lost=30,
        )
        for number in range(35)
    )
    return BacktestResult(
        hash="3fa9c17be2d04455" * 4,
        title="Six taps, and store loads of the new district",
        from_date=FIRST_DAY,
        to_date=FIRST_DAY + timedelta(days=34),
        closed_loop=True,
        rows=36_204_518,
        assessed=35_000_595,
        seconds=2_412.7,
        shards=16,
        warm_up_from=FIRST_DAY - timedelta(days=1),
        live_hashes=("77b0" * 16, "3fa9c17be2d04455" * 4),
        agreement=Agreement(
            12_000, 11_998, (Difference(17, AT_US, "rule", "tap_burst", "none"),) * 2
        ),
        approved=34_000_000,
        approved_declined=8_050,
        gained=8_061,
        lost=1_050,
        gained_minor=1_612_200,
        lost_minor=98_000,
        labelled=140,
        rules=(*rules, *(rule_of(name, 0) for name in silent)),
        days=days,
        hours_answered=tuple(
            tuple((hour - 4) * (23 - hour) * (day + 2) if hour > 4 else 0 for hour in range(24))
            for day in range(7)
        ),
        hours_tested=tuple(
            tuple((hour - 4) * (23 - hour) * (day + 3) if hour > 4 else 1 for hour in range(24))
            for day in range(7)
        ),
        overlaps=tuple(
            Overlap(one, other, 4_000 // (1 + at + beside))
            for at, one in enumerate(names)
            for beside, other in enumerate(names[at + 1 :])
        ),
        features=(
            FeatureReport(
                "taps_5m",
                "a count",
                known=12_345_678,
                unknown=9,
                p50=0,
                p95=2,
                p99=4,
                highest=61,
                edges=tuple(range(21)),
                counts=(
                    9_000_000,
                    2_000_000,
                    1_000_000,
                    300_000,
                    *(40_000 >> n for n in range(16)),
                ),
                limits=(("tap_burst", 6), ("tap_burst_watch", 4)),
            ),
            FeatureReport(
                "loaded_24h",
                "minor units of money",
                known=400,
                unknown=0,
                p50=50_00,
                p95=400_00,
                p99=1_000_00,
                highest=2_000_00,
                edges=tuple(each * 50_00 for each in range(41)),
                counts=tuple(40 - each for each in range(40)),
                limits=(("load_ladder", 1_500_00),),
            ),
        ),
        sweeps=(
            Sweep(
                "tap_burst",
                "taps_5m + 1",
                "gt",
                tuple(range(1, 21)),
                tuple(400_000 // (limit * limit) for limit in range(1, 21)),
                6,
                8,
            ),
            Sweep(
                "load_ladder",
                "loaded_24h",
                "gt",
                tuple(each * 50_00 for each in range(1, 41)),
                tuple(410 - each * 10 for each in range(1, 41)),
                1_500_00,
                1_500_00,
            ),
            Sweep("bill_scan", "bills_24h", "gt", (20, 21), (7, 0), 20),
        ),
        affected=(
            Affected("card", "1048", 44, 8_800),
            Affected("stop", "North Gate 北门", 320, 64_000),
            Affected("merchant", "Seven & Co", 12, 240_000),
            Affected("terminal", "00017733", 9, 1_800),
        ),
        gained_examples=tuple(example_of(number) for number in range(20)),
        lost_examples=tuple(example_of(number, "passback") for number in range(3)),
        recounts=(Recount("terminal_declines_10m", 90_000, 14, 2),),
    )


@pytest.fixture(scope="session")
def odd(empty: BacktestResult) -> BacktestResult:
    """One day, stopped, with names and values that no generator would think of."""
    huge = 10**12
    return msgspec.structs.replace(
        empty,
        hash=ODD,
        title=ODD * 10,
        rows=1,
        assessed=1,
        seconds=1e-9,
        cancelled=True,
        agreement=Agreement(1, 0, (Difference(-1, -(10**18), ODD, ODD, ODD),)),
        approved=1,
        approved_declined=1,
        rules=(
            rule_of(ODD, 1, sentence=ODD, evaluated=0, failed=1, examples=(example_of(0, ODD),)),
        ),
        days=(DayReport(FIRST_DAY, 1, 0, 1, 1, 0),),
        hours_answered=(),
        overlaps=(Overlap(ODD, "=cmd()", huge), Overlap("a" * 300, ODD, 1)),
        features=(
            FeatureReport(ODD, ODD, 1, 0, huge, huge, huge, huge, (0, huge), (1,), ((ODD, 1),) * 9),
            FeatureReport(ODD, "seconds", 0, 7, 0, 0, 0, 0, (), ()),
            FeatureReport("same", "seconds", 3, 0, 5, 5, 5, 5, (5, 5), (3,)),
            FeatureReport("at", "a local time", 3, 0, 0, 1, 2, 86_399, (0, 43_200, 86_400), (1, 2)),
        ),
        sweeps=(
            Sweep(ODD, ODD, "<", (5,), (0,), 5, -huge),
            Sweep(ODD, "amount", "gt", (huge, 2 * huge), (huge, 1), huge),
            Sweep("none", "amount", "gt", (), (), 5),
        ),
        affected=(Affected("stop", "=1+1", 1, 1),),
    )


class Report(NamedTuple):
    """A report as it lies on disk."""

    result: BacktestResult
    directory: Path
    paths: list[Path]

    @property
    def page(self) -> str:
        return (self.directory / "index.html").read_text(encoding="utf-8")

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.directory / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def reports(
    tmp_path_factory: pytest.TempPathFactory,
    big: BacktestResult,
    empty: BacktestResult,
    odd: BacktestResult,
) -> dict[str, Report]:
    """The report of each, written once, in a time zone that is not UTC."""
    zone = ZoneInfo("Asia/Shanghai")
    written = {}
    for name, result in (("big", big), ("empty", empty), ("odd", odd)):
        directory = tmp_path_factory.mktemp(name) / "made" / "for it"
        written[name] = Report(result, directory, write_report(result, directory, zone=zone))
    return written
