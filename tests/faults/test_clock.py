"""The switch's wall clock steps, or turns a day for which there is no partition, under traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from switch.calendar import BusinessCalendar, epoch_us
from tests.faults.faked_clock import CACHE_SECONDS, FakedClock

STEP = timedelta(minutes=5)
BEFORE_MIDNIGHT = timedelta(seconds=4)
DAYS_AHEAD = """
select c.oid::regclass::text as name
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent in ('ledger.authorization'::regclass, 'ledger.transfer'::regclass)
  and pg_get_expr(c.relpartbound, c.oid) >= format('FOR VALUES FROM (%L)', '{tomorrow}')
"""


@pytest.fixture
def clock(tmp_path) -> FakedClock:
    return FakedClock(tmp_path)


def test_clock_step(database, life_setting, life, judged, faults, clock):
    """Ahead, behind and back again: budgets are of the monotonic clock, and nobody notices."""
    staged = life_setting(database)
    offsets = [STEP, timedelta(0), -STEP, timedelta(0)] * faults
    with staged.serving(workers=2, environment=clock.environment) as ready:
        tills = life(staged, ready.links["retail-1"], "--rate", "60")
        tills.approved(20)
        for offset in offsets:
            clock.step(offset)
            assert abs(clock.seconds_ahead() - offset.total_seconds()) < 5, "it steps"
            tills.lives_for(CACHE_SECONDS)
            tills.approved(20)
        summary = tills.stop()
    assert not summary.mismatched
    answered_91 = sum(count for name, count in summary.codes.items() if name.endswith(" 91"))
    # Budgets by the wall clock would end all at once; a busy machine refuses a few for load.
    assert answered_91 <= sum(summary.codes.values()) / 20, summary.codes
    judged(tills, "clock step of 5 min, either way", len(offsets))


def test_partition_missing_when_the_day_turns(database, life_setting, life, judged, clock):
    """The switch makes the day by itself, at the first posting that misses it."""
    staged = life_setting(database)
    calendar = BusinessCalendar(staged.config.ledger.time_zone, staged.config.ledger.cut_off)
    now = datetime.now(UTC)
    today = calendar.business_date(epoch_us(now))
    _, midnight_us = calendar.day_bounds_us(today)
    tomorrow = today + timedelta(days=1)
    with staged.serving(workers=2, environment=clock.environment) as ready:
        tills = life(staged, ready.links["retail-1"], "--rate", "60")
        tills.approved(30)
        ahead = staged.rows(DAYS_AHEAD.format(tomorrow=tomorrow))
        assert ahead, "days ahead were there to be dropped"
        staged.rows(f"drop table {', '.join(row['name'] for row in ahead)}")
        to_midnight = timedelta(microseconds=midnight_us - epoch_us(datetime.now(UTC)))
        clock.step(to_midnight - BEFORE_MIDNIGHT)
        tills.lives_for(BEFORE_MIDNIGHT.total_seconds() + 1)
        tills.approved(60)
        summary = tills.stop()
    assert not summary.mismatched
    posted = staged.rows(
        f"select count(*) as rows from ledger.authorization where business_date = '{tomorrow}' "
        "and outcome = 'approved'"
    )
    assert posted[0]["rows"] >= 60, "the new day is written"
    judged(tills, "partition for tomorrow missing", 1)
