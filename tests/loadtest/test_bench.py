"""When a rate counts as sustained, and that the tables show what was measured."""

import msgspec
import pytest

from loadtest.bench import Rung, WholePath, arguments, path_table
from loadtest.load import Report, Row, table
from loadtest.shadow_bench import ShadowRound, cost_of, shadow_table
from loadtest.staged import Ended

RUNG = Rung(
    backend="asyncio",
    rate=2_000,
    achieved_rate=1_990.0,
    p50_ms=8.0,
    p99_ms=40.0,
    p99_9_ms=70.0,
    unanswered=0,
    refused_for_load=0,
    mismatched=0,
    client_cpu_us=100.0,
    rounds=3,
    p99_ms_by_round=[39.0, 40.0, 48.0],
)


def test_a_good_rung_is_sustained():
    assert RUNG.sustained


@pytest.mark.parametrize(
    "changes",
    [
        {"p99_ms": 50.1},
        {"achieved_rate": 1_950.0},
        {"unanswered": 1},
        {"refused_for_load": 1},
    ],
)
def test_a_rung_that_is_late_short_or_refuses_is_not(changes):
    assert not msgspec.structs.replace(RUNG, **changes).sustained


def test_the_ladder_names_the_best_rate_and_the_audit():
    path = WholePath([RUNG], {"asyncio": 2_000, "trio": 0}, Ended(True, 17, {}))
    said = path_table(path)
    assert "asyncio 2,000/s, trio 0/s; audit clean" in said
    assert "sustained" in said.splitlines()[1]
    broken = msgspec.structs.replace(path, audit=Ended(False, 17, {"balance": 2}))
    assert "HAS FINDINGS" in path_table(broken)


def test_a_shadow_is_judged_by_rounds_side_by_side():
    """The machine gets slower from pair to pair; what a shadow adds is a tenth each time."""
    rounds = [
        ShadowRound(shadow, 1_000, us, 9.0)
        for alone in (300.0, 400.0, 500.0)
        for shadow, us in ((False, alone), (True, 1.1 * alone))
    ]
    cost = cost_of(rounds, Ended(True, 17, {}))
    assert cost.share == pytest.approx(1 - 1 / 1.1)
    assert cost.within_target
    assert "400 to 440 us of a worker for an authorization, 9.1% of throughput, within 15%" in (
        shadow_table(cost)
    )
    dear = [*rounds, ShadowRound(False, 1_000, 100.0, 9.0), ShadowRound(True, 1_000, 900.0, 9.0)]
    assert cost_of(dear[:2] + dear[6:] * 2, Ended(True, 17, {})).within_target is False


def test_parts_may_be_chosen():
    given = arguments().parse_args(["--only", "path", "--only", "codec", "--seconds", "2"])
    assert given.only == ["path", "codec"]


def test_percentiles_of_locust_are_by_nearest_rank():
    row = Row("sale 00", 100, 0, {"9": 50, "10": 49, "250": 1})
    assert [row.percentile_ms(percent) for percent in (50, 51, 99, 100)] == [9, 10, 10, 250]
    assert Row("sale 00", 0, 0, {}).percentile_ms(99) == 0.0


@pytest.mark.parametrize(
    ("requests", "failures", "audit", "sound"),
    [
        (10, 0, Ended(True, 17, {}), True),
        (10, 0, None, True),
        (0, 0, None, False),
        (10, 1, Ended(True, 17, {}), False),
        (10, 0, Ended(False, 17, {"balance": 1}), False),
    ],
)
def test_a_load_is_sound_when_all_was_answered_and_audited(requests, failures, audit, sound):
    report = Report(1, 1, requests, failures, [], audit)
    assert report.sound is sound
    assert table(report)
