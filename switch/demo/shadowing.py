"""Puts a draft in shadow beside the live ruleset of a stage, for who measures what that costs.

The draft is the live ruleset with one threshold changed, as most drafts are.
"""

from __future__ import annotations

import os
import re
import urllib.request
from collections.abc import Sequence

import anyio
import anyio.to_thread
import msgspec

from risk.conditions import Compare, Constant
from risk.ruleset import Ruleset
from switch.demo.stage import StageNotSet
from switch.ledger import bridge, operators, rulesets, sql
from switch.ledger.operators import Operator

ANALYST = Operator("stage", ("author", "analyst"))
HEARD_SECONDS_MAX = 30.0
_QUERIES = sql.queries("rules_follower.sql")
_REVISION = re.compile(r"^citycard_rules_revision ([0-9.e+]+)$", re.MULTILINE)


async def set_shadow(url: str, metrics_ports: Sequence[int], wanted: bool) -> None:
    """Have the draft in shadow or not, and wait until every worker knows.

    Raises StageNotSet where they do not hear of it.
    """
    connection = await bridge.connect(url)
    try:
        live = await rulesets.found(connection, "live")
        drafts = [each for each in await rulesets.listed(connection) if each.parent == live.hash]
        if not drafts:
            await operators.add(connection, ANALYST.name, ANALYST.roles, "stage", os.urandom)
            text = await rulesets.text(connection, live.hash)
            drafts = [
                await rulesets.add(
                    connection,
                    ruleset=_changed(text.ruleset()),
                    source="",
                    title="one threshold changed",
                    parent=live.hash,
                    actor=ANALYST.name,
                )
            ]
        if (drafts[0].state == "shadow") is not wanted:
            act = "shadow" if wanted else "withdraw"
            await rulesets.act(connection, drafts[0].hash, act, actor=ANALYST, reason="measured")
        revision = await connection.fetchval(_QUERIES["revision"])
        await _heard(metrics_ports, revision)
    finally:
        connection.terminate()


def _changed(ruleset: Ruleset) -> Ruleset:
    """The ruleset with the first number that a rule of its own compares with made one less."""
    for position, rule in enumerate(ruleset.rules):
        when = rule.when
        if isinstance(when, Compare) and isinstance(when.right, Constant):
            value = when.right.value
            if isinstance(value, int) and value > 1:
                less = msgspec.structs.replace(
                    when, right=msgspec.structs.replace(when.right, value=value - 1)
                )
                changed = msgspec.structs.replace(rule, when=less)
                rules = (*ruleset.rules[:position], changed, *ruleset.rules[position + 1 :])
                return msgspec.structs.replace(ruleset, rules=rules)
    raise StageNotSet("no rule of the live ruleset compares with a number")


async def _heard(metrics_ports: Sequence[int], revision: int) -> None:
    with anyio.move_on_after(HEARD_SECONDS_MAX):
        for port in metrics_ports:
            while await anyio.to_thread.run_sync(_revision, port) < revision:  # noqa: ASYNC110
                await anyio.sleep(0.1)
        return
    raise StageNotSet("a worker does not hear of a ruleset that was put in shadow")


def _revision(port: int) -> float:
    address = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as page:
        found = _REVISION.search(page.read().decode())
    return float(found.group(1)) if found else -1.0
