"""A rule that takes too long is cut out, and a red one is let be up to a higher limit."""

from __future__ import annotations

from typing import Any

import pytest

from risk.compile import compile_ruleset
from risk.deployment import in_force
from risk.facts import Facts
from risk.record import Effect
from switch.ledger.rule_costs import SAMPLES_WAITING_MAX, RuleCosts, SampledDeployment
from switch.metrics import Metrics
from tests.risk.conftest import facts_of
from tests.switch.ledger.ruled import dear_above

LIMIT_NS = 50_000
pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Ticking:
    """A clock by which the rules of a ruleset take these times, one after the other."""

    def __init__(self, *took_ns: int) -> None:
        self.took_ns = took_ns
        self._now_ns = 0
        self._asked = 0

    def __call__(self) -> int:
        if self._asked % 2:
            self._now_ns += self.took_ns[self._asked // 2 % len(self.took_ns)]
        self._asked += 1
        return self._now_ns


class Bench:
    """A deployment of three rules (dear, burst, blocked_card) whose costs are watched."""

    def __init__(self, clock_ns: Ticking, stage: str = "amber") -> None:
        self.metrics = Metrics()
        self.costs = RuleCosts(
            rule_ns_max=LIMIT_NS, slot=3, clock_ns=clock_ns, metrics=self.metrics
        )
        self.composed = 0
        self.costs.on_cut_out = self._compose
        self.ruleset = dear_above(500, stage)
        self._deploy()

    def _compose(self) -> None:
        self.composed += 1
        self._deploy()

    def _deploy(self) -> None:
        compiled = compile_ruleset(self.ruleset)
        cut = self.costs.cut_out(compiled.hash)
        self.deployment = SampledDeployment(in_force(self.ruleset, compiled.without(cut)))
        self.deployment.costs = self.costs
        stages = {rule.id: rule.stage for rule in self.ruleset.rules}
        self.costs.follow(self.deployment, {compiled.hash: stages})

    async def assess(self, times: int, facts: Facts | None = None) -> None:
        for _ in range(times):
            self.deployment.assess(facts or facts_of(amount_minor=700))
            await self.costs.measure()

    def overrun(self, how: str) -> float:
        labels = {"overrun": how}
        return self.metrics.registry.get_sample_value("citycard_rules_overrun", labels) or 0


async def test_a_rule_above_its_limit_is_cut_out_once_and_is_evaluated_no_more() -> None:
    bench = Bench(Ticking(1_000, 60_000, 1_000))
    await bench.assess(1_000)
    assert bench.costs.cut_out(bench.deployment.hash) == ("burst",)
    assert bench.composed == 1
    assert (bench.overrun("cut_out"), bench.overrun("let_be")) == (1, 0)
    effects = {r.rule_id: r.effect for r in bench.deployment.assess(facts_of()).results}
    assert effects["burst"] is Effect.CUT_OUT


async def test_a_rule_is_not_blamed_for_what_happened_beside_it() -> None:
    """Every other timing of the rule meets a collection of rubbish; the shorter one counts."""
    bench = Bench(Ticking(1_000, 9_000_000, 1_000, 1_000, 2_000, 1_000))
    await bench.assess(1_500)
    assert bench.costs.cut_out(bench.deployment.hash) == ()


async def test_on_a_slow_machine_only_the_rule_that_is_slower_than_the_others_is_cut_out() -> None:
    bench = Bench(Ticking(60_000, 70_000, 90_000))
    await bench.assess(1_000)
    assert bench.costs.cut_out(bench.deployment.hash) == ()
    bench = Bench(Ticking(20_000, 20_000, 190_000))
    await bench.assess(1_000)
    assert bench.costs.cut_out(bench.deployment.hash) == ("blocked_card",)
    bench = Bench(Ticking(10_000_000, 10_000_000, 10_000_000))
    await bench.assess(1_000)
    assert len(bench.costs.cut_out(bench.deployment.hash)) == 3, "the gates would close"


async def test_a_rule_is_not_blamed_for_a_card_with_a_long_history() -> None:
    """512 attempts of a day are what some rules look for, and dear to count."""
    busy = facts_of(*({"ago_s": 512 - n} for n in range(512)), amount_minor=700)
    bench = Bench(Ticking(2_000, 150_000, 2_000))
    await bench.assess(1_000, busy)
    assert bench.costs.cut_out(bench.deployment.hash) == ()
    bench = Bench(Ticking(2_000, 700_000, 2_000))
    await bench.assess(1_000, busy)
    assert bench.costs.cut_out(bench.deployment.hash) == ("burst",)


async def test_a_red_rule_is_let_be_up_to_ten_times_as_much() -> None:
    bench = Bench(Ticking(400_000, 1_000, 1_000), "red")
    await bench.assess(1_000)
    assert bench.costs.cut_out(bench.deployment.hash) == ()
    assert bench.overrun("let_be") == 1
    slow = Bench(Ticking(600_000, 1_000, 1_000), "red")
    await slow.assess(1_000)
    assert slow.costs.cut_out(slow.deployment.hash) == ("dear",)


async def test_another_ruleset_begins_without_cut_outs() -> None:
    clock = Ticking(1_000, 60_000, 1_000)
    bench = Bench(clock)
    await bench.assess(1_000)
    clock.took_ns = (1_000, 1_000, 1_000)
    bench.ruleset = dear_above(400)
    bench._deploy()
    bench.ruleset = dear_above(500)
    bench._deploy()
    assert bench.costs.cut_out(bench.deployment.hash) == ()
    assert bench.overrun("cut_out") == 0


async def test_samples_are_few_and_bounded() -> None:
    bench = Bench(Ticking(1_000))
    for _ in range(10_000):
        bench.deployment.assess(facts_of())
    assert len(bench.costs._samples) == SAMPLES_WAITING_MAX


async def test_what_was_cut_out_is_in_the_trail(connection: Any) -> None:
    bench = Bench(Ticking(1_000, 60_000, 1_000))
    await bench.assess(1_000)
    await bench.costs.do(connection)
    await bench.costs.do(connection)
    (event,) = await connection.fetch("select * from ledger.rules_event where act = 'cut_out'")
    assert (event["actor"], event["subject"]) == ("switch", "rule burst")
    assert event["reason"] == "takes 60,000 ns where 50,000 is the most"
