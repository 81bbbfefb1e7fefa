"""The rules of one worker, put together: what follows, counts, times and pauses them.

The worker starts it, has it loaded before it is ready, and lets it write its last sums.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from risk.pause import PausePolicy
from switch.clock import Clock
from switch.config import Rules
from switch.decide import Terms
from switch.ledger.bridge import Connection
from switch.ledger.bucket_follower import BucketFollower
from switch.ledger.lanes import Lane
from switch.ledger.pause_watch import PauseWatch
from switch.ledger.rule_costs import RuleCosts
from switch.ledger.rule_statistics import RuleStatistics
from switch.ledger.rules_follower import RulesFollower
from switch.ledger.rules_in_force import Composed
from switch.ledger.shadow_examples import ShadowExamples
from switch.metrics import Metrics
from switch.posting import Posting
from switch.standin import Desk

FINISH_SECONDS_MAX = 2.0
LOAD_AGAIN_SECONDS = 0.1


class RulesDesk:
    """`lanes` decide by what it deploys, and so does `standin`, if there is one.

    `pauses` tells that this worker is the one that pauses rules by itself.
    """

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[Connection]],
        rules: Rules,
        *,
        slot: int,
        pauses: bool,
        terms: Terms,
        lanes: Sequence[Lane],
        standin: Desk | None,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._terms = terms
        self._lanes = lanes
        self._standin = standin
        self._metrics = metrics
        self._clock = clock
        self.buckets = BucketFollower(open_ledger, clock)
        examples = ShadowExamples(rules.shadow_examples_max, random.SystemRandom().randrange)
        self._statistics = RuleStatistics(slot=slot, examples=examples, metrics=metrics)
        self._costs = RuleCosts(
            rule_ns_max=rules.rule_ns_max,
            slot=slot,
            clock_ns=time.thread_time_ns,
            metrics=metrics,
        )
        policy = PausePolicy(rules.pause_after_requests, rules.pause_percent, rules.pause_slack_ppm)
        self._pause_watch = PauseWatch(policy, metrics) if pauses else None
        watch = [self._pause_watch] if self._pause_watch is not None else []
        self._follower = RulesFollower(
            open_ledger,
            self._deploy,
            buckets=self.buckets,
            costs=self._costs,
            duties=[self._costs, self._statistics, *watch, self],
            shadows_max=rules.shadows_max,
            clock=clock,
            metrics=metrics,
        )
        for lane in lanes:
            lane.on_posted = self._posted

    every_seconds = 1.0

    async def do(self, _connection: Connection) -> None:
        """Tell the metrics when the buckets were last read; a duty of the follower."""
        age_seconds = self.buckets.age_seconds
        if age_seconds != float("inf"):
            self._metrics.rules.buckets_read(self._clock.now_us() - int(age_seconds * 1e6))

    async def load(self, seconds: float) -> None:
        """Decide by the ledger's live ruleset, as soon as the ledger can be asked."""
        with anyio.move_on_after(seconds):
            while not await self._follower.look():  # noqa: ASYNC110 - once per process
                await anyio.sleep(LOAD_AGAIN_SECONDS)

    def start(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self.buckets.run)
        tasks.start_soon(self._follower.run)

    async def finish(self) -> None:
        """Write the last sums."""
        with anyio.move_on_after(FINISH_SECONDS_MAX):
            await self._follower.finish()

    def _posted(self, posting: Posting, authorization_id: int) -> None:
        if posting.additions:
            self.buckets.posted(posting.additions)
        assessment = posting.assessment
        if assessment is not None and assessment.effects and assessment.effects.force_online:
            self._ask_online(posting)
        self._statistics.posted(posting, authorization_id)

    def _ask_online(self, posting: Posting) -> None:
        if self._standin is not None:
            self._standin.forget(posting.directed.medium)

    def _deploy(self, composed: Composed) -> None:
        """All lanes in one go: no batch begins in between."""
        deployment = composed.deployment
        self._terms = msgspec.structs.replace(
            self._terms, rules=deployment, rule_settings=deployment.settings
        )
        for lane in self._lanes:
            lane.terms = self._terms
        if self._standin is not None:
            self._standin.follow(self._terms, composed.hotlisted)
        stages = {name: table.stages for name, table in composed.tables.items()}
        self._statistics.follow(composed)
        self._costs.follow(deployment, stages)
        if self._pause_watch is not None:
            self._pause_watch.follow(stages)
        self._metrics.ruleset(deployment.hash)
