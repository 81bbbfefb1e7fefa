"""Backtests that were asked for: a bounded queue, one at work, each with its row in the ledger.

The work is done by processes of its own, so requests go on being answered. What came out is in
the ledger.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any

import anyio
import msgspec

from risk.backtest_result import BacktestResult
from switch.backtest.running import BacktestRefused
from switch.console.ledger import ConsoleLedger
from switch.console.problems import Fault, refusal
from switch.ledger import bridge, sql
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log

QUEUED_MAX = 8
AT_ONCE = 1
"""A backtest takes the cores that it is given; two would only make each other late."""
OF_DAY_SECONDS = 60.0
"""How long a submission waits for the backtest of yesterday before it says: later."""
SETTLE_SECONDS = 1.0
SETTLE_SECONDS_MAX = 30.0
"""How long a ledger that is away is waited for, to write down how a backtest ended."""
LEAVE_SECONDS = 5.0
"""How long a console that ends tries to write down what it has not done."""
_AWAY = (LedgerLost, TimeoutError, *bridge.CONNECTION_LOST)
_QUERIES = sql.queries("console.sql")
_log = get_log("console")


class JobView(msgspec.Struct, frozen=True):
    """A backtest: `state` is queued, running, done, cancelled or failed. `rows_done` of about
    `rows_expected` are known while this console runs it, and `why` for a while after it failed."""

    backtest_id: int
    hash: str
    from_date: date
    to_date: date
    closed_loop: bool
    actor: str
    state: str
    rows_done: int | None = None
    rows_expected: int | None = None
    why: str = ""


class Job:
    """One that waits or is at work in this process."""

    def __init__(self, view: JobView) -> None:
        self.view = view
        self.state = "queued"
        self.why = ""
        self.rows_done = 0
        self.rows_expected = 0
        self.stop = anyio.Event()
        self.ended = anyio.Event()

    def shown(self) -> JobView:
        return msgspec.structs.replace(
            self.view,
            state=self.state,
            rows_done=self.rows_done,
            rows_expected=self.rows_expected,
            why=self.why,
        )


RunJob = Callable[[Job], Awaitable[BacktestResult]]
"""Does a backtest and notes how far it is. Where `stop` is set it ends early with what it has;
cancelled, it leaves no process behind."""


class BacktestQueue:
    """The backtests of this console. `run_job` does one."""

    def __init__(self, ledger: ConsoleLedger, run_job: RunJob) -> None:
        self._ledger = ledger
        self._run_job = run_job
        self._jobs: dict[int, Job] = {}
        self._failed: dict[int, str] = {}
        self._put, self._take = anyio.create_memory_object_stream[Job](QUEUED_MAX)

    def __len__(self) -> int:
        """How many wait or are at work."""
        return len(self._jobs)

    async def run(self) -> None:
        """Work the queue off until cancelled. What waits then is cancelled too: nobody would
        ever do it."""
        try:
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(self._work)
        finally:
            with anyio.move_on_after(LEAVE_SECONDS, shield=True):
                for job in list(self._jobs.values()):
                    await self._settled(job, "cancelled", None)
                    job.ended.set()
            self._jobs.clear()

    async def ask(
        self, hash: str, days: tuple[date, date], actor: str, *, closed_loop: bool = False
    ) -> JobView:
        """Queue a backtest. Raises Refused where too many wait."""
        return (await self._asked(hash, days, actor, closed_loop)).shown()

    async def of_day(
        self, hash: str, day: date, over_at: datetime, actor: str
    ) -> BacktestResult | None:
        """What a ruleset would have done to a day that was over at `over_at`: as known, or found
        out now. A backtest that was asked for before knows a part of the day only. None where the
        ledger has nothing of that day. Raises Refused where it takes long, or cannot be."""
        stored = await self._ledger.fetch(_QUERIES["backtest_of_day"], hash, day, over_at)
        if stored:
            return msgspec.json.decode(stored[0]["result"], type=BacktestResult)
        if not (await self._ledger.fetch(_QUERIES["has_history"], day))[0]["known"]:
            return None
        job = self._same(hash, day) or await self._asked(hash, (day, day), actor, False)
        with anyio.move_on_after(OF_DAY_SECONDS):
            await job.ended.wait()
        stored = await self._ledger.fetch(_QUERIES["backtest_of_day"], hash, day, over_at)
        if stored:
            return msgspec.json.decode(stored[0]["result"], type=BacktestResult)
        view = job.shown()
        words = f"backtest {view.backtest_id} of {day} is {view.state}"
        waits = view.state in ("queued", "running")
        words += f": {view.why}" if view.why else "; submit it again"
        words += " once that is done" if waits else ""
        raise refusal(Fault.STATE, words)

    async def one(self, backtest_id: int) -> JobView:
        """How one stands, whoever runs it. Raises Refused."""
        job = self._jobs.get(backtest_id)
        if job is not None:
            return job.shown()
        rows = await self._ledger.fetch(_QUERIES["backtest"], backtest_id)
        if not rows:
            words = "there is no backtest of this id; /v1/backtests has them"
            raise refusal(Fault.NOT_FOUND, words)
        return self._view(rows[0])

    async def listed(self, before: int | None, count_max: int) -> list[JobView]:
        """The newest, newest first."""
        rows = await self._ledger.fetch(_QUERIES["backtests"], before, count_max)
        return [
            job.shown() if (job := self._jobs.get(row["backtest_id"])) else self._view(row)
            for row in rows
        ]

    async def cancel(self, backtest_id: int) -> JobView:
        """Have one end. One that this console does not run (another one does, or did until it
        was killed) counts as cancelled from now on, whatever still comes of it. Raises Refused."""
        job = self._jobs.get(backtest_id)
        if job is not None:
            job.stop.set()
            return job.shown()
        rows = await self._ledger.fetch(_QUERIES["cancel_backtest"], backtest_id)
        if not rows:
            view = await self.one(backtest_id)
            words = f"it is {view.state}; only what waits or runs can be cancelled"
            raise refusal(Fault.STATE, words)
        return self._view(rows[0])

    async def result(self, backtest_id: int) -> bytes:
        """What came out, as JSON. Raises Refused."""
        rows = await self._ledger.fetch(_QUERIES["backtest_result"], backtest_id)
        if not rows:
            view = await self.one(backtest_id)
            raise refusal(Fault.STATE, f"it is {view.state}, and there is no result")
        text: str = rows[0]["result"]
        return text.encode()

    def _same(self, hash: str, day: date) -> Job | None:
        """One that waits or is at work, of this ruleset on this day."""
        wanted = (hash, day, day, False)
        for job in self._jobs.values():
            view = job.view
            if (view.hash, view.from_date, view.to_date, view.closed_loop) == wanted:
                return job
        return None

    async def _asked(
        self, hash: str, days: tuple[date, date], actor: str, closed_loop: bool
    ) -> Job:
        self._refuse_too_many()
        rows = await self._ledger.fetch(_QUERIES["add_backtest"], hash, *days, closed_loop, actor)
        job = Job(self._view(rows[0]))
        try:
            self._refuse_too_many()  # others may have asked meanwhile
            self._put.send_nowait(job)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._settled(job, "cancelled", None)
            raise
        self._jobs[job.view.backtest_id] = job
        return job

    def _refuse_too_many(self) -> None:
        if len(self._jobs) >= QUEUED_MAX:
            words = f"{QUEUED_MAX} backtests wait or run, which is the most; cancel one or wait"
            raise refusal(Fault.TOO_MANY, words)

    def _view(self, row: Any) -> JobView:
        fields = {name: row[name] for name in _FIELDS}
        return JobView(**fields, why=self._failed.get(row["backtest_id"], ""))

    async def _work(self) -> None:
        async for job in self._take:
            try:
                await self._done(job)
            finally:
                self._jobs.pop(job.view.backtest_id, None)
                job.ended.set()

    async def _done(self, job: Job) -> None:
        """Do one and write down how it ended; only then it is told, and its result is there."""
        result: BacktestResult | None = None
        ended = "cancelled"  # while it waited, or because the console ends
        try:
            if not job.stop.is_set():
                job.state = "running"
                result = await self._run_job(job)
                ended = "cancelled" if result.cancelled else "done"
        except BacktestRefused as refused:
            ended = self._fails(job, str(refused))
        except _AWAY as error:
            _log.warning("a backtest met no ledger", id=job.view.backtest_id, error=_name(error))
            ended = self._fails(job, "the ledger was away; ask for it again once it is back")
        except Exception as error:  # noqa: BLE001 - one that fails must not end the queue
            _log.error("a backtest failed", id=job.view.backtest_id, error=_name(error))
            ended = self._fails(job, "the console has a fault; tell whoever runs it")
        finally:
            with anyio.CancelScope(shield=True):
                await self._settled(job, ended, result)
            job.state = ended

    def _fails(self, job: Job, why: str) -> str:
        job.why = why
        self._failed[job.view.backtest_id] = why
        if len(self._failed) > QUEUED_MAX:
            self._failed.pop(next(iter(self._failed)))
        return "failed"

    async def _settled(self, job: Job, state: str, result: BacktestResult | None) -> None:
        """Write how it ended; a ledger that is away for a moment is waited for."""
        text = None if result is None else msgspec.json.encode(result).decode()
        with anyio.move_on_after(SETTLE_SECONDS_MAX):
            while True:
                try:
                    await self._ledger.fetch(
                        _QUERIES["end_backtest"], job.view.backtest_id, state, text
                    )
                    return
                except LedgerLost:
                    await anyio.sleep(SETTLE_SECONDS)
                except LedgerRefused as error:
                    _log.error("the end of a backtest is not written", reason=str(error))
                    return
        _log.error("the end of a backtest is not written", reason="the ledger stays away")


def _name(error: Exception) -> str:
    return type(error).__name__


_FIELDS = (
    "backtest_id", "hash", "from_date", "to_date", "closed_loop", "actor", "state",
)  # fmt: skip
