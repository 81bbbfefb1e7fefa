"""What a purse spent in its week, its month and its life, against a sum over all that was said."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from switch.ledger import partitions
from switch.ledger.audit import audit
from tests.switch.ledger.test_load_batch import load

LEAP = date(2028, 2, 27)
"""A Sunday before the leap day; the month ends on a Tuesday, the next week on a Sunday."""
NEW_YEAR = date(2026, 12, 27)
"""A Sunday before a year that begins within a week."""
DAYS_COUNT = 10

BATCHES = st.lists(
    st.tuples(
        st.integers(0, DAYS_COUNT - 1),
        st.lists(
            st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 99)),
            min_size=1,
            max_size=4,
        ),
    ),
    min_size=1,
    max_size=8,
)


def _monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=st.sampled_from([LEAP, NEW_YEAR]), batches=BATCHES)
async def test_totals_are_the_sum_of_what_counts_in_their_period(
    books: Any, first: date, batches: Any
) -> None:
    """Batches of any day in any order; money back counts on the day of its sale."""
    await partitions.make_ahead(books.connection, first, DAYS_COUNT, 0)
    (card,) = await books.issue()
    await books.posted(books.load(card, 100_000), day=first)
    sales: list[tuple[int, date, int]] = []  # what stands of each
    said: list[tuple[date, int, int]] = []
    newest = first
    for number, steps in batches:
        today = first + timedelta(days=number)
        rows, sold = [], []
        for gives_back, which, minor in steps:
            if not gives_back or not sales:
                rows.append(books.purchase(card, minor))
                sold.append((len(rows) - 1, minor))
                said.append((today, 1, minor))
                continue
            sale_id, day, stands_minor = sales[which % len(sales)]
            back_minor = min(minor, stands_minor)
            if back_minor == 0:
                continue
            sales[which % len(sales)] = (sale_id, day, stands_minor - back_minor)
            spent_on = None if day == today else day
            rows.append(books.given_back(card, sale_id, back_minor, spent_on=spent_on))
            said.append((day, 0, -back_minor))
        if not rows:
            continue
        newest = max(newest, today)
        ids = await books.posted(*rows, day=today)
        sales += [(ids[index], today, minor) for index, minor in sold]

    def total(*periods: tuple[Any, Any]) -> tuple[int, int]:
        counted = [(n, m) for day, n, m in said if all(of(day) == is_ for of, is_ in periods)]
        return sum(n for n, _ in counted), sum(m for _, m in counted)

    (row,) = await load(books, card, day=newest)
    general = row["purse"].index(2)

    def kept(period: str) -> tuple[int, int]:
        return row[f"{period}_count"][general], row[f"{period}_minor"][general]

    assert kept("month") == total((lambda day: (day.year, day.month), (newest.year, newest.month)))
    assert kept("week") == total((_monday_of, _monday_of(newest)))
    assert kept("lifetime") == total()
    assert (await audit(books.connection)).clean


@pytest.mark.parametrize(
    ("set_", "check", "words"),
    [
        ("week_minor = week_minor + 1", "week_totals", "says 1 payments, 31 spent in the week of"),
        ("week = week - 7", "week_totals", "and spending of that of 2026-03-30"),
        ("lifetime_count = 2", "lifetime_totals", "says 2 payments, 30 spent in all, .* 1 and 30"),
    ],
)
async def test_the_audit_notices_a_wrong_total(
    books: Any, set_: str, check: str, words: str
) -> None:
    (card,) = await books.issue()
    await books.posted(books.load(card, 100), books.purchase(card, 30))
    await books.connection.execute(f"update ledger.purse set {set_} where lifetime_count = 1")
    found = [each for each in (await audit(books.connection)).checks if each.findings]
    assert [each.name for each in found] == [check]
    assert re.search(words, found[0].first[0])
