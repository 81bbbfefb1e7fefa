"""When a batch is decided, and what is named after that instant."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import msgspec

from protocols.message import Request
from risk.moments import ServiceDay, Settings, service_day
from switch.calendar import BusinessCalendar
from switch.decide.terms import Terms
from switch.posting import Account, Loaded

MINUTE_US = 60_000_000


class Moment(msgspec.Struct, frozen=True):
    """When a batch is decided: the ledger's business day and the ruleset's service day.

    `settings` are those of the ruleset, which say where a service day begins. `local` is the
    wall clock of the ledger's time zone.
    """

    now_us: int
    business_date: date
    local_yymm: str
    rrn_prefix: str
    service_day: ServiceDay
    settings: Settings
    local: datetime


def moment_at(now_us: int, calendar: BusinessCalendar, terms: Terms) -> Moment:
    """The moment of an instant (epoch microseconds), once for a whole batch."""
    local = calendar.local(now_us)
    return Moment(
        now_us=now_us,
        business_date=calendar.business_date(now_us),
        local_yymm=f"{local:%y%m}",
        rrn_prefix=f"{local:%y}"[-1] + f"{local:%j%H}",
        service_day=service_day(terms.rule_settings, now_us),
        settings=terms.rule_settings,
        local=local.replace(tzinfo=None),
    )


def not_before(moment: Moment, account: Account | None) -> Moment:
    """The moment, or just after the account's last event where another clock was ahead."""
    at_us = account.history.at_us if account is not None else None
    return _after(moment, at_us[-1]) if at_us else moment


def not_before_facts(moment: Moment, loaded: Loaded) -> Moment:
    """The moment, after everything that the decision rests on: what follows is later."""
    moment = not_before(moment, loaded.account)
    if loaded.original is not None:
        moment = _after(moment, loaded.original.at_us)
    if loaded.stored is not None:
        moment = _after(moment, loaded.stored.at_us)
    return moment


def _after(moment: Moment, at_us: int) -> Moment:
    if at_us >= moment.now_us:
        # The service day too: who decides again later has only the instant of the decision.
        day = service_day(moment.settings, at_us + 1)
        return msgspec.structs.replace(moment, now_us=at_us + 1, service_day=day)
    return moment


def ahead_s(moment: Moment, local_at: str) -> int | None:
    """How many seconds a wall clock that says MMDDhhmmss is ahead of ours; None if none does.

    It says no year, so it is taken for that of the nearest such instant, and no part of a
    second, so ours is read to the second too; both clocks are of the ledger's time zone.
    """
    if len(local_at) != len("MMDDhhmmss"):
        return None
    said = [_instant(year, local_at) for year in _years_around(moment.local)]
    ours = moment.local.replace(microsecond=0)
    apart = [(each - ours) // _SECOND for each in said if each is not None]
    return min(apart, key=abs, default=None)


_SECOND = timedelta(seconds=1)


def _years_around(local: datetime) -> tuple[int, ...]:
    """This year, and in the months at its ends the one next to it."""
    if local.month == 1:
        return local.year, local.year - 1
    return (local.year, local.year + 1) if local.month == 12 else (local.year,)


def _instant(year: int, local_at: str) -> datetime | None:
    """The wall clock's instant in that year; None where there is no such day or time."""
    try:
        return datetime(
            year,
            int(local_at[:2]),
            int(local_at[2:4]),
            int(local_at[4:6]),
            int(local_at[6:8]),
            int(local_at[8:]),
        )
    except ValueError:
        return None


def rrn_of(request: Request, moment: Moment) -> str:
    """DE37: the acquirer's, else YDDDhh of the decision and the STAN (12 characters)."""
    return request.rrn or moment.rrn_prefix + request.stan[-6:].rjust(6, "0")
