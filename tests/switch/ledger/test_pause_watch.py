"""A rule that declines far more than forecast is paused, once, and a person may overrule that."""

from __future__ import annotations

from typing import Any

import pytest

from risk.pause import PausePolicy
from risk.rules import Stage
from switch.ledger import rulesets
from switch.ledger.pause_watch import PauseWatch
from switch.metrics import Metrics
from tests.switch.ledger.ruled import begin, dear_above, draft

POLICY = PausePolicy(evaluations_min=1_000, factor_percent=200, slack_ppm=1_000)
FORECAST = {"dear": 10_000, "burst": 0}
"""One of a hundred; so paused above 21,000 ppm. Nothing is forecast of blocked_card."""
pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Life:
    """A live ruleset with a forecast, and what is counted of it."""

    def __init__(self, connection: Any, live: str, stage: Stage) -> None:
        self.connection = connection
        self.live = live
        self.metrics = Metrics()
        self.stage = stage
        self.watch = self.begin_again()

    def begin_again(self) -> PauseWatch:
        self.watch = PauseWatch(POLICY, self.metrics)
        stages = {"dear": self.stage, "burst": Stage.AMBER, "blocked_card": Stage.AMBER}
        self.watch.follow({self.live: stages})
        return self.watch

    async def count(self, rule_id: str, requests: int, declined: int, slot: int = 0) -> None:
        await self.connection.execute(
            "insert into ledger.rule_statistic as s (mode, hash, rule_id, rule_version, hour, slot,"
            " requests, declined) values ('live', $1, $2, 1, date_trunc('hour', now()), $3, $4, $5)"
            " on conflict (hash, rule_id, rule_version, mode, hour, slot) do update set"
            " requests = s.requests + excluded.requests, declined = s.declined + excluded.declined",
            self.live, rule_id, slot, requests, declined,
        )  # fmt: skip

    async def paused(self) -> list[str]:
        await self.watch.do(self.connection)
        return [each.rule_id for each in await rulesets.pauses(self.connection)]


async def life(connection: Any, stage: Stage = Stage.AMBER) -> Life:
    await begin(connection, dear_above(1_000, stage.value))
    live = await draft(
        connection, dear_above(500, stage.value), "submit", "approve", "promote", forecast=FORECAST
    )
    return Life(connection, live, stage)


async def test_only_above_the_margin_and_after_the_least_sample(connection: Any) -> None:
    of = await life(connection)
    await of.count("dear", 999, 999)
    assert await of.paused() == []
    await of.count("dear", 49_001, 51, slot=1)
    assert await of.paused() == [], "1,050 of 50,000 is 21,000 ppm: as much as may be"
    await of.count("dear", 1, 1, slot=1)
    assert await of.paused() == ["dear"]
    (event,) = await rulesets.trail(connection, subject="rule dear")
    assert event.actor == rulesets.SWITCH
    assert event.detail["automatic"] is True
    assert await of.paused() == ["dear"], "once"


async def test_without_a_forecast_a_rule_goes_on(connection: Any) -> None:
    of = await life(connection)
    await of.count("blocked_card", 10_000, 10_000)
    await of.count("burst", 10_000, 0)
    assert await of.paused() == []


async def test_a_red_rule_is_alarmed_about_and_goes_on(connection: Any) -> None:
    of = await life(connection, Stage.RED)
    await of.count("dear", 10_000, 9_000)
    assert await of.paused() == []
    shown = of.metrics.registry.get_sample_value("citycard_rules_over_forecast")
    assert shown == 1


async def test_who_ends_a_pause_lets_the_rule_begin_anew(connection: Any) -> None:
    of = await life(connection)
    await of.count("dear", 10_000, 9_000)
    assert await of.paused() == ["dear"]
    await rulesets.lift_pause(connection, "dear", actor="bob", reason="a holiday, it is right")
    assert await of.paused() == []
    await of.count("dear", 999, 999)
    assert await of.paused() == []
    await of.count("dear", 1, 1)
    assert await of.paused() == ["dear"]
    await rulesets.lift_pause(connection, "dear", actor="bob", reason="it is right, I said")
    of.begin_again()
    assert await of.paused() == [], "a restart begins from what is counted then"


async def test_what_another_life_of_the_ruleset_counted_is_not_held_against_it(
    connection: Any,
) -> None:
    of = await life(connection)
    await connection.execute(
        "insert into ledger.rule_statistic (mode, hash, rule_id, rule_version, hour, slot,"
        " requests, declined)"
        " values ('live', $1, 'dear', 1, date_trunc('hour', now()) - interval '3 hours', 0,"
        " 10000, 9000), ('shadow', $1, 'dear', 1, date_trunc('hour', now()), 0, 10000, 9000)",
        of.live,
    )
    assert await of.paused() == []


async def test_what_a_rule_came_to_long_ago_does_not_count(connection: Any) -> None:
    of = await life(connection)
    await connection.execute("set session_replication_role = replica")
    await connection.execute("update ledger.rules_event set at = at - interval '90 days'")
    await connection.execute("set session_replication_role = origin")
    await connection.execute(
        "insert into ledger.rule_statistic (mode, hash, rule_id, rule_version, hour, slot,"
        " requests, declined) select 'live', $1, 'dear', 1, date_trunc('hour', now(), 'UTC')"
        " - n * interval '1 hour', 0, 10000, 0 from generate_series(169, 400) n",
        of.live,
    )
    assert await of.paused() == []
    await of.count("dear", 2_000, 1_500)
    assert await of.paused() == ["dear"]
