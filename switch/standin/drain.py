"""Posting back: what stand-in answered goes to the ledger as advices, in order for each card.

One worker does it. A card's rows are posted one after the other in the order in which they
were answered, different cards beside one another. A row is marked after the ledger's answer;
a crash in between posts it again under the same key, which the ledger knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio
import msgspec

from protocols.message import Kind, Outcome, Reply, Request
from switch.admission import Ticket
from switch.decide import derived_key
from switch.ledger.failures import LedgerLost
from switch.logs import get as get_log
from switch.posting import Directed
from switch.standin.advice import AdviceUnreadable
from switch.standin.rows import Row, Settled, State
from switch.standin.spool_file import SpoolUnusable

if TYPE_CHECKING:
    from switch.clock import Clock
    from switch.metrics import Metrics
    from switch.pipeline import Pipeline
    from switch.standin.desk import Desk

CHECK_SECONDS = 0.2
PAGE_ROWS = 512
CARDS_AT_ONCE = 64
"""Enough to fill the lanes' batches beside live traffic, few enough not to crowd it out."""
ANSWER_SECONDS_MAX = 30.0
"""A posting that brought no answer by then is asked for again under its key."""
RETRY_SECONDS = 0.5
UNHURRIED_NS = 3_600_000_000_000
"""Budget of an advice: nobody waits for it, it must only be written."""
KEPT_US = 86_400_000_000
"""Posted rows are kept for a day, for whoever asks what happened."""
FORGET_NS = 60_000_000_000

NOT_NOW = frozenset(
    {
        Outcome.OVERLOADED,
        Outcome.NO_BUDGET,
        Outcome.LEDGER_DOWN,
        Outcome.OUTCOME_UNKNOWN,
        Outcome.ANSWERED_LATE,
        Outcome.FAULT,
    }
)
"""Answers that leave a row open: it was answered as approved, so it is tried until it is in."""
KEY_TAKEN = frozenset({Outcome.KEY_REUSED, Outcome.ANSWERED_LATE})
"""The ledger has another message under a sale's key, or an approval of it that it took back.

The sale was answered after that, so it is posted under a key of its own.
"""
NOTHING_STANDS = frozenset(
    {
        Outcome.ORIGINAL_NOT_FOUND,
        Outcome.ORIGINAL_RESOLVED,
        Outcome.REVERSED_BEFORE,
        Outcome.ANSWERED_LATE,
    }
)
"""Answers after which the ledger holds what the row wants, though it wrote no approval.

A reversal without an original leaves a tombstone; a sale after its reversal must not stand;
a late approval that another answer gave out is no late one.
"""

_log = get_log("standin")


class Drain:
    """The task of the worker that posts the spool of this machine."""

    def __init__(self, desk: Desk, pipeline: Pipeline, clock: Clock, metrics: Metrics) -> None:
        self._desk = desk
        self._pipeline = pipeline
        self._clock = clock
        self._metrics = metrics
        self._cards = anyio.Semaphore(CARDS_AT_ONCE)
        self._forget_ns = clock.monotonic_ns() + FORGET_NS

    async def run(self) -> None:
        """Post whenever there is something to post and a ledger to take it; until cancelled."""
        while True:
            await anyio.sleep(CHECK_SECONDS)
            await self._forget()
            if not self._desk.open_rows or not self._pipeline.ledger_is_up:
                continue
            try:
                finished = await self._post_page()
            except SpoolUnusable as error:
                _log.error("the spool cannot be posted", reason=str(error))
                finished = False
            if not finished:
                await anyio.sleep(RETRY_SECONDS)

    async def _post_page(self) -> bool:
        """Post the oldest rows; False where some of them must be tried again later."""
        rows = await self._desk.ask(lambda spool: spool.page(PAGE_ROWS))
        by_card: dict[bytes, list[Row]] = {}
        for row in rows:
            by_card.setdefault(row.medium, []).append(row)
        settled: list[Settled] = []
        try:
            async with anyio.create_task_group() as tasks:
                for card_rows in by_card.values():
                    await self._cards.acquire()
                    tasks.start_soon(self._post_card, card_rows, settled)
        finally:
            # What is in the ledger is marked even where this task is being ended.
            with anyio.CancelScope(shield=True):
                await self._mark(settled)
        if rows:
            _log.info("stand-in posted", rows=len(settled), of=len(rows))
        return len(settled) == len(rows)

    async def _mark(self, settled: list[Settled]) -> None:
        if not settled:
            return
        await self._desk.ask(lambda spool: spool.settle(settled))
        self._desk.look_soon()

    async def _forget(self) -> None:
        """Let go of rows that are long posted, some at a time."""
        now_ns = self._clock.monotonic_ns()
        if now_ns < self._forget_ns:
            return
        self._forget_ns = now_ns + FORGET_NS
        before_us = self._clock.now_us() - KEPT_US
        try:
            await self._desk.ask(lambda spool: spool.prune(before_us))
        except SpoolUnusable:
            pass  # the desk has told of it

    async def _post_card(self, rows: Iterable[Row], settled: list[Settled]) -> None:
        """Post one card's rows in order; the first that cannot be posted keeps the others.

        What a reversal may take back is marked before it: a sale posted once more after its
        reversal would be taken for a new one, and stand.
        """
        posted: dict[bytes, int] = {}
        unmarked: list[Settled] = []
        try:
            for row in rows:
                if row.kind != "purchase" and unmarked:
                    await self._mark(unmarked)
                    unmarked.clear()
                done = await self._post_row(row, posted)
                if done is None:
                    return
                posted[row.key] = done.authorization_id
                unmarked.append(done)
                settled.append(done)
        except SpoolUnusable as error:
            # Nothing is lost: what is not marked is posted again, and its key is known then.
            _log.error("the spool cannot be marked", reason=str(error))
        finally:
            self._cards.release()

    async def _post_row(self, row: Row, posted: dict[bytes, int]) -> Settled | None:
        """Post one row; None where it must be tried again."""
        try:
            request = self._request_of(row, posted.get(row.original_key, row.original_id))
            reply = await self._posted(request, row.medium)
            if reply is not None and row.kind == "purchase" and reply.outcome in KEY_TAKEN:
                again = derived_key(request.key, b"standin-reused")
                reply = await self._posted(msgspec.structs.replace(request, key=again), row.medium)
        except (LedgerLost, AdviceUnreadable) as error:
            _log.error("an advice cannot be posted", row=row.id, reason=str(error))
            return None
        if reply is None or (reply.outcome in NOT_NOW and not _final(row, reply)):
            return None
        return self._settled(row, request, reply)

    def _settled(self, row: Row, request: Request, reply: Reply) -> Settled:
        outcome = reply.outcome
        sale = row.kind == "purchase"
        state = State.POSTED
        if outcome.approved:
            suspense = sale and reply.suspense
            state = State.SUSPENSE if suspense else State.POSTED
            self._metrics.standin_posted(request.segment, suspense=suspense)
        elif outcome not in NOTHING_STANDS:
            state = State.REFUSED
            _log.critical(
                "the ledger will not post what stand-in answered; settle it by hand",
                row=row.id,
                kind=row.kind,
                outcome=outcome.value,
            )
        return Settled(row.id, state, outcome.value, reply.authorization_id)

    def _request_of(self, row: Row, original_id: int) -> Request:
        """The request as it is posted: what was answered has happened, and must be written."""
        request = self._desk.sealer.open(row.request, row.card)
        now_ns = self._clock.monotonic_ns()
        return msgspec.structs.replace(
            request,
            kind=request.kind if row.kind == "purchase" else Kind.REVERSAL,
            key=row.key,
            rrn=request.rrn or row.rrn,
            # A late approval is withdrawn as the switch's own; a client names its original.
            original=None if row.kind == "late_reversal" else request.original,
            original_id=original_id or request.original_id,
            advice=True,
            standin_at_us=row.at_us,
            received_ns=now_ns,
            deadline_ns=now_ns + UNHURRIED_NS,
        )

    async def _posted(self, request: Request, medium: bytes) -> Reply | None:
        """The ledger's answer; None where there was none in time. Raises LedgerLost."""
        place = await self._pipeline.find(medium)
        if place is None:
            directed = Directed(request, self._pipeline.shard_of_key(request.key), 0, 0, medium)
        else:
            directed = Directed(request, place.shard, place.account_id, place.card_id, medium)
        told = anyio.Event()
        replies: list[Reply] = []

        def answered(reply: Reply) -> None:
            replies.append(reply)
            told.set()

        if not self._pipeline.post_own(Ticket(request, answered, _leave_nothing), directed):
            return None
        with anyio.move_on_after(ANSWER_SECONDS_MAX):
            await told.wait()
        return replies[0] if replies else None


def _final(row: Row, reply: Reply) -> bool:
    """Whether an answer that usually means "not now" ends this row nevertheless."""
    return row.kind == "late_reversal" and reply.outcome is Outcome.ANSWERED_LATE


def _leave_nothing(_ticket: Ticket) -> None:
    """A posting of the switch's own is in no flight."""
