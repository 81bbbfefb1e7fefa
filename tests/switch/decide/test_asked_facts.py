"""What rules are told beside the history: clock, card, holder, and what was spent before."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocols.message import Kind, Request
from risk.record import AssessedFacts
from switch.decide.moment import ahead_s
from switch.fares.book import FULL_FARE
from switch.posting import Loaded, PurseState
from tests.simulation.model_ledger import CALENDAR, NOON_US, purchase
from tests.switch.decide.cases import GEN, TRN, account, loaded, moment, posting_on
from tests.switch.decide.rides import facts, posted, ride


def asked(request: Request, known: Loaded | None = None) -> AssessedFacts:
    """The facts that were stored with the decision."""
    posting = posting_on(request, known or loaded())
    assert posting.assessment is not None
    assert posting.assessment.facts is not None
    return posting.assessment.facts


@pytest.mark.parametrize(
    ("changed", "clock_skew_s"),
    [
        ({}, 0),
        ({"local_at": "0331120001"}, 1),
        ({"local_at": "0331115830"}, -90),
        ({"local_at": "0401120000"}, 86_400),
        ({"local_at": "0230120000"}, None),  # no such day
        ({"local_at": "0229120000"}, None),  # not in this year
        ({"local_at": "000123"}, None),  # the batch number of a terminal without a clock
        ({"local_at": ""}, None),
        ({"card": None, "medium": b"m" * 16}, None),  # a counter's clock is our own
    ],
)
def test_the_terminals_clock_against_ours(
    changed: dict[str, Any], clock_skew_s: int | None
) -> None:
    assert asked(purchase(**changed)).clock_skew_s == clock_skew_s


@given(
    now=st.datetimes(datetime(2020, 1, 1), datetime(2036, 1, 1)),
    apart_s=st.integers(-25 * 86_400, 25 * 86_400),
)
@example(now=datetime(2026, 12, 31, 23, 59, 30), apart_s=60)
@example(now=datetime(2027, 1, 1, 0, 0, 30), apart_s=-60)
@example(now=datetime(2028, 3, 1), apart_s=-1)
@example(now=datetime(2028, 3, 1, 12, 0, 0, 999_999), apart_s=0)
def test_a_clock_without_a_year_is_of_the_nearest_one(now: datetime, apart_s: int) -> None:
    zone = CALENDAR.local(0).tzinfo
    now_us = int(now.replace(microsecond=0, tzinfo=zone).timestamp()) * 1_000_000
    told = CALENDAR.local(now_us + apart_s * 1_000_000)
    # It shows whole seconds, so where in the second we are does not matter.
    assert ahead_s(moment(now_us + now.microsecond), f"{told:%m%d%H%M%S}") == apart_s


def test_the_class_is_told_at_a_reader_only() -> None:
    assert asked(purchase()).holder_class == ""
    for rights, number in (((), FULL_FARE), ((1,), 1), ((2, 1), 2)):
        posting = posted(ride(), facts(rights=rights))
        assert posting.assessment is not None
        assert posting.assessment.facts is not None
        assert posting.assessment.facts.holder_class == str(number)
        assert posting.assessment.facts.clock_skew_s is None


def test_what_all_purses_spent_and_how_old_the_card_is() -> None:
    holder = account(
        purses={
            TRN: PurseState(0, 0, 0, 1, 10, 2, 20, 3, 30),
            GEN: PurseState(10_000, 0, 0, 100, 1_000, 200, 2_000, 300, 3_000),
        }
    )
    told = asked(purchase(), loaded(holder, card_age_days=9))
    assert (told.month_count, told.month_minor) == (101, 1_010)
    assert (told.week_count, told.week_minor) == (202, 2_020)
    assert (told.lifetime_count, told.lifetime_minor) == (303, 3_030)
    assert told.card_age_days == 9
    again = asked(purchase(2), loaded(holder))
    assert (again.week_count, again.lifetime_minor) == (203, 3_530)


def test_an_inspection_knows_the_class_too() -> None:
    posting = posted(ride(Kind.INSPECT), facts(rights=(1,)))
    assert posting.assessment is not None
    assert posting.assessment.facts is not None
    assert posting.assessment.facts.holder_class == "1"
    assert posting.at_us == NOON_US
