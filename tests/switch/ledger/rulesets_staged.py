"""Small rulesets that differ in one limit, and the people who move them, in a real ledger."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

from risk.check import load_ruleset
from risk.ruleset import Ruleset
from switch.ledger import operators, rulesets
from switch.ledger.bridge import Connection
from switch.ledger.operators import Operator
from switch.ledger.rulesets import RulesetView

RULES = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"

[[rules]]
id = "amount_limit"
version = {version}
name = "A payment too large"
stage = "amber"
scope = {{ kinds = ["purchase"] }}
when = {{ fact = "amount", op = "gt", value = {limit_minor} }}
then = {{ decline = "amount_limit", reason = "the amount is above the limit" }}
owner = "risk office"
"""
PEOPLE: Mapping[str, tuple[str, ...]] = {
    "ada": ("author",),
    "ben": ("author", "approver"),
    "cyd": ("approver",),
    "dan": ("analyst",),
    "eve": ("viewer", "auditor"),
}


def source_of(limit_minor: int, version: int = 1) -> str:
    return RULES.format(limit_minor=limit_minor, version=version)


def ruleset_of(limit_minor: int, version: int = 1) -> Ruleset:
    return load_ruleset(source_of(limit_minor, version))


def numbered_entropy() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(count, "big")


async def people(connection: Connection) -> dict[str, Operator]:
    """Everybody of PEOPLE, made operators; by name."""
    entropy = numbered_entropy()
    for name, roles in PEOPLE.items():
        await operators.add(connection, name, roles, "test", entropy)
    return {name: Operator(name, roles) for name, roles in PEOPLE.items()}


async def begin(connection: Connection) -> str:
    """A ledger whose live ruleset has the limit 100.00; its hash."""
    hash = await rulesets.bootstrap(connection, ruleset_of(10_000), source_of(10_000), 1)
    assert hash is not None
    return hash


async def draft(
    connection: Connection,
    limit_minor: int,
    actor: str = "ada",
    *,
    parent: str | None = None,
    version: int = 1,
) -> RulesetView:
    return await rulesets.add(
        connection,
        ruleset=ruleset_of(limit_minor, version),
        source=source_of(limit_minor, version),
        title=f"limit {limit_minor}",
        parent=parent,
        actor=actor,
    )


async def approved(
    connection: Connection, by: Mapping[str, Operator], limit_minor: int, *, version: int = 1
) -> RulesetView:
    """A ruleset of ada's that cyd approved."""
    made = await draft(connection, limit_minor, version=version)
    await rulesets.act(connection, made.hash, "submit", actor=by["ada"], reason="")
    return await rulesets.act(connection, made.hash, "approve", actor=by["cyd"], reason="")
