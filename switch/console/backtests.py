"""Backtests over HTTP: ask for one, see how far it is, cancel it, read result and report."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from risk.backtest_result import BacktestResult
from switch.backtest.running import DAYS_MAX
from switch.console.backtest_queue import JobView
from switch.console.desk import Desk
from switch.console.endpoint import READERS, Asked, Call, Document, Endpoint, Query
from switch.console.fields import CountMax, Id, Reference
from switch.console.problems import Fault, refusal
from switch.console.reports import INDEX
from switch.ledger import rulesets

RUNNERS = frozenset({"analyst", "author", "approver"})
REPORT_SECONDS = 120.0
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
)
"""A report is one page with its style and its drawings in it, and no script."""
_TYPES = {
    "html": "text/html",
    "svg": "image/svg+xml",
    "png": "image/png",
    "csv": "text/csv",
    "json": "application/json",
}


class BacktestAsked(Asked, frozen=True):
    """A ruleset on the history of these days, both included. Closed loop: what it declines
    leaves later counters."""

    ruleset: Reference
    from_date: Annotated[date, Meta(description="the first day, such as 2026-10-01")]
    to_date: Annotated[date, Meta(description="the last day, such as 2026-10-07")]
    closed_loop: Annotated[bool, Meta(description="true, for the closed loop")] = False


class BacktestsQuery(Query, frozen=True):
    """Older than which one; the newest if nothing is said."""

    before: Id | None = None
    count_max: CountMax = 100


class BacktestsView(msgspec.Struct, frozen=True):
    """Backtests, newest first."""

    backtests: list[JobView]


async def ask(desk: Desk, call: Call[BacktestAsked, Query]) -> JobView:
    asked = call.asked
    days = (asked.to_date - asked.from_date).days + 1
    if not 1 <= days <= DAYS_MAX:
        words = f"give 1 to {DAYS_MAX} days, the last one not before the first"
        raise refusal(Fault.FIELD, words, "/to_date")
    view = await rulesets.found(desk.ledger, asked.ruleset)
    return await desk.backtests.ask(
        view.hash,
        (asked.from_date, asked.to_date),
        call.operator.name,
        closed_loop=asked.closed_loop,
    )


async def every(desk: Desk, call: Call[None, BacktestsQuery]) -> BacktestsView:
    return BacktestsView(await desk.backtests.listed(call.query.before, call.query.count_max))


async def one(desk: Desk, call: Call[None, Query]) -> JobView:
    return await desk.backtests.one(int(call.path["id"]))


async def cancel(desk: Desk, call: Call[None, Query]) -> JobView:
    return await desk.backtests.cancel(int(call.path["id"]))


async def result(desk: Desk, call: Call[None, Query]) -> Document:
    return Document(await desk.backtests.result(int(call.path["id"])), "application/json")


async def report(desk: Desk, call: Call[None, Query]) -> Document:
    name = call.path.get("file", INDEX)
    kind = _TYPES.get(name.rpartition(".")[2])
    if kind is None:
        raise refusal(Fault.NOT_FOUND, "the report has no such file; its index.html names them")
    octets = await desk.reports.file(int(call.path["id"]), name)
    return Document(octets, kind, {"content-security-policy": REPORT_POLICY})


_ALL = "/v1/backtests"
_ONE = f"{_ALL}/{{id}}"
ENDPOINTS = (
    Endpoint(
        method="GET", path=_ALL, summary="The newest backtests, and how each stands",
        roles=READERS, handler=every, query=BacktestsQuery, answers=BacktestsView,
        faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="POST", path=_ALL, summary="Ask for a backtest", roles=RUNNERS, handler=ask,
        asked=BacktestAsked, answers=JobView, status=202, faults=(Fault.FIELD, Fault.NOT_FOUND),
        example={"ruleset": "3fa9c1", "from_date": "2026-10-01", "to_date": "2026-10-07"},
    ),
    Endpoint(
        method="GET", path=_ONE, summary="How one stands, and how far it is", roles=READERS,
        handler=one, answers=JobView,
    ),
    Endpoint(
        method="DELETE", path=_ONE, summary="Cancel one that waits or runs", roles=RUNNERS,
        handler=cancel, answers=JobView, faults=(Fault.STATE,),
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/result", summary="What came out", roles=READERS,
        handler=result, answers=BacktestResult, faults=(Fault.STATE,),
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/report/", summary="The report, for people", roles=READERS,
        handler=report, answer_type="text/html", faults=(Fault.STATE,), seconds=REPORT_SECONDS,
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/report/{{file}}", summary="A file of the report",
        roles=READERS, handler=report, answer_type="application/octet-stream",
        faults=(Fault.STATE,), seconds=REPORT_SECONDS,
    ),
)  # fmt: skip
