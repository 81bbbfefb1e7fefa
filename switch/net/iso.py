"""Acquirers' links over ISO 8583: all connections of one configured link in this process.

The parts are elsewhere: one connection in `connection.py`, its network management in
`management.py` over the table of `link_state.py`; what every port has, in `entrance.py`.
"""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, MutableSet
from datetime import date, datetime

from anyio.abc import ByteStream

from protocols.iso8583 import Message, spec_named
from protocols.iso8583.dialect import ReconciliationRequest, Totals
from protocols.iso8583.link import LinkTerms
from protocols.message import Outcome, Reply, Request, Segment
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.connection import Connection
from switch.net.conversation import Conversation
from switch.net.entrance import Entrance
from switch.net.guard import LinkGuard
from switch.net.limits import Conduct, LinkLimits
from switch.net.link_state import State, best
from switch.net.reconciliation import day_meant
from switch.net.sweep import sweep

__all__ = ["Conduct", "Connection", "Link", "LinkLimits", "Submit", "sweep"]

Submit = Callable[[Request, Callable[[Reply], None]], None]
AskTotals = Callable[[str, str, date, Callable[[Totals | None], None]], None]
"""A link, a terminal of it (empty: all) and a business day; what was posted, or None where
nobody can tell now."""
Sheds = Callable[[Segment, int, bool], Outcome | None]
"""Whether a plain sale of this segment and budget (ns) is refused for load just now; the last
says whether more has come than could be read."""

_log = get_log("links")


class Link(Entrance):
    """All connections of one configured link in this process.

    `guard` is there where the link has a MAC, `ask_totals` where reconciliations are answered,
    `tls` where connections are encrypted, `sheds` where load may refuse a message unread.
    """

    def __init__(
        self,
        terms: LinkTerms,
        limits: LinkLimits,
        submit: Submit,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        open_connections: MutableSet[Conversation],
        hash_key: bytes,
        *,
        conduct: Conduct = Conduct(),  # noqa: B008 - frozen
        guard: LinkGuard | None = None,
        ask_totals: AskTotals | None = None,
        tls: ssl.SSLContext | None = None,
        sheds: Sheds | None = None,
    ) -> None:
        super().__init__(terms.name, terms.budget_ms, limits, clock, metrics, open_connections, tls)
        self.terms = terms
        self.conduct = conduct
        self.spec = spec_named(terms.dialect)
        self.submit = submit
        self.calendar = calendar
        self.hash_key = hash_key
        self.guard = guard
        self._ask_totals = ask_totals
        self._sheds = sheds
        self._second = -1
        self._dates = (datetime.min, "")
        self._states: Counter[State] = Counter()
        self._shown = State.DOWN

    def converse(self, stream: ByteStream, number: int) -> Connection:
        return Connection(self, stream, number)

    def shedding(self, *, behind: bool) -> Outcome | None:
        """How a plain sale is refused for load just now, None where it is not."""
        if self._sheds is None:
            return None
        return self._sheds(self.terms.segment, self.terms.budget_ms * 1_000_000, behind)

    def dates(self) -> tuple[datetime, str]:
        """The ledger's local time to the second, and its business day as MMDD (DE15)."""
        now_us = self.clock.now_us()
        second = now_us // 1_000_000
        if second != self._second:
            self._second = second
            business_date = self.calendar.business_date(now_us)
            self._dates = (self.calendar.local(now_us), f"{business_date:%m%d}")
        return self._dates

    def reconcile(
        self,
        request: ReconciliationRequest,
        message: Message,
        told: Callable[[Totals | None], None],
    ) -> None:
        """Tell what was posted on the day that a reconciliation names; None: nobody can.

        A POS terminal settles its own batch, a host everything of its link.
        """
        today = self.calendar.business_date(self.clock.now_us())
        if self._ask_totals is None:
            told(None)
            return
        terminal = message.text(41).rstrip() if self.terms.dialect == "unionpay_pos" else ""
        self._ask_totals(self.terms.name, terminal, day_meant(request.mmdd, today), told)

    def moved(self, before: State | None, after: State | None) -> None:
        """Keep the link's gauge at the best state of its connections."""
        if before is not None:
            self._states[before] -= 1
        if after is not None:
            self._states[after] += 1
        shown = best(state for state, count in self._states.items() if count > 0)
        if shown is not self._shown:
            self._shown = shown
            self.metrics.link_state(self.terms.name, shown)

    def unanswered(self, connection: Connection, function: str) -> None:
        """Log a network message of ours that the peer did not answer."""
        suppressed = self._throttle.admit(f"unanswered {function}", self.clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(
                "network message not answered",
                link=self.terms.name,
                connection=connection.number,
                function=function,
                suppressed=suppressed,
            )
