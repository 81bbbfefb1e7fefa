"""Rulesets in a real ledger: written once, approved by somebody else, and found again."""

from __future__ import annotations

import anyio
import asyncpg
import pytest

from risk.findings import RulesetError
from risk.read import read_ruleset
from risk.ruleset import ruleset_hash
from switch.ledger import bridge, rulesets
from switch.ledger.rulesets import ActRefused, Refusal, RulesetUnknown, RulesetView
from tests.switch.ledger.rulesets_staged import (
    approved,
    begin,
    draft,
    people,
    ruleset_of,
    source_of,
)

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])
UNKNOWN = "f" * 64


async def live(connection: bridge.Connection) -> str:
    return (await rulesets.found(connection, "live")).hash


async def revision(connection: bridge.Connection) -> int:
    value: int = await connection.fetchval("select revision from ledger.rules_head")
    return value


async def test_a_ledger_begins_with_one_ruleset_whoever_starts(
    database: str, ledger_loop: None
) -> None:
    begun: list[str | None] = []

    async def start() -> None:
        connection = await bridge.connect(database)
        ruleset = ruleset_of(10_000)
        begun.append(await rulesets.bootstrap(connection, ruleset, source_of(10_000), 1))
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(start)
    assert sorted(begun, key=lambda hash: hash or "~") == [
        ruleset_hash(ruleset_of(10_000)),
        None,
        None,
        None,
    ]
    connection = await bridge.connect(database)
    (view,) = await rulesets.listed(connection)
    assert (view.state, view.was_live, view.authors) == ("live", True, ("init",))
    (event,) = await rulesets.trail(connection)
    assert (event.act, event.actor, event.revision) == ("bootstrap", "init", 1)
    connection.terminate()


async def test_what_a_reference_means(connection: bridge.Connection) -> None:
    first = await begin(connection)
    for reference in (first, first[:6], first[:40], "live"):
        assert (await rulesets.found(connection, reference)).hash == first
    for reference in ("canary", "", first[:5], UNKNOWN, "LIVE", "x" * 64, "%", first + "0"):
        with pytest.raises(RulesetUnknown, match=r"[;]"):
            await rulesets.found(connection, reference)
    with pytest.raises(RulesetUnknown):
        await rulesets.text(connection, UNKNOWN)


# ---- four eyes ----


async def test_an_author_cannot_approve_in_the_application_or_in_sql(
    connection: bridge.Connection,
) -> None:
    await begin(connection)
    by = await people(connection)
    made = await draft(connection, 20_000, "ben")
    await rulesets.act(connection, made.hash, "submit", actor=by["ben"], reason="")
    with pytest.raises(ActRefused, match="ben wrote ruleset") as refused:
        await rulesets.act(connection, made.hash, "approve", actor=by["ben"], reason="")
    assert refused.value.refusal is Refusal.OWN_WORK
    with pytest.raises(asyncpg.RestrictViolationError, match="ben wrote ruleset"):
        await connection.fetch(
            "insert into ledger.ruleset_approval (hash, approver, reason) values ($1, 'ben', '')",
            made.hash,
        )
    assert (await rulesets.found(connection, made.hash)).state == "submitted"


async def test_the_work_of_two_is_approved_by_a_third(connection: bridge.Connection) -> None:
    first, by = await begin(connection), await people(connection)
    one = await draft(connection, 20_000, "ben")
    two = await draft(connection, 30_000, "ada", parent=one.hash)
    assert two.authors == ("ada", "ben")
    await rulesets.act(connection, two.hash, "submit", actor=by["ada"], reason="")
    with pytest.raises(ActRefused, match="ben wrote"):
        await rulesets.act(connection, two.hash, "approve", actor=by["ben"], reason="")
    await rulesets.act(connection, two.hash, "approve", actor=by["cyd"], reason="")
    # an approval may be taken back, with what was made from it in the meantime
    three = await draft(connection, 40_000, "ada", parent=two.hash)
    assert three.authors == ("ada", "ben")
    await rulesets.act(connection, two.hash, "reject", actor=by["cyd"], reason="too early")
    assert (await rulesets.found(connection, two.hash)).approvers == ()
    four = await draft(connection, 50_000, "ada", parent=two.hash)
    assert four.authors == ("ada", "ben")
    # what has decided was checked: its authors do not count for what is made from it
    await rulesets.act(connection, two.hash, "submit", actor=by["ada"], reason="")
    await rulesets.act(connection, two.hash, "approve", actor=by["cyd"], reason="")
    await rulesets.act(connection, two.hash, "promote", actor=by["cyd"], reason="")
    five = await draft(connection, 60_000, "ada", parent=two.hash)
    assert five.authors == ("ada",)
    assert (await rulesets.found(connection, first)).authors == ("init",)


async def test_whoever_writes_the_same_is_an_author_too(connection: bridge.Connection) -> None:
    await begin(connection)
    by = await people(connection)
    made = await draft(connection, 20_000, "ada")
    assert (await draft(connection, 20_000, "ben")).authors == ("ada", "ben")
    assert (await draft(connection, 20_000, "ben")) == await rulesets.found(connection, made.hash)
    await rulesets.act(connection, made.hash, "submit", actor=by["ada"], reason="")
    with pytest.raises(ActRefused, match="ben wrote"):
        await rulesets.act(connection, made.hash, "approve", actor=by["ben"], reason="")
    await rulesets.act(connection, made.hash, "approve", actor=by["cyd"], reason="")
    # an approver who writes it afterwards does not become an author of what they approved
    assert (await draft(connection, 20_000, "cyd")).authors == ("ada", "ben")
    with pytest.raises(asyncpg.RestrictViolationError, match="cyd approved"):
        await connection.fetch(
            "insert into ledger.ruleset_author (hash, author) values ($1, 'cyd')", made.hash
        )
    acts = [event.act for event in await rulesets.trail(connection, subject=made.hash)]
    assert acts == ["approve", "submit", "co_author", "write"]


STATEMENTS = [
    ("update ledger.ruleset set canonical = 'x'", "never changes"),
    ("update ledger.ruleset set title = 'x'", "never changes"),
    ("delete from ledger.ruleset", "never changes"),
    ("delete from ledger.ruleset_author", "append-only"),
    ("update ledger.ruleset_approval set approver = 'eve'", "append-only"),
    ("delete from ledger.rules_event", "append-only"),
    ("update ledger.rules_event set actor = 'eve'", "append-only"),
    ("update ledger.ruleset set state = 'live' where state = 'draft'", "does not move"),
    ("update ledger.ruleset set state = 'approved' where state = 'submitted'", "not approved"),
    ("update ledger.ruleset set state = 'live' where state = 'paused'", "never live"),
    (
        "insert into ledger.ruleset (hash, canonical, source, title, state) "
        "values (repeat('0', 64), '', '', '', 'approved')",
        "begins as a draft",
    ),
    (
        "insert into ledger.ruleset (hash, canonical, source, title, state, was_live) "
        "values (repeat('0', 64), '', '', '', 'paused', true)",
        "begins as a draft",
    ),
    ("update ledger.ruleset set was_live = true where state = 'paused'", "at no other time"),
    (
        "insert into ledger.ruleset (hash, canonical, source, title) "
        "values (repeat('0', 64), '', '', ''); "
        "insert into ledger.ruleset_approval (hash, approver, reason) "
        "values (repeat('0', 64), 'eve', '')",
        "nobody wrote",
    ),
]


async def test_what_sql_refuses_whoever_asks(connection: bridge.Connection) -> None:
    await begin(connection)
    by = await people(connection)
    await approved(connection, by, 20_000)
    await draft(connection, 30_000)
    submitted = await draft(connection, 40_000)
    await rulesets.act(connection, submitted.hash, "submit", actor=by["ada"], reason="")
    paused = await draft(connection, 50_000)
    await rulesets.act(connection, paused.hash, "pause", actor=by["dan"], reason="not now")
    for statement, sentence in STATEMENTS:
        with pytest.raises(asyncpg.RestrictViolationError, match=sentence):
            await connection.execute(statement)
    await connection.execute(
        "insert into ledger.ruleset_approval (hash, approver, reason, approved_at) "
        f"values ('{submitted.hash}', 'cyd', 'for later', 'infinity')"
    )
    with pytest.raises(asyncpg.RestrictViolationError, match="not approved"):
        await connection.execute(
            f"update ledger.ruleset set state = 'approved' where hash = '{submitted.hash}'"
        )


# ---- what is not taken ----


async def test_an_unsound_ruleset_is_refused_with_every_finding(
    connection: bridge.Connection,
) -> None:
    await begin(connection)
    source = source_of(20_000).replace('"amount"', '"weight"').replace('"00:00"', '"04:00"')
    source += "\n" + source_of(1).partition("[[rules]]")[1] + source_of(1).partition("[[rules]]")[2]
    ruleset, _ = read_ruleset(source)
    assert ruleset is not None
    with pytest.raises(RulesetError) as refused:
        await rulesets.add(
            connection, ruleset=ruleset, source=source, title="x", parent=None, actor="ada"
        )
    assert {finding.path for finding in refused.value.findings} >= {
        "rules[0].when.fact",
        "rules[1].id",
    }
    assert len(await rulesets.listed(connection)) == 1


@pytest.mark.parametrize(
    ("title", "comment"),
    [("", ""), ("x" * 121, ""), ("of 6222021234567890128", ""), ("x", "# 6222021234567890128")],
)
async def test_no_long_number_comes_in_by_the_way(
    connection: bridge.Connection, title: str, comment: str
) -> None:
    await begin(connection)
    with pytest.raises(RulesetError) as refused:
        await rulesets.add(
            connection,
            ruleset=ruleset_of(1),
            source=source_of(1) + comment,
            title=title,
            parent=None,
            actor="ada",
        )
    assert "6222" not in str(refused.value)
    assert "comment of line" in str(refused.value) or "title" in str(refused.value)


async def test_a_list_of_the_ledger_is_known_and_keeps_its_fact(
    connection: bridge.Connection,
) -> None:
    await begin(connection)
    source = source_of(20_000).replace(
        'when = { fact = "amount", op = "gt", value = 20000 }',
        'when = { fact = "merchant", op = "in_list", list = "bad_shops" }',
    )
    ruleset, _ = read_ruleset(source)
    assert ruleset is not None

    async def add() -> RulesetView:
        return await rulesets.add(
            connection, ruleset=ruleset, source=source, title="x", parent=None, actor="ada"
        )

    with pytest.raises(RulesetError):
        await add()
    await connection.execute(
        "insert into ledger.rule_list (name, field, created_by) "
        "values ('bad_shops', 'merchant', 'test')"
    )
    assert (await add()).state == "draft"


async def test_a_parent_must_be_there(connection: bridge.Connection) -> None:
    await begin(connection)
    with pytest.raises(RulesetUnknown):
        await draft(connection, 20_000, parent=UNKNOWN)


async def test_the_trail_is_read_in_pages(connection: bridge.Connection) -> None:
    await begin(connection)
    for number in range(5):
        await draft(connection, 20_000 + number)
    whole = await rulesets.trail(connection)
    assert [event.event_id for event in whole] == sorted(
        (event.event_id for event in whole), reverse=True
    )
    first = await rulesets.trail(connection, count_max=4)
    rest = await rulesets.trail(connection, before=first[-1].event_id)
    assert [*first, *rest] == whole


async def test_nobody_becomes_author_and_approver_at_the_same_time(
    database: str, connection: bridge.Connection
) -> None:
    await begin(connection)
    by, made = await people(connection), await draft(connection, 20_000)
    await rulesets.act(connection, made.hash, "submit", actor=by["ada"], reason="")
    other = await bridge.connect(database)
    watcher = await bridge.connect(database)
    refused: list[str] = []

    async def approve() -> None:
        try:
            await other.fetch(
                "insert into ledger.ruleset_approval (hash, approver, reason) "
                "values ($1, 'cyd', '')",
                made.hash,
            )
        except asyncpg.RestrictViolationError as error:
            refused.append(str(error))

    await connection.execute("begin")
    await connection.fetch("insert into ledger.ruleset_author values ($1, 'cyd')", made.hash)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(approve)
        with anyio.fail_after(20):
            waiting = 0
            while not waiting:  # each look is a round trip
                waiting = await watcher.fetchval(
                    "select count(*) from pg_stat_activity "
                    "where datname = current_database() and wait_event_type = 'Lock'"
                )
        await connection.execute("commit")
    assert refused
    assert refused[0].startswith("cyd wrote ruleset")
    for each in (other, watcher):
        each.terminate()
