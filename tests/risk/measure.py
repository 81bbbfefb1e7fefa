"""Figures of the rules on this machine, by hand: python tests/risk/measure.py

What an authorization's rules take with trace (targets: 200 rules under 1 ms, 20 rules of the
shipped set under 60 µs), and the weights of `risk/cost.py`. A weight is the difference between
two rulesets that differ in one part, so what both have falls out; each figure is the least
of several rounds, for on a shared machine only the fastest round says what the work takes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent))

from conftest import SETTINGS, facts_of

from protocols.message import Kind, Segment
from risk.assess import CompiledRuleset, encode_results
from risk.check import first_ruleset, load_ruleset
from risk.compile import compile_ruleset
from risk.cost import estimate
from risk.facts import Facts
from risk.ruleset import Ruleset

ROUNDS = 15
COUNTER = """
[[features]]
id = "{id}"
key = "{key}"
aggregate = "count"
basis = "{basis}"
where = {{ fact = "kind", op = "in", value = ["purchase"] }}
window = "24h"
"""
RULE = """
[[rules]]
id = "r{n}"
version = 1
name = "r"
stage = "amber"
when = {when}
then = {{ {then} }}
"""
DECLINE = 'decline = "count_limit", reason = "too many"'
FIVE = """{ all = [
    { fact = "amount", op = "gt", value = 1 },
    { fact = "tier", op = "eq", value = "named" },
    { fact = "segment", op = "in", value = ["retail", "transit"] },
    { fact = "mcc", op = "starts_with", value = "54" },
    { fact = "balance", op = "gt", value = %d },
] }"""


def least_ns(work: Callable[[], object], repeats: int) -> int:
    """Nanoseconds of one call: the least mean of `ROUNDS` rounds."""
    best = 1 << 62
    for _ in range(ROUNDS):
        begun = perf_counter_ns()
        for _ in range(repeats):
            work()
        best = min(best, (perf_counter_ns() - begun) // repeats)
    return best


def assessed_ns(compiled: CompiledRuleset, facts: Facts, repeats: int = 300) -> int:
    return least_ns(lambda: compiled.assess(facts), repeats)


def ruleset(count: int, when: str, features: str = "", then: str = DECLINE) -> Ruleset:
    rules = "".join(RULE.format(n=n, when=when, then=then) for n in range(count))
    return load_ruleset(SETTINGS + features + rules)


def facts_with(events: int, **changed: Any) -> Facts:
    past = [{"ago_s": 40 * (events - n), "terminal": f"T{n % 4}"} for n in range(events)]
    return facts_of(*past, pin="none", **changed)


def two_hundred() -> None:
    for says, balance in (("none fires", 10**9), ("each fires", 1)):
        body = "".join(
            RULE.format(n=n, when=FIVE % (balance + n), then=DECLINE) for n in range(200)
        )
        compiled = compile_ruleset(load_ruleset(SETTINGS + body))
        facts = facts_with(10)
        spent = assessed_ns(compiled, facts, 20)
        found = compiled.assess(facts)
        stored = least_ns(lambda found=found: encode_results(found), 20)
        print(
            f"200 rules of five comparisons with trace, {says}: {spent / 1000:.0f} µs, "
            f"encoded in {stored / 1000:.0f} µs"
        )


def shipped() -> None:
    whole = first_ruleset()
    print(f"shipped: {len(whole.rules)} rules, {len(whole.features)} counters")
    tap = {
        "segment": Segment.TRANSIT,
        "venue": "bus",
        "stop": "M1/S01",
        "vehicle": "V1",
        "mode": "bus",
    }
    cases: dict[str, dict[str, Any]] = {
        "purchase": {},
        "fare": {"kind": Kind.FARE, "amount_minor": 200, **tap},
        "load": {"kind": Kind.LOAD},
    }
    for events in (0, 10, 100):
        for name, changed in cases.items():
            facts = facts_with(events, **changed)
            plan = compile_ruleset(whole).plan(facts.kind)
            about = sum(map(len, plan[:4]))
            spent = assessed_ns(compile_ruleset(whole), facts)
            print(f"  {name:9} {events:4} events, {about} rules: {spent / 1000:5.1f} µs")
    twenty = {
        rule.id
        for rule in [r for r in whole.rules if not r.scope.kinds or Kind.PURCHASE in r.scope.kinds]
    }
    chosen = sorted(twenty)[:20]
    part = msgspec.structs.replace(whole, rules=tuple(r for r in whole.rules if r.id in chosen))
    spent = assessed_ns(compile_ruleset(part), facts_with(10))
    print(f"  {len(chosen)} rules about a purchase, 10 events: {spent / 1000:.1f} µs")


def weights() -> None:
    facts = facts_with(10)
    leaf = '{ fact = "amount", op = "gt", value = 5000 }'
    true = '{ fact = "amount", op = "gt", value = 1 }'
    full = facts_with(500)

    def per_rule(when: str, features: str = "", about: Facts = facts, then: str = DECLINE) -> int:
        many, few = ruleset(100, when, features, then), ruleset(1, when, features, then)
        spent = assessed_ns(compile_ruleset(many), about, 60)
        return (spent - assessed_ns(compile_ruleset(few), about, 600)) // 99

    def counter(key: str, basis: str, events: Facts) -> int:
        name = '{ feature = "c", op = "gt", value = 511 }'
        features = COUNTER.format(id="c", key=key, basis=basis)
        spent = assessed_ns(compile_ruleset(ruleset(1, name, features)), events, 300)
        return spent - assessed_ns(compile_ruleset(ruleset(1, leaf)), events, 600)

    one = per_rule(leaf)
    both = per_rule(f"{{ all = [{true}, {leaf}] }}")
    three = per_rule(f"{{ all = [{true}, {true}, {leaf}] }}")
    sums = per_rule('{ fact = "amount", plus = "amount", op = "gt", value = 5000 }')
    negated = per_rule(f"{{ not = {true} }}")
    print(f"a rule of one leaf {one} ns, two {both}, three {three}; a sum adds {sums - one}")
    print(f"a not adds {negated - one} ns")
    wide, narrow = counter("account", "attempts", full), counter("account", "attempts", facts)
    card, approved = counter("card", "attempts", full), counter("card", "approved", facts)
    print(f"a counter with one filter: {narrow} ns over 10 events, {wide} over 500")
    print(f"  two filters {card} ns over 500; three {approved} over 10")
    for says, whole, about in (
        ("shipped, purchase", first_ruleset(), facts),
        ("100 rules of two", ruleset(100, f"{{ all = [{true}, {leaf}] }}"), facts),
    ):
        spent = assessed_ns(compile_ruleset(whole), about)
        print(f"{says}: measured {spent} ns, estimate {estimate(whole).worst_kind_ns} (worst kind)")


if __name__ == "__main__":
    two_hundred()
    shipped()
    weights()
