"""`rules backtest`: what a ruleset would have done to the days that were, told and drawn."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import anyio
from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from risk.backtest_result import BacktestResult
from risk.check import load_ruleset
from risk.read import RULESET_BYTES_MAX
from risk.ruleset import Ruleset
from switch.backtest.report import write_report
from switch.backtest.running import (
    BacktestRefused,
    BacktestRequest,
    RowsDone,
    Told,
    begin_job,
    end_job,
    run_backtest,
)
from switch.backtest.summary import summary_tables
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import PIPE_COLUMNS, Json, write, write_json
from switch.ledger import rule_lists, rulesets
from switch.ledger.operators import ANALYST, Operator

WORKERS_MAX = 64

Day = Annotated[str, Parameter(help="A business day, YYYY-MM-DD; the last that is over if none.")]


def backtest(
    ruleset: Annotated[
        str,
        Parameter(help="live, canary, the first digits of a hash, or a file (.toml)."),
    ],
    /,
    *,
    where: Where = HERE,
    from_: Annotated[Day, Parameter(name="--from")] = "",
    to: Annotated[Day, Parameter(name="--to")] = "",
    closed_loop: Annotated[
        bool, Parameter(negative=(), help="What it declines leaves the later counters too.")
    ] = False,
    report: Annotated[
        Path | None, Parameter(help="Write the report with its plots into this folder.")
    ] = None,
    workers: Annotated[int, Parameter(help="Processes; 0 is one a core.")] = 0,
    record: Annotated[
        bool, Parameter(negative=(), help="Keep the result in the ledger, as the token's owner.")
    ] = False,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Replay days of history with a ruleset: what it declines more, what less, and what it costs.

    Ctrl-C ends it with what was found until then. Exit 1 where the ruleset decided some of the
    rows itself and they do not come out as they were stored.
    """
    if not 0 <= workers <= WORKERS_MAX:
        raise CommandFailed(f"--workers is out of range; give 0 to {WORKERS_MAX}")
    config = where.load()
    token = acting(token_file) if record else ""
    calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
    yesterday = calendar.business_date(SystemClock().now_us()) - timedelta(days=1)
    first = _day(from_, "--from") or yesterday
    last = _day(to, "--to") or max(first, yesterday)

    async def body(ledger: Ledger) -> BacktestResult:
        who = await operator(ledger, token, ANALYST) if record else None
        title, tested, hash_ = await _named(ledger, ruleset)
        if record and not hash_:
            raise CommandFailed("a file is in no ledger; put it there with rules new to --record")
        request = BacktestRequest(
            url=ledger.url,
            ruleset=tested,
            title=title,
            from_date=first,
            to_date=last,
            closed_loop=closed_loop,
            workers=workers,
        )
        return await _recorded(ledger, request, who, hash_)

    try:
        result = with_ledger(where, config, body)
    except BacktestRefused as refused:
        raise CommandFailed(str(refused), Exit.FINDINGS) from None
    _say(result, report, ZoneInfo(config.ledger.time_zone), json=json)
    if result.cancelled:
        return Exit.INTERRUPTED
    agreement = result.agreement
    differs = agreement.equal != agreement.rows and not closed_loop
    return Exit.FINDINGS if differs else Exit.OK


async def _named(ledger: Ledger, ruleset: str) -> tuple[str, Ruleset, str]:
    """Title, ruleset and hash of what was named; no hash for a file."""
    path = Path(ruleset)
    if path.suffix == ".toml":
        outside = await rule_lists.book_fields(ledger.connection)
        return path.stem, load_ruleset(_text_of(path), ruleset, outside=outside), ""
    view = await rulesets.found(ledger.connection, ruleset)
    stored = await rulesets.text(ledger.connection, view.hash)
    return view.title, stored.ruleset(), view.hash


async def _recorded(
    ledger: Ledger, request: BacktestRequest, who: Operator | None, hash_: str
) -> BacktestResult:
    """Run it; with an operator its beginning and end are written down."""
    if who is None:
        return await _run(request)
    job = await begin_job(ledger.connection, hash_, request, who.name)
    result: BacktestResult | None = None
    try:
        result = await _run(request)
        return result
    finally:
        with anyio.CancelScope(shield=True):
            await end_job(ledger.connection, job, result)


async def _run(request: BacktestRequest) -> BacktestResult:
    stop = anyio.Event()
    ended: BacktestResult | BacktestRefused
    with _shown() as told:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stop_at_interrupt, stop)
            try:
                ended = await run_backtest(request, told=told, stop=stop)
            except BacktestRefused as refused:
                ended = refused
            tasks.cancel_scope.cancel()
    if isinstance(ended, BacktestRefused):
        raise ended
    return ended


async def _stop_at_interrupt(stop: anyio.Event) -> None:
    """The first Ctrl-C asks for what was found; a second one ends it at once."""
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            if stop.is_set():
                raise KeyboardInterrupt
            stop.set()


@contextmanager
def _shown() -> Iterator[Told | None]:
    """A bar on a terminal; nothing elsewhere."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield None
        return
    columns = (
        TextColumn("replaying"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("")

        def told(done: RowsDone) -> None:
            bar.update(task, completed=done.rows, total=max(done.rows, done.rows_expected))

        yield told


def _say(result: BacktestResult, report: Path | None, zone: ZoneInfo, *, json: bool) -> None:
    if report is not None:
        try:
            written = write_report(result, report, zone=zone)
        except OSError as error:
            raise CommandFailed(
                f"{report} cannot be written ({error.strerror}); name another folder"
            ) from None
    if json:
        write_json(result)
        return
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    console = Console(file=sys.stdout, highlight=False, width=width)
    for table in summary_tables(result):
        console.print(table)
    if report is not None:
        write(f"{len(written)} files written; open {report / 'index.html'}")


def _day(given: str, option: str) -> date | None:
    if not given:
        return None
    try:
        return date.fromisoformat(given)
    except ValueError:
        raise CommandFailed(f"{option} is not a date; write it as YYYY-MM-DD") from None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as opened:
            octets = opened.read(RULESET_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read ({error.strerror}); name another") from None
    if len(octets) > RULESET_BYTES_MAX:
        raise CommandFailed(f"{path} is over {RULESET_BYTES_MAX} bytes; name a ruleset")
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandFailed(f"{path} is not UTF-8; save it as UTF-8 text") from None
