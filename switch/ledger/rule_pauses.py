"""Rules that are paused: one person stops one rule at once, whatever ruleset it is in.

A pause is of a version of the rule, so it ends by itself when another version is promoted, and
goes on when a ruleset with the same version comes back.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from risk.ruleset import ruleset_from_bytes
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.rules_trail import (
    ActRefused,
    Refusal,
    Rows,
    changed,
    one_act,
    words_fault,
    write_event,
)

RULE_CHARACTERS_SHOWN = 40
_QUERIES = sql.queries("rulesets.sql")


class PauseView(msgspec.Struct, frozen=True):
    """A pause that stands. `automatic`: the switch paused the rule, for what it declined."""

    pause_id: int
    rule_id: str
    rule_version: int
    paused_at: datetime
    paused_by: str
    reason: str
    automatic: bool


async def pause_rule(
    connection: Connection,
    rule_id: str,
    *,
    actor: str,
    reason: str,
    automatic: bool = False,
    version: int | None = None,
) -> list[PauseView]:
    """Pause a rule of the live ruleset and the canary; what was paused by this.

    With `version` it is that version only. Raises ActRefused where neither has the rule or it
    is paused already; an automatic pause of a paused rule is none, and gives an empty list.
    """
    _reason(reason)
    async with one_act(connection):
        versions = [version] if version is not None else await _versions(connection, rule_id)
        if not versions:
            raise ActRefused(
                Refusal.NOT_IN_FORCE,
                f"neither the live ruleset nor the canary has a rule {_shown(rule_id)}; "
                "look at the rules of the live ruleset",
            )
        rows = await connection.fetch(
            _QUERIES["pause_rule"], rule_id, versions, actor, reason, automatic
        )
        if not rows and not automatic:
            raise ActRefused(
                Refusal.PAUSED_ALREADY, f"rule {_shown(rule_id)} is paused already; lift it to end"
            )
        made = [PauseView(**dict(row)) for row in rows]
        if made:
            await write_event(
                connection,
                actor=actor,
                act="pause_rule",
                subject=f"rule {rule_id}",
                reason=reason,
                detail={"versions": [each.rule_version for each in made], "automatic": automatic},
                revision=await changed(connection),
            )
        return made


async def lift_pause(connection: Connection, rule_id: str, *, actor: str, reason: str) -> list[int]:
    """End every pause of a rule; the versions that were paused. Raises ActRefused if none was."""
    _reason(reason)
    async with one_act(connection):
        rows = await connection.fetch(_QUERIES["lift_pause"], rule_id, actor, reason)
        if not rows:
            raise ActRefused(Refusal.NOT_PAUSED, f"rule {_shown(rule_id)} is not paused")
        versions = sorted(row["rule_version"] for row in rows)
        await write_event(
            connection,
            actor=actor,
            act="lift_pause",
            subject=f"rule {rule_id}",
            reason=reason,
            detail={"versions": versions},
            revision=await changed(connection),
        )
        return versions


async def pauses(rows: Rows) -> list[PauseView]:
    """The pauses that stand, oldest first."""
    return [PauseView(**dict(row)) for row in await rows.fetch(_QUERIES["pauses"])]


async def _versions(connection: Connection, rule_id: str) -> list[int]:
    """The versions in which the live ruleset and the canary have a rule."""
    found: set[int] = set()
    for row in await connection.fetch(_QUERIES["rulesets_in_force"]):
        ruleset = ruleset_from_bytes(row["canonical"])
        found |= {rule.version for rule in ruleset.rules if rule.id == rule_id}
    return sorted(found)


def _reason(reason: str) -> None:
    if not reason.strip():
        raise ActRefused(Refusal.REASON_MISSING, "this wants a reason; say why")
    if fault := words_fault("reason", reason):
        raise ActRefused(Refusal.WORDS, fault)


def _shown(rule_id: str) -> str:
    return (
        rule_id if rule_id.isidentifier() and len(rule_id) <= RULE_CHARACTERS_SHOWN else "so named"
    )
