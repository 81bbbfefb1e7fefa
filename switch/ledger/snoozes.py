"""Cards spared from one rule for a while, each by a person who said why.

A snooze begins a little after it was written, and lifting it ends it a little later likewise,
so that every worker knows of it by then. The rule still fires for the card, which is recorded,
and its counters run on. A red rule is law and spares nobody.
"""

from __future__ import annotations

import msgspec

from risk.findings import one_of
from risk.rules import TTL_SECONDS_MAX, Stage
from risk.snooze import SNOOZES_MAX
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.list_acts import (
    AUTHOR_CHARACTERS_MAX,
    ActRejected,
    recorded,
    rulesets_in_force,
    takes_effect_us,
    words,
)
from switch.ledger.migrate import transaction
from switch.ledger.rules_trail import Rows

SNOOZE_US_MAX = TTL_SECONDS_MAX * 1_000_000
"""Who is to be spared for longer belongs on a list that the rule excepts."""

_QUERIES = sql.queries("snoozes.sql")


class SnoozeView(msgspec.Struct, frozen=True):
    """A snooze, in force from `from_us` until before `until_us` (epoch microseconds)."""

    snooze_id: int
    rule_id: str
    card_id: int
    last4: str
    from_us: int
    until_us: int
    reason: str
    author: str
    lifted_by: str


async def add(
    connection: Connection,
    *,
    rule_id: str,
    card_id: int,
    until_us: int,
    reason: str,
    author: str,
    now_us: int,
) -> int:
    """Spare a card from a rule of the live ruleset (or the canary); the id of the snooze.

    Raises ActRejected for an unknown or a red rule, an unknown card and an end that is past
    or more than a year away.
    """
    by, said = words(author, "author", AUTHOR_CHARACTERS_MAX), words(reason, "reason")
    from_us = takes_effect_us(now_us)
    if not from_us < until_us <= from_us + SNOOZE_US_MAX:
        raise ActRejected("a snooze ends after it began and within a year; give another end")
    async with transaction(connection):
        await _require_snoozable(connection, rule_id)
        if not await connection.fetchval(_QUERIES["card_exists"], card_id):
            raise ActRejected("no card of this ledger has this id; check it")
        snooze_id: int = await connection.fetchval(
            _QUERIES["add_snooze"], rule_id, card_id, from_us, until_us, said, by
        )
        if await connection.fetchval(_QUERIES["count_snoozes"], now_us) > SNOOZES_MAX:
            raise ActRejected(
                f"{SNOOZES_MAX:,} snoozes stand, which is the most; change the rule instead"
            )
        await recorded(
            connection,
            actor=by,
            act="snooze_add",
            subject=f"rule {rule_id}",
            reason=said,
            detail={"card_id": card_id, "snooze_id": snooze_id, "until_us": until_us},
        )
    return snooze_id


async def lift(
    connection: Connection, *, rule_id: str, card_id: int, reason: str, author: str, now_us: int
) -> int:
    """End what spares a card from a rule; how many snoozes that were."""
    by, said = words(author, "author", AUTHOR_CHARACTERS_MAX), words(reason, "reason")
    async with transaction(connection):
        lifted = await connection.fetch(
            _QUERIES["lift_snoozes"], rule_id, card_id, takes_effect_us(now_us), by
        )
        if lifted:
            await recorded(
                connection,
                actor=by,
                act="snooze_lift",
                subject=f"rule {rule_id}",
                reason=said,
                detail={"card_id": card_id, "snooze_ids": [row["snooze_id"] for row in lifted]},
            )
    return len(lifted)


async def standing(rows: Rows, now_us: int, *, card_id: int | None = None) -> list[SnoozeView]:
    """The snoozes that end after an instant, newest first; one written just now begins soon.

    With the first instant of a stretch of history these are all that can matter in it.
    """
    found = await rows.fetch(_QUERIES["snoozes"], now_us, card_id)
    return [SnoozeView(**dict(row)) for row in found]


async def _require_snoozable(connection: Connection, rule_id: str) -> None:
    in_force = await rulesets_in_force(connection)
    stages = [rule.stage for each in in_force for rule in each.rules if rule.id == rule_id]
    if not stages:
        known = {rule.id: None for each in in_force for rule in each.rules}
        expected = f"expected {one_of(known, rule_id)}" if known else "there is no live ruleset"
        raise ActRejected(f"the live ruleset has no such rule; {expected}")
    if Stage.RED in stages:
        raise ActRejected("a red rule is never overridden; snooze none")
