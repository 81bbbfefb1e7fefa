"""Working keys of links in a real ledger."""

from __future__ import annotations

import anyio
import asyncpg
import pytest

from switch.ledger import bridge, link_keys
from switch.ledger.link_keys import EXCHANGES_MAX, WrappedKey

KEYS = [WrappedKey("mac", "D0016…", "AABBCC"), WrappedKey("pin", "D0016…", "DDEEFF")]


async def test_exchanges_are_numbered_over_all_links_and_read_newest_first(connection):
    assert await link_keys.newest(connection) == 0
    assert await link_keys.read(connection, ["a", "b"]) == []
    sequences = [await link_keys.append(connection, link, KEYS) for link in ("a", "b", "a")]
    assert sequences == [1, 2, 3]
    assert await link_keys.newest(connection) == 3
    rows = await link_keys.read(connection, ["a"])
    assert [(row.link, row.sequence, row.usage, row.kcv) for row in rows] == [
        ("a", 3, "mac", "AABBCC"), ("a", 3, "pin", "DDEEFF"),
        ("a", 1, "mac", "AABBCC"), ("a", 1, "pin", "DDEEFF"),
    ]  # fmt: skip
    assert 0 <= rows[0].age_seconds <= rows[-1].age_seconds < 60
    assert "D0016" not in repr(rows) + repr(KEYS)


async def test_no_more_exchanges_are_read_than_may_matter(connection):
    for _ in range(EXCHANGES_MAX + 2):
        newest = await link_keys.append(connection, "a", KEYS)
    read = {row.sequence for row in await link_keys.read(connection, ["a", "none"])}
    assert read == set(range(newest - EXCHANGES_MAX + 1, newest + 1))


async def test_exchanges_at_the_same_time_take_turns(database, ledger_loop):
    made: list[int] = []

    async def exchange() -> None:
        connection = await bridge.connect(database)
        for _ in range(5):
            made.append(await link_keys.append(connection, "a", KEYS))
        await connection.close()

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(exchange)
    assert sorted(made) == list(range(1, 16))


@pytest.mark.parametrize(
    "statement", ["update ledger.link_key set kcv = ''", "delete from ledger.link_key"]
)
async def test_keys_are_never_changed(connection, statement):
    await link_keys.append(connection, "a", KEYS)
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(statement)
