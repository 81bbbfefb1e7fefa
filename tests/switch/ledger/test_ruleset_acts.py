"""Acts on rulesets in a real ledger: the table of moves, rollback, pauses, the forecast."""

from __future__ import annotations

import random
from collections.abc import Mapping

import anyio
import msgspec
import pytest

from risk.ruleset import ruleset_hash
from switch.ledger import bridge, rulesets
from switch.ledger.operators import NotAllowed, Operator
from switch.ledger.rulesets import ActRefused, Move, Refusal, RulesetView
from tests.switch.ledger.rulesets_staged import (
    PEOPLE,
    approved,
    begin,
    draft,
    people,
    source_of,
)

one_backend = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what the bridge has no part in."""


async def live(connection: bridge.Connection) -> str:
    return (await rulesets.found(connection, "live")).hash


async def revision(connection: bridge.Connection) -> int:
    value: int = await connection.fetchval("select revision from ledger.rules_head")
    return value


async def test_a_rule_from_the_first_draft_to_retirement(connection: bridge.Connection) -> None:
    first, by = await begin(connection), await people(connection)
    made = await draft(connection, 20_000)
    assert (made.state, made.parent, made.authors) == ("draft", first, ("ada",))
    before = await revision(connection)

    async def step(act: str, who: str, **more: int) -> RulesetView:
        return await rulesets.act(
            connection, made.hash, act, actor=by[who], reason="on trial", **more
        )

    assert (await step("shadow", "dan")).state == "shadow"
    assert await revision(connection) == before + 1
    assert (await step("submit", "ada")).state == "submitted"
    submitted = await revision(connection)
    assert (await step("approve", "cyd")).approvers == ("cyd",)
    assert await revision(connection) == submitted == before + 2, "no worker has to know"
    assert (await step("canary", "cyd", percent=5)).canary_percent == 5
    assert (await step("canary", "ben", percent=50)).canary_percent == 50
    assert await live(connection) == first
    promoted = await step("promote", "cyd")
    assert (promoted.state, promoted.was_live, promoted.canary_percent) == ("live", True, None)
    assert (await rulesets.found(connection, first)).state == "retired"
    events = await rulesets.trail(connection, subject=made.hash)
    told = [(event.act, event.actor, event.from_state, event.to_state) for event in events]
    assert told[::-1] == [
        ("write", "ada", "", "draft"),
        ("shadow", "dan", "draft", "shadow"),
        ("submit", "ada", "shadow", "submitted"),
        ("approve", "cyd", "submitted", "approved"),
        ("canary", "cyd", "approved", "canary"),
        ("canary", "ben", "canary", "canary"),
        ("promote", "cyd", "canary", "live"),
    ]
    (retired,) = [event for event in await rulesets.trail(connection) if event.act == "retire"]
    assert (retired.subject, retired.detail) == (first, {"by": "promote", "of": made.hash})
    assert retired.revision == events[0].revision == await revision(connection)
    stored = await rulesets.text(connection, made.hash)
    assert ruleset_hash(stored.ruleset()) == made.hash
    assert stored.source == source_of(20_000)


# ---- the table of moves ----


class Model:
    """What should be, worked out from the table of moves and the rules beside it."""

    def __init__(self, table: tuple[Move, ...], first: str) -> None:
        self.table = table
        self.state = {first: "live"}
        self.was_live = {first}
        self.authors: dict[str, set[str]] = {first: {"init"}}
        self.left_live: list[tuple[str, str]] = []
        """(hash, why it stopped being live), oldest first."""

    def in_state(self, state: str) -> str | None:
        return next((hash for hash, now in self.state.items() if now == state), None)

    def live_before(self, hash: str) -> str | None:
        latest = {each: (order, why) for order, (each, why) in enumerate(self.left_live)}
        fit = [
            (latest[each][0], each)
            for each, state in self.state.items()
            if state == "retired" and each != hash and latest[each][1] == "promote"
        ]
        return max(fit)[1] if fit else None

    def act(self, hash: str, act: str, who: str, percent: int | None) -> Refusal | str:
        """The state afterwards, "not allowed", or why not."""
        rows = [move for move in self.table if move.act == act]
        roles = set(PEOPLE[who])
        if not any(roles & set(move.roles) for move in rows):
            return "not allowed"
        move = next((move for move in rows if move.from_state == self.state[hash]), None)
        if move is None:
            return Refusal.NOT_FROM_HERE
        if not roles & set(move.roles):
            return "not allowed"
        if (percent is not None) != (act == "canary"):
            return Refusal.PERCENT
        present, restored = self.in_state("live"), None
        if act == "approve" and who in self.authors[hash]:
            return Refusal.OWN_WORK
        if act == "canary" and self.in_state("canary") not in (None, hash):
            return Refusal.CANARY_TAKEN
        if act == "rollback" and hash not in self.was_live:
            return Refusal.NEVER_LIVE
        if act == "retire":
            return Refusal.BY_ANOTHER_ACT
        if act == "pause" and self.state[hash] == "live":
            restored = self.live_before(hash)
            if restored is None:
                return Refusal.NONE_BEFORE
            self.left_live.append((hash, "pause"))
        if move.to_state == "live" and present is not None:
            self.state[present] = "retired"
            self.left_live.append((present, act))
        self.state[hash] = move.to_state
        if restored is not None:
            self.state[restored] = "live"
        if move.to_state == "live":
            self.was_live.add(hash)
        return move.to_state


BACKWARD = frozenset({"pause", "reject", "withdraw"})


@one_backend
@pytest.mark.parametrize("seed", [1, 2])
async def test_every_act_from_every_state_does_what_the_table_says(
    connection: bridge.Connection, seed: int
) -> None:
    first, by = await begin(connection), await people(connection)
    table = await rulesets.moves(connection)
    model, dice = Model(table, first), random.Random(seed)
    for number in range(6):
        author = dice.choice(["ada", "ben"])
        made = await draft(connection, 20_000 + number, author, parent=first)
        model.state[made.hash], model.authors[made.hash] = "draft", {author}
    acts = sorted({move.act for move in table})
    seen: set[tuple[str, str, str]] = set()
    for _ in range(400):
        hash = dice.choice(list(model.state))
        act, who = dice.choice(acts), dice.choice(list(PEOPLE))
        if dice.random() < 0.7:  # mostly along the table, or nothing would ever be live
            legal = [move for move in table if move.from_state == model.state[hash]]
            weights = [1 if move.act in BACKWARD else 3 for move in legal]
            (move,) = dice.choices(legal, weights)
            act = move.act
            who = dice.choice([name for name in PEOPLE if set(PEOPLE[name]) & set(move.roles)])
        percent = 10 if act == "canary" else None
        from_state, expected = model.state[hash], model.act(hash, act, who, percent)
        came = await outcome(connection, by, hash, act, who, percent)
        assert came == expected, (hash[:8], act, from_state, who)
        seen.add((act, from_state, str(expected)))
        if dice.random() < 0.2:
            stored = {view.hash: view.state for view in await rulesets.listed(connection)}
            assert stored == model.state
    assert await live(connection) == model.in_state("live")
    moved = {(act, state) for act, state, came in seen if came in {each[2] for each in table}}
    assert len(moved) >= 14, f"the walk went nowhere but {sorted(moved)}"


async def outcome(
    connection: bridge.Connection,
    by: Mapping[str, Operator],
    hash: str,
    act: str,
    who: str,
    percent: int | None,
) -> Refusal | str:
    try:
        view = await rulesets.act(
            connection, hash, act, actor=by[who], reason="why", percent=percent
        )
    except NotAllowed:
        return "not allowed"
    except ActRefused as refused:
        return refused.refusal
    return view.state


@one_backend
async def test_who_may_act_is_what_the_ledger_says_now(connection: bridge.Connection) -> None:
    await begin(connection)
    await people(connection)
    made = await draft(connection, 20_000)
    for pretender in (Operator("eve", ("author", "approver")), Operator("nobody", ("author",))):
        with pytest.raises(NotAllowed, match=pretender.name):
            await rulesets.act(connection, made.hash, "submit", actor=pretender, reason="")
    assert (await rulesets.found(connection, made.hash)).state == "draft"


MISSAID = [
    ("burn", "why", None, Refusal.NO_SUCH_ACT),
    ("pause", "", None, Refusal.REASON_MISSING),
    ("pause", "  ", None, Refusal.REASON_MISSING),
    ("pause", "card 6222021234567890128", None, Refusal.WORDS),
    ("pause", "two\nlines", None, Refusal.WORDS),
    ("pause", "x" * 401, None, Refusal.WORDS),
    ("pause", "why", 5, Refusal.PERCENT),
    ("canary", "", None, Refusal.PERCENT),
    ("canary", "", 0, Refusal.PERCENT),
    ("canary", "", 100, Refusal.PERCENT),
]


@one_backend
async def test_acts_that_are_not_said_rightly(connection: bridge.Connection) -> None:
    await begin(connection)
    by = await people(connection)
    made = await approved(connection, by, 20_000)
    for act, reason, percent, refusal in MISSAID:
        with pytest.raises(ActRefused) as refused:
            await rulesets.act(
                connection, made.hash, act, actor=by["cyd"], reason=reason, percent=percent
            )
        assert refused.value.refusal is refusal
        assert "6222" not in str(refused.value)
    assert (await rulesets.found(connection, made.hash)) == made


@one_backend
async def test_pausing_the_live_one_brings_the_one_before_back(
    connection: bridge.Connection,
) -> None:
    first, by = await begin(connection), await people(connection)
    with pytest.raises(ActRefused, match="no ruleset that was live before"):
        await rulesets.act(connection, first, "pause", actor=by["dan"], reason="wrong")
    second = await approved(connection, by, 20_000)
    await rulesets.act(connection, second.hash, "promote", actor=by["cyd"], reason="")
    third = await approved(connection, by, 30_000)
    await rulesets.act(connection, third.hash, "promote", actor=by["cyd"], reason="")
    paused = await rulesets.act(connection, third.hash, "pause", actor=by["dan"], reason="wrong")
    assert (paused.state, await live(connection)) == ("paused", second.hash)
    back = await rulesets.act(connection, third.hash, "rollback", actor=by["cyd"], reason="fine")
    assert (back.state, await live(connection)) == ("live", third.hash)
    # second was rolled back from, so it does not come back by itself: the first does
    await rulesets.act(connection, third.hash, "pause", actor=by["dan"], reason="wrong again")
    assert await live(connection) == first


async def test_of_two_who_promote_at_once_one_does(database: str, ledger_loop: None) -> None:
    connections = [await bridge.connect(database) for _ in range(4)]
    await begin(connections[0])
    by = await people(connections[0])
    made = await approved(connections[0], by, 20_000)
    came: list[Refusal | str] = []

    async def promote(connection: bridge.Connection) -> None:
        came.append(await outcome(connection, by, made.hash, "promote", "cyd", None))

    async with anyio.create_task_group() as tasks:
        for connection in connections:
            tasks.start_soon(promote, connection)
    assert sorted(came) == ["live", *[Refusal.NOT_FROM_HERE] * 3]
    promotions = [e for e in await rulesets.trail(connections[0]) if e.act == "promote"]
    assert len(promotions) == 1
    for connection in connections:
        connection.terminate()


# ---- what an approver sees of what is to come ----


@one_backend
async def test_the_forecast_is_what_shadow_showed_else_the_backtest(
    connection: bridge.Connection,
) -> None:
    await begin(connection)
    by = await people(connection)
    one, two = await approved(connection, by, 20_000), await approved(connection, by, 30_000)
    statistic = (
        "insert into ledger.rule_statistic (mode, hash, rule_id, rule_version, hour, slot, "
        "requests, declined) values ('shadow', $1, $2, 1, now(), $3, $4, $5)"
    )
    for slot, requests, declined in ((0, 600, 3), (1, 900, 0)):
        await connection.fetch(statistic, one.hash, "amount_limit", slot, requests, declined)
    await connection.fetch(statistic, one.hash, "seldom", 0, 999, 999)
    await connection.fetch(statistic, one.hash, "", 0, 5_000, 5)
    tested = {"rules": [
        {"rule_id": "amount_limit", "evaluated": 400, "declined": 2},
        {"rule_id": "never", "evaluated": 0, "declined": 0},
    ]}  # fmt: skip
    for hash in (one.hash, two.hash):
        await connection.fetch(
            "insert into ledger.backtest (hash, from_date, to_date, closed_loop, actor, state, "
            "result) values ($1, '2026-03-01', '2026-03-01', false, 'ada', 'done', $2::jsonb)",
            hash,
            msgspec.json.encode(tested).decode(),
        )
    shown = await rulesets.act(connection, one.hash, "promote", actor=by["cyd"], reason="")
    assert shown.forecast == {"amount_limit": 2_000}
    canary = await rulesets.act(
        connection, two.hash, "canary", actor=by["cyd"], reason="", percent=1
    )
    assert canary.forecast == {"amount_limit": 5_000}
    given = {"amount_limit": 7}
    shown = await rulesets.act(
        connection, two.hash, "promote", actor=by["cyd"], reason="", forecast=given
    )
    assert shown.forecast == given
    # a rollback keeps what was known of it
    back = await rulesets.act(connection, one.hash, "rollback", actor=by["cyd"], reason="x")
    assert back.forecast == {"amount_limit": 2_000}


# ---- rules paused by one person ----


@one_backend
async def test_a_rule_is_paused_in_the_versions_in_force(connection: bridge.Connection) -> None:
    await begin(connection)
    by = await people(connection)
    made = await approved(connection, by, 20_000, version=2)
    await rulesets.act(connection, made.hash, "canary", actor=by["cyd"], reason="", percent=9)
    before = await revision(connection)
    paused = await rulesets.pause_rule(connection, "amount_limit", actor="dan", reason="too many")
    assert sorted(each.rule_version for each in paused) == [1, 2]
    assert await rulesets.pauses(connection) == sorted(paused, key=lambda each: each.pause_id)
    assert await revision(connection) == before + 1
    with pytest.raises(ActRefused, match="paused already"):
        await rulesets.pause_rule(connection, "amount_limit", actor="ada", reason="too many")
    again = await rulesets.pause_rule(
        connection, "amount_limit", actor="switch", reason="x", automatic=True
    )
    assert again == []
    assert await revision(connection) == before + 1
    for unknown in ("no_such_rule", "6222021234567890128"):
        with pytest.raises(ActRefused, match="neither the live") as refused:
            await rulesets.pause_rule(connection, unknown, actor="dan", reason="why")
        assert "6222" not in str(refused.value)
    with pytest.raises(ActRefused, match="say why"):
        await rulesets.pause_rule(connection, "amount_limit", actor="dan", reason="")
    assert await rulesets.lift_pause(connection, "amount_limit", actor="ada", reason="ok") == [1, 2]
    assert await rulesets.pauses(connection) == []
    with pytest.raises(ActRefused, match="not paused"):
        await rulesets.lift_pause(connection, "amount_limit", actor="ada", reason="ok")
    events = await rulesets.trail(connection, subject="rule amount_limit")
    assert [(event.act, event.actor) for event in events] == [
        ("lift_pause", "ada"),
        ("pause_rule", "dan"),
    ]


@one_backend
async def test_an_act_that_waits_for_another_ends(
    database: str, connection: bridge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switch.ledger.rules_trail.LOCK_WAIT", "50ms")
    await begin(connection)
    by, made = await people(connection), await draft(connection, 20_000)
    forgotten = await bridge.connect(database)
    await forgotten.execute("begin")
    await forgotten.fetch("select ledger.rules_changed()")
    with pytest.raises(rulesets.RulesBusy, match="try again"):
        await rulesets.act(connection, made.hash, "shadow", actor=by["ada"], reason="")
    await forgotten.execute("rollback")
    await rulesets.act(connection, made.hash, "shadow", actor=by["ada"], reason="")
    forgotten.terminate()
