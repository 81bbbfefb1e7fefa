"""Rulesets in a ledger for tests: small ones, and the people who bring them to life."""

from __future__ import annotations

import os
from typing import Any

from risk.check import load_ruleset
from risk.ruleset import Ruleset, ruleset_hash
from switch.ledger import operators, rulesets
from switch.ledger.operators import Operator

_TEXT = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"

[[features]]
id = "attempts_10s"
key = "card"
aggregate = "count"
basis = "attempts"
window = "10s"
noun = "payments"
noun_zh = "付款"

[[rules]]
id = "dear"
version = 1
name = "More than may be paid at once"
stage = "{stage}"
scope = {{ kinds = ["purchase"] }}
when = {{ fact = "amount", op = "gt", value = {limit} }}
then = {{ decline = "amount_limit", reason = "too dear" }}

[[rules]]
id = "burst"
version = 1
name = "Many payments at once"
stage = "amber"
scope = {{ kinds = ["purchase"] }}
when = {{ feature = "attempts_10s", plus = 1, op = "gt", value = 500 }}
then = {{ decline = "count_limit", reason = "too many payments" }}

[[rules]]
id = "blocked_card"
version = 1
name = "Cards that are blocked for now"
stage = "amber"
scope = {{ kinds = ["purchase"] }}
when = {{ fact = "card_id", op = "in_list", list = "blocked" }}
then = {{ decline = "hotlisted", reason = "on the list" }}

[[lists]]
name = "blocked"
field = "card_id"
entries = []
"""

AUTHOR = Operator("ada", ("author",))
APPROVER = Operator("bob", ("approver",))


def dear_above(limit_minor: int, stage: str = "amber") -> Ruleset:
    """Declines every purchase of more than that, and those of cards on the list `blocked`."""
    return load_ruleset(_TEXT.format(limit=limit_minor, stage=stage))


async def people(connection: Any) -> None:
    """An author and an approver."""
    for each in (AUTHOR, APPROVER):
        await operators.add(connection, each.name, each.roles, "tests", os.urandom)


async def begin(connection: Any, ruleset: Ruleset, now_us: int = 0) -> str:
    """Make it the first live ruleset of a ledger, with an author and an approver around."""
    await people(connection)
    made = await rulesets.bootstrap(connection, ruleset, "", now_us)
    assert made == ruleset_hash(ruleset)
    return made


async def draft(connection: Any, ruleset: Ruleset, *acts: str, **how: Any) -> str:
    """Add a ruleset and move it by these acts, each done by somebody who may."""
    view = await rulesets.add(
        connection, ruleset=ruleset, source="", title="another", parent=None, actor=AUTHOR.name
    )
    for act in acts:
        actor = AUTHOR if act in ("shadow", "submit", "withdraw") else APPROVER
        percent = how.get("percent") if act == "canary" else None
        await rulesets.act(
            connection,
            view.hash,
            act,
            actor=actor,
            reason="tests",
            percent=percent,
            forecast=how.get("forecast"),
        )
    return view.hash
