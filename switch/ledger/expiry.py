"""Holds, journeys and pending loads whose time is over are resolved by the switch itself.

One worker looks; a hold is named by a key made of its id, so where two do after all, whichever
comes first writes it and the other finds it written. What becomes of it is decided like any
other message.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

import anyio
import msgspec
import structlog

from protocols.message import Kind, Reply, Request, Segment
from protocols.money import Money
from switch.admission import Ticket
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.decide import derived_key
from switch.ledger import bridge, sql
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.metrics import Metrics
from switch.posting import Directed

INTERVAL_SECONDS = 5.0
PAGE = 256
"""Holds of one look, and at most twice as many under way: a wave of them must crowd out nobody."""
CALL_SECONDS_MAX = 30.0
BACK_OFF_SECONDS_MAX = 60.0
UNHURRIED_NS = 3_600_000_000_000
"""Nobody waits for an expiry; it is written whenever its lane comes to it."""

_QUERIES = sql.queries()
_log = structlog.get_logger(__name__)


class DueHold(msgspec.Struct, frozen=True):
    """A hold whose time is over, with the words of the message that opened it."""

    shard: int
    hold_id: int
    account_id: int
    card_id: int
    purse: int
    purpose: str
    amount_minor: int
    authorization_id: int
    expires_at_us: int
    segment: str
    acquirer: str
    link: str
    terminal: str
    merchant: str
    mcc: str
    rrn: str
    auth_code: str
    currency: str
    venue: str


class HoldExpiry:
    """Looks for holds that are due and puts a HOLD_EXPIRY for each into its lane.

    `open_connection` makes a connection of its own. `post_own` is `Pipeline.post_own`: it
    takes a ticket for a lane and is False while that lane is down.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[bridge.Connection]],
        post_own: Callable[[Ticket, Directed], bool],
        *,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        self._open_connection = open_connection
        self._post_own = post_own
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._interval_seconds = interval_seconds
        self._under_way: set[int] = set()

    async def run(self) -> None:
        """Look every few seconds until cancelled, reconnecting where needed."""
        back_off_seconds = self._interval_seconds
        connection: bridge.Connection | None = None
        try:
            while True:
                try:
                    if connection is None:
                        connection = await guarded(self._open_connection, seconds=CALL_SECONDS_MAX)
                    full = await self.look(connection)
                    back_off_seconds = self._interval_seconds
                    await anyio.sleep(0 if full else self._interval_seconds)
                except (LedgerLost, LedgerRefused) as error:
                    _log.warning("holds that are due cannot be looked for", reason=str(error))
                    if connection is not None:
                        connection.terminate()
                        connection = None
                    await anyio.sleep(back_off_seconds)
                    back_off_seconds = min(2 * back_off_seconds, BACK_OFF_SECONDS_MAX)
        finally:
            if connection is not None:
                connection.terminate()

    async def look(self, connection: bridge.Connection) -> bool:
        """Put what is due now into the lanes; True where there may be more at once.

        Raises LedgerLost and LedgerRefused.
        """
        if len(self._under_way) > PAGE:
            return False
        rows = await guarded(
            connection.fetch,
            _QUERIES["due_holds"],
            self._clock.now_us(),
            list(self._under_way),
            PAGE,
            seconds=CALL_SECONDS_MAX,
        )
        put = [self._put(DueHold(**dict(row))) for row in rows]
        return len(put) == PAGE and all(put)

    def _put(self, hold: DueHold) -> bool:
        def answered(reply: Reply) -> None:
            if not reply.outcome.approved:
                _log.warning(
                    "a hold whose time is over is not resolved yet; it is tried again",
                    hold=hold.hold_id,
                    outcome=reply.outcome.value,
                )
            elif not reply.replayed:
                self._metrics.hold_expired()

        def settled(_ticket: Ticket) -> None:
            self._under_way.discard(hold.hold_id)

        request = expiry_request(hold, self._calendar, self._clock.monotonic_ns())
        directed = Directed(request, hold.shard, hold.account_id, hold.card_id, b"")
        self._under_way.add(hold.hold_id)
        if self._post_own(Ticket(request, answered, settled), directed):
            return True
        self._under_way.discard(hold.hold_id)
        return False


def expiry_request(hold: DueHold, calendar: BusinessCalendar, now_ns: int) -> Request:
    """The message that resolves a hold; the same for everyone who makes it.

    Its key begins with the local time at which the hold was due, as the keys of terminals do.
    """
    local_at = f"{calendar.local(hold.expires_at_us):%m%d%H%M%S}"
    named = int(local_at).to_bytes(4, "big") + hold.hold_id.to_bytes(12, "big")
    return Request(
        kind=Kind.HOLD_EXPIRY,
        segment=Segment(hold.segment),
        acquirer=hold.acquirer,
        link=hold.link,
        message_class="04",
        card=None,
        amount=Money(hold.amount_minor, hold.currency),
        terminal=hold.terminal,
        merchant=hold.merchant,
        mcc=hold.mcc,
        stan=f"{hold.hold_id % 1_000_000:06}",
        local_at=local_at,
        rrn=hold.rrn,
        entry_mode="",
        expiry="",
        key=derived_key(named, b"hold-expiry"),
        payload_hash=hashlib.blake2b(named, digest_size=8).digest(),
        received_ns=now_ns,
        deadline_ns=now_ns + UNHURRIED_NS,
        original_id=hold.authorization_id,
        venue=hold.venue,
    )
