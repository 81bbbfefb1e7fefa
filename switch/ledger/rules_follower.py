"""Follows the rules of the ledger, so that a worker decides by the live ruleset without a restart.

    woken (NOTIFY), or half a second passed ──▶ revision ──▶ the same ──▶ what rules listed, duties
                                                   │
                                                   └──▶ newer: lists, rulesets, pauses, snoozes
                                                          ──▶ composed in a thread
                                                          ──▶ buckets follow ──▶ deployed

Deploying is one assignment between two batches, so no batch is decided by two. Whatever fails
here, the switch goes on deciding by what it has, and the revision that it shows to the metrics
stays behind. One connection serves for all, the duties too: sums to write, rules to time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import anyio
import anyio.to_thread

from risk.deployment import Deployment, ReadBuckets
from switch.clock import Clock
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.ledger.list_feed import CALL_SECONDS_MAX, ListFeed
from switch.ledger.rule_costs import RuleCosts
from switch.ledger.rules_in_force import Composed, RulesetUnfit, RulesInForce, Standing
from switch.logs import get as get_log
from switch.metrics import Metrics

CHANNEL = "citycard_rules"
LOOK_SECONDS = 0.5
"""Between two looks where nothing wakes us: what rules listed wakes nobody, and takes effect two
seconds after its posting."""
CONNECT_SECONDS_MAX = 10.0
BUCKETS_SECONDS_MAX = 1.0
"""How long a new deployment waits for its buckets; a promotion is heard of within two seconds."""

Open = Callable[[], Awaitable[Connection]]

_QUERIES = sql.queries("rules_follower.sql")
_log = get_log("rules")


class FollowsBuckets(Protocol):
    """What follows the counters of terminals, merchants and acquirers."""

    @property
    def read(self) -> ReadBuckets: ...

    async def follow(self, deployment: Deployment) -> None: ...


class Duty(Protocol):
    """What is done beside following, every so often, over the same connection."""

    @property
    def every_seconds(self) -> float: ...

    async def do(self, connection: Connection) -> None: ...


class RulesFollower:
    """One worker's. `open_ledger` opens its connection; `deploy` is told of each deployment."""

    def __init__(
        self,
        open_ledger: Open,
        deploy: Callable[[Composed], None],
        *,
        buckets: FollowsBuckets,
        costs: RuleCosts,
        duties: Sequence[Duty],
        shadows_max: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._open_ledger = open_ledger
        self._deploy = deploy
        self._buckets = buckets
        self._duties = [(duty, _Due(duty.every_seconds)) for duty in duties]
        self._clock = clock
        self._metrics = metrics
        self._feed = ListFeed()
        self._in_force = RulesInForce(self._feed, costs, shadows_max=shadows_max, read=buckets.read)
        costs.on_cut_out = self.compose_again
        self._standing: Standing | None = None
        self._taken = -1
        self._compose_again = False
        self._connection: Connection | None = None
        self._turn = anyio.Lock()
        self._news = anyio.Event()
        self._away = False
        self._unfit: frozenset[str] = frozenset()

    @property
    def revision(self) -> int:
        """The newest revision that was taken; -1 before the first."""
        return self._taken

    def compose_again(self) -> None:
        """What the deployment is made of has changed in this process; look soon."""
        self._compose_again = True
        self._news.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        try:
            while True:
                with anyio.move_on_after(LOOK_SECONDS):
                    await self._news.wait()
                self._news = anyio.Event()
                await self.look()
        finally:
            self._drop()

    async def look(self) -> bool:
        """Take what is new and do what is due; False where the ledger could not be asked."""
        async with self._turn:
            return await self._look()

    async def finish(self) -> None:
        """Do every duty once more, as well as that goes now: the process ends."""
        async with self._turn:
            try:
                connection = await self._connected()
                for duty, _ in self._duties:
                    await duty.do(connection)
            except (LedgerLost, LedgerRefused) as error:
                _log.warning("the last sums of the rules were not written", reason=str(error))

    async def _look(self) -> bool:
        try:
            connection = await self._connected()
            await self._follow(connection)
            for duty, due in self._duties:
                if due.is_due(self._clock.monotonic_ns()):
                    await duty.do(connection)
        except (LedgerLost, LedgerRefused) as error:
            self._tell("rules cannot be followed; those before still decide", str(error))
            self._drop()
            return False
        except RulesetUnfit as error:
            # Not again and again: the next revision may be better.
            self._taken = self._standing.revision if self._standing else self._taken
            self._metrics.rules.load_failed()
            _log.error("a promoted ruleset cannot be used; the one before decides", why=str(error))
        except Exception as fault:  # noqa: BLE001 - whatever is wrong with rules, the gates stay open
            self._tell("following rules failed; those before still decide", type(fault).__name__)
            self._metrics.rules.load_failed()
            self._drop()
            return False
        self._away = False
        return True

    async def _follow(self, connection: Connection) -> None:
        revision: int = await guarded(
            connection.fetchval, _QUERIES["revision"], seconds=CALL_SECONDS_MAX
        )
        now_us = self._clock.now_us()
        if revision != self._taken:
            await self._feed.follow(connection, revision, now_us)
            self._standing = await self._in_force.read(connection, revision, now_us)
        else:
            self._feed.unchanged(now_us)
        # Before composing: a list that only rules fill is declared by its first entry.
        await self._feed.listings(connection, now_us)
        self._metrics.rules.looked(revision, now_us)
        if self._standing is not None and (revision != self._taken or self._compose_again):
            self._compose_again = False
            await self._compose(self._standing)

    async def _compose(self, standing: Standing) -> None:
        composed = await anyio.to_thread.run_sync(self._in_force.composed, standing)
        self._taken = standing.revision
        if composed is None:
            _log.warning("the ledger has no live ruleset; the configured one decides")
            return
        self._tell_unfit(composed)
        with anyio.move_on_after(BUCKETS_SECONDS_MAX):
            await self._buckets.follow(composed.deployment)
        self._deploy(composed)
        self._metrics.rules.decides_by(standing.revision)
        automatic = sum(each.automatic for each in composed.paused)
        self._metrics.rules.paused(len(composed.paused) - automatic, automatic)
        _log.info(
            "rules deployed",
            revision=standing.revision,
            ruleset=composed.deployment.hash[:12],
            shadows=len(composed.deployment.shadows),
            paused=len(composed.paused),
        )

    def _tell_unfit(self, composed: Composed) -> None:
        for name in composed.unfit:
            if name not in self._unfit:
                self._metrics.rules.load_failed()
                _log.error("a ruleset is of no use here and is left out", ruleset=name[:12])
        self._unfit = frozenset(composed.unfit)

    async def _connected(self) -> Connection:
        if self._connection is not None and self._connection.closed:
            self._drop()
        if self._connection is None:
            connection = await guarded(self._open_ledger, seconds=CONNECT_SECONDS_MAX)
            try:
                await guarded(connection.listen, CHANNEL, self._wake, seconds=CALL_SECONDS_MAX)
            except BaseException:
                connection.terminate()
                raise
            self._connection = connection
        return self._connection

    def _wake(self) -> None:
        self._news.set()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _tell(self, event: str, reason: str) -> None:
        """Once for each time that it fails."""
        if not self._away:
            _log.warning(event, reason=reason)
        self._away = True


class _Due:
    """When a duty is to be done next: so long after it last was."""

    def __init__(self, every_seconds: float) -> None:
        self._every_ns = int(every_seconds * 1e9)
        self._next_ns = 0

    def is_due(self, now_ns: int) -> bool:
        if now_ns < self._next_ns:
            return False
        self._next_ns = now_ns + self._every_ns
        return True
