"""Loads over the operator's counter take the same way as everything else."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from protocols.message import Outcome, Reply
from switch.config import parse
from switch.ledger import counter, migrate
from switch.ledger.audit import audit
from switch.ledger.cards import CardStatus, set_status
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.store import Store
from switch.terms import load_terms
from tests.simulation.model_ledger import CALENDAR, FakeClock

Load = Callable[..., Any]


def entropy() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size, "big")


@pytest.fixture
async def load(books: Any, database: str) -> AsyncIterator[Load]:
    """Load orders of (card, purse, amount); the replies."""
    store = await Store.open(database, 10)
    terms = load_terms(parse("", "defaults"), await migrate.settlement_accounts(books.connection))
    random_octets = entropy()

    async def loaded(*orders: tuple[Any, str, int]) -> list[Reply]:
        return await load_purses(
            store,
            [
                LoadOrder(card.shard, card.account_id, card.card_id, purse, minor)
                for card, purse, minor in orders
            ],
            terms=terms,
            currency="156",
            calendar=CALENDAR,
            clock=FakeClock(),
            entropy=random_octets,
        )

    loaded.store = store  # type: ignore[attr-defined]
    yield loaded
    store.terminate()


async def test_a_load_stands_on_its_purse_and_in_the_trust_account(books: Any, load: Load) -> None:
    (card,) = await books.issue()
    (reply,) = await load((card, "GEN", 5_000))
    assert reply.outcome is Outcome.APPROVED
    assert reply.approved_minor == 5_000
    assert (await books.purse(card, 2))["balance_minor"] == 5_000
    assert (await books.purse(card, 1))["balance_minor"] == 0
    row = await books.connection.fetchrow(
        "select kind, acquirer, terminal, approved_minor, outcome, deadline_at_us - posted_at_us"
        " as left_us from ledger.authorization where authorization_id = $1",
        reply.authorization_id,
    )
    assert tuple(row)[:5] == ("load", "counter", "counter", 5_000, "approved")
    assert row["left_us"] > 0
    debit = await books.connection.fetchval(
        "select debit_minor from ledger.position where settlement_account_id = $1", books.trust
    )
    assert debit == 5_000


async def test_replies_are_in_the_order_of_the_orders_whatever_the_shard(
    books: Any, load: Load
) -> None:
    cards = [(await books.issue(shard=shard))[0] for shard in (3, 0, 2, 1, 0)]
    replies = await load(*((card, "TRN", 100 + n) for n, card in enumerate(cards)))
    assert [reply.approved_minor for reply in replies] == [100, 101, 102, 103, 104]
    for n, card in enumerate(cards):
        assert (await books.purse(card, 1))["balance_minor"] == 100 + n


async def test_more_than_a_chunk(books: Any, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter, "CHUNK_MAX", 3)
    (card,) = await books.issue()
    replies = await load(*[(card, "GEN", 1)] * 8)
    assert [reply.outcome for reply in replies] == [Outcome.APPROVED] * 8
    assert (await books.purse(card))["balance_minor"] == 8
    assert len({reply.authorization_id for reply in replies}) == 8


async def test_the_cap_of_the_tier_holds_within_one_call_and_over_two(
    books: Any, load: Load
) -> None:
    (card,) = await books.issue(tier="T0")  # 1,000.00
    first, second, third = await load(
        (card, "GEN", 60_000), (card, "GEN", 40_001), (card, "GEN", 40_000)
    )
    assert [first.outcome, second.outcome, third.outcome] == [
        Outcome.APPROVED,
        Outcome.BALANCE_CAP,
        Outcome.APPROVED,
    ]
    (again,) = await load((card, "GEN", 1))
    assert again.outcome is Outcome.BALANCE_CAP
    (transit,) = await load((card, "TRN", 1))
    assert transit.outcome is Outcome.APPROVED
    caps = {"T0": 100_000, "T1": 500_000, "T2": 500_000}
    assert (await audit(books.connection, balance_caps_minor=caps)).clean


async def test_a_card_that_may_not_be_loaded(books: Any, load: Load) -> None:
    (card,) = await books.issue()
    await set_status(books.connection, card.card_id, CardStatus.BLOCKED, "found in a park")
    (blocked,) = await load((card, "GEN", 100))
    (nothing,) = await load((card, "MED", 100))
    assert blocked.outcome is nothing.outcome is Outcome.CARD_BLOCKED
    await set_status(books.connection, card.card_id, CardStatus.ACTIVE, "")
    (no_purse,) = await load((card, "MED", 100))
    assert no_purse.outcome is Outcome.PURSE_NOT_ALLOWED
    assert (await books.purse(card))["balance_minor"] == 0


async def test_a_negative_amount_writes_nothing(books: Any, load: Load) -> None:
    (card,) = await books.issue()
    with pytest.raises(LedgerRefused):
        await load((card, "GEN", -5))
    assert await books.count("authorization") == 0


async def test_a_load_of_nothing_is_declined(books: Any, load: Load) -> None:
    (card,) = await books.issue()
    (nothing,) = await load((card, "GEN", 0))
    assert nothing.outcome is Outcome.INVALID_AMOUNT
    assert await books.count("transfer") == 0


async def test_a_load_that_conflicts_is_decided_again(
    books: Any, load: Load, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (card,) = await books.issue()
    store: Store = load.store  # type: ignore[attr-defined]
    post, meanwhile = store.post, iter([True, True])

    async def overtaken(*given: Any) -> Any:
        if next(meanwhile, False):
            await books.posted(books.load(card, 1))
        return await post(*given)

    monkeypatch.setattr(store, "post", overtaken)
    (reply,) = await load((card, "GEN", 100))
    assert reply.outcome is Outcome.APPROVED
    assert (await books.purse(card))["balance_minor"] == 102


async def test_one_that_always_conflicts_is_given_up(
    books: Any, load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    (card,) = await books.issue()
    store: Store = load.store  # type: ignore[attr-defined]
    post = store.post

    async def overtaken(*given: Any) -> Any:
        await books.posted(books.load(card, 1))
        return await post(*given)

    monkeypatch.setattr(store, "post", overtaken)
    monkeypatch.setattr(counter, "ROUNDS_MAX", 3)
    with pytest.raises(LedgerRefused) as refused:
        await load((card, "GEN", 100))
    assert refused.value.transient
    assert (await books.purse(card))["balance_minor"] == 3


async def test_a_lost_connection_is_said_and_not_guessed(load: Load, books: Any) -> None:
    (card,) = await books.issue()
    load.store.terminate()  # type: ignore[attr-defined]
    with pytest.raises(LedgerLost):
        await load((card, "GEN", 100))
    assert await books.count("authorization") == 0
