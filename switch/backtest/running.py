"""Runs a backtest: a process for each group of shards, put together when they are done.

The replay is pure computing, so it gets processes of its own and the one that asked stays free
to serve. What they tell are sums, so together they are the whole, to the last count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import date, timedelta
from typing import Any

import anyio
import msgspec
from anyio.abc import ByteSendStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from risk.backtest_report import Ran, report
from risk.backtest_result import BacktestResult
from risk.backtest_tally import Tally
from risk.ruleset import Ruleset, canonical_bytes, ruleset_from_bytes
from switch.backtest.failures import BacktestRefused, first_of
from switch.backtest.history import reading
from switch.backtest.messages import (
    LINE_BYTES_MAX,
    Done,
    Failed,
    Progress,
    ShardRequest,
    decode_told,
    encode,
)
from switch.ledger import bridge, sql

__all__ = [
    "BacktestRefused",
    "BacktestRequest",
    "RowsDone",
    "Told",
    "begin_job",
    "end_job",
    "run_backtest",
    "shard_groups",
]

DAYS_MAX = 366
FIRST_DAY = date(2000, 1, 1)
"""No ledger has older days."""
WARM_UP_DAYS = 1
"""No window of history is longer than 24 hours, so the day before has all that the first needs."""
STOP_SECONDS = 20.0
"""How long a process that was told to stop may take for the rows in hand."""
CONNECT_SECONDS = 20.0

_QUERIES = sql.queries("backtest.sql")
_ENDED_EARLY = "a process of the backtest ended before it was done; see its message and try again"


class BacktestRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to test and on which business days, both included.

    `live` is the ruleset whose limits are compared; the ledger's live one where it is None.
    `workers` 0 is one process a core. A statement is given up after `timeout_seconds`.
    """

    url: str
    ruleset: Ruleset
    from_date: date
    to_date: date
    title: str = ""
    closed_loop: bool = False
    workers: int = 0
    live: Ruleset | None = None
    timeout_seconds: float = 600.0


class RowsDone(msgspec.Struct, frozen=True):
    """How far a backtest is: rows read, of about so many."""

    rows: int
    rows_expected: int


Told = Callable[[RowsDone], None]


class _Plan(msgspec.Struct, frozen=True):
    """What is read of the ledger before the processes start."""

    shards: int
    rows_expected: int
    live: bytes
    until_us: int


async def run_backtest(
    request: BacktestRequest, *, told: Told | None = None, stop: anyio.Event | None = None
) -> BacktestResult:
    """Replay the days and report. With `stop` set, what was done until then is reported as
    cancelled; cancelling the task ends the processes without a result.

    Raises BacktestRefused, and what `bridge.connect` raises.
    """
    _require_days(request)
    began = time.monotonic()
    warm_up_from = request.from_date - timedelta(days=WARM_UP_DAYS)
    plan = await _planned(request, warm_up_from)
    groups = shard_groups(plan.shards, request.workers or os.cpu_count() or 1)
    whole = Tally()
    rows_of: dict[int, int] = {}

    def progressed(group: int, rows: int) -> None:
        rows_of[group] = rows
        if told is not None:
            told(RowsDone(sum(rows_of.values()), plan.rows_expected))

    async def run_group(number: int, shards: tuple[int, ...]) -> None:
        asked = ShardRequest(
            url=request.url,
            canonical=canonical_bytes(request.ruleset),
            live=plan.live,
            shards=shards,
            warm_up_from=warm_up_from,
            from_date=request.from_date,
            to_date=request.to_date,
            until_us=plan.until_us,
            closed_loop=request.closed_loop,
            timeout_seconds=request.timeout_seconds,
        )
        tally = await _run_process(asked, lambda rows: progressed(number, rows), stop)
        whole.add(tally)

    await _together([_bound(run_group, n, shards) for n, shards in enumerate(groups)])
    ran = Ran(
        request.title,
        request.from_date,
        request.to_date,
        request.closed_loop,
        time.monotonic() - began,
        plan.shards,
        warm_up_from,
    )
    live = ruleset_from_bytes(plan.live) if plan.live else None
    return report(request.ruleset, whole, ran, live)


def shard_groups(shards: int, workers: int) -> list[tuple[int, ...]]:
    """The shards dealt out to at most so many processes."""
    count = max(1, min(shards, workers))
    return [tuple(range(number, shards, count)) for number in range(count)]


def _require_days(request: BacktestRequest) -> None:
    if request.from_date < FIRST_DAY:
        raise BacktestRefused(f"no ledger has days before {FIRST_DAY}; test later ones")
    if request.from_date > request.to_date:
        raise BacktestRefused("the first day is after the last; turn --from and --to around")
    if (request.to_date - request.from_date).days >= DAYS_MAX:
        raise BacktestRefused(f"that is over {DAYS_MAX} days; test a shorter time")


async def _planned(request: BacktestRequest, warm_up_from: date) -> _Plan:
    connection = await bridge.connect(request.url, timeout_seconds=CONNECT_SECONDS)
    try:
        async with reading(connection, request.timeout_seconds):
            shards = await connection.fetchval(_QUERIES["shards"])
            expected = await connection.fetchval(
                _QUERIES["rows_between"], warm_up_from, request.to_date
            )
            known = await connection.fetchval(
                _QUERIES["has_history"], request.from_date, request.to_date
            )
            live = await connection.fetchval(_QUERIES["live_ruleset"])
            until_us = await connection.fetchval(_QUERIES["now_us"])
    finally:
        connection.terminate()
    if not known:
        raise BacktestRefused(
            f"the ledger has no history from {request.from_date} to {request.to_date}; "
            "test days on which there was traffic"
        )
    if request.live is not None:
        live = canonical_bytes(request.live)
    return _Plan(shards, expected, live or b"", until_us)


def _bound(
    run_group: Callable[[int, tuple[int, ...]], Coroutine[Any, Any, None]],
    number: int,
    shards: tuple[int, ...],
) -> Callable[[], Coroutine[Any, Any, None]]:
    return lambda: run_group(number, shards)


async def _together(runs: list[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """All at once; the first that fails ends the others."""
    try:
        async with anyio.create_task_group() as tasks:
            for run in runs:
                tasks.start_soon(run)
    except BaseExceptionGroup as group:
        refused = group.subgroup(BacktestRefused)
        if refused is None:
            raise
        raise BacktestRefused(str(first_of(refused))) from None


async def _run_process(
    asked: ShardRequest, told: Callable[[int], None], stop: anyio.Event | None
) -> Tally:
    """One process from request to tally."""
    process = await anyio.open_process(
        [sys.executable, "-m", "switch.backtest.shard"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        await process.stdin.send(encode(asked) + b"\n")
        async with anyio.create_task_group() as tasks:
            if stop is not None:
                tasks.start_soon(_stop_when_asked, process.stdin, stop)
            tally = await _told(process, told)
            tasks.cancel_scope.cancel()
        return tally
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        raise BacktestRefused(_ENDED_EARLY) from None
    finally:
        with anyio.CancelScope(shield=True):
            await _ended(process)


async def _told(process: Process, told: Callable[[int], None]) -> Tally:
    assert process.stdout is not None
    lines = BufferedByteReceiveStream(process.stdout)
    while True:
        try:
            line = await lines.receive_until(b"\n", LINE_BYTES_MAX)
        except (anyio.IncompleteRead, anyio.DelimiterNotFound, anyio.BrokenResourceError):
            raise BacktestRefused(_ENDED_EARLY) from None
        match decode_told(line):
            case Progress(rows=rows):
                told(rows)
            case Done(tally=tally):
                return tally
            case Failed(sentence=sentence):
                raise BacktestRefused(sentence)


async def _stop_when_asked(requests: ByteSendStream, stop: anyio.Event) -> None:
    """Leave the process: it tells what it came to. A signal could come before it listens."""
    await stop.wait()
    await requests.aclose()


async def _ended(process: Process) -> None:
    """Let it go: it ends when its stdin is closed, and is killed where it does not."""
    if process.stdin is not None:
        await process.stdin.aclose()
    with anyio.move_on_after(STOP_SECONDS):
        await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
    await process.aclose()


async def begin_job(
    connection: bridge.Connection, hash_: str, request: BacktestRequest, actor: str
) -> int:
    """Write down that a backtest was asked for; its id."""
    job: int = await connection.fetchval(
        _QUERIES["begin_job"],
        hash_,
        request.from_date,
        request.to_date,
        request.closed_loop,
        actor,
    )
    return job


async def end_job(connection: bridge.Connection, job: int, result: BacktestResult | None) -> None:
    """Write down how it ended; without a result it has failed."""
    state = "failed" if result is None else ("cancelled" if result.cancelled else "done")
    text = msgspec.json.encode(result).decode() if result is not None else None
    await connection.fetch(_QUERIES["end_job"], job, state, text)
