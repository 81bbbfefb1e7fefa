"""List entries are in force from their first moment up to, not at, their last."""

from __future__ import annotations

from datetime import UTC, datetime

from risk.lists import ListEntry, NamedList, compile_list, merged
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
