"""Backtests over HTTP, on a day of history: asked for, done, told, and what submitting makes of
them; and a queue that is bounded."""

from __future__ import annotations

import time
from datetime import date
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest

from protocols.message import Outcome
from risk.backtest_result import BacktestResult
from risk.record import AssessedFacts, Assessment, encode_results
from switch.backtest.submission import yesterday
from switch.clock import SystemClock
from switch.config import Config
from switch.console.backtest_queue import QUEUED_MAX, BacktestQueue, Job
from switch.console.ledger import console_ledger
from switch.console.problems import Refused
from switch.ledger.failures import LedgerLost
from tests.switch.console.conftest import PATIENCE_SECONDS, empty_result

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import httpx

    from tests.switch.console.conftest import Served

ROWS = 300
AMOUNT_MINOR = 1_234
RULE = """
[[rules]]
id = "no_small_sales"
version = 1
name = "No sale above ten"
stage = "amber"
when = { fact = "amount", op = "gt", value = 1000 }
then = { decline = "amount_limit", reason = "above ten" }
"""


@pytest.fixture(scope="module")
def day(served: Served) -> date:
    """Yesterday, with some approved purchases of one card."""
    wanted = yesterday(Config(), SystemClock().now_us())
    served.fetch("select ledger.make_partitions($1)", wanted)
    noon = "1000000 * extract(epoch from $1::date at time zone 'Asia/Shanghai')::bigint"
    results = encode_results(
        Assessment(
            Outcome.APPROVED,
            served.live,
            facts=AssessedFacts(AMOUNT_MINOR, 100_000, tier="verified", product="standard"),
        )
    )
    served.fetch(
        "insert into ledger.authorization (business_date, shard, authorization_id, account_id,"
        " card_id, at_us, posted_at_us, deadline_at_us, key, payload_hash, message_class, kind,"
        " segment, link, acquirer, terminal, merchant, mcc, entry_mode, stan, local_at, rrn,"
        " auth_code, currency, amount_minor, approved_minor, purse, outcome, original_id, ruleset,"
        " rule_results, explanation)"
        f" select $1, 0, 5000 + n, 5000 + n, 5000 + n, {noon} + n, {noon} + n,"
        " 0, decode(lpad(to_hex(n), 32, '0'), 'hex'), '', 'financial', 'purchase', 'retail', 'r',"
        " '48021000', 'T1', 'M1', '5411', 'chip', '000001', '', lpad(n::text, 12, '0'), '', '156',"
        f" {AMOUNT_MINOR}, {AMOUNT_MINOR}, 2, 'approved', 0, $2, $3, 'Approved'"
        f" from generate_series(1, {ROWS}) n",
        wanted,
        served.live,
        results,
    )
    return wanted


def drafted(served: Served) -> str:
    """A draft that declines all that was approved on that day."""
    with served.client("author") as client:
        toml = served.draft_toml() + RULE
        answer = client.post("/v1/rulesets", json={"title": "harsh", "toml": toml})
    assert answer.status_code == 201, answer.text
    hash_: str = answer.json()["hash"]
    return hash_


def ended(client: httpx.Client, backtest_id: int) -> Any:
    """How a backtest stands once it is over."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (told := client.get(f"/v1/backtests/{backtest_id}").json())["state"] in (
        "queued", "running",
    ):  # fmt: skip
        assert time.monotonic() < until, told
        time.sleep(0.05)
    return told


def test_a_backtest_from_asking_to_submitting(served: Served, day: date) -> None:
    hash_ = drafted(served)
    with served.client("author") as client:
        asked = {"ruleset": hash_[:12], "from_date": f"{day}", "to_date": f"{day}"}
        answer = client.post("/v1/backtests", json=asked)
        assert answer.status_code == 202, answer.text
        backtest_id = answer.json()["backtest_id"]
        told = ended(client, backtest_id)
        assert (told["state"], told["hash"], told["actor"]) == ("done", hash_, "author.one"), told
        found = client.get(f"/v1/backtests/{backtest_id}/result").json()
        assert (found["rows"], found["gained"], found["approved"]) == (ROWS, ROWS, ROWS)
        assert client.delete(f"/v1/backtests/{backtest_id}").status_code == 409
        listed = client.get("/v1/backtests").json()["backtests"]
        assert [each["state"] for each in listed if each["backtest_id"] == backtest_id] == ["done"]
        # what was found is what submitting is judged by
        act = f"/v1/rulesets/{hash_}/submit"
        refused = client.post(act, json={"reason": "please"})
        assert refused.status_code == 409
        assert f"declined {ROWS} of the {ROWS}" in refused.json()["detail"]
        submitted = client.post(act, json={"override": "the shop moved"})
        assert (submitted.status_code, submitted.json()["state"]) == (200, "submitted")
    with served.client("auditor") as client:
        event = client.get("/v1/trail", params={"subject": hash_}).json()["events"][0]
    assert event["detail"]["override"] == "the shop moved"
    assert event["detail"]["backtest"]["approved_declined"] == ROWS


def test_what_was_found_before_the_day_was_over_is_no_backtest_of_it(
    served: Served, day: date
) -> None:
    """Of the morning alone a ruleset may look harmless; submitting judges the whole day."""
    hash_ = drafted(served)
    result = msgspec.structs.replace(empty_result(hash_), from_date=day, to_date=day)
    served.fetch(
        "insert into ledger.backtest"
        " (hash, from_date, to_date, closed_loop, actor, state, result, started_at)"
        " values ($1, $2, $2, false, 'x', 'done', $3::jsonb,"
        "         $2::date::timestamp at time zone 'Asia/Shanghai' + interval '9 hours')",
        hash_,
        day,
        msgspec.json.encode(result).decode(),
    )
    with served.client("author") as client:
        refused = client.post(f"/v1/rulesets/{hash_}/submit", json={})
    assert refused.status_code == 409, refused.text
    assert f"declined {ROWS} of the {ROWS}" in refused.json()["detail"]


def test_one_that_no_console_runs_any_more_can_be_cancelled(served: Served) -> None:
    (row,) = served.fetch(
        "insert into ledger.backtest (hash, from_date, to_date, closed_loop, actor)"
        " values ($1, '2026-01-01', '2026-01-01', false, 'x') returning backtest_id",
        served.live,
    )
    path = f"/v1/backtests/{row['backtest_id']}"
    with served.client("analyst") as client:
        assert client.get(path).json()["state"] == "running", "as whoever was killed left it"
        cancelled = client.delete(path)
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        assert client.delete(path).status_code == 409


def test_submitting_asks_for_the_backtest_itself(served: Served, day: date) -> None:
    hash_ = served.drafted()
    with served.client("author") as client:
        submitted = client.post(f"/v1/rulesets/{hash_}/submit", json={})
        assert submitted.status_code == 200, submitted.text
        (job,) = [
            each
            for each in client.get("/v1/backtests").json()["backtests"]
            if each["hash"] == hash_
        ]
    assert (job["from_date"], job["to_date"], job["state"]) == (f"{day}", f"{day}", "done")


def test_a_backtest_that_cannot_be(served: Served) -> None:
    with served.client("analyst") as client:
        asked = {"ruleset": "live", "from_date": "2020-01-01", "to_date": "2020-01-02"}
        job = client.post("/v1/backtests", json=asked).json()
        told = ended(client, job["backtest_id"])
        assert told["state"] == "failed"
        assert "no history" in told["why"]
        assert client.get(f"/v1/backtests/{job['backtest_id']}/result").status_code == 409
        turned = client.post("/v1/backtests", json=asked | {"to_date": "2019-01-01"})
        assert (turned.status_code, turned.json()["pointer"]) == (422, "/to_date")
        long = client.post("/v1/backtests", json=asked | {"to_date": "2025-01-01"})
        assert long.status_code == 422
        assert client.post("/v1/backtests", json=asked | {"to_date": "soon"}).status_code == 422


async def test_the_queue_is_bounded_and_each_can_be_cancelled(served: Served) -> None:
    async def until_stopped(job: Job) -> BacktestResult:
        await job.stop.wait()
        return empty_result(job.view.hash, cancelled=True)

    async def refused(asked: Awaitable[Any]) -> int:
        with pytest.raises(Refused) as raised:
            await asked
        return raised.value.problem.status

    days = (date(2026, 1, 1), date(2026, 1, 1))
    ledger = console_ledger(served.database, PATIENCE_SECONDS)
    queue = BacktestQueue(ledger, until_stopped)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        jobs = [await queue.ask(served.live, days, "x") for _ in range(QUEUED_MAX)]
        assert await refused(queue.ask(served.live, days, "x")) == 429
        for each in jobs:
            await queue.cancel(each.backtest_id)
        with anyio.fail_after(PATIENCE_SECONDS):
            for each in jobs:
                while (await queue.one(each.backtest_id)).state != "cancelled":  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            while len(queue) > 0:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert await refused(queue.cancel(jobs[0].backtest_id)) == 409, "it has ended"
        last = [await queue.ask(served.live, days, "x") for _ in range(3)]
        tasks.cancel_scope.cancel()
    states = {(await queue.one(each.backtest_id)).state for each in last}
    assert states == {"cancelled"}, "the console ended: at work or waiting"
    ledger.close()


async def test_a_ledger_that_is_away_is_no_fault_of_the_console(served: Served) -> None:
    async def lost(_job: Job) -> BacktestResult:
        raise LedgerLost("no answer")

    ledger = console_ledger(served.database, PATIENCE_SECONDS)
    queue = BacktestQueue(ledger, lost)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(queue.run)
        day = date(2026, 1, 1)
        asked = await queue.ask(served.live, (day, day), "x")
        with anyio.fail_after(PATIENCE_SECONDS):
            while (told := await queue.one(asked.backtest_id)).state != "failed":  # noqa: ASYNC110
                await anyio.sleep(0.01)
        assert told.why == "the ledger was away; ask for it again once it is back"
        tasks.cancel_scope.cancel()
    ledger.close()
