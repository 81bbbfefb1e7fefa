"""A lane per shard: whatever waits is loaded, decided and posted as one batch, then the next.

While a batch is being posted the next one gathers by itself, so a quiet switch answers in
one short round and a busy one amortises its commits; nobody waits for a batch to fill. Lanes
take turns where there are more of them than the ledger has cores: more batches at once would
only be smaller ones.

What a lane must never do is guess. A ticket moves through it like this:

    waiting ── batch ──▶ loading ──▶ posting ──▶ posted    answer; if too late, reverse
       ▲                    │           ├──▶ conflict ──▶ waiting (first in line)
       │                    │           ├──▶ expired       answer: no budget, nothing written
       └── connection lost ─┘           ├──▶ refused       alone; refused again: a fault, and
                                        │                  what must be written stays owed
                                        └──▶ connection lost: in doubt
                                                 └──▶ waiting, first in line after reconnecting:
                                                      its key tells whether it was written
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from protocols.message import Kind, Outcome, Reply
from risk.buckets import Buckets
from switch.admission import STANDING_AFTER_NS, STANDING_WAIT_NS, Ticket
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.decide import Moment, Terms, buckets_of, counted, moment_at
from switch.ledger.doorstep import Doorstep, LaneLedger, TimeToMove
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.settling import Settling, asked_of, directed_of
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.posting import Loaded, Posted, Posting, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

NANOSECONDS = 1_000_000_000
RECONNECT_FIRST_SECONDS = 0.01
RECONNECT_SHARE = 1 / 32
"""Tries are this part of the outage apart: none comes later than a 32nd after the return."""
RECONNECT_MAX_SECONDS = 1.0
RECONNECT_PATIENCE_SECONDS = 0.05
"""A server that is there takes milliseconds; what waits longer is better told, or stood in for."""
BACKGROUND_BATCH_MAX = 16
"""Background work fills a batch up to this many: what comes meanwhile waits for a small one."""
MOVING_PATIENCE_SECONDS = 1.0
"""Who leaves a shared connection knows that the ledger is there: what waits is only queued."""
CHECK_VIOLATION = "23514"
"""Without a constraint's name it is what Postgres says of a row that no partition takes."""
OWED_SECONDS = 1.0
"""How long what must be written and was refused waits before it is tried again."""
UNHURRIED_US = 3_600_000_000
"""Budget of what the switch posts for itself: nobody waits for it, it must only be written."""

_log = get_log("lanes")


def _tell_nobody(_posting: Posting, _authorization_id: int) -> None:
    """Nobody counts what is posted."""


def _wait_for_the_day() -> None:
    """Housekeeping makes the days ahead in its own time."""


def _refuse_down(ticket: Ticket, _medium: bytes) -> None:
    ticket.finish(Reply(Outcome.LEDGER_DOWN))


class Lane:
    """The only writer of one shard in this process.

    `turns` bounds how many lanes have a batch under way; on the `doorstep` they connect.
    """

    def __init__(
        self,
        shard: int,
        *,
        slot: int,
        batch_max: int,
        open_ledger: Callable[[], Awaitable[LaneLedger]],
        turns: anyio.Semaphore | None = None,
        doorstep: Doorstep | None = None,
        terms: Terms,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.shard = shard
        self.terms = terms
        self.down = True
        self.on_down: Callable[[Ticket, bytes], None] = _refuse_down
        """Who takes what the ledger cannot have; the pipeline, once there is one."""
        self.on_day_missing: Callable[[], None] = _wait_for_the_day
        """Who makes the day's partitions when a posting found none; the worker."""
        self.on_posted: Callable[[Posting, int], None] = _tell_nobody
        """Who counts what is posted, a call each with its authorization's id, once it is; it
        must be quick."""
        self._slot = slot
        self._batch_max = batch_max
        self._open_ledger = open_ledger
        self._turns = turns or anyio.Semaphore(1)
        self._doorstep = doorstep or Doorstep(clock)
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._settling = Settling(clock, metrics, self._again)
        self._queue: deque[Ticket] = deque()
        self._background: deque[Ticket] = deque()
        self._in_doubt: list[Ticket] = []
        self._owed: deque[Ticket] = deque()
        self._owed_due_ns = 0
        self._current: list[Ticket] = []
        self._arrived = anyio.Event()
        self._batch_ns = 0.0
        self._long_since_ns = 0
        self._long_queue_ns = 0

    @property
    def waiting(self) -> int:
        """Tickets that no batch has taken yet, without those that wait in the background."""
        return len(self._queue)

    @property
    def unfinished(self) -> int:
        """Tickets that still need this lane: waiting, in a batch, in doubt, or owed."""
        waiting = len(self._queue) + len(self._background) + len(self._current)
        return waiting + len(self._in_doubt) + len(self._owed)

    @property
    def wait_ns(self) -> int:
        """What a new ticket would wait, judged by the recent batches."""
        if not self._current and not self._queue:
            # Idle: nothing to wait for, whatever the last batches took. Refusing by them
            # would end the very batches that correct the judgement after a stall.
            return 0
        # In batches, not in requests: what one request costs in a batch of its own says
        # nothing about a burst, which goes through together.
        return int(self._batch_ns * (1 + len(self._queue) / self._batch_max))

    @property
    def standing(self) -> bool:
        """Whether its queue has been long for so long that it is no burst."""
        return self._long_queue_ns > STANDING_AFTER_NS

    def put(self, ticket: Ticket) -> None:
        """Queue a directed ticket; the caller has checked that it is admitted."""
        ticket.queued_ns = self._clock.monotonic_ns()
        self._queue.append(ticket)
        self._arrived.set()

    def put_background(self, ticket: Ticket) -> None:
        """Queue a ticket for when there is nothing else; who puts it bounds how many there are."""
        ticket.queued_ns = self._clock.monotonic_ns()
        self._background.append(ticket)
        self._arrived.set()

    async def run(self) -> None:
        """Serve until cancelled, reconnecting for as long as it takes."""
        moving = False
        while True:
            ledger = await self._opened(moving=moving)
            moving = False
            self._come_up()
            try:
                await self._serve(ledger)
            except TimeToMove:
                moving = True
            except LedgerLost as error:
                _log.warning("ledger connection lost", shard=self.shard, reason=str(error))
            finally:
                ledger.terminate()

    async def _opened(self, *, moving: bool) -> LaneLedger:
        """A connection, whenever there is one to be had; down meanwhile, if it takes long."""
        patience_seconds = MOVING_PATIENCE_SECONDS if moving else RECONNECT_PATIENCE_SECONDS
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._go_down_soon, patience_seconds)
            async with self._doorstep.turn:
                # Kept between two tries as well: one lane knocks for all, so that it may
                # knock often, and the moment it is let in the others follow.
                ledger = await self._knock()
            tasks.cancel_scope.cancel()
        return ledger

    async def _knock(self) -> LaneLedger:
        lost_ns = self._clock.monotonic_ns()
        while True:
            try:
                return await self._doorstep.enter(self._open_ledger)
            except (LedgerLost, LedgerRefused) as error:
                self._go_down(str(error))
            away_seconds = (self._clock.monotonic_ns() - lost_ns) / NANOSECONDS
            await anyio.sleep(
                min(
                    max(away_seconds * RECONNECT_SHARE, RECONNECT_FIRST_SECONDS),
                    RECONNECT_MAX_SECONDS,
                )
            )

    async def _go_down_soon(self, patience_seconds: float) -> None:
        await anyio.sleep(patience_seconds)
        self._go_down("connecting takes long")

    def _come_up(self) -> None:
        if self.down:
            _log.info("lane is up", shard=self.shard, in_doubt=len(self._in_doubt))
        self.down = False
        self._queue.extendleft(reversed(self._in_doubt))
        self._in_doubt.clear()
        self._metrics.ledger_up(True)

    def _go_down(self, reason: str) -> None:
        if not self.down:
            _log.error(
                "ledger is down; declining until it is back", shard=self.shard, reason=reason
            )
        self.down = True
        self._metrics.ledger_up(False)
        kept: list[Ticket] = []
        given_up: list[Ticket] = []
        for ticket in self._queue:
            request = ticket.request
            # A client's reversal goes to whoever can answer it; the switch's own has only us.
            waits = request.must_post and not (
                request.kind is Kind.REVERSAL and request.original is not None
            )
            if ticket.sent or waits:
                kept.append(ticket)
            else:
                given_up.append(ticket)
        self._queue = deque(kept)
        given_up += self._background
        self._background.clear()
        for ticket in given_up:
            self.on_down(ticket, directed_of(ticket).medium)

    async def _serve(self, ledger: LaneLedger) -> None:
        while True:
            if not self._queue and not self._background:
                self._arrived = anyio.Event()
                with anyio.move_on_after(OWED_SECONDS if self._owed else None):
                    await self._arrived.wait()
            if self._owed and self._clock.monotonic_ns() >= self._owed_due_ns:
                await self._write_owed(ledger)
            asked_ns = self._clock.monotonic_ns()
            async with self._turns:
                # Taken only now: what came while waiting for the turn shares the batch.
                batch = self._take()
                if batch:
                    await self._run_batch(ledger, batch, asked_ns)

    async def _write_owed(self, ledger: LaneLedger) -> None:
        """Try once more, each alone: what was refused before must spoil no batch."""
        self._owed_due_ns = self._clock.monotonic_ns() + int(OWED_SECONDS * NANOSECONDS)
        for _ in range(len(self._owed)):
            await self._run_batch(ledger, [self._owed.popleft()], self._clock.monotonic_ns())

    def _take(self) -> list[Ticket]:
        batch: list[Ticket] = []
        self._metrics.queue_depth(self.shard, len(self._queue))
        now_ns = self._clock.monotonic_ns()
        self._watch_queue(now_ns)
        while self._queue and len(batch) < self._batch_max:
            ticket = self._queue.popleft()
            if self._settling.hopeless(ticket, now_ns):
                continue
            self._metrics.stage("queue", (now_ns - ticket.queued_ns) / NANOSECONDS)
            batch.append(ticket)
        room = BACKGROUND_BATCH_MAX - len(batch)
        while self._background and room > 0:
            ticket = self._background.popleft()
            if not self._settling.hopeless(ticket, now_ns):
                batch.append(ticket)
                room -= 1
        return batch

    def _watch_queue(self, now_ns: int) -> None:
        """Note for how long the first in line has had to wait long."""
        if not self._queue or now_ns - self._queue[0].queued_ns < STANDING_WAIT_NS:
            self._long_since_ns = self._long_queue_ns = 0
            return
        self._long_since_ns = self._long_since_ns or now_ns
        self._long_queue_ns = now_ns - self._long_since_ns

    async def _run_batch(self, ledger: LaneLedger, batch: list[Ticket], asked_ns: int) -> None:
        self._current = batch
        try:
            await self._process(ledger, batch)
        except LedgerLost:
            self._keep_after_loss(self._current)
            raise
        finally:
            self._current = []
        self._metrics.batch(len(batch))
        elapsed_ns = self._clock.monotonic_ns() - asked_ns
        self._batch_ns += 0.1 * (elapsed_ns - self._batch_ns)

    def _keep_after_loss(self, batch: list[Ticket]) -> None:
        """Tickets of a lost batch: in doubt where a posting was sent, else first in line."""
        unsent = []
        for ticket in batch:
            if ticket.done or ticket.reversing:
                continue
            if ticket.sent:
                self._in_doubt.append(ticket)
            elif ticket.answered is None or ticket.request.must_post:
                unsent.append(ticket)
            else:
                ticket.settle(Reply(ticket.answered))
        self._queue.extendleft(reversed(unsent))

    async def _process(self, ledger: LaneLedger, batch: list[Ticket]) -> None:
        """Load, decide and post one batch; alone, row by row, where the ledger refuses it."""
        try:
            again = await self._round(ledger, batch)
        except LedgerRefused as refused:
            _log.error(
                "the ledger refused a batch",
                shard=self.shard,
                size=len(batch),
                sqlstate=refused.sqlstate,
                constraint=refused.constraint,
            )
            if refused.sqlstate == CHECK_VIOLATION and not refused.constraint:
                self.on_day_missing()
            again = await self._process_alone(ledger, batch)
        if again:
            self._again(again)

    async def _process_alone(self, ledger: LaneLedger, batch: list[Ticket]) -> list[Ticket]:
        """One ticket after the other, so that a bad row spoils no other; what to do again.

        Nothing of them is written yet. A ticket waits for those before it on its account.
        """
        again: list[Ticket] = []
        waiting_accounts: set[int] = set()
        for index, ticket in enumerate(batch):
            self._current = [*again, *batch[index:]]
            if ticket.done or ticket.reversing:
                continue
            account_id = directed_of(ticket).account_id
            if account_id and account_id in waiting_accounts:
                again.append(ticket)
                continue
            if self._settling.hopeless(ticket, self._clock.monotonic_ns()):
                continue
            try:
                once_more = await self._round(ledger, [ticket])
            except LedgerRefused as refused:
                if refused.transient:
                    once_more = [ticket]
                else:
                    once_more = []
                    self._fault(ticket, sqlstate=refused.sqlstate, constraint=refused.constraint)
            if once_more:
                again.append(ticket)
                waiting_accounts.add(account_id)
        return again

    def _fault(self, ticket: Ticket, **why: str) -> None:
        """Answer that the switch met a fault; what must be written nevertheless stays owed."""
        _log.error(
            "an authorization could not be decided or written",
            shard=self.shard,
            link=ticket.request.link,
            stan=ticket.request.stan,
            kind=ticket.request.kind.value,
            **why,
        )
        if ticket.request.kind is Kind.REVERSAL and ticket.request.original is None:
            # The switch's own, and nobody else will ask for it again.
            self._owe(ticket)
        elif ticket.sent:
            ticket.answer(Reply(Outcome.OUTCOME_UNKNOWN))
            self._owe(ticket)
        else:
            ticket.finish(Reply(Outcome.FAULT))

    def _owe(self, ticket: Ticket) -> None:
        if not self._owed:
            self._owed_due_ns = self._clock.monotonic_ns() + int(OWED_SECONDS * NANOSECONDS)
        self._owed.append(ticket)

    async def _round(self, ledger: LaneLedger, batch: list[Ticket]) -> list[Ticket]:
        """Load, decide and post once; the tickets that must go through it again."""
        batch, later = _apart(batch)
        terms = self.terms
        buckets = buckets_of(terms.rules)
        moment = moment_at(self._clock.now_us(), self._calendar, terms)
        directed = [asked_of(ticket) for ticket in batch]
        started_ns = self._clock.monotonic_ns()
        loaded = await ledger.load(self.shard, moment.business_date, moment.now_us, directed)
        loaded_ns = self._clock.monotonic_ns()
        self._metrics.stage("load", (loaded_ns - started_ns) / NANOSECONDS)
        self._metrics.round_trip("load", (loaded_ns - started_ns) / NANOSECONDS)

        writers: list[Ticket] = []
        postings: list[Posting] = []
        versions: dict[int, int] = {}
        for ticket, facts in zip(batch, loaded, strict=True):
            posting = self._decide(ticket, facts, terms, moment, buckets)
            if posting is not None:
                writers.append(ticket)
                postings.append(posting)
                if facts.account is not None:
                    versions[facts.account.account_id] = facts.account.version
        decided_ns = self._clock.monotonic_ns()
        self._metrics.stage("decide", (decided_ns - loaded_ns) / NANOSECONDS)
        if not postings:
            return later
        verdicts = await self._post(ledger, moment, versions, writers, postings, terms)
        posted_ns = self._clock.monotonic_ns()
        self._metrics.stage("post", (posted_ns - decided_ns) / NANOSECONDS)
        self._metrics.round_trip("post", (posted_ns - decided_ns) / NANOSECONDS)
        again = [
            ticket
            for ticket, posting, posted in zip(writers, postings, verdicts, strict=True)
            if not self._settling.conclude(ticket, posting, posted, posted_ns)
        ]
        for posting, posted in zip(postings, verdicts, strict=True):
            if posted.verdict is Verdict.POSTED:
                self.on_posted(posting, posted.authorization_id)
        if again:
            self._metrics.conflicts(len(again))
        return again + later

    def _decide(
        self, ticket: Ticket, facts: Loaded, terms: Terms, moment: Moment, buckets: Buckets | None
    ) -> Posting | None:
        """What to post for a ticket, or None where nothing is."""
        try:
            posting = self._settling.decide(ticket, facts, terms, moment)
            if posting is None or buckets is None:
                return posting
            return counted(posting, facts, buckets)
        except Exception as fault:  # noqa: BLE001 - one message must not end all the others
            self._fault(ticket, fault=type(fault).__name__)
            return None

    async def _post(
        self,
        ledger: LaneLedger,
        moment: Moment,
        versions: dict[int, int],
        writers: list[Ticket],
        postings: list[Posting],
        terms: Terms,
    ) -> list[Posted]:
        now_ns = self._clock.monotonic_ns()
        remaining_us = [
            UNHURRIED_US
            if ticket.answered is not None or ticket.request.must_post
            else (ticket.request.deadline_ns - now_ns) // 1000
            for ticket in writers
        ]
        for ticket in writers:
            ticket.posting = True
        try:
            return await ledger.post(
                self.shard,
                self._slot,
                moment.business_date,
                versions,
                postings,
                remaining_us,
                terms.rules.hash,
            )
        except LedgerLost:
            for ticket, posting in zip(writers, postings, strict=True):
                ticket.lost(posting)
            raise
        finally:
            for ticket in writers:
                ticket.posting = False

    def _again(self, tickets: Sequence[Ticket]) -> None:
        """First in line, in the order they came; background work in its own line, unless it
        may be in the ledger: there it would be given up when the ledger goes away."""
        for ticket in reversed(tickets):
            behind = ticket.request.background and not ticket.sent
            (self._background if behind else self._queue).appendleft(ticket)
        self._arrived.set()


def _apart(batch: list[Ticket]) -> tuple[list[Ticket], list[Ticket]]:
    """A batch without those who must wait for the next round, and these.

    A message about another one is decided on what the ledger holds of that one, a tap on its
    day and a record on its chip, so nothing else of the account may be decided beside it: it
    waits for those before it, and those after it wait for it. Order within an account is kept.
    """
    now: list[Ticket] = []
    later: list[Ticket] = []
    seen: dict[object, bool] = {}
    for ticket in batch:
        directed = directed_of(ticket)
        request, account_id = directed.request, directed.account_id
        if account_id:
            names: tuple[object, ...] = (account_id,)
        else:
            # No account to be alone of: what is about one message shares that one's key.
            about = request.original.key if request.original is not None else ticket.reverses
            names = (request.key, about) if about else (request.key,)
        alone = request.alone
        if any(alone or seen[name] for name in names if name in seen):
            later.append(ticket)
            for name in names:
                seen[name] = True
            continue
        now.append(ticket)
        for name in names:
            seen[name] = seen.get(name, False) or alone
    return now, later
