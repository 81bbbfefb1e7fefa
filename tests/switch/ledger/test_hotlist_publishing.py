"""The hotlist's entries and versions, in a real ledger: what readers get is proven first."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import asyncpg
import pytest

from protocols.tap import hotlist as reader
from switch.ledger import bridge, hotlist_entries, hotlist_publishing
from switch.ledger.audit import audit
from switch.ledger.hotlist_publishing import (
    CHANGES_KEPT,
    FREE_ENTRIES,
    VERSIONS_KEPT,
    HotlistJumps,
    HotlistUnproven,
    proven_octets,
    publish,
)

BY = {"reason": "stolen", "author": "desk"}
SIZES = [*range(66), 255, 256, 257, 4095, 4096, 4097]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One is enough under the wire; what follows versions is tested on both."""
    return "asyncio"


@pytest.mark.parametrize("step", [1, 7])
def test_each_size_comes_out_of_the_readers_code_as_it_went_in(step: int) -> None:
    mediums = [secrets.token_bytes(16) for _ in range(SIZES[-1] + step)]
    for version, size in enumerate(SIZES[1:], 2):
        # `step` entries leave and, but for the size's own growth, as many come
        before = {version - 1: mediums[step : step + SIZES[version - 2]]}
        made = proven_octets(version, mediums[:size], before)
        assert list(made) == [0, version - 1]
        assert reader.read_list(made[0]).count == size


@pytest.mark.parametrize("spoilt", [0, 1])
def test_what_readers_would_read_otherwise_is_not_published(
    monkeypatch: pytest.MonkeyPatch, spoilt: int
) -> None:
    mediums = sorted(secrets.token_bytes(16) for _ in range(3))
    if spoilt:
        # a reader that loses the last entry of lists of two: the fault of domain §11.3
        read_list = reader.read_list

        def short(octets: bytes) -> reader.HotlistFile:
            file = read_list(octets)
            cut = file.added[:-16] if file.count == 3 else file.added
            return reader.HotlistFile(file.version, file.from_version, cut, file.removed)

        monkeypatch.setattr(reader, "read_list", short)
    else:
        monkeypatch.setattr(reader, "apply", lambda old, change: old)
    with pytest.raises(HotlistUnproven, match="version 2 does not come out"):
        proven_octets(2, mediums, {1: mediums[:2]})


async def octets_of(connection: bridge.Connection, version: int) -> dict[int, bytes]:
    rows = await connection.fetch(
        "select from_version, octets from ledger.hotlist_octets where version = $1", version
    )
    return {row["from_version"]: row["octets"] for row in rows}


async def mediums(connection: bridge.Connection, *cards: Any) -> list[bytes]:
    rows = await connection.fetch(
        "select medium from ledger.medium where card_id = any ($1::bigint[]) order by medium",
        [card.card_id for card in cards],
    )
    return [row["medium"] for row in rows]


async def marked(connection: bridge.Connection) -> set[int]:
    rows = await connection.fetch("select card_id from ledger.card where hotlisted")
    return {row["card_id"] for row in rows}


async def test_a_card_is_marked_at_once_and_on_the_list_with_the_next_version(books: Any) -> None:
    connection = books.connection
    first, second, third = await books.issue(3)
    before = await connection.fetchval(
        "select version from ledger.account where account_id = $1", first.account_id
    )
    ids = [first.card_id, second.card_id]
    assert await hotlist_entries.add(connection, ids, **BY) == ids
    assert await hotlist_entries.add(connection, [*ids, third.card_id], **BY) == [third.card_id]
    assert await marked(connection) == {*ids, third.card_id}
    assert before + 1 == await connection.fetchval(
        "select version from ledger.account where account_id = $1", first.account_id
    )
    assert (await hotlist_entries.counts(connection)).to_add == 3

    version = await publish(connection, "desk")
    assert version is not None
    assert (version.version, version.entries, version.added, version.removed) == (1, 3, 3, 0)
    assert await publish(connection, "desk") is None, "nothing new, no new version"
    listed = reader.read_list((await octets_of(connection, 1))[0])
    assert listed.added == b"".join(await mediums(connection, first, second, third))

    assert await hotlist_entries.remove(connection, ids[:1], **BY) == ids[:1]
    assert await hotlist_entries.remove(connection, ids[:1], **BY) == []
    assert await marked(connection) == {second.card_id, third.card_id}
    version = await publish(connection, "desk")
    assert version is not None
    made = await octets_of(connection, 2)
    after = reader.apply(listed, reader.read_list(made[1]))
    assert reader.whole_bytes(after) == made[0]
    assert reader.digest_of(made[0]) == version.digest
    assert not after.lists((await mediums(connection, first))[0])
    assert await hotlist_publishing.check(connection) == []
    views = {each.card_id: each for each in await hotlist_entries.standing(connection)}
    assert {card: view.version for card, view in views.items()} == {
        second.card_id: 1, third.card_id: 1,
    }  # fmt: skip
    assert (views[second.card_id].last4, views[second.card_id].author) == (second.last4, "desk")
    assert (await audit(connection)).clean


async def test_sizes_of_a_list_in_the_ledger(books: Any) -> None:
    connection = books.connection
    cards = await books.issue(258)
    for size in (0, 1, 2, 64, 255, 256, 257):
        ids = [card.card_id for card in cards[:size]]
        if ids:
            await hotlist_entries.add(connection, ids, **BY)
        version = await publish(connection, "desk", force=True)
        assert version is not None
        made = await octets_of(connection, version.version)
        assert reader.read_list(made[0]).count == version.entries == size
        assert len(made) == 1 + min(version.version - 1, CHANGES_KEPT)
    kept = await connection.fetch("select distinct version from ledger.hotlist_octets")
    assert len(kept) == VERSIONS_KEPT
    assert len(await hotlist_publishing.versions(connection)) == 7
    assert await hotlist_publishing.check(connection) == []


async def test_a_version_that_changes_too_much_wants_a_word(books: Any) -> None:
    connection = books.connection
    cards = [card.card_id for card in await books.issue(2 * FREE_ENTRIES)]
    await publish(connection, "desk")
    await hotlist_entries.add(connection, cards, **BY)
    with pytest.raises(HotlistJumps, match="would add 200 and take away 0 of 0 entries"):
        await publish(connection, "desk")
    assert (await hotlist_entries.counts(connection)).to_add == len(cards), "nothing published"
    await publish(connection, "desk", force=True)
    await hotlist_entries.remove(connection, cards[: FREE_ENTRIES + 1], **BY)
    with pytest.raises(HotlistJumps, match="take away 101 of 200"):
        await publish(connection, "desk", share_percent_max=50)
    version = await publish(connection, "desk", share_percent_max=51)
    assert version is not None
    assert (version.version, version.entries) == (3, FREE_ENTRIES - 1)


async def test_an_entry_falls_out_when_its_time_is_over(books: Any) -> None:
    connection = books.connection
    first, second = await books.issue(2)
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    await hotlist_entries.add(connection, [second.card_id], **BY, expires_at=later)
    await publish(connection, "desk")
    assert await hotlist_publishing.publish_expired(connection) is None
    await hotlist_entries.add(
        connection, [first.card_id], **BY, expires_at=now - timedelta(seconds=1)
    )
    version = await hotlist_publishing.publish_expired(connection)
    assert version is None, "it never was on a published list"
    assert await marked(connection) == {second.card_id}
    await connection.execute("update ledger.hotlist_entry set expires_at = now()")
    version = await hotlist_publishing.publish_expired(connection)
    assert version is not None
    assert (version.version, version.entries, version.author) == (2, 0, "expiry")
    assert await marked(connection) == set()
    assert (await audit(connection)).clean


async def test_a_failed_proof_leaves_everything_as_it_was(books: Any) -> None:
    connection = books.connection
    (card,) = await books.issue(1)
    await publish(connection, "desk")
    await hotlist_entries.add(connection, [card.card_id], **BY)

    def refuse(version: int, *_: object) -> dict[int, bytes]:
        raise HotlistUnproven(version)

    with pytest.raises(HotlistUnproven):
        await publish(connection, "desk", prove=refuse)
    newest = await hotlist_publishing.newest_version(connection)
    assert newest is not None
    assert newest.version == 1
    assert (await hotlist_entries.counts(connection)).to_add == 1


async def test_publishers_take_turns(books: Any, database: str) -> None:
    cards = [card.card_id for card in await books.issue(8)]

    async def one(card_id: int) -> None:
        connection = await bridge.connect(database)
        await hotlist_entries.add(connection, [card_id], **BY)
        await publish(connection, "desk")
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for card_id in cards:
            tasks.start_soon(one, card_id)
    found = await hotlist_publishing.versions(books.connection)
    assert [each.version for each in found] == [*range(len(found), 0, -1)]
    assert found[0].entries == len(cards)
    assert await hotlist_publishing.check(books.connection) == []


async def test_a_check_finds_bytes_that_are_not_the_entries(books: Any) -> None:
    connection = books.connection
    assert [f.sentence for f in await hotlist_publishing.check(connection)] == [
        "no version was published yet; publish one"
    ]
    (card,) = await books.issue(1)
    await publish(connection, "desk")
    await hotlist_entries.add(connection, [card.card_id], **BY)
    await publish(connection, "desk")
    await connection.execute("update ledger.hotlist_octets set octets = 'x' where version = 2")
    assert [f.sentence for f in await hotlist_publishing.check(connection)] == [
        "the whole list of version 2 is stored otherwise",
        "the change from 1 of version 2 is stored otherwise",
    ]


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger.hotlist_version set entries = 7",
        "delete from ledger.hotlist_acknowledged",
    ],
)
async def test_versions_and_acknowledgements_are_never_changed(books: Any, statement: str) -> None:
    version = await publish(books.connection, "desk")
    assert version is not None
    await books.connection.execute(
        "insert into ledger.hotlist_acknowledged (acquirer, version, digest) "
        "select 'metro', version, digest from ledger.hotlist_version"
    )
    with pytest.raises(asyncpg.RestrictViolationError):
        await books.connection.execute(statement)


async def test_the_audit_finds_what_was_approved_while_the_card_was_listed(books: Any) -> None:
    connection = books.connection
    (card,) = await books.issue(1)
    await books.posted(books.load(card, 900), books.purchase(card, 10))
    await hotlist_entries.add(connection, [card.card_id], **BY)
    assert (await audit(connection)).clean, "what came before it is sound"
    await books.posted(books.purchase(card, 10))
    assert (await audit(connection)).clean, "without rules it was a stand-in sale"
    await connection.execute("alter table ledger.authorization disable trigger user")
    await connection.execute(
        "update ledger.authorization set rule_results = '{}' where kind <> 'offline_sale'"
    )
    report = {check.name: check for check in (await audit(connection)).checks}
    assert report["hotlist"].findings == 1
    assert f"while card {card.card_id} was on the hotlist" in report["hotlist"].first[0]
    await hotlist_entries.remove(connection, [card.card_id], **BY)
    await connection.execute(
        "update ledger.card set hotlisted = true where card_id = $1", card.card_id
    )
    report = {check.name: check for check in (await audit(connection)).checks}
    assert report["hotlist"].findings == 1, "it still was when it was approved"
    assert report["hotlist_marks"].first == [
        f"card {card.card_id} is not on the hotlist, and its mark says otherwise"
    ]
