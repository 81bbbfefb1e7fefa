"""Answers reconciliations from the ledger: what a link posted on a business day.

A total reads a whole day, so it never goes through a lane: it has a connection of its own, a
statement timeout, and a short queue that refuses rather than grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import date

import anyio
import msgspec

from protocols.iso8583.dialect import Totals
from switch.clock import Clock
from switch.ledger import bridge, sql
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded, translated
from switch.logs import get as get_log

QUEUE_MAX = 16
STATEMENT_SECONDS = 5
ANSWER_SECONDS_MAX = 30
"""A question older than this is refused: whoever asked has asked again by then."""
APPLICATION = "citycard reconciliation"

Told = Callable[[Totals | None], None]

_QUERIES = sql.queries()
_log = get_log("reconciliation")


class Question(msgspec.Struct, frozen=True):
    """Whose totals of which day; an empty terminal is the whole link."""

    link: str
    terminal: str
    day: date
    asked_ns: int
    told: Told


class LinkTotals:
    """The desk of one process: one question at a time, over one connection."""

    def __init__(
        self, open_connection: Callable[[], Awaitable[bridge.Connection]], clock: Clock
    ) -> None:
        self._open_connection = open_connection
        self._clock = clock
        self._questions: deque[Question] = deque()
        self._asked = anyio.Event()

    def ask(self, link: str, terminal: str, day: date, told: Told) -> None:
        """`told` is called once: with the totals, or with None where nobody can tell now."""
        if len(self._questions) >= QUEUE_MAX:
            told(None)
            return
        asked_ns = self._clock.monotonic_ns()
        self._questions.append(Question(link, terminal, day, asked_ns, told))
        self._asked.set()

    async def run(self) -> None:
        """Answer until cancelled; the connection is kept for the next question."""
        connection: bridge.Connection | None = None
        try:
            while True:
                if not self._questions:
                    self._asked = anyio.Event()
                    await self._asked.wait()
                question = self._questions.popleft()
                waited_ns = self._clock.monotonic_ns() - question.asked_ns
                if waited_ns > ANSWER_SECONDS_MAX * 1_000_000_000:
                    question.told(None)
                    continue
                if connection is not None and connection.closed:
                    connection = None
                try:
                    if connection is None:
                        with translated(STATEMENT_SECONDS):
                            connection = await self._open_connection()
                    totals = await _totals_of(connection, question)
                except (LedgerLost, LedgerRefused) as error:
                    _log.warning("totals could not be read", link=question.link, reason=str(error))
                    if connection is not None:
                        connection.terminate()
                        connection = None
                    question.told(None)
                    continue
                question.told(totals)
        finally:
            if connection is not None:
                connection.terminate()


async def open_for_totals(url: str, seconds: float) -> bridge.Connection:
    """A connection whose statements the server itself ends after STATEMENT_SECONDS."""
    settings = {
        "application_name": APPLICATION,
        "statement_timeout": str(STATEMENT_SECONDS * 1000),
        "default_transaction_read_only": "on",
    }
    return await bridge.connect(url, timeout_seconds=seconds, settings=settings)


async def _totals_of(connection: bridge.Connection, question: Question) -> Totals:
    rows = await guarded(
        connection.fetch,
        _QUERIES["link_totals"],
        question.link,
        question.terminal,
        question.day,
        seconds=STATEMENT_SECONDS + 1,
    )
    counted = {f"{row['side']}_count": row["entries"] for row in rows}
    summed = {f"{row['side']}_minor": row["amount_minor"] for row in rows}
    return Totals(**counted, **summed)
