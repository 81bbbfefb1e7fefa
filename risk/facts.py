"""What a decision may look at: the request, the account and its recent history.

Facts come from the ledger in one load and are never fetched while deciding. History is
kept as parallel columns, oldest first, so that a window is one bisection and a count is
a subtraction; the columns always have the same length.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from protocols.message import Kind, Outcome, Segment

HISTORY_EVENTS_MAX = 512
"""The ledger hands over at most this many events of 24 hours; no rule may ask for more."""
HISTORY_SECONDS_MAX = 86_400


class History(msgspec.Struct, gc=False):
    """Past authorizations of one account within 24 hours, oldest first, one column each.

    `at_us` is epoch microseconds of the decision. `given_back[i]` tells that event i was
    reversed. Reversal messages themselves are not events. A lane appends its own earlier
    decisions of the same batch, so requests of one card in one batch see each other.
    `stop` is "line/stop" as in `Facts`; empty text in a column is a missing field.
    """

    at_us: list[int]
    card_id: list[int]
    kind: list[Kind]
    amount_minor: list[int]
    outcome: list[Outcome]
    given_back: list[bool]
    segment: list[Segment]
    mcc: list[str]
    merchant: list[str]
    terminal: list[str]
    venue: list[str]
    stop: list[str]
    vehicle: list[str]

    def append(
        self,
        *,
        at_us: int,
        card_id: int,
        kind: Kind,
        amount_minor: int,
        outcome: Outcome,
        segment: Segment,
        mcc: str,
        merchant: str,
        terminal: str,
        venue: str = "",
        stop: str = "",
        vehicle: str = "",
    ) -> None:
        """Add one event decided just now; it must not be older than the last one."""
        self.at_us.append(at_us)
        self.card_id.append(card_id)
        self.kind.append(kind)
        self.amount_minor.append(amount_minor)
        self.outcome.append(outcome)
        self.given_back.append(False)
        self.segment.append(segment)
        self.mcc.append(mcc)
        self.merchant.append(merchant)
        self.terminal.append(terminal)
        self.venue.append(venue)
        self.stop.append(stop)
        self.vehicle.append(vehicle)


def empty_history() -> History:
    return History([], [], [], [], [], [], [], [], [], [], [], [], [])


class Totals(msgspec.Struct, gc=False):
    """Running totals of one account: of the business month, the calendar week, its whole life.

    Counts are approved authorizations (a reversal does not give a count back); amounts are
    approved minus reversed (a reversal does), in the periods of what was reversed. Loads are
    not spending and are not in here. A week begins with the business day of its Monday. None is
    a total that nobody keeps, which is unknown. A day needs no total: it lies in the history.
    """

    month_count: int | None = 0
    month_minor: int | None = 0
    week_count: int | None = None
    week_minor: int | None = None
    lifetime_count: int | None = None
    lifetime_minor: int | None = None


NO_BUCKETS: Mapping[str, int | None] = {}


class Facts(msgspec.Struct, gc=False):
    """Everything a rule may read about one request. Amounts are minor units.

    `local_second_of_day` and `weekday` (Monday is 1) are in the ruleset's time zone at
    `now_us`; `day_start_us` is the start of the current service day. `medium` is the keyed
    hash of the card number in hex: what a hotlist holds. Empty text is a missing fact.
    `venue` is the venue's code; `line`, `stop` ("line/stop", for two lines may number their
    stops alike), `vehicle` and `mode` are a reader's own words and empty at a counter.
    `event_age_s` is how long before `now_us` a reader says that it happened, in whole seconds.
    `channel` is "advice" for what has happened already and cannot be declined, else "online";
    `pin` "verified" or "none" (a wrong one never comes here); `clock_skew_s` how far the
    terminal's clock is ahead; `holder_class` a number that never says why a fare is less.
    `buckets` has the features of terminals, merchants and acquirers, by feature id: added up
    outside (`buckets.py`), None or absent where that is not known. None is a missing number.
    """

    now_us: int
    day_start_us: int
    local_second_of_day: int
    weekday: int
    kind: Kind
    segment: Segment
    amount_minor: int
    mcc: str
    merchant: str
    terminal: str
    acquirer: str
    entry_mode: str
    medium: str
    card_id: int
    card_status: str
    tier: str
    product: str
    balance_minor: int | None
    history: History
    totals: Totals
    venue: str = ""
    line: str = ""
    stop: str = ""
    vehicle: str = ""
    mode: str = ""
    event_age_s: int | None = 0
    channel: str = ""
    pin: str = ""
    clock_skew_s: int | None = None
    card_age_days: int | None = None
    holder_class: str = ""
    buckets: Mapping[str, int | None] = NO_BUCKETS
