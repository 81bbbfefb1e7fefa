"""Posts the records of proven batches: at most so many of a worker at once, connections in turn.

Records are background work: they wait while anything else does (switch/ledger/background.py).
What the ledger cannot take just now waits here and is tried again for as long as its
connection lasts; a resent batch finds what was posted of it. Two records under one counter are
never under way together, so the second meets the first in the ledger and not in the flight.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.lowlevel

from protocols.message import Outcome, Reply, Request, response_code
from protocols.tap.record import record_digest
from protocols.tap.words import RecordResult, RecordStatus
from switch.clock import Clock
from switch.metrics import Metrics
from switch.net.tap.device_keys import ChipKeys
from switch.net.tap.dialect import TapTerms, When, read_record_request, record_key
from switch.net.tap.uploads import Taken, Uploads

SLICE_RECORDS = 16
"""So many are read, proven and submitted before others have their turn: about a millisecond."""
REST_NS = 1_000_000_000
"""How long nothing is tried after the ledger could not take a record."""
TICK_SECONDS = 0.1
RECORDS_HELD_MAX = 1_000_000
"""Records in memory for all connections of a worker: 56 bytes each, and while a batch is being
posted about 150 more."""

NOT_NOW = frozenset(
    {
        Outcome.OVERLOADED,
        Outcome.NO_BUDGET,
        Outcome.LEDGER_DOWN,
        Outcome.DESTINATION_DOWN,
        Outcome.OUTCOME_UNKNOWN,
        Outcome.ANSWERED_LATE,
    }
)
"""Answers that say nothing about a record: it is tried again."""

Submit = Callable[[Request, Callable[[Reply], None]], None]


class Depot(Protocol):
    """A connection as far as the desk knows it."""

    terms: TapTerms
    uploads: Uploads

    @property
    def awaits_pages(self) -> bool:
        """Whether a page of results is asked for and not answered yet."""
        ...

    def answer_pages(self, now_ns: int) -> None:
        """Answer the pages that are whole, or have been waited for long enough."""
        ...


class UploadDesk:
    """Takes records of all depots in turn and sees each to its answer."""

    def __init__(
        self,
        submit: Submit,
        chips: ChipKeys,
        *,
        in_flight_max: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._submit = submit
        self._chips = chips
        self._in_flight_max = in_flight_max
        self._clock = clock
        self._metrics = metrics
        self._depots: deque[Depot] = deque()
        self._under_way: set[bytes] = set()
        self._rest_until_ns = 0
        self._stirred = anyio.Event()

    @property
    def under_way(self) -> int:
        """Records submitted that have no answer yet."""
        return len(self._under_way)

    def enter(self, depot: Depot) -> None:
        """Serve a connection's uploads from now on."""
        self._depots.append(depot)

    def leave(self, depot: Depot) -> None:
        """Take no more of a connection's records; those under way are posted all the same."""
        if depot in self._depots:
            self._depots.remove(depot)

    def stir(self) -> None:
        """There may be something to do."""
        self._stirred.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            self._stirred = anyio.Event()
            submitted = self._submit_some()
            now_ns = self._clock.monotonic_ns()
            awaited = [depot for depot in self._depots if depot.awaits_pages]
            for depot in awaited:
                depot.answer_pages(now_ns)
            if submitted:
                await anyio.lowlevel.checkpoint()
                continue
            ticking = awaited or now_ns < self._rest_until_ns
            with anyio.move_on_after(TICK_SECONDS if ticking else None):
                await self._stirred.wait()

    def _submit_some(self) -> int:
        submitted = 0
        for _ in range(SLICE_RECORDS):
            if len(self._under_way) >= self._in_flight_max:
                break
            if self._clock.monotonic_ns() < self._rest_until_ns:
                break
            found = self._next()
            if found is None:
                break
            submitted += self._post(*found)
        return submitted

    def _next(self) -> tuple[Depot, Taken] | None:
        for _ in range(len(self._depots)):
            depot = self._depots[0]
            self._depots.rotate(-1)
            taken = depot.uploads.take()
            if taken is not None:
                return depot, taken
        return None

    def _post(self, depot: Depot, taken: Taken) -> int:
        record, terms = taken.record, depot.terms
        key = record_key(record.medium, record.counter)
        if key in self._under_way:
            depot.uploads.put_back(taken)  # the answer to that one stirs again
            return 0
        venue = terms.venues.get(taken.batch.opened.mode)
        if venue is None:
            self._settle(depot, taken, _rejected(Outcome.TERMINAL_NOT_PERMITTED))
            return 1
        request = read_record_request(
            terms,
            taken.batch.opened,
            record,
            venue=venue,
            digest=record_digest(record),
            batch=taken.batch.name,
            verdict=self._chips.verdict(record),
            when=When(self._clock.monotonic_ns(), self._clock.now_us()),
        )
        if request.tap is not None and request.tap.clock_ahead:
            self._metrics.device_finding(terms.name, "clock_ahead")
        self._under_way.add(key)
        self._metrics.background(1)

        def answered(reply: Reply) -> None:
            self._under_way.discard(key)
            self._metrics.background(-1)
            took_ns = self._clock.monotonic_ns() - request.received_ns
            self._metrics.answered(request.segment, request.kind, reply.outcome, took_ns / 1e9)
            if reply.outcome in NOT_NOW:
                self._rest_until_ns = self._clock.monotonic_ns() + REST_NS
                depot.uploads.put_back(taken)
            else:
                self._settle(depot, taken, result_of(reply, again=taken.again))
            self.stir()

        self._submit(request, answered)
        return 1

    def _settle(self, depot: Depot, taken: Taken, result: RecordResult) -> None:
        self._metrics.offline_records(depot.terms.name, result.status.name.lower(), 1)
        depot.uploads.settled(taken, result)


def result_of(reply: Reply, *, again: bool = False) -> RecordResult:
    """What a depot hears of a record; `again`: it stands in its batch before."""
    if not reply.outcome.approved:
        return _rejected(reply.outcome)
    status = RecordStatus.POSTED
    if reply.suspense:
        status = RecordStatus.SUSPENSE
    elif reply.duplicate or again:
        status = RecordStatus.DUPLICATE
    return RecordResult(status, response_code(reply.outcome))


def _rejected(outcome: Outcome) -> RecordResult:
    return RecordResult(RecordStatus.REJECTED, response_code(outcome))
