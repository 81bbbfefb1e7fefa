"""PIN references of cards in a real ledger."""

from __future__ import annotations

import pytest

from switch.ledger import cards
from switch.ledger.card_pin import reset_pin_tries, set_pin_reference
from switch.ledger.cards import CardNotFound


async def issued(connection):
    key = b"a key of thirty-two bytes, tests"
    new = [cards.NewCard(cards.CardNumber("6212340000000017"))]
    (card,) = await cards.issue(connection, new, shards=4, key=key, overdraft_minor=0)
    return card


async def pin_of(connection, card):
    row = await connection.fetchrow(
        "select pin_reference, pin_tries from ledger.card where shard = $1 and card_id = $2",
        card.shard, card.card_id,
    )  # fmt: skip
    return tuple(row)


async def test_a_pin_is_set_with_all_its_tries_and_under_the_version(connection):
    card = await issued(connection)
    assert not await reset_pin_tries(connection, card.card_id)
    await set_pin_reference(connection, card.card_id, b"r" * 16)
    await connection.execute("update ledger.card set pin_tries = 2")
    assert await pin_of(connection, card) == (b"r" * 16, 2)
    assert await reset_pin_tries(connection, card.card_id)
    assert await pin_of(connection, card) == (b"r" * 16, 0)
    version = await connection.fetchval("select version from ledger.account")
    await set_pin_reference(connection, card.card_id, b"")
    assert await pin_of(connection, card) == (b"", 0)
    assert await connection.fetchval("select version from ledger.account") == version + 1


async def test_a_card_that_is_not_there_gets_no_pin(connection):
    with pytest.raises(CardNotFound):
        await set_pin_reference(connection, 12_345, b"r" * 16)
    with pytest.raises(CardNotFound):
        await reset_pin_tries(connection, 12_345)
