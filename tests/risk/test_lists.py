"""List entries are in force from their first moment up to, not at, their last."""

from __future__ import annotations

from datetime import UTC, datetime

from risk.lists import (
    ListBook,
    ListEntry,
    NamedList,
    compile_list,
    compile_lists,
    list_fields,
    merged,
)
from risk.moments import microseconds

FROM = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 2, 1, tzinfo=UTC)


def test_dates_of_an_entry() -> None:
    listed = compile_list(
        NamedList(
            "hotlist",
            "card_id",
            (
                ListEntry(7, "lost", from_=FROM, until=UNTIL),
                ListEntry(8, "stolen"),
                ListEntry(7, "lost again", from_=datetime(2026, 3, 1, tzinfo=UTC)),
            ),
        )
    )
    assert not listed(7, microseconds(FROM) - 1)
    assert listed(7, microseconds(FROM))
    assert listed(7, microseconds(UNTIL) - 1)
    assert not listed(7, microseconds(UNTIL))
    assert listed(7, microseconds(datetime(2027, 1, 1, tzinfo=UTC)))
    assert listed(8, 0)
    assert not listed(9, microseconds(FROM))


def test_a_given_list_takes_the_place_of_the_rulesets_own() -> None:
    own = NamedList("hotlist", "card_id", (ListEntry(1, "lost"),))
    given = NamedList("hotlist", "card_id", (ListEntry(2, "lost"),))
    assert merged([own], [given]) == {"hotlist": given}


def test_a_book_is_looked_into_beside_the_texts_own_entries() -> None:
    book = ListBook()
    own = {"hotlist": NamedList("hotlist", "card_id", (ListEntry(7, "lost", until=UNTIL),))}
    own["other"] = NamedList("other", "card_id", (ListEntry(7, "lost"),))
    book.declare("hotlist", "card_id")
    book.declare("other", "terminal")
    book.declare("friends", "medium")
    lookups = compile_lists(own, book)
    assert lookups.keys() == {"hotlist", "other", "friends"}
    until_us = microseconds(UNTIL)
    book.put("hotlist", 7, until_us + 5, until_us + 9)
    book.put("hotlist", 8, until_us, None)
    book.put("other", 8, 0, None)
    book.put("friends", "ab", 0, None)
    found = [lookups["hotlist"](7, until_us + n) for n in (-1, 0, 4, 5, 8, 9)]
    assert found == [True, False, False, True, True, False]
    assert not lookups["hotlist"](8, until_us - 1)
    assert lookups["hotlist"](8, until_us + 10**12)
    assert lookups["friends"]("ab", 1)
    assert not lookups["other"](8, 1), "it holds another fact there"
    assert compile_lists(own, None).keys() == own.keys()
    fields = list_fields(own, book.fields)
    assert fields == {"hotlist": "card_id", "other": "card_id", "friends": "medium"}
