"""Rulesets in the ledger: written once, never changed, and moved by the acts of people.

This is the one place to take from: reading (`ruleset_views`), acting (`ruleset_acts`), pausing
(`rule_pauses`) and the trail (`rules_trail`) each have a file of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from risk.check import require_sound
from risk.findings import RulesetError, error, holds_digit_run
from risk.lists import ListField
from risk.ruleset import Ruleset, bytes_hash, canonical_bytes
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.rule_pauses import PauseView, lift_pause, pause_rule, pauses
from switch.ledger.rules_trail import (
    INIT,
    SWITCH,
    ActRefused,
    EventView,
    Refusal,
    Rows,
    RulesBusy,
    changed,
    one_act,
    trail,
    words_fault,
    write_event,
)
from switch.ledger.ruleset_acts import Move, act, allowed_move, moves, require_shadow_place
from switch.ledger.ruleset_views import (
    LIVE,
    RulesetUnknown,
    RulesetView,
    StoredRuleset,
    found,
    listed,
    text,
)

__all__ = [
    "INIT",
    "SWITCH",
    "ActRefused",
    "EventView",
    "Move",
    "PauseView",
    "Refusal",
    "RulesBusy",
    "RulesetUnknown",
    "RulesetView",
    "StoredRuleset",
    "act",
    "add",
    "allowed_move",
    "bootstrap",
    "found",
    "lift_pause",
    "listed",
    "moves",
    "outside_lists",
    "pause_rule",
    "pauses",
    "require_shadow_place",
    "text",
    "trail",
]

TITLE_CHARACTERS_MAX = 120
_QUERIES = sql.queries("rulesets.sql")


async def outside_lists(rows: Rows) -> dict[str, ListField]:
    """The lists that the ledger has, by name, with what each holds."""
    found_rows = await rows.fetch(_QUERIES["outside_lists"])
    return {row["name"]: cast(ListField, row["field"]) for row in found_rows}


async def add(
    connection: Connection,
    *,
    ruleset: Ruleset,
    source: str,
    title: str,
    parent: str | None,
    actor: str,
) -> RulesetView:
    """Keep a ruleset as a draft made from `parent` (a whole hash; None: the live one).

    The same ruleset again is the one that is there, and `actor` one of its authors, unless
    `actor` has approved it. Raises RulesetError with all findings (what is written in the text,
    and long numbers in its comments), RulesetUnknown for the parent, and RulesBusy.
    """
    _sound(ruleset, source, title, await outside_lists(connection))
    canonical = canonical_bytes(ruleset)
    hash = bytes_hash(canonical)
    async with one_act(connection) as revision:
        try:
            known = await found(connection, hash)
        except RulesetUnknown:
            ancestor = await found(connection, parent or LIVE)
            await connection.fetch(
                _QUERIES["add_ruleset"], hash, canonical, source, title, ancestor.hash, "draft"
            )
            authors = {actor} | (set() if _was_checked(ancestor) else set(ancestor.authors))
            await _written(connection, hash, authors, actor, title, revision)
        else:
            approved_it = await connection.fetch(_QUERIES["approved_by"], hash, actor)
            if actor not in known.authors and not approved_it:
                await _written(connection, hash, {actor}, actor, title, revision, known.state)
        return await found(connection, hash)


async def bootstrap(
    connection: Connection, ruleset: Ruleset, source: str, now_us: int
) -> str | None:
    """Give a ledger without rulesets its first one, live at once; its hash, or None.

    Several processes may do this at once. `now_us` (epoch microseconds) is told in the trail.
    """
    canonical = canonical_bytes(ruleset)
    hash = bytes_hash(canonical)
    async with one_act(connection):
        (row,) = await connection.fetch(_QUERIES["no_ruleset"])
        if not row["empty"]:
            return None
        title = "the first ruleset"
        await connection.fetch(_QUERIES["add_ruleset"], hash, canonical, source, title, None, LIVE)
        await connection.fetch(_QUERIES["add_authors"], hash, [INIT])
        await write_event(
            connection,
            actor=INIT,
            act="bootstrap",
            subject=hash,
            to_state=LIVE,
            detail={"at_us": now_us},
            revision=await changed(connection),
        )
    return hash


async def _written(
    connection: Connection,
    hash: str,
    authors: set[str],
    actor: str,
    title: str,
    revision: int,
    state: str = "",
) -> None:
    await connection.fetch(_QUERIES["add_authors"], hash, sorted(authors))
    # only the first time does it become a draft: approvals count from there
    await write_event(
        connection,
        actor=actor,
        act="co_author" if state else "write",
        subject=hash,
        from_state=state,
        to_state="" if state else "draft",
        detail={"title": title, "authors": sorted(authors)},
        revision=revision,
    )


def _was_checked(ancestor: RulesetView) -> bool:
    """Whether another has answered for its authors' work, so that they count no more for what
    follows. An approval by itself is not enough: it may still be taken back."""
    return ancestor.was_live or ancestor.state == LIVE


def _sound(ruleset: Ruleset, source: str, title: str, outside: Mapping[str, ListField]) -> None:
    if fault := words_fault("title", title, TITLE_CHARACTERS_MAX):
        raise RulesetError([error("title", fault)])
    if not title.strip():
        raise RulesetError([error("title", "expected words that say what is new")])
    comments = [
        error("", f"expected no long number in the comment of line {number}")
        for number, line in enumerate(source.splitlines(), 1)
        if holds_digit_run(line.partition("#")[2])
    ]
    if comments:
        raise RulesetError(comments)
    require_sound(ruleset, outside=outside)
