"""Pauses a rule that declines far more than its forecast, before a person has to notice.

One worker does this for all, by what all of them counted since the ruleset was promoted, of the
last week at most: what was right for months says little of today, and is much to add up
(`risk/pause.py` judges). A rule without a forecast is let be: there is nothing to exceed. A red
rule is law or a stolen card and is only alarmed about. Where a person ended a pause, the rule
begins anew from what it had come to when that was first seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from risk.pause import Declines, PausePolicy, limit_ppm, must_pause
from risk.rules import Stage
from switch.ledger import rulesets, sql
from switch.ledger.failures import guarded
from switch.logs import get as get_log

if TYPE_CHECKING:
    from switch.ledger.bridge import Connection
    from switch.metrics import Metrics

CALL_SECONDS_MAX = 10.0

_QUERIES = sql.queries("pause_watch.sql")
_log = get_log("rules")

_Counted = tuple[str, str, str, int]
"""Ruleset, its state, rule id and version."""


class PauseWatch:
    """A duty of one worker's follower."""

    every_seconds = 5.0

    def __init__(self, policy: PausePolicy, metrics: Metrics) -> None:
        self._policy = policy
        self._metrics = metrics
        self._stages: Mapping[str, Mapping[str, Stage]] = {}
        self._begun_anew: dict[_Counted, tuple[int, Declines]] = {}
        self._alarmed: set[_Counted] = set()

    def follow(self, stages: Mapping[str, Mapping[str, Stage]]) -> None:
        """The rules of the rulesets in force, by hash."""
        self._stages = stages

    async def do(self, connection: Connection) -> None:
        """Look at what has been counted, and pause what must be."""
        rows = await guarded(connection.fetch, _QUERIES["declines"], seconds=CALL_SECONDS_MAX)
        over = {self._counted(row): row for row in rows if self._is_over(row)}
        red = {of: row for of, row in over.items() if self._stage(of) is Stage.RED}
        for of, row in red.items():
            if of not in self._alarmed:
                _log.error("a red rule declines far more than forecast", **self._told(of, row))
        self._alarmed = set(red)
        self._metrics.rules.over_forecast(len(red))
        for of, row in over.items():
            # A stage that is not known yet is that of a ruleset which was promoted just now.
            if self._stage(of) not in (None, Stage.RED):
                await self._pause(connection, of, row)

    async def _pause(self, connection: Connection, of: _Counted, row: Any) -> None:
        seen, limit = self._since(row), limit_ppm(row["forecast"], self._policy)

        async def paused() -> list[rulesets.PauseView]:
            return await rulesets.pause_rule(
                connection,
                of[2],
                actor=rulesets.SWITCH,
                reason=f"it declined {seen.share_ppm} ppm of {seen.evaluations} requests; "
                f"at most {limit} ppm was to be expected",
                automatic=True,
                version=of[3],
            )

        try:
            made = await guarded(paused, seconds=CALL_SECONDS_MAX)
        except (rulesets.RulesBusy, rulesets.ActRefused) as error:
            _log.error("a rule could not be paused", reason=str(error), **self._told(of, row))
            return
        if made:
            _log.critical("a rule was paused: it declines too much", **self._told(of, row))

    def _is_over(self, row: Any) -> bool:
        return must_pause(self._since(row), row["forecast"], self._policy)

    def _since(self, row: Any) -> Declines:
        """What it came to since its promotion, or since a person let it go on."""
        whole = Declines(row["requests"], row["declined"])
        if not row["lifted_us"]:
            return whole
        lifted_us, before = self._begun_anew.get(self._counted(row), (0, whole))
        if lifted_us != row["lifted_us"]:
            before = whole
            self._begun_anew[self._counted(row)] = (row["lifted_us"], whole)
        return Declines(whole.evaluations - before.evaluations, whole.declines - before.declines)

    def _stage(self, of: _Counted) -> Stage | None:
        return self._stages.get(of[0], {}).get(of[2])

    def _told(self, of: _Counted, row: Any) -> dict[str, object]:
        return {
            "rule": of[2],
            "ruleset": of[0][:12],
            "state": of[1],
            "requests": self._since(row).evaluations,
            "declined": self._since(row).declines,
            "forecast_ppm": row["forecast"],
        }

    @staticmethod
    def _counted(row: Any) -> _Counted:
        return row["hash"], row["state"], row["rule_id"], row["rule_version"]
