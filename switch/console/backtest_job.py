"""How the console does one backtest: by the processes of switch.backtest."""

from __future__ import annotations

import os

from risk.backtest_result import BacktestResult
from switch.backtest.running import BacktestRequest, RowsDone, run_backtest
from switch.console.backtest_queue import Job, RunJob
from switch.console.ledger import ConsoleLedger
from switch.ledger import rulesets

CORES_SHARE = 2
"""One in so many cores: workers that authorize may be on the same machine."""


def job_runner(ledger: ConsoleLedger, database: str) -> RunJob:
    """What does a backtest on this ledger."""

    async def run_job(job: Job) -> BacktestResult:
        def told(far: RowsDone) -> None:
            job.rows_done, job.rows_expected = far.rows, far.rows_expected

        text = await rulesets.text(ledger, job.view.hash)
        request = BacktestRequest(
            url=database,
            ruleset=text.ruleset(),
            from_date=job.view.from_date,
            to_date=job.view.to_date,
            title=text.title,
            closed_loop=job.view.closed_loop,
            workers=max(1, (os.cpu_count() or 1) // CORES_SHARE),
        )
        return await run_backtest(request, told=told, stop=job.stop)

    return run_job
