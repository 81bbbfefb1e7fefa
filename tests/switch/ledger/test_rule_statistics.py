"""What is counted of what was posted equals what a person with a notebook would count."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.message import Kind, Outcome
from risk.record import AssessedFacts, Assessment, Effect, RuleResult
from risk.rules import Stage
from switch.ledger import rule_statistics
from switch.ledger.failures import LedgerLost
from switch.ledger.rule_statistics import HOUR_US, RuleStatistics
from switch.ledger.rules_in_force import RuleTable
from switch.ledger.shadow_examples import ShadowExamples
from switch.metrics import Metrics
from switch.posting import Directed, Posting
from tests.simulation.model_ledger import purchase

NOW_US = 1_774_929_600_000_000
LIVE, SHADOW = "a" * 64, "b" * 64
one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def said(name: str, *results: tuple[str, Effect], facts: bool = True) -> Assessment:
    """What a ruleset said: it declines if one of its rules did."""
    found = tuple(
        RuleResult(rule_id, 1, Stage.AMBER, effect, Outcome.COUNT_LIMIT)
        for rule_id, effect in results
    )
    by = next((each for each in found if each.effect is Effect.DECLINED), None)
    return Assessment(
        Outcome.COUNT_LIMIT if by else Outcome.APPROVED,
        name,
        by.rule_id if by else "",
        1 if by else 0,
        "too many",
        "7 taps on {card}" if by else "",
        found,
        facts=AssessedFacts(amount_minor=250) if facts else None,
    )


def posting(
    answered: Assessment | None, *shadow: Assessment, at_us: int = NOW_US, minor: int = 250
) -> Posting:
    request = purchase(1, minor)
    return Posting(
        Directed(request, 0, 1, 1, b""),
        at_us,
        answered.decision if answered else Outcome.APPROVED,
        assessment=answered,
        shadow=shadow,
    )


class Written:
    """A connection that keeps what it was asked to write, or is away."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.away = False

    async def execute(self, _query: str, *args: object) -> str:
        if self.away:
            raise ConnectionResetError
        self.calls.append(args)
        return "INSERT"

    def rows(self) -> dict[tuple[str, str, str, int], list[int]]:
        """(mode, hash, rule, hour) → the ten columns, added up."""
        sums: dict[tuple[str, str, str, int], list[int]] = {}
        for args in self.calls:
            if len(args) == 16:
                for row in zip(*args[1:], strict=True):
                    key = (row[0], row[1], row[2], row[4])
                    kept = sums.setdefault(key, [0] * 10)
                    kept[:] = map(sum, zip(kept, row[5:], strict=True))
        return sums


class Composed:
    """What `follow` looks at."""

    class deployment:  # noqa: N801
        canary = None

    def __init__(self, *hashes: str) -> None:
        by_kind = {Kind.PURCHASE: (("one", 1), ("two", 1))}
        table = RuleTable(by_kind, {"one": Stage.AMBER, "two": Stage.AMBER})
        self.tables = dict.fromkeys(hashes, table)


def statistics(count_max: int = 3, choose: Any = lambda n: n - 1) -> RuleStatistics:
    examples = ShadowExamples(count_max, choose)
    made = RuleStatistics(slot=4, examples=examples, metrics=Metrics())
    made.follow(Composed(LIVE, SHADOW))  # type: ignore[arg-type]
    return made


_effects = st.sampled_from([Effect.DECLINED, Effect.UNKNOWN, Effect.SNOOZED, Effect.WATCHED])
_results = st.lists(st.tuples(st.sampled_from(["one", "two"]), _effects), max_size=2)


@given(
    rows=st.lists(st.tuples(_results, _results, st.integers(0, 2), st.booleans()), max_size=30),
    lost_at=st.integers(0, 30),
)
@one_backend
async def test_sums_are_those_of_a_notebook(rows: Any, lost_at: int) -> None:
    counted, written = statistics(), Written()
    notebook: Counter[tuple[Any, ...]] = Counter()
    for number, (live, shadow, hour, flush) in enumerate(rows):
        answered, other = said(LIVE, *live), said(SHADOW, *shadow)
        at_us = NOW_US + hour * HOUR_US
        counted.posted(posting(answered, other, at_us=at_us), number)
        for mode, each, results in (("live", answered, live), ("shadow", other, shadow)):
            of = (mode, each.ruleset_hash)
            hours = at_us // HOUR_US
            for rule in ("", "one", "two"):
                notebook[*of, rule, hours, "requests"] += 1
            notebook[*of, "", hours, "declined"] += not each.decision.approved
            for rule, effect in results:
                notebook[*of, rule, hours, "declined"] += effect is Effect.DECLINED
                notebook[*of, rule, hours, "fired"] += effect is not Effect.UNKNOWN
                notebook[*of, rule, hours, "unknown"] += effect is Effect.UNKNOWN
                notebook[*of, rule, hours, "spared"] += effect is Effect.SNOOZED
        if answered.decision.approved is not other.decision.approved:
            what, by = ("gained", other) if answered.decision.approved else ("lost", answered)
            for rule in ("", by.rule_id):
                notebook["shadow", SHADOW, rule, at_us // HOUR_US, what] += 1
                notebook["shadow", SHADOW, rule, at_us // HOUR_US, what + "_minor"] += 250
        written.away = number == lost_at
        if flush or written.away:
            try:
                await counted.do(written)  # type: ignore[arg-type]
            except LedgerLost:
                assert written.away
    written.away = False
    await counted.do(written)  # type: ignore[arg-type]
    names = [
        "requests",
        "fired",
        "declined",
        "unknown",
        "spared",
        "failed",
        "gained",
        "lost",
        "gained_minor",
        "lost_minor",
    ]
    found = {
        (*key, name): n
        for key, row in written.rows().items()
        for name, n in zip(names, row, strict=True)
        if n and not (key[2] == "" and name == "fired")
    }
    assert found == {key: n for key, n in notebook.items() if n}


@one_backend
async def test_they_are_added_up_in_the_ledger(connection: Any) -> None:
    counted = statistics()
    for round_ in range(2):
        for number in range(5):
            other = said(SHADOW, ("one", Effect.DECLINED))
            counted.posted(posting(said(LIVE), other), 10 * round_ + number)
        await counted.do(connection)
        await counted.do(connection)
    row = await connection.fetchrow(
        "select * from ledger.rule_statistic where mode = 'shadow' and rule_id = 'one'"
    )
    assert (row["requests"], row["declined"], row["gained"], row["gained_minor"]) == (
        10, 10, 10, 2_500,
    )  # fmt: skip
    assert (row["slot"], row["hash"]) == (4, SHADOW)
    assert int(row["hour"].timestamp()) * 1_000_000 == NOW_US // HOUR_US * HOUR_US
    examples = await connection.fetch("select * from ledger.shadow_example order by number")
    assert [each["authorization_id"] for each in examples] == [0, 1, 2]
    assert examples[0]["sentence"].endswith("ruleset bbbb…): 7 taps.")
    assert examples[0]["answered"] == "approved"
    assert examples[0]["shadow"] == "count_limit"


def test_examples_are_bounded_and_of_the_whole_time() -> None:
    """Each further one takes the place of another with the chance that each has the same."""
    asked: list[int] = []

    def choose(n: int) -> int:
        asked.append(n)
        return 1 if n == 7 else n - 1

    counted = ShadowExamples(3, choose)
    for number in range(10):
        counted.saw(number, NOW_US, 250, said(LIVE), said(SHADOW, ("one", Effect.DECLINED)))
    assert asked == [4, 5, 6, 7, 8, 9, 10]
    kept = {number: example.authorization_id for (_, number), example in counted.taken().items()}
    assert kept == {0: 0, 1: 6, 2: 2}
    assert counted.taken() == {}


def test_what_no_rule_was_asked_about_is_not_counted() -> None:
    counted = statistics()
    counted.posted(posting(None), 1)
    assert not counted._requests


@one_backend
async def test_a_ledger_away_for_days_takes_bounded_room(monkeypatch: Any) -> None:
    monkeypatch.setattr(rule_statistics, "TALLIES_MAX", 40)
    counted, written = statistics(), Written()
    written.away = True
    for hour in range(100):
        at_us = NOW_US + hour * HOUR_US
        counted.posted(posting(said(LIVE, ("one", Effect.DECLINED)), at_us=at_us), hour)
        with pytest.raises(LedgerLost):
            await counted.do(written)  # type: ignore[arg-type]
    assert len(counted._tallies) == 40
