"""The book of forwards on a real ledger: what may be written when, and who sends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from switch.ledger import bridge
from switch.ledger.forwarding import (
    TURNS,
    ForwardState,
    ForwardStore,
    Intent,
    Opening,
    ReversalIntent,
    Turn,
)

HOUR_US = 3_600_000_000
KEY = bytes(15) + b"\x01"
AT = "0102030405"


def intent(key: bytes = KEY, **changes: Any) -> Intent:
    made = Intent(
        shard=1, key=key, upstream="city-b", payload_hash=b"payload1", stan="000001",
        transmitted_at=AT, amount_minor=1_800, request=b"sealed", remaining_us=HOUR_US,
        sendable=True, again=False, original_key=b"",
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def reversal(key: bytes, original_key: bytes, *, partial: bool = False) -> ReversalIntent:
    return ReversalIntent(
        shard=0, key=key, upstream="city-b", payload_hash=b"payload2", stan="000009",
        transmitted_at=AT, amount_minor=1_800, request=b"sealed", original_key=original_key,
        partial=partial,
    )  # fmt: skip


@pytest.fixture
async def book(database: str, ledger_loop: None) -> AsyncIterator[ForwardStore]:
    store = await ForwardStore.open_book(database, 10)
    yield store
    store.terminate()


async def states(connection: bridge.Connection) -> dict[bytes, str]:
    rows = await connection.fetch("select key, state from ledger.forwarded")
    return {row["key"]: row["state"] for row in rows}


async def put(connection: bridge.Connection, state: ForwardState) -> None:
    await connection.execute(
        "update ledger.forwarded set state = $1, reversing_since = now(), next_try_at = now()",
        state.value,
    )


async def test_a_key_is_written_once(book):
    assert await book.open([intent()]) == [Opening(True, None, False, 1)]
    again, other, unknown = await book.open(
        [intent(), intent(payload_hash=b"payload9"), intent(bytes(16), sendable=False)]
    )
    assert again == Opening(False, ForwardState.SENT, True, 1)
    assert not other.same
    assert unknown == Opening(False, None, False, 1)


async def test_what_is_about_another_belongs_where_that_one_is(book):
    await book.open([intent(shard=3, stan="000777")])
    (opening,) = await book.open([intent(bytes(16), shard=0, original_key=KEY)])
    assert (opening.shard, opening.original_stan) == (3, "000777")
    assert await book.reverse([reversal(b"r" * 16, KEY)]) == [3]


@pytest.mark.parametrize("before", ForwardState)
@pytest.mark.parametrize("wanted", sorted(TURNS))
async def test_only_the_turns_of_the_table_are_made(book, connection, before, wanted):
    await book.open([intent()])
    await put(connection, before)
    await book.turn([Turn(1, KEY, wanted)])
    turned = before in TURNS[wanted]
    assert await states(connection) == {KEY: wanted if turned else before}


@pytest.mark.parametrize("before", ForwardState)
@pytest.mark.parametrize("partial", [True, False])
async def test_an_acquirers_reversal(book, connection, before, partial):
    await book.open([intent()])
    await put(connection, before)
    own = b"r" * 16
    await book.reverse([reversal(own, KEY, partial=partial)])
    await book.reverse([reversal(own, KEY, partial=partial)])
    stands = before in (ForwardState.SENT, ForwardState.APPROVED)
    expected = {KEY: "reversing" if stands and not partial else before.value}
    if stands and partial:
        expected[own] = "reversing"
    assert await states(connection) == expected


async def test_a_reversal_does_not_overtake_its_original(book):
    await book.open([intent()])
    await book.reverse([reversal(b"r" * 16, KEY)])
    assert await book.due("city-b", 8, 1, 300, AT) == []


async def test_tries_keep_their_numbers_and_back_off(book, connection):
    await book.open([intent()])
    await book.turn([Turn(1, KEY, ForwardState.REVERSING)])
    seen = []
    for tries, seconds in ((1, 2), (2, 4), (3, 5), (4, 5)):
        (due,) = await book.due("city-b", 8, 2, 5, f"010203040{tries}")
        seen.append((due.reversal_stan, due.reversal_transmitted_at))
        assert (due.tries, due.stan) == (tries, "000001")
        assert await book.due("city-b", 8, 2, 5, AT) == []
        wait = await connection.fetchval(
            "select extract(epoch from next_try_at - updated_at)::integer from ledger.forwarded"
        )
        assert wait == seconds
        await connection.execute("update ledger.forwarded set next_try_at = now()")
    assert set(seen) == {(seen[0][0], "0102030401")}


async def test_orphans_are_leased_to_one(book, database):
    other = await ForwardStore.open_book(database, 10)
    await book.open([intent(remaining_us=0), intent(bytes(16))])
    (orphan,) = await book.orphans(["city-b"], 0, HOUR_US, 10)
    assert (orphan.key, orphan.stands) == (KEY, False)
    assert await other.orphans(["city-b"], 0, HOUR_US, 10) == []
    other.terminate()


async def test_one_connection_leads(book, database):
    other = await ForwardStore.open_book(database, 10)
    assert await book.lead("city-b")
    assert not await other.lead("city-b")
    assert await other.lead("city-c")
    await book.stop_leading("city-b")
    assert await other.lead("city-b")
    other.terminate()


async def test_stans_are_drawn_once(book, database):
    other = await ForwardStore.open_book(database, 10)
    drawn = await book.draw_stans(50) + await other.draw_stans(50)
    assert len(set(drawn)) == 100
    assert all(len(stan) == 6 and stan.isdigit() for stan in drawn)
    other.terminate()


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(book, connection):
    await book.open([intent(bytes([n]) * 16) for n in range(len(ForwardState))])
    for number, state in enumerate(ForwardState):
        await connection.execute(
            "update ledger.forwarded set state = $1, updated_at = now() - interval '50 days', "
            "reversing_since = now(), next_try_at = now() where key = $2",
            state.value,
            bytes([number]) * 16,
        )
    await book.forget(40, 100)
    assert set((await states(connection)).values()) == {"sent", "reversing"}
    (queue,) = await book.queues()
    assert (queue.upstream, queue.depth) == ("city-b", 1)
