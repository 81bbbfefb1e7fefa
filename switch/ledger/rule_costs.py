"""Cuts out a rule that takes too long: a slow rule must not close the gates.

Of the requests that are assessed a few are kept, and their rules timed one by one afterwards,
when the answer has been given: many of the first ones after a change, then one of 64. Each rule
is timed twice and the shorter time counts, so that a rule is not blamed for what happened to
run beside it. Nor is it for the card: a request with a long history counts as several, or whoever
pays hundreds of times with one card would have the rules against that cut out. Nor for the
machine: where half of the rules take long, only what takes far longer than they do is cut out.
What is cut out stays so in this process until another ruleset comes; other
workers judge for themselves, since their processors may be faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from statistics import median_low

import anyio.lowlevel
import msgspec

from risk.assess import Assessment, CompiledRuleset
from risk.cost import CutOut, CutOutPolicy, Measured, judge, measure_rules
from risk.deployment import Deployment
from risk.facts import Facts
from risk.rules import Stage
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.failures import guarded
from switch.logs import get as get_log
from switch.metrics import Metrics

SAMPLE_EVERY = 64
SAMPLE_EVERY_AT_FIRST = 4
AT_FIRST = 1_024
"""Requests after a change of which more are kept: a rule that is far too slow shows early."""
SAMPLES_WAITING_MAX = 32
MEASURED_MAX = 4_096
"""Evaluations after which the older half counts no more: costs change with what cards do."""
EVENTS_EACH = 64
"""A request counts once more for each so many events of its history, which counters go through."""
OUTLIER_FACTOR = 8
"""A rule takes too long only if it takes so many times what the middle one of its ruleset takes,
or so many times the configured limit, however long the others take."""
TURN_NS_MAX = 5_000_000
"""How long one turn of measuring may take; what is left waits for the next one."""
CALL_SECONDS_MAX = 10.0

_QUERIES = sql.queries("rules_follower.sql")
_log = get_log("rules")


class SampledDeployment(Deployment):
    """A deployment that keeps some of what it was asked about, to be timed afterwards."""

    __slots__ = ("costs",)

    costs: RuleCosts

    def assess(self, facts: Facts) -> Assessment:
        self.costs.saw(facts)
        return Deployment.assess(self, facts)


class RuleCosts:
    """What rules take in one process. `clock_ns` is its processor time; a duty of the follower."""

    every_seconds = 0.25

    def __init__(
        self,
        *,
        rule_ns_max: int,
        slot: int,
        clock_ns: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self._policy = CutOutPolicy(rule_ns_max=rule_ns_max)
        self._slot = slot
        self._clock_ns = clock_ns
        self._metrics = metrics
        self.on_cut_out: Callable[[], None] = lambda: None
        """Called when a rule was cut out: what decides has to be composed anew."""
        self._samples: deque[Facts] = deque(maxlen=SAMPLES_WAITING_MAX)
        self._seen = 0
        self._next = 0
        self._turn = 0
        self._rulesets: tuple[CompiledRuleset, ...] = ()
        self._stages: Mapping[str, Mapping[str, Stage]] = {}
        self._measured: dict[str, dict[str, Measured]] = {}
        self._cut: dict[str, dict[str, CutOut]] = {}
        self._let_be: dict[str, dict[str, CutOut]] = {}
        self._unwritten: list[tuple[str, CutOut]] = []

    def saw(self, facts: Facts) -> None:
        """A request is about to be assessed; keep it, where it is its turn."""
        self._seen += 1
        if self._seen >= self._next:
            self._next = self._seen + (
                SAMPLE_EVERY_AT_FIRST if self._seen < AT_FIRST else SAMPLE_EVERY
            )
            self._samples.append(facts)

    def cut_out(self, ruleset_hash: str) -> tuple[str, ...]:
        """The rules of a ruleset that are cut out here."""
        return tuple(self._cut.get(ruleset_hash, ()))

    def follow(self, deployment: Deployment, stages: Mapping[str, Mapping[str, Stage]]) -> None:
        """Measure these rulesets from now on; what is known of others is forgotten."""
        new = [each for each in (deployment.live, deployment.canary, *deployment.shadows) if each]
        self._rulesets = tuple(each.compiled for each in new)
        if set(stages) - set(self._stages):
            self._seen = self._next = 0
        self._stages = stages
        for by_hash in (self._measured, self._cut, self._let_be):
            for name in [name for name in by_hash if name not in stages]:
                del by_hash[name]
        self._tell()

    async def do(self, connection: Connection) -> None:
        """Time what was kept, judge, and write down what was cut out."""
        await self.measure()
        while self._unwritten:
            name, verdict = self._unwritten[0]
            told = {
                "ruleset": name,
                "slot": self._slot,
                "mean_ns": verdict.mean_ns,
                "limit_ns": verdict.limit_ns,
            }
            await guarded(
                connection.execute,
                _QUERIES["cut_out"],
                verdict.rule_id,
                f"takes {verdict.mean_ns:,} ns where {verdict.limit_ns:,} is the most",
                msgspec.json.encode(told).decode(),
                seconds=CALL_SECONDS_MAX,
            )
            self._unwritten.pop(0)

    async def measure(self) -> None:
        """Time what was kept, in turns that hold up nobody, and judge."""
        turn_ns = 0
        while self._samples:
            turn_ns += self._measure(self._samples.popleft())
            if turn_ns > TURN_NS_MAX:
                break
            await anyio.lowlevel.checkpoint()
        found = [name for name in self._measured if self._judge(name)]
        if found:
            self.on_cut_out()
        self._tell()

    def _measure(self, facts: Facts) -> int:
        """One sample in one of the rulesets; each has its turn. What it took, nanoseconds."""
        if not self._rulesets:
            return 0
        self._turn += 1
        ruleset = self._rulesets[self._turn % len(self._rulesets)]
        first = measure_rules(ruleset, facts, self._clock_ns)
        second = measure_rules(ruleset, facts, self._clock_ns)
        totals = self._measured.setdefault(ruleset.hash, {})
        times = 1 + len(facts.history.at_us) // EVENTS_EACH
        for rule_id, one in first.items():
            shorter = min(one, second[rule_id], key=lambda each: each.total_ns)
            total = totals.get(rule_id, Measured(0, 0)).plus(Measured(times, shorter.total_ns))
            if total.evaluations >= MEASURED_MAX:
                total = Measured(total.evaluations // 2, total.total_ns // 2)
            totals[rule_id] = total
        return sum(each.total_ns for each in (*first.values(), *second.values()))

    def _judge(self, name: str) -> bool:
        """Whether a rule of this ruleset is to be cut out that was not."""
        cut = self._cut.setdefault(name, {})
        let_be: dict[str, CutOut] = {}
        news = False
        measured = self._measured[name]
        for verdict in judge(measured, self._stages.get(name, {}), self._policy_of(measured)):
            known = cut if verdict.cut else self._let_be.get(name, {})
            if verdict.rule_id not in known and verdict.rule_id not in cut:
                _log.error(
                    "a rule takes too long and was cut out here"
                    if verdict.cut
                    else "a red rule takes too long; it is let be up to a higher limit",
                    rule=verdict.rule_id,
                    ruleset=name[:12],
                    mean_ns=verdict.mean_ns,
                    limit_ns=verdict.limit_ns,
                )
                if verdict.cut:
                    self._unwritten.append((name, verdict))
                    news = True
            if verdict.cut:
                cut.setdefault(verdict.rule_id, verdict)
            else:
                let_be[verdict.rule_id] = verdict
        self._let_be[name] = let_be
        return news

    def _policy_of(self, measured: Mapping[str, Measured]) -> CutOutPolicy:
        """The configured limit, or a higher one where the machine is slow."""
        limit_ns = self._policy.rule_ns_max
        middle_ns = median_low(total_ns // n for n, total_ns in measured.values())
        slow_ns = min(middle_ns, limit_ns) * OUTLIER_FACTOR
        return self._policy._replace(rule_ns_max=max(limit_ns, slow_ns))

    def _tell(self) -> None:
        self._metrics.rules.overrun(
            sum(map(len, self._cut.values())), sum(map(len, self._let_be.values()))
        )
