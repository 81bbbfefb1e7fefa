"""What people's acts about lists, snoozes and reviews have in common: words, instants, the trail.

An entry or a snooze is in force a little after it was written, so that every worker knows of
it by then. That holds only if it is committed soon enough: an act that took too long to write
is undone and refused.
"""

from __future__ import annotations

from typing import Any

from protocols.card_number import mask_digit_runs
from risk.lists import TAKES_EFFECT_US
from risk.ruleset import Ruleset, ruleset_from_bytes
from switch.ledger import rules_trail, sql
from switch.ledger.bridge import Connection
from switch.ledger.rules_trail import Rows

REASON_CHARACTERS_MAX = 120
AUTHOR_CHARACTERS_MAX = 80
ENTRY_TAKES_US = 100
"""What one entry takes to be written and loaded by workers, with room: of 200,000 the writing
took 46 µs each and the loading 9 on a busy machine."""
WRITTEN_WITHIN_PERCENT = 75
"""What part of the time until it takes effect writing may take; the rest is for workers to hear."""

_QUERIES = sql.queries("list_acts.sql")


class ActRejected(ValueError):
    """An act about lists, snoozes or reviews that can't be; one sentence says why."""


class ActTooSlow(ActRejected):
    """The act was undone: it would have been in force before every worker knew of it."""

    def __init__(self) -> None:
        super().__init__(
            "writing this took so long that workers could have heard of it too late, so nothing "
            "was written; try again, or give fewer entries at once"
        )


def takes_effect_us(now_us: int, count: int = 1) -> int:
    """When so many entries written now are in force: sooner, some worker may not know them."""
    return now_us + TAKES_EFFECT_US + count * ENTRY_TAKES_US


def words(text: str, name: str, characters_max: int = REASON_CHARACTERS_MAX) -> str:
    """A reason, an author, a title or a note. Raises ActRejected, which does not quote it."""
    said = " ".join(text.split())
    if not (said.isprintable() and 1 <= len(said) <= characters_max):
        raise ActRejected(f"the {name} is not 1 to {characters_max} characters; say it in words")
    if mask_digit_runs(said) != said:
        raise ActRejected(f"the {name} has a long number in it; say it in words")
    return said


async def recorded(
    connection: Connection,
    *,
    actor: str,
    act: str,
    subject: str,
    reason: str = "",
    detail: dict[str, Any] | None = None,
    effect_us: int = TAKES_EFFECT_US,
) -> int:
    """Write the trail of a change in the open transaction and wake the workers; its revision.

    Call it last: who changes something waits here for who did so before. `effect_us` is how
    long after the act it takes effect. Raises ActTooSlow.
    """
    revision = await rules_trail.changed(connection)
    await rules_trail.write_event(
        connection,
        actor=actor,
        act=act,
        subject=subject,
        revision=revision,
        reason=reason,
        detail=detail,
    )
    taken_us = await connection.fetchval(_QUERIES["taken_us"])
    if taken_us * 100 > effect_us * WRITTEN_WITHIN_PERCENT:
        raise ActTooSlow
    return revision


async def noted(
    connection: Connection,
    *,
    actor: str,
    act: str,
    subject: str,
    reason: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """Write the trail of what no worker has to know of."""
    revision = await connection.fetchval(_QUERIES["revision"])
    await rules_trail.write_event(
        connection,
        actor=actor,
        act=act,
        subject=subject,
        revision=revision,
        reason=reason,
        detail=detail,
    )


async def rulesets_in_force(rows: Rows) -> list[Ruleset]:
    """The live ruleset, then the canary, as far as there are any."""
    found = await rows.fetch(_QUERIES["rulesets_in_force"])
    return [ruleset_from_bytes(row["canonical"]) for row in found]
