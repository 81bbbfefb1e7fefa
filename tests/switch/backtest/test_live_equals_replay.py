"""Live decisions of a day are what a replay of it says, row by row, with the same ruleset.

Two workers with clocks that differ decide on one ledger; then every row is decided again from
the ledger alone. That the comparison means something is shown by changing one thing at a time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from risk.backtest import HistoryRow, Replay, Subject
from risk.backtest_tally import Tally
from risk.record import decode_results
from risk.ruleset import Ruleset, canonical_bytes, ruleset_hash
from switch.backtest.beside import read_beside
from switch.backtest.history import HistoryReader, reading
from switch.backtest.running import BacktestRequest, run_backtest
from switch.ledger import bridge
from switch.ledger.audit import audit
from tests.switch.backtest.conftest import DAY, SHARDS, City, Traffic

BURSTS = 14
BURST = 36


async def _live(city: City, seed: int) -> None:
    """A busy quarter of an hour, with lists, snoozes and pauses under way."""
    await city.issue(8)
    await city.list_("stopped", 2, 200, 400)
    await city.snooze("burst", 0, 100, 500)
    traffic = Traffic(city, seed)
    loads = [request for request in traffic.burst(30) if request[1].kind.value == "load"]
    await city.answered(loads)
    for step in traffic.openers():
        await city.answered(step)
    city.deploy()
    for number in range(BURSTS):
        if number == 5:
            city.deploy("day", cut_out="roaming")
        elif number == 9:
            city.deploy()
        await city.answered(traffic.burst(BURST))
        city.advance(45)


async def _history(
    connection: bridge.Connection, tight: Ruleset
) -> tuple[list[HistoryRow], Subject]:
    async with reading(connection, 20):
        beside = await read_beside(connection, tight, live=None, from_date=DAY, to_date=DAY)
    reader = HistoryReader(connection, shards=range(SHARDS), until_us=2**62, timeout_seconds=20)
    rows = [HistoryRow(*row) async for chunk in reader.days(DAY, DAY, DAY) for row in chunk]
    return rows, beside.tested


def _replayed(tested: Subject, rows: list[HistoryRow]) -> Tally:
    replay = Replay(tested, from_date=DAY)
    replay.rows(rows)
    return replay.finished()


def _swapped(rows: list[HistoryRow], position: int, **changed: Any) -> list[HistoryRow]:
    return [*rows[:position], rows[position]._replace(**changed), *rows[position + 1 :]]


@pytest.mark.parametrize("seed", [1])
async def test_live_decisions_are_what_a_replay_says(
    city_of: Callable[[], Any], connection: bridge.Connection, tight: Ruleset, database: str,
    seed: int,
) -> None:  # fmt: skip
    async with city_of() as city:
        await _live(city, seed)
        conflicts = sum(worker.conflicts for worker in city.workers)
    report = await audit(connection)
    assert [check.first for check in report.checks if check.findings] == []
    rows, tested = await _history(connection, tight)
    tally = _replayed(tested, rows)
    assert tally.differences == []
    assert tally.agreement_equal == tally.agreement_rows == tally.assessed
    assert tally.agreement_rows > 250
    # The traffic met what it was to meet.
    assert conflicts > 0, "the two workers never met on a card"
    kinds = {(row.kind, row.outcome == "approved") for row in rows}
    assert {("reversal", True), ("void", True), ("fare", True), ("tombstone", False)} <= kinds
    assert any(a.posted_at_us == b.posted_at_us and a.card_id == b.card_id
               for a, b in itertools.pairwise(rows))  # fmt: skip
    fired = {rule_id for rule_id, rule in tally.rules.items() if rule.fired}
    assert fired == {rule.id for rule in tight.rules}
    effects = {r.effect.value for row in rows if row.rule_results
               for r in decode_results(row.rule_results).results}  # fmt: skip
    assert {"snoozed", "paused", "cut_out", "overridden", "unknown", "listed"} - effects <= {
        "listed"
    }
    _notices_changes(tested, rows, tally)
    await _processes_together(database, tight, tally)


def _notices_changes(tested: Subject, rows: list[HistoryRow], whole: Tally) -> None:
    """One thing changed, and the replay no longer agrees."""
    # A row that rules counted is gone.
    counted = [n for n, row in enumerate(rows) if row.kind == "purchase" and row.card_id]
    middle = counted[len(counted) // 4]
    assert _replayed(tested, rows[:middle] + rows[middle + 1 :]).differences
    # A row that gave something back is gone.
    back = next(
        n for n, row in enumerate(rows) if (row.kind, row.outcome) == ("reversal", "approved")
    )
    assert _replayed(tested, rows[:back] + rows[back + 1 :]).differences
    # A stored feature is another.
    position = next(
        n for n, row in enumerate(rows)
        if row.rule_results and decode_results(row.rule_results).features.get("attempts_5m")
    )  # fmt: skip
    stored = decode_results(rows[position].rule_results)
    features = stored.features | {"attempts_5m": 99}
    changed = msgspec.json.encode(msgspec.structs.replace(stored, features=features))
    (difference,) = _replayed(tested, _swapped(rows, position, rule_results=changed)).differences
    assert (difference.what, difference.authorization_id) == (
        "features", rows[position].authorization_id,
    )  # fmt: skip
    # A threshold is another, under a hash that the rows are made to have.
    text = canonical_bytes(tested.ruleset).replace(b'"value":7}', b'"value":6}')
    other = msgspec.json.decode(text, type=Ruleset)
    assert other != tested.ruleset
    hash_ = ruleset_hash(other)
    told = {hash_: tested.stored_features[ruleset_hash(tested.ruleset)]}
    rows = [row._replace(ruleset=hash_) for row in rows]
    tally = _replayed(tested._replace(ruleset=other, stored_features=told), rows)
    assert tally.differences
    assert tally.agreement_equal < whole.agreement_equal


async def _processes_together(database: str, tight: Ruleset, whole: Tally) -> None:
    """A process a shard comes to the same as one over all rows."""
    request = BacktestRequest(
        url=database, ruleset=tight, from_date=DAY, to_date=DAY, workers=SHARDS
    )
    result = await run_backtest(request)
    assert (result.rows, result.assessed) == (whole.rows, whole.assessed)
    assert result.agreement.equal == whole.agreement_equal == result.agreement.rows
    assert result.gained == result.lost == 0
    assert {rule.rule_id: rule.declined for rule in result.rules} == {
        rule_id: rule.declined for rule_id, rule in whole.rules.items()
    }
    assert {rule.rule_id: rule.cards for rule in result.rules} == {
        rule_id: rule.cards for rule_id, rule in whole.rules.items()
    }
