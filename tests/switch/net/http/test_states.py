"""The table of a payment's states, and the day's end of a biller."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from switch.calendar import BusinessCalendar, epoch_us
from switch.ledger.bills import ENDED, OPEN, TURNS, BillState
from switch.net.http.keeper import SHOWN_AS
from switch.net.http.steps import next_cut_us

CALENDAR = BusinessCalendar("Asia/Shanghai", "04:30")
DAY_US = 86_400_000_000


def test_every_state_is_reached_and_every_open_one_can_end() -> None:
    reached, before = {BillState.OPENED}, set()
    while reached != before:
        before = set(reached)
        reached |= {state for state, sources in TURNS.items() if sources & reached}
    assert reached == set(BillState)
    for state in OPEN:
        ending, before = {state}, set()
        while ending != before:
            before = set(ending)
            ending |= {onward for onward, sources in TURNS.items() if sources & ending}
        assert ending & ENDED, state
    assert set(SHOWN_AS) == OPEN


def test_what_the_biller_may_have_taken_is_released_on_its_word_only() -> None:
    """Nobody cancels what is being confirmed: it can only be released by way of a question."""
    assert TURNS[BillState.RELEASED] == {BillState.RELEASING}
    assert BillState.HELD not in TURNS[BillState.PAID]
    assert BillState.PAID not in TURNS[BillState.RELEASING]


@given(st.integers(0, 4 * 10**15), st.integers(0, 23), st.integers(0, 59))
def test_a_cut_off_is_the_next_one(now_us: int, hour: int, minute: int) -> None:
    cut_us = next_cut_us(CALENDAR, f"{hour:02}:{minute:02}", now_us)
    local = CALENDAR.local(cut_us)
    assert now_us < cut_us <= now_us + DAY_US + 3_600_000_000
    if now_us > 700_000_000_000_000:  # the zone has kept one offset since 1992
        assert (local.hour, local.minute, local.second) == (hour, minute, 0)


def test_paid_at_eleven_it_is_reversible_until_tomorrow_at_ten() -> None:
    now = datetime(2026, 11, 22, 15, 0, tzinfo=UTC)  # 23:00 in Shanghai
    cut = CALENDAR.local(next_cut_us(CALENDAR, "22:00", epoch_us(now)))
    assert f"{cut:%m-%d %H:%M}" == "11-23 22:00"
