"""Backtests as a person runs them: the command, its processes, and how they end."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from risk.check import first_ruleset
from switch.backtest import bench
from switch.backtest.failures import BacktestRefused
from switch.backtest.running import BacktestRequest, RowsDone, run_backtest, shard_groups
from switch.calendar import BusinessCalendar
from switch.cli import main
from switch.clock import SystemClock
from switch.config import Config
from switch.ledger import bridge

ROWS, CARDS = 1_024, 700
SMALL = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"

[[features]]
id = "payments"
key = "card"
aggregate = "count"
basis = "approved"
window = "24h"

[[rules]]
id = "many"
version = 1
name = "Many payments"
stage = "amber"
when = { feature = "payments", plus = 1, op = "gt", value = 2 }
then = { decline = "count_limit", reason = "many payments" }
"""


@pytest.fixture(scope="module")
def filled(databases: Any, template: str) -> Any:
    """A ledger with a little history of today, for every test of this file."""
    with databases.fresh(template) as url:
        bridge.run("asyncio", bench._filled, url, ROWS, CARDS)
        yield url


def today() -> date:
    ledger = Config().ledger
    return BusinessCalendar(ledger.time_zone, ledger.cut_off).business_date(SystemClock().now_us())


def days() -> list[str]:
    """Yesterday too, should midnight have passed since the ledger was filled."""
    return ["--from", str(date.fromordinal(today().toordinal() - 1)), "--to", str(today())]


def run(url: str, *words: str) -> int:
    return main(["rules", "backtest", *words, "--database", url])


def test_the_command_replays_and_reports(
    filled: str, capsys: pytest.CaptureFixture[str], process_as_before: None
) -> None:
    assert run(filled, "live", *days(), "--json") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["agreement"]["rows"] == told["agreement"]["equal"] == told["assessed"] >= ROWS
    assert (told["gained"], told["lost"], told["cancelled"]) == (0, 0, False)


def test_a_report_is_written_where_it_is_asked_for(
    filled: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, process_as_before: None
) -> None:
    draft = tmp_path / "small.toml"
    draft.write_text(SMALL)
    assert run(filled, str(draft), *days(), "--report", str(tmp_path / "r")) == 0
    assert (tmp_path / "r" / "index.html").is_file()
    out = capsys.readouterr().out
    assert "Backtest of small" in out
    assert "index.html" in out


def test_a_draft_in_a_file_is_compared_with_what_was_answered(
    filled: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, process_as_before: None
) -> None:
    draft = tmp_path / "draft.toml"
    text = Path("risk/first_ruleset.toml").read_text("utf-8")
    draft.write_text(text.replace('op = "gt", value = 2000000', 'op = "gt", value = 10000'))
    assert run(filled, str(draft), *days(), "--json", "--workers", "1") == 0
    told = msgspec.json.decode(capsys.readouterr().out)
    assert told["agreement"]["rows"] == 0
    assert told["gained"] == sum(day["gained"] for day in told["days"]) > 20
    rule = next(rule for rule in told["rules"] if rule["rule_id"] == "verified_day")
    assert rule["declined"] == told["gained"] == rule["alone"]
    (sweep,) = [sweep for sweep in told["sweeps"] if sweep["rule_id"] == "verified_day"]
    assert (sweep["tested_limit"], sweep["live_limit"]) == (10_000, 2_000_000)
    assert sweep["declines"][sweep["limits"].index(10_000)] == rule["declined"]
    assert run(filled, str(draft), *days(), "--closed-loop") == 0
    assert "verified_day" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["live", "--from", "2026-13-01"], 2, "--from is not a date"),
        (["live", "--from", "2026-03-02", "--to", "2026-03-01"], 1, "turn --from and --to around"),
        (["live", "--from", "2020-01-01", "--to", "2020-01-02"], 1, "has no history"),
        (["live", "--from", f"{today() + timedelta(1)}"], 1, "has no history"),
        (["live", "--from", "0001-01-01", "--to", "0001-01-02"], 1, "no ledger has days before"),
        (["live", "--workers", "65"], 2, "--workers is out of range"),
        (["no-such.toml"], 2, "cannot be read"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(
    filled: str, capsys: pytest.CaptureFixture[str], process_as_before: None,
    words: list[str], code: int, said: str,
) -> None:  # fmt: skip
    assert run(filled, *words) == code
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


async def test_a_backtest_that_is_stopped_says_so(filled: str) -> None:
    told: list[RowsDone] = []
    stop = anyio.Event()
    stop.set()
    request = BacktestRequest(
        url=filled, ruleset=first_ruleset(), from_date=today(), to_date=today(), workers=2
    )
    with anyio.fail_after(60):
        result = await run_backtest(request, told=told.append, stop=stop)
    assert result.cancelled
    assert result.agreement.equal == result.agreement.rows


async def test_a_ledger_that_is_away_is_said_by_its_processes() -> None:
    request = BacktestRequest(
        url="postgresql://nobody@127.0.0.1:1/none", ruleset=first_ruleset(),
        from_date=date(2026, 1, 1), to_date=date(2026, 1, 2),
    )  # fmt: skip
    with pytest.raises((OSError, BacktestRefused)):
        await run_backtest(request)


def test_shards_are_dealt_out_whole() -> None:
    for shards in range(1, 9):
        for workers in range(1, 12):
            groups = shard_groups(shards, workers)
            assert sorted(shard for group in groups for shard in group) == list(range(shards))
            assert len(groups) == min(shards, workers)
