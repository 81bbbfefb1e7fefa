"""Acts on a ruleset: who may move it from one state to which, and what goes with it.

Theory. A ruleset is in one state; `ledger.ruleset_move` has every act with the states it starts
from, the one it leads to, and the roles of which one is needed. At most one ruleset is live and
one is a canary. An approval binds to the hash and is never by an author; whatever becomes a
draft again has to be approved anew. Acts are done one at a time (`one_act`), each with its
event, and workers are told of those that concern them.

    draft ⇄ shadow → submitted → approved → canary → live → retired
    reject: submitted or approved → draft; pause: any but retired → paused → draft
    rollback: retired or paused, if it was live → live
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.operators import NotAllowed, Operator, require
from switch.ledger.rules_trail import (
    DETAIL_BYTES_MAX,
    ActRefused,
    Refusal,
    Rows,
    changed,
    one_act,
    words_fault,
    write_event,
)
from switch.ledger.ruleset_views import (
    CANARY,
    LIVE,
    RulesetUnknown,
    RulesetView,
    found,
    text,
)

FORECAST_REQUESTS_MIN = 1_000
"""A rule seen on fewer requests in shadow has no forecast."""
REASON_WANTED = frozenset({"reject", "pause", "rollback"})
"""Acts that undo what others did: the next one to look must find out why."""
FOLLOWED = frozenset({"shadow", CANARY, LIVE})
"""States of rulesets that workers have loaded."""
_QUERIES = sql.queries("rulesets.sql")


class Move(NamedTuple):
    """One row of the table of moves."""

    act: str
    from_state: str
    to_state: str
    roles: tuple[str, ...]


class _Act(NamedTuple):
    """An act under way: everything that its parts need."""

    connection: Connection
    ruleset: RulesetView
    name: str
    actor: str
    reason: str
    percent: int | None


class _Also(NamedTuple):
    """Another ruleset that moves in the same act."""

    hash: str
    act: str
    from_state: str
    to_state: str


async def require_shadow_place(rows: Rows, shadows_max: int) -> None:
    """Raise ActRefused where workers evaluate as many shadows as they are to."""
    (row,) = await rows.fetch(_QUERIES["shadows"])
    if row["shadows"] >= shadows_max:
        raise ActRefused(
            Refusal.SHADOWS_FULL,
            f"{row['shadows']} rulesets are in shadow, and [rules] shadows_max is {shadows_max}; "
            "withdraw one first",
        )


async def moves(rows: Rows) -> tuple[Move, ...]:
    """The table of moves, by act and state."""
    found_rows = await rows.fetch(_QUERIES["moves"])
    return tuple(Move(**{**dict(row), "roles": tuple(row["roles"])}) for row in found_rows)


async def act(
    connection: Connection,
    hash: str,
    act: str,
    *,
    actor: Operator,
    reason: str,
    percent: int | None = None,
    detail: dict[str, Any] | None = None,
    forecast: dict[str, int] | None = None,
) -> RulesetView:
    """Do one act on a ruleset (whole hash), in a transaction of its own; how it is afterwards.

    `percent` is for canary only. `forecast` (rule id → parts per million) takes the place of
    what shadow or the latest backtest showed. Raises RulesetUnknown, ActRefused, NotAllowed
    (roles are those that the ledger has now, whatever `actor` says) and RulesBusy.
    """
    _words(act, reason, detail)
    async with one_act(connection) as revision:
        stored = await text(connection, hash)
        before = await found(connection, stored.hash)
        move = await allowed_move(connection, before, act, actor)
        under_way = _Act(connection, before, act, actor.name, reason, percent)
        also = await _particulars(under_way)
        touched = {move.from_state, move.to_state, *(each.to_state for each in also)}
        if touched & FOLLOWED:
            revision = await changed(connection)
        await _move(under_way, move, also, forecast)
        await write_event(
            connection,
            actor=actor.name,
            act=act,
            subject=hash,
            from_state=move.from_state,
            to_state=move.to_state,
            reason=reason,
            detail={**(detail or {}), **({} if percent is None else {"percent": percent})},
            revision=revision,
        )
        for each in also:
            await write_event(
                connection,
                actor=actor.name,
                act=each.act,
                subject=each.hash,
                from_state=each.from_state,
                to_state=each.to_state,
                reason=reason,
                detail={"by": act, "of": hash},
                revision=revision,
            )
        return await found(connection, hash)


def _words(act: str, reason: str, detail: Mapping[str, Any] | None) -> None:
    if fault := words_fault("reason", reason):
        raise ActRefused(Refusal.WORDS, fault)
    if act in REASON_WANTED and not reason.strip():
        raise ActRefused(Refusal.REASON_MISSING, f"{act} wants a reason; say why")
    if len(msgspec.json.encode(detail or {})) > DETAIL_BYTES_MAX:
        raise ActRefused(
            Refusal.WORDS, f"the detail is over {DETAIL_BYTES_MAX} bytes; leave some of it out"
        )


async def allowed_move(
    connection: Connection, ruleset: RulesetView, act: str, actor: Operator
) -> Move:
    """The move that this act is, by somebody who may. Raises NotAllowed and ActRefused.

    Roles are looked at first, so that who may not act learns nothing of states.
    """
    of_act = [move for move in await moves(connection) if move.act == act]
    if not of_act:
        raise ActRefused(Refusal.NO_SUCH_ACT, "there is no such act on a ruleset; see --help")
    now = await connection.fetch(_QUERIES["acting_operator"], actor.name)
    if not now:
        raise NotAllowed(f"there is no operator {actor.name}, or the token was revoked")
    standing = Operator(actor.name, tuple(now[0]["roles"]))
    require(standing, *sorted({role for move in of_act for role in move.roles}))
    move = next((move for move in of_act if move.from_state == ruleset.state), None)
    if move is None:
        states = " or ".join(each.from_state for each in of_act)
        raise ActRefused(
            Refusal.NOT_FROM_HERE,
            f"ruleset {ruleset.hash[:8]} is {ruleset.state}, and {act} is for one that is {states}",
        )
    require(standing, *move.roles)
    return move


async def _particulars(act: _Act) -> list[_Also]:
    """What an act asks for beside its state and role, and what else it moves."""
    if act.percent is not None and act.name != "canary":
        raise ActRefused(Refusal.PERCENT, f"a percentage is for canary, not for {act.name}")
    match act.name:
        case "approve":
            await _approve(act)
        case "canary":
            await _one_canary(act)
        case "promote":
            return await _in_place_of_live(act)
        case "rollback":
            if not act.ruleset.was_live:
                raise ActRefused(
                    Refusal.NEVER_LIVE,
                    f"ruleset {act.ruleset.hash[:8]} was never live; resume it as a draft, "
                    "submit it and have it approved",
                )
            return await _in_place_of_live(act)
        case "pause" if act.ruleset.state == LIVE:
            return [await _live_before(act)]
        case "retire":
            raise ActRefused(
                Refusal.BY_ANOTHER_ACT,
                "a live ruleset is retired by promoting another or by rollback to one before it",
            )
    return []


async def _approve(act: _Act) -> None:
    if act.actor in act.ruleset.authors:
        raise ActRefused(
            Refusal.OWN_WORK,
            f"{act.actor} wrote ruleset {act.ruleset.hash[:8]} or what it is made from, and "
            "cannot approve it; ask another approver",
        )
    await act.connection.fetch(_QUERIES["add_approval"], act.ruleset.hash, act.actor, act.reason)


async def _one_canary(act: _Act) -> None:
    if act.percent is None or not 1 <= act.percent <= 99:
        raise ActRefused(
            Refusal.PERCENT, "a canary is for 1 to 99 percent of the cards; give the percentage"
        )
    for other in await _in_state(act.connection, CANARY):
        if other != act.ruleset.hash:
            raise ActRefused(
                Refusal.CANARY_TAKEN,
                f"ruleset {other[:8]} is the canary already; promote or pause it first",
            )


async def _in_place_of_live(act: _Act) -> list[_Also]:
    return [
        _Also(former, "retire", LIVE, "retired") for former in await _in_state(act.connection, LIVE)
    ]


async def _live_before(act: _Act) -> _Also:
    before = await act.connection.fetch(_QUERIES["live_before"], act.ruleset.hash)
    if not before:
        raise ActRefused(
            Refusal.NONE_BEFORE,
            "no ruleset that was live before could take its place; pause the rule instead, or "
            "roll back to one by its hash",
        )
    return _Also(before[0]["hash"], "rollback", "retired", LIVE)


async def _in_state(connection: Connection, state: str) -> list[str]:
    try:
        return [(await found(connection, state)).hash]
    except RulesetUnknown:
        return []


async def _move(act: _Act, move: Move, also: list[_Also], given: Mapping[str, int] | None) -> None:
    """Write the states; the one that leaves its place goes first, for there is one place."""
    forecast = None
    if move.to_state in (CANARY, LIVE) and move.act != "rollback":
        forecast = given if given is not None else await _forecast(act)
    own = (act.ruleset.hash, move.to_state, act.percent, _json(forecast))
    others = [(each.hash, each.to_state, None, None) for each in also]
    for hash, state, percent, shares in [own, *others] if act.name == "pause" else [*others, own]:
        await act.connection.fetch(_QUERIES["move_ruleset"], hash, state, percent, shares)


async def _forecast(act: _Act) -> dict[str, int] | None:
    """What shadow showed, else the latest backtest, else nothing new."""
    hash = act.ruleset.hash
    rows = await act.connection.fetch(_QUERIES["shadow_forecast"], hash, FORECAST_REQUESTS_MIN)
    if not rows:
        rows = await act.connection.fetch(_QUERIES["backtest_forecast"], hash)
    return {row["rule_id"]: row["share_ppm"] for row in rows} or None


def _json(forecast: Mapping[str, int] | None) -> str | None:
    return None if forecast is None else msgspec.json.encode(forecast).decode()
