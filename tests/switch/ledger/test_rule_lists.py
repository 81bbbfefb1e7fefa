"""Lists of rules in the ledger: entries, when they are in force, and what may not be on one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs, numbered_card
from risk.check import first_ruleset
from risk.lists import TAKES_EFFECT_US, ListBook
from switch.ledger import bridge, list_acts, rule_lists, rules_trail, rulesets
from switch.ledger.cards import NewCard, issue, medium_of
from switch.ledger.list_acts import ActRejected, ActTooSlow, takes_effect_us
from switch.ledger.listed_cards import known_values, listed_values
from switch.ledger.rule_list_values import valid_value
from switch.ledger.rule_lists import FIELDS, ListUnknown, NewEntry

NOW_US = 1_774_929_600_000_000
HOUR_US = 3_600_000_000
KEY = b"a key of thirty-two bytes, tests"
WHO: dict[str, Any] = {"reason": "seen at the gate", "author": "ann"}


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may be slow here: no worker listens."""
    monkeypatch.setattr(list_acts, "WRITTEN_WITHIN_PERCENT", 10**6)


@pytest.fixture
async def groups(connection: bridge.Connection) -> bridge.Connection:
    """A ledger with an empty list of cards, `groups`."""
    await rule_lists.create(connection, "groups", "card_id", title="school classes", author="ann")
    return connection


async def book_of(connection: bridge.Connection) -> ListBook:
    book = ListBook()
    for name, field in (await rule_lists.book_fields(connection)).items():
        book.declare(name, field)
    for row in await rule_lists.book_rows(connection):
        book.put(row.list, row.value, row.from_us, row.until_us)
    return book


async def test_an_entry_is_in_force_from_soon_until_soon_after_it_is_removed(
    groups: bridge.Connection,
) -> None:
    added = await rule_lists.add_entries(
        groups, "groups", "card_id", ["1000001", "1000002"], now_us=NOW_US, **WHO
    )
    assert added == 2
    begins_us = takes_effect_us(NOW_US, 2)
    assert begins_us >= NOW_US + TAKES_EFFECT_US
    later_us = NOW_US + HOUR_US
    removed = await rule_lists.remove_entries(
        groups, "groups", ["1000002", "77"], reason="left the school", author="bob", now_us=later_us
    )
    assert removed == (1, ())
    ends_us = takes_effect_us(later_us, 2)

    on = (await book_of(groups)).lookup("groups")
    assert [on(1000002, at) for at in (begins_us - 1, begins_us, ends_us - 1, ends_us)] == [
        False, True, True, False,
    ]  # fmt: skip
    assert on(1000001, ends_us + HOUR_US)
    standing = await rule_lists.entries(groups, "groups", standing_at_us=ends_us)
    assert [(each.value, each.until_us) for each in standing] == [("1000001", None)]
    ended = (await rule_lists.entries(groups, "groups", standing_at_us=None))[0]
    assert (ended.value, ended.until_us, ended.removed_by, ended.removed_reason) == (
        "1000002", ends_us, "bob", "left the school",
    )  # fmt: skip
    kept = await rule_lists.book_rows(groups, until_after_us=ends_us)
    assert [row.value for row in kept] == [1000001]


async def test_what_stands_already_is_not_written_again_and_longer_is(
    groups: bridge.Connection,
) -> None:
    async def add(until_us: int | None, now_us: int = NOW_US) -> int:
        return await rule_lists.add_entries(
            groups, "groups", "", ["5", "5", " 5 "], until_us=until_us, now_us=now_us, **WHO
        )

    assert await add(NOW_US + HOUR_US) == 1
    assert await add(NOW_US + HOUR_US) == 0
    assert await add(None) == 1
    assert await add(NOW_US + HOUR_US, NOW_US + 1) == 0
    assert len(await rule_lists.entries(groups, "groups", standing_at_us=None)) == 2


async def test_removing_what_begins_later_leaves_it_never_in_force(
    groups: bridge.Connection,
) -> None:
    begins_us = NOW_US + 2 * HOUR_US
    await rule_lists.add_entries(
        groups, "groups", "", ["9"], from_us=begins_us, now_us=NOW_US, **WHO
    )
    await rule_lists.remove_entries(groups, "groups", ["9"], now_us=NOW_US, **WHO)
    (entry,) = await rule_lists.entries(groups, "groups", standing_at_us=None)
    assert (entry.from_us, entry.until_us) == (begins_us, begins_us)


async def test_the_trail_tells_each_act_once(groups: bridge.Connection) -> None:
    await rule_lists.add_entries(groups, "groups", "", ["1", "2"], now_us=NOW_US, **WHO)
    many = [NewEntry(str(number), "from the file") for number in range(1, 31)]
    imported = await rule_lists.import_entries(
        groups, "groups", many, digest="ab" * 32, author="ann", now_us=NOW_US + 1
    )
    assert imported == 28
    await rule_lists.remove_entries(groups, "groups", ["1"], now_us=NOW_US, **WHO)
    trail = await rules_trail.trail(groups, subject="list groups")
    assert [event.act for event in trail] == ["list_remove", "list_import", "list_add", "list_new"]
    assert trail[1].detail == {"given": 30, "added": 28, "sha256": "ab" * 32}
    assert trail[2].detail == {"given": 2, "added": 2, "values": ["1", "2"]}
    revisions = [event.revision for event in trail]
    head = await groups.fetchval("select revision from ledger.rules_head")
    assert revisions == sorted(set(revisions), reverse=True)
    assert revisions[0] == head


REFUSED: list[tuple[Callable[[bridge.Connection], Any], str]] = [
    (lambda c: rule_lists.create(c, "groups", "card_id", author="ann"), "already"),
    (lambda c: rule_lists.create(c, "Groups", "card_id", author="ann"), "name"),
    (lambda c: rule_lists.create(c, "lines", "colour", author="ann"), "field"),
    (lambda c: added(c, "others"), "no list of this name"),
    (lambda c: added(c, field="medium"), "never changes"),
    (lambda c: added(c, value="621299000000000007"), "card id of at most 11 digits"),
    (lambda c: added(c, value=""), "card id"),
    (lambda c: added(c, reason=" "), "1 to 120"),
    (lambda c: added(c, reason="card 6212 9900 0000 0007"), "long number"),
    (lambda c: added(c, author=""), "author"),
    (lambda c: added(c, until_us=NOW_US + TAKES_EFFECT_US), "ends before it begins"),
    (lambda c: added(c, from_us=NOW_US + HOUR_US, until_us=NOW_US + HOUR_US), "before it"),
]


async def test_what_cannot_be_is_refused_whole(groups: bridge.Connection) -> None:
    before = await groups.fetchval("select revision from ledger.rules_head")
    for act, says in REFUSED:
        with pytest.raises(ActRejected, match=says) as refused:
            await act(groups)
        assert mask_digit_runs(str(refused.value)) == str(refused.value)
    assert await rule_lists.entries(groups, "groups", standing_at_us=None) == []
    assert await groups.fetchval("select revision from ledger.rules_head") == before


async def added(
    connection: bridge.Connection, name: str = "groups", field: str = "", value: str = "1",
    **changed: Any,
) -> int:  # fmt: skip
    values = ["2", value]
    return await rule_lists.add_entries(
        connection, name, field, values, now_us=NOW_US, **(WHO | changed)
    )


async def test_what_was_written_too_slowly_to_be_known_in_time_is_undone(
    groups: bridge.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_acts, "WRITTEN_WITHIN_PERCENT", 0)
    with pytest.raises(ActTooSlow, match="try again"):
        await added(groups)
    assert await rule_lists.entries(groups, "groups", standing_at_us=None) == []


async def test_a_list_of_the_live_ruleset_is_begun_with_its_field(
    connection: bridge.Connection,
) -> None:
    ruleset = first_ruleset()
    await rulesets.bootstrap(connection, ruleset, "", NOW_US)
    declared = {named.name: named.field for named in ruleset.lists}
    assert {each.name: each.field for each in await rule_lists.lists(connection)} == declared
    name, field = next(iter(declared.items()))
    other = next(each for each in FIELDS if each != field)
    with pytest.raises(ActRejected, match=f"of field {field}"):
        await rule_lists.create(connection, name, other, author="ann")
    value = "ab" * 16 if field == "medium" else "1000001"
    assert await rule_lists.add_entries(connection, name, field, [value], now_us=NOW_US, **WHO) == 1
    view = next(each for each in await rule_lists.lists(connection) if each.name == name)
    assert (view.in_ruleset, view.created_by, view.field) == (True, "ann", field)


async def test_what_a_rule_listed_is_shown_and_ends_by_itself(
    groups: bridge.Connection,
) -> None:
    until_us = NOW_US + HOUR_US
    await groups.execute(
        "insert into ledger.listing values (1, 77, 'groups', '1000001', 'card_id', 'burst',"
        f" {NOW_US}, {until_us}, {NOW_US - TAKES_EFFECT_US})"
    )
    (entry,) = await rule_lists.entries(groups, "groups", standing_at_us=NOW_US)
    assert (entry.entry_id, entry.rule_id, entry.authorization_id) == (0, "burst", 77)
    removed = await rule_lists.remove_entries(groups, "groups", ["1000001"], now_us=NOW_US, **WHO)
    assert removed == (0, ("burst",))
    (listing,) = await rule_lists.listings_since(groups, 0)
    assert (listing.value, listing.until_us) == (1000001, until_us)
    assert await rule_lists.listings_since(groups, NOW_US) == []
    with pytest.raises(ListUnknown):
        await rule_lists.entries(groups, "nowhere", standing_at_us=None)


async def test_two_at_once_never_put_one_too_many_on_a_list(
    groups: bridge.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_lists, "LIST_ENTRIES_MAX", 5)
    others = [await bridge.connect(database) for _ in range(3)]
    outcomes: list[str] = []

    async def put(connection: bridge.Connection, first: int) -> None:
        values = [str(number) for number in range(first, first + 3)]
        try:
            made = await rule_lists.add_entries(
                connection, "groups", "", values, now_us=NOW_US, **WHO
            )
        except ActRejected as refused:
            outcomes.append(str(refused)[:20])
        else:
            outcomes.append(f"{made}")

    async with anyio.create_task_group() as tasks:
        for number, connection in enumerate(others):
            # the first two are about the same cards, the third is one too many
            tasks.start_soon(put, connection, 1 if number < 2 else 10)
    for connection in others:
        await connection.close()
    standing = await rule_lists.entries(groups, "groups", standing_at_us=None)
    assert len(standing) == 3
    assert sorted(outcomes) in (
        ["0", "3", "a list has at most 5"],
        ["3", "a list has at most 5", "a list has at most 5"],
    )


async def test_a_card_is_listed_by_id_number_or_medium(connection: bridge.Connection) -> None:
    card = numbered_card("621299", 8)
    (issued,) = await issue(connection, [NewCard(card)], shards=2, key=KEY, overdraft_minor=0)
    medium = medium_of(card, KEY).hex()
    given = [str(issued.card_id), card.reveal(), medium, "77", "no card", "1" * 25]

    async def named(field: str) -> list[tuple[str, ...]]:
        return await listed_values(connection, field, given, lambda: KEY)

    own = (str(issued.card_id),)
    assert await named("card_id") == [own, own, own, (), (), ()]
    assert await named("medium") == [(medium,), (medium,), (medium,), (), (), ()]
    assert await named("stop") == [(each,) for each in given]
    with pytest.raises(ActRejected, match=r"the 2\. given"):
        await known_values(connection, "card_id", [medium, "77"], lambda: KEY)


@given(field=st.sampled_from(FIELDS), value=st.text(max_size=140) | st.from_regex(r"[0-9 -]{9,24}"))
def test_no_card_number_gets_on_a_list(field: str, value: str) -> None:
    try:
        kept = valid_value(field, value)
    except ActRejected:
        return
    assert 1 <= len(kept) <= 128
    digits = [character if character.isdecimal() else " " for character in kept]
    longest = max((len(run) for run in "".join(digits).split()), default=0)
    assert field == "medium" or longest <= (15 if field == "merchant" else 12)
