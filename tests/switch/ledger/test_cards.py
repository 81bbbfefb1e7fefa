"""Cards are issued, found, blocked and shown, and their numbers stay out of the ledger."""

from __future__ import annotations

import re
from typing import Any

import anyio
import asyncpg
import pytest

from protocols.card_number import CardNumber, numbered_card
from switch.ledger import bridge, cards
from switch.ledger.cards import CardNotFound, CardStatus, CardStaysClosed, NewCard, medium_of

KEY = bytes(range(32))
CARD = numbered_card("621299", 7)


def test_a_medium_is_sixteen_bytes_that_only_the_key_gives() -> None:
    medium = medium_of(CARD, KEY)
    assert len(medium) == cards.MEDIUM_BYTES
    assert medium == medium_of(CardNumber(CARD.reveal()), KEY)
    assert medium != medium_of(CARD, KEY[::-1])
    assert medium != medium_of(numbered_card("621299", 8), KEY)


def test_a_fingerprint_tells_keys_apart_and_refuses_weak_ones() -> None:
    assert cards.card_key_fingerprint(KEY) == cards.card_key_fingerprint(bytes(range(32)))
    assert cards.card_key_fingerprint(KEY) != cards.card_key_fingerprint(KEY[::-1])
    for size in (0, 15, 65):
        with pytest.raises(ValueError, match="16 to 64 bytes"):
            cards.card_key_fingerprint(b"k" * size)


async def issue(books: Any, *new: NewCard, overdraft_minor: int = 0) -> list[cards.IssuedCard]:
    return await cards.issue(
        books.connection, new, shards=books.shards, key=KEY, overdraft_minor=overdraft_minor
    )


async def test_issuing_opens_an_account_with_both_purses(books: Any) -> None:
    (card,) = await issue(books, NewCard(CARD, "2912", "T1", "student"), overdraft_minor=800)
    assert card.issued
    assert card.shard == card.account_id % books.shards
    view = await cards.show(books.connection, card.card_id)
    assert (view.last4, view.expires_yymm, view.tier, view.product) == (
        CARD.last4, "2912", "T1", "student",
    )  # fmt: skip
    assert (view.status, view.account_status, view.authorizations) == ("active", "active", [])
    assert [(p.purse, p.balance_minor, p.floor_minor, p.month) for p in view.purses] == [
        (1, 0, -800, None),
        (2, 0, 0, None),
    ]


async def test_a_card_with_a_purse_on_its_chip_has_a_third_one(books: Any) -> None:
    (card,) = await issue(books, NewCard(CARD, chip=True), overdraft_minor=800)
    view = await cards.show(books.connection, card.card_id)
    assert [(p.purse, p.floor_minor) for p in view.purses] == [(1, -800), (2, 0), (3, 0)]
    assert (view.chip, view.hotlisted) == (None, False)
    await books.posted(books.chip_load(card, 500))
    await books.posted(books.record(card, 4, 10))
    view = await cards.show(books.connection, card.card_id)
    assert view.chip == cards.ChipView(4, 4, -1, 0)


async def test_rights_are_granted_shown_and_ended(books: Any) -> None:
    (card,) = await issue(books, NewCard(CARD))
    found = await cards.find(books.connection, str(card.card_id), KEY)
    days = [
        await cards.entitle(
            books.connection, found, fare_class, from_us=10, until_us=10_000_000, granted_by="Li"
        )
        for fare_class in (2, 3)
    ]
    assert await cards.revoke(books.connection, found, 9, at_us=50, revoked_by="Wu") == []
    ended = await cards.revoke(books.connection, found, 3, at_us=5_000_000, revoked_by="Wu")
    assert ended == [days[1]]
    assert await cards.revoke(books.connection, found, 3, at_us=6_000_000, revoked_by="Wu") == []
    view = await cards.show(books.connection, card.card_id)
    assert [(each.fare_class, each.granted_by) for each in view.entitlements] == [
        (2, "Li"), (3, "Li"),
    ]  # fmt: skip
    standing, revoked = view.entitlements
    assert standing.revoked_at is None
    assert revoked.revoked_at is not None
    assert revoked.revoked_at < revoked.valid_until
    with pytest.raises(asyncpg.CheckViolationError):
        await cards.entitle(books.connection, found, 2, from_us=10, until_us=10, granted_by="Li")


async def test_answers_are_in_order_through_chunks_repeats_and_known_cards(
    books: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "ISSUE_CHUNK", 3)
    numbers = [numbered_card("621299", n) for n in range(8)]
    (known,) = await issue(books, NewCard(numbers[5]))
    answers = await issue(books, *(NewCard(number) for number in [*numbers, numbers[0]]))
    assert [answer.last4 for answer in answers] == [n.last4 for n in [*numbers, numbers[0]]]
    assert answers[5].card_id == known.card_id
    assert [answer.issued for answer in answers] == [True] * 5 + [False] + [True] * 2 + [False]
    assert answers[8].card_id == answers[0].card_id
    assert await books.count("account") == 8


async def test_a_card_is_found_by_id_and_by_number(books: Any) -> None:
    await issue(books, NewCard(numbered_card("621299", 1)))
    (card,) = await issue(books, NewCard(CARD))
    digits = CARD.reveal()
    grouped = " ".join(digits[at : at + 4] for at in range(0, 16, 4))
    for reference in (str(card.card_id), digits, grouped):
        found = await cards.find(books.connection, reference, KEY)
        assert (found.card_id, found.account_id) == (card.card_id, card.account_id)
        assert (found.shard, found.last4) == (card.shard, CARD.last4)


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "12",
        "card",
        "99999999999",
        "6212990000000000000",
        "9" * 40,
        "６２１２９９０００００００００７",
    ],
)
async def test_what_is_not_found_is_not_repeated(books: Any, reference: str) -> None:
    with pytest.raises(CardNotFound) as caught:
        await cards.find(books.connection, reference, KEY)
    assert not re.search(r"\d{2}", str(caught.value))


async def test_another_key_finds_nothing(books: Any) -> None:
    await issue(books, NewCard(CARD))
    with pytest.raises(CardNotFound):
        await cards.find(books.connection, CARD.reveal(), KEY[::-1])


async def test_no_card_number_is_kept(books: Any) -> None:
    await issue(books, NewCard(CARD))
    for table in ("medium", "card", "account"):
        rows = await books.connection.fetch(
            f"select to_jsonb(t)::text as row from ledger.{table} t"
        )
        assert rows
        assert all(CARD.reveal() not in row["row"] for row in rows)


async def test_a_status_change_makes_the_decision_before_it_conflict(books: Any) -> None:
    (card,) = await books.issue()
    versions = await books.versions(books.load(card, 1))
    before = await cards.set_status(
        books.connection, card.card_id, CardStatus.STOLEN, "reported by phone"
    )
    assert before is CardStatus.ACTIVE
    (record,) = await books.post(books.load(card, 100), versions=versions)
    assert record["verdict"] == "conflict"
    view = await cards.show(books.connection, card.card_id)
    assert (view.status, view.status_reason) == ("stolen", "reported by phone")


async def test_a_status_change_waits_for_the_batch_before_it(books: Any, database: str) -> None:
    """Locks are taken in the same order as a posting's, so one of the two waits."""
    (card,) = await books.issue()
    other = await bridge.connect(database)
    await books.connection.execute("begin")
    await books.posted(books.load(card, 5))
    await other.execute("set lock_timeout = '200ms'")
    with pytest.raises(asyncpg.LockNotAvailableError):
        await cards.set_status(other, card.card_id, CardStatus.BLOCKED, "")
    await books.connection.execute("commit")
    with anyio.fail_after(10):
        await cards.set_status(other, card.card_id, CardStatus.BLOCKED, "")
    assert await books.versions(books.load(card, 1)) == {card.account_id: 2}
    await other.close()


async def test_a_blocked_card_may_be_released_and_a_closed_one_not(books: Any) -> None:
    (card,) = await books.issue()
    for status in (CardStatus.BLOCKED, CardStatus.ACTIVE, CardStatus.CLOSED, CardStatus.CLOSED):
        await cards.set_status(books.connection, card.card_id, status, "")
    with pytest.raises(CardStaysClosed, match="issue a new one"):
        await cards.set_status(books.connection, card.card_id, CardStatus.ACTIVE, "")
    assert (await cards.show(books.connection, card.card_id)).status == "closed"


async def test_an_unknown_card_is_neither_changed_nor_shown(books: Any) -> None:
    with pytest.raises(CardNotFound):
        await cards.set_status(books.connection, 5, CardStatus.BLOCKED, "")
    with pytest.raises(CardNotFound):
        await cards.show(books.connection, 5)


async def test_a_card_is_shown_with_its_latest_authorizations_and_why(
    books: Any, tomorrow: Any
) -> None:
    card, other = await books.issue(2)
    await books.posted(books.load(card, 900), books.load(other, 1))
    await books.posted(books.purchase(card, 300, merchant="BAKER"))
    await books.posted(books.decline(card, 999, explanation="Declined 51: no money."), day=tomorrow)
    view = await cards.show(books.connection, card.card_id, authorizations_max=2)
    assert [(a.kind, a.outcome, a.merchant) for a in view.authorizations] == [
        ("purchase", "insufficient_funds", "M1"),
        ("purchase", "approved", "BAKER"),
    ]
    assert view.authorizations[0].explanation == "Declined 51: no money."
    assert view.authorizations[1].approved_minor == 300
    assert view.authorizations[0].decided_at > view.authorizations[1].decided_at
    general = view.purses[1]
    assert (general.balance_minor, general.month_count, general.month_minor) == (600, 1, 300)
    assert general.month == books.day.replace(day=1)


async def test_open_holds_are_shown_and_resolved_ones_are_not(books: Any) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100))
    held, cancelled = await books.posted(
        books.preauthorization(card, 30), books.preauthorization(card, 20)
    )
    await books.posted(books.cancel(card, cancelled, 20), books.load_pending(card, 7))
    view = await cards.show(books.connection, card.card_id)
    assert [(hold.purpose, hold.amount_minor) for hold in view.holds] == [
        ("preauthorization", 30),
        ("load", 7),
    ]
    assert (view.holds[0].hold_id, view.holds[0].currency) == (held, "156")
    assert view.holds[0].expires_at > view.holds[0].opened_at
    assert view.purses[1].held_minor == 30
