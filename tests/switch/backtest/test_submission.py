"""A ruleset that declines much of yesterday is submitted with a reason, or not at all."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from risk.backtest_result import Agreement, BacktestResult
from switch.backtest.running import BacktestRequest
from switch.backtest.submission import judged, submit_ruleset, yesterday
from switch.config import Config, parse
from switch.ledger import bridge, rulesets
from switch.ledger.operators import NotAllowed
from switch.ledger.rulesets import ActRefused, Refusal
from tests.simulation.model_ledger import NOON_US
from tests.switch.ledger.rulesets_staged import begin, draft, people

YESTERDAY = yesterday(Config(), NOON_US)


def result_of(approved: int, declined: int, **changed: Any) -> BacktestResult:
    empty = BacktestResult(
        hash="", title="", from_date=YESTERDAY, to_date=YESTERDAY, closed_loop=False, rows=0,
        assessed=0, seconds=0.0, shards=1, warm_up_from=YESTERDAY, live_hashes=(),
        agreement=Agreement(), approved=approved, approved_declined=declined, gained=declined,
        lost=0, gained_minor=0, lost_minor=0, labelled=0, rules=(), days=(), hours_answered=(),
        hours_tested=(),
    )  # fmt: skip
    return msgspec.structs.replace(empty, **changed)


def test_yesterday_is_a_business_day() -> None:
    late = parse('[ledger]\ncut_off = "23:00"', "test")
    assert (YESTERDAY - yesterday(late, NOON_US)).days == 1
    assert (yesterday(Config(), NOON_US + 86_400_000_000) - YESTERDAY).days == 1


@pytest.mark.parametrize(
    ("approved", "declined", "percent_max", "fits"),
    [
        (1_000, 10, 1, True),
        (1_000, 11, 1, False),
        (0, 0, 0, True),
        (1, 0, 0, True),
        (10**9, 1, 0, False),
        (3, 3, 100, True),
    ],
)
def test_both_sides_of_the_share(
    approved: int, declined: int, percent_max: int, fits: bool
) -> None:
    result = result_of(approved, declined)
    if fits:
        assert "override" not in judged(result, percent_max, "needless")
        return
    with pytest.raises(ActRefused, match="narrow it") as refused:
        judged(result, percent_max)
    assert refused.value.refusal is Refusal.DECLINES_MUCH
    detail = judged(result, percent_max, "a wave of fraud")
    assert detail["override"] == "a wave of fraud"
    assert detail["backtest"]["approved_declined"] == declined


def test_what_is_no_reason_and_no_result() -> None:
    with pytest.raises(ActRefused, match="long number"):
        judged(result_of(10, 10), 1, "card 6222021234567890128")
    with pytest.raises(ActRefused, match="cancelled"):
        judged(result_of(10, 0, cancelled=True), 1)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_submitting_runs_yesterday_and_writes_it_down(
    connection: bridge.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(connection)
    by, made = await people(connection), await draft(connection, 20_000)
    asked: list[tuple[date, date]] = []

    async def run(request: BacktestRequest) -> BacktestResult:
        asked.append((request.from_date, request.to_date))
        return result_of(1_000, 500)

    async def submit(who: str, override: str) -> rulesets.RulesetView:
        view = await rulesets.found(connection, made.hash)
        return await submit_ruleset(
            connection, database, view, actor=by[who], reason="", override=override,
            config=Config(), now_us=NOON_US, run=run,
        )  # fmt: skip

    with pytest.raises(NotAllowed):
        await submit("dan", "")
    # without history there is nothing to ask; a statement stands in for a day of it
    queries = dict(rulesets._QUERIES) | {"day_has_history": "select $1::date is not null"}
    monkeypatch.setattr("switch.backtest.submission._QUERIES", queries)
    with pytest.raises(ActRefused, match=r"500 of the 1,000 .*\(50.00 %\)"):
        await submit("ada", "")
    assert (await rulesets.found(connection, made.hash)).state == "draft"
    assert (await submit("ada", "a wave of fraud")).state == "submitted"
    with pytest.raises(ActRefused, match="is submitted"):
        await submit("ada", "a wave of fraud")
    assert asked == [(YESTERDAY, YESTERDAY)] * 2
    (event,) = await rulesets.trail(connection, subject=made.hash, count_max=1)
    assert event.detail["override"] == "a wave of fraud"
    assert event.detail["backtest"]["share_ppm"] == 500_000
    jobs = await connection.fetch("select hash, state, actor from ledger.backtest")
    assert [tuple(job) for job in jobs] == [(made.hash, "done", "ada")] * 2
