"""The history of one account as its rows go by: what a worker would have loaded before each.

A worker loads the newest `HISTORY_EVENTS_MAX` events of 24 hours before a batch, and what it
decides in the batch is added to them. Rows of one batch share the instant of their posting, so
here too nothing is trimmed in between.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, timedelta

from protocols.message import Kind, Outcome, Segment
from risk.facts import HISTORY_EVENTS_MAX, HISTORY_SECONDS_MAX, History, Totals, empty_history
from risk.past_events import Giver, given_back_minor, is_given_back

HISTORY_US = HISTORY_SECONDS_MAX * 1_000_000
_TRIM_EVENTS = 32
"""Old events are dropped so many at a time: a window finds its start whatever lies before it."""


class Shift:
    """How far a closed loop's totals of an account are from those of history."""

    __slots__ = ("lifetime", "months", "weeks")

    def __init__(self) -> None:
        self.months: dict[date, tuple[int, int]] = {}
        self.weeks: dict[date, tuple[int, int]] = {}
        self.lifetime = (0, 0)

    def add(self, day: date, count: int, minor: int) -> None:
        """Count so many payments more (or fewer) in the periods of a business day."""
        month, week = day.replace(day=1), monday_of(day)
        self.months[month] = _plus(self.months.get(month, (0, 0)), count, minor)
        self.weeks[week] = _plus(self.weeks.get(week, (0, 0)), count, minor)
        self.lifetime = _plus(self.lifetime, count, minor)

    def shifted(self, totals: Totals, day: date) -> Totals:
        """The totals of a request of this business day; what is unknown stays so."""
        month = self.months.get(day.replace(day=1), (0, 0))
        week = self.weeks.get(monday_of(day), (0, 0))
        return Totals(
            _sum(totals.month_count, month[0]),
            _sum(totals.month_minor, month[1]),
            _sum(totals.week_count, week[0]),
            _sum(totals.week_minor, week[1]),
            _sum(totals.lifetime_count, self.lifetime[0]),
            _sum(totals.lifetime_minor, self.lifetime[1]),
        )


def monday_of(day: date) -> date:
    """The first day of a calendar week."""
    return day - timedelta(days=day.weekday())


def _plus(one: tuple[int, int], count: int, minor: int) -> tuple[int, int]:
    return one[0] + count, one[1] + minor


def _sum(one: int | None, other: int) -> int | None:
    return None if one is None else one + other


class AccountHistory:
    """One account: its events, what gave some back, and what a closed loop made otherwise.

    `posted_at_us` is that of the newest row. `gone` are messages that a closed loop says were
    never approved.
    """

    __slots__ = (
        "approved_minor",
        "event_ids",
        "givers",
        "gone",
        "history",
        "posted_at_us",
        "shift",
    )

    def __init__(self) -> None:
        self.history: History = empty_history()
        self.event_ids: list[int] = []
        self.approved_minor: list[int] = []
        self.givers: list[tuple[int, Giver]] = []
        self.posted_at_us = 0
        self.gone: set[int] = set()
        self.shift: Shift | None = None

    def begin_row(self, at_us: int, posted_at_us: int, day_start_us: int) -> None:
        """Forget what a worker would not load any more, where a new batch begins with the row."""
        if posted_at_us == self.posted_at_us:
            return
        self.posted_at_us = posted_at_us
        times = self.history.at_us
        too_many = len(times) - HISTORY_EVENTS_MAX
        since_us = at_us - HISTORY_US
        if not times or (times[0] > since_us and too_many <= 0):
            return
        old = max(bisect_right(times, since_us), too_many)
        # A window finds its own start whatever lies before it, but for a day of 25 hours.
        if old >= _TRIM_EVENTS or too_many > 0 or old == len(times) or day_start_us <= since_us:
            self._drop(old)

    def _drop(self, count: int) -> None:
        history = self.history
        for column in (
            history.at_us,
            history.card_id,
            history.kind,
            history.amount_minor,
            history.outcome,
            history.given_back,
            history.segment,
            history.mcc,
            history.merchant,
            history.terminal,
            history.venue,
            history.stop,
            history.vehicle,
            self.event_ids,
            self.approved_minor,
        ):
            del column[:count]
        oldest_us = history.at_us[0] if history.at_us else 2**63
        self.givers = [giver for giver in self.givers if giver[0] > oldest_us]

    def happened(
        self,
        authorization_id: int,
        approved_minor: int,
        at_us: int,
        card_id: int,
        kind: Kind,
        amount_minor: int,
        outcome: Outcome,
        segment: Segment,
        mcc: str,
        merchant: str,
        terminal: str,
        venue: str,
        stop: str,
        vehicle: str,
    ) -> None:
        """Add an event; the parameters are in the order of the columns, without names: it is
        called for each row of a history."""
        history = self.history
        history.at_us.append(at_us)
        history.card_id.append(card_id)
        history.kind.append(kind)
        history.amount_minor.append(amount_minor)
        history.outcome.append(outcome)
        history.given_back.append(False)
        history.segment.append(segment)
        history.mcc.append(mcc)
        history.merchant.append(merchant)
        history.terminal.append(terminal)
        history.venue.append(venue)
        history.stop.append(stop)
        history.vehicle.append(vehicle)
        self.event_ids.append(authorization_id)
        self.approved_minor.append(approved_minor)

    def gave_back(self, at_us: int, giver: Giver) -> None:
        """Note a message that gives something back, and what is given back by now."""
        self.givers.append((at_us, giver))
        given = given_back_minor(each for _, each in reversed(self.givers))
        flags = self.history.given_back
        for position, (event_id, approved_minor) in enumerate(
            zip(self.event_ids, self.approved_minor, strict=True)
        ):
            if event_id in given or flags[position]:
                flags[position] = is_given_back(given, event_id, approved_minor)
