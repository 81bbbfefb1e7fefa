"""What a message about another one is told of the event that counters of places counted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from protocols.message import Kind, Outcome, Segment
from switch.ledger.audit import audit
from switch.posting import CountedEvent, Original


async def event_of(books: Any, authorization_id: int, *, days: int = 0) -> CountedEvent | None:
    """The event of the original with this id, asked for so many days later."""
    found = await books.connection.fetchval(
        "select ledger.find_original($1::smallint, $2::date, 0, $3, '', '', '', '{}', '', '',"
        " $4::date, $2::date + 1)",
        1, books.day + timedelta(days), authorization_id, books.day - timedelta(1),
    )  # fmt: skip
    return msgspec.json.decode(found, type=Original).event


async def given(books: Any, authorization_id: int) -> tuple[int, bool]:
    event = await event_of(books, authorization_id)
    assert event is not None
    return event.given_minor, event.given_back


async def test_a_sale_is_told_as_it_was_counted(books: Any) -> None:
    (card,) = await books.issue()
    row = books.purchase(card, 300, venue="park", stop="7/12", vehicle="V1")
    _, sale = await books.posted(books.load(card, 900), row)
    assert await event_of(books, sale) == CountedEvent(
        Kind.PURCHASE, Outcome.APPROVED, row.at_us, card.card_id, "metro", "T1", "M1", "5411",
        Segment.RETAIL, 300, 300, "park", "7/12", "V1", -1,
    )  # fmt: skip
    assert await event_of(books, sale, days=1) is not None
    assert await event_of(books, sale, days=2) is None, "no counter looks back so far"


async def test_what_was_given_back_of_it_is_what_stands(books: Any) -> None:
    """Reversed in part, voided, the void undone: each as an account's history has it."""
    (card,) = await books.issue()
    _, sale = await books.posted(books.load(card, 900), books.purchase(card, 300))
    await books.posted(books.reversal(card, sale, 100))
    assert await given(books, sale) == (100, False)
    (void,) = await books.posted(books.given_back(card, sale, 200, kind="void"))
    assert await given(books, sale) == (300, True)
    event = await event_of(books, void)
    assert event is not None
    assert (event.kind, event.amount_minor, event.given_minor) == (Kind.PURCHASE, 300, 300)
    undone = [(card.account_id * 16 + 2, books.acquirer, 200)]
    await books.posted(books.reversal(card, void, 200, transfers=undone, spent_minor=200))
    assert await given(books, sale) == (100, False)
    assert await given(books, void) == (100, False)
    await books.posted(books.given_back(card, sale, 200))
    assert await given(books, sale) == (100, False), "a refund gives no count back"
    report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []


async def test_a_cancel_is_about_its_preauthorization_and_a_load_confirmed_about_itself(
    books: Any,
) -> None:
    (card,) = await books.issue()
    _, held = await books.posted(books.load(card, 900), books.preauthorization(card, 80))
    (cancel,) = await books.posted(books.cancel(card, held, 80))
    event = await event_of(books, cancel)
    assert event is not None
    assert (event.kind, event.approved_minor, event.given_back) == (
        Kind.PREAUTHORIZATION, 80, True,
    )  # fmt: skip
    (pending,) = await books.posted(books.load_pending(card, 32))
    assert await event_of(books, pending) is None, "a pending load is no event"
