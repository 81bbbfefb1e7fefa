"""Whether a ruleset may go before its approvers: what it would have done to yesterday.

A ruleset that would have declined more than a configured share of what was approved yesterday
is likely to be a mistake, so it is submitted only with a reason why it is none (risk.md). The
figures go into the trail, where approvers find them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Any

import anyio

from risk.backtest_result import BacktestResult
from risk.ruleset import Ruleset
from switch.backtest.running import BacktestRequest, begin_job, end_job, run_backtest
from switch.calendar import BusinessCalendar
from switch.config import Config
from switch.ledger import rulesets, sql
from switch.ledger.bridge import Connection
from switch.ledger.operators import Operator
from switch.ledger.rules_trail import words_fault
from switch.ledger.rulesets import ActRefused, Refusal, RulesetView

RunBacktest = Callable[[BacktestRequest], Awaitable[BacktestResult]]

JOB_SECONDS_MAX = 5.0
"""How long writing down the end of a job may hold up whoever was cancelled."""
_QUERIES = sql.queries("rulesets.sql")


def yesterday(config: Config, now_us: int) -> date:
    """The last business day that is over."""
    calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
    return calendar.business_date(now_us) - timedelta(days=1)


def judged(result: BacktestResult, declined_percent_max: int, override: str = "") -> dict[str, Any]:
    """What the trail says of the backtest. Raises ActRefused where it declines too much.

    A day on which nothing was approved says nothing against a ruleset.
    """
    if fault := words_fault("override", override):
        raise ActRefused(Refusal.WORDS, fault)
    if result.cancelled:
        raise ActRefused(
            Refusal.DECLINES_MUCH, "the backtest of yesterday was cancelled; submit it again"
        )
    too_much = result.approved_declined * 100 > declined_percent_max * result.approved
    if too_much and not override.strip():
        raise ActRefused(Refusal.DECLINES_MUCH, _too_much(result, declined_percent_max))
    detail: dict[str, Any] = {
        "backtest": {
            "day": result.to_date.isoformat(),
            "approved": result.approved,
            "approved_declined": result.approved_declined,
            "share_ppm": result.approved_declined_ppm,
            "gained": result.gained,
            "lost": result.lost,
        }
    }
    if too_much:
        detail["override"] = override
    return detail


async def submit_ruleset(
    connection: Connection,
    url: str,
    view: RulesetView,
    *,
    actor: Operator,
    reason: str,
    override: str,
    config: Config,
    now_us: int,
    run: RunBacktest = run_backtest,
) -> RulesetView:
    """Backtest a ruleset over yesterday's history (the ledger at `url`) and submit it.

    Raises as `judged`, `run_backtest` and `rulesets.act` do. Whether it may be submitted at all
    is looked at first, for a backtest takes a while. No transaction is open meanwhile.
    """
    await rulesets.allowed_move(connection, view, "submit", actor)
    day = yesterday(config, now_us)
    detail: dict[str, Any] = {"backtest": {"day": day.isoformat(), "approved": 0}}
    if await connection.fetchval(_QUERIES["day_has_history"], day):
        ruleset = (await rulesets.text(connection, view.hash)).ruleset()
        result = await _backtest(connection, url, view, ruleset, day, actor.name, run)
        detail = judged(result, config.rules.declined_percent_max, override)
    return await rulesets.act(
        connection, view.hash, "submit", actor=actor, reason=reason, detail=detail
    )


async def _backtest(
    connection: Connection,
    url: str,
    view: RulesetView,
    ruleset: Ruleset,
    day: date,
    actor: str,
    run: RunBacktest,
) -> BacktestResult:
    """Run it as a job, so that approvers and the forecast find its result."""
    request = BacktestRequest(
        url=url, ruleset=ruleset, from_date=day, to_date=day, title=view.title
    )
    job, result = await begin_job(connection, view.hash, request, actor), None
    try:
        result = await run(request)
    finally:
        with anyio.move_on_after(JOB_SECONDS_MAX, shield=True):
            await end_job(connection, job, result)
    return result


def _too_much(result: BacktestResult, declined_percent_max: int) -> str:
    share = result.approved_declined_ppm
    return (
        f"it would have declined {result.approved_declined:,} of the {result.approved:,} payments "
        f"approved on {result.to_date} ({share // 10_000}.{share // 100 % 100:02} %), and [rules] "
        f"declined_percent_max is {declined_percent_max}; narrow it, or say with an override why "
        "it is meant"
    )
