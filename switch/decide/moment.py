"""When a batch is decided, and what is named after that instant."""

from __future__ import annotations

from datetime import date

import msgspec

from protocols.message import Request
from risk.moments import ServiceDay, Settings, service_day
from switch.calendar import BusinessCalendar
from switch.decide.terms import Terms
from switch.posting import Account, Loaded

MINUTE_US = 60_000_000


class Moment(msgspec.Struct, frozen=True):
    """When a batch is decided: the ledger's business day and the ruleset's service day.

    `settings` are those of the ruleset, which say where a service day begins.
    """

    now_us: int
    business_date: date
    local_yymm: str
    rrn_prefix: str
    service_day: ServiceDay
    settings: Settings


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


def rrn_of(request: Request, moment: Moment) -> str:
    """DE37: the acquirer's, else YDDDhh of the decision and the STAN (12 characters)."""
    return request.rrn or moment.rrn_prefix + request.stan[-6:].rjust(6, "0")
