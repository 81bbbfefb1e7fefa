"""A lane per shard: whatever waits is loaded, decided and posted as one batch, then the next.

While a batch is being posted the next one gathers by itself, so a quiet switch answers in
one short round and a busy one amortises its commits; nobody waits for a batch to fill.

What a lane must never do is guess. A ticket moves through it like this:

    waiting ── batch ──▶ loading ──▶ posting ──▶ posted    answer; if too late, reverse
       ▲                    │           ├──▶ conflict ──▶ waiting (first in line)
       │                    │           ├──▶ expired       answer: no budget, nothing written
       └── connection lost ─┘           └──▶ connection lost: in doubt
                                                 └──▶ waiting, first in line after reconnecting:
                                                      its key tells whether it was written
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.decide import Moment, Terms, decide, derived_key, moment_at, resolved_as_answered
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.posting import Directed, Loaded, Posted, Posting, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import date

NANOSECONDS = 1_000_000_000
RECONNECT_FIRST_SECONDS = 0.05
RECONNECT_MAX_SECONDS = 1.0
UNHURRIED_US = 3_600_000_000
"""Budget of what the switch posts for itself: nobody waits for it, it must only be written."""

_log = get_log("lanes")


class LaneLedger(Protocol):
    """What a lane asks of the ledger; raises LedgerLost and LedgerRefused."""

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]: ...

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]: ...

    def terminate(self) -> None: ...


class Lane:
    """The only writer of one shard in this process."""

    def __init__(
        self,
        shard: int,
        *,
        slot: int,
        batch_max: int,
        open_ledger: Callable[[], Awaitable[LaneLedger]],
        terms: Terms,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self.shard = shard
        self.terms = terms
        self.down = True
        self._slot = slot
        self._batch_max = batch_max
        self._open_ledger = open_ledger
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._queue: deque[Ticket] = deque()
        self._in_doubt: list[Ticket] = []
        self._current: list[Ticket] = []
        self._arrived = anyio.Event()
        self._request_ns = 0.0
        self._batch_ns = 0.0

    @property
    def waiting(self) -> int:
        """Tickets that no batch has taken yet."""
        return len(self._queue)

    @property
    def unfinished(self) -> int:
        """Tickets that still need this lane: waiting, in a batch, or in doubt."""
        return len(self._queue) + len(self._current) + len(self._in_doubt)

    @property
    def wait_ns(self) -> int:
        """What a new ticket would wait, judged by the recent batches."""
        if not self._current and not self._queue:
            # Idle: nothing to wait for, whatever the last batches took. Refusing by them
            # would end the very batches that correct the judgement after a stall.
            return 0
        return int(self._batch_ns + len(self._queue) * self._request_ns)

    def put(self, ticket: Ticket) -> None:
        """Queue a directed ticket; the caller has checked that it is admitted."""
        ticket.queued_ns = self._clock.monotonic_ns()
        self._queue.append(ticket)
        self._arrived.set()

    async def run(self) -> None:
        """Serve until cancelled, reconnecting for as long as it takes."""
        back_off_seconds = 0.0
        while True:
            await anyio.sleep(back_off_seconds)
            try:
                ledger = await self._open_ledger()
            except (LedgerLost, LedgerRefused) as error:
                back_off_seconds = min(
                    max(back_off_seconds * 2, RECONNECT_FIRST_SECONDS), RECONNECT_MAX_SECONDS
                )
                self._go_down(str(error))
                continue
            back_off_seconds = 0.0
            self._come_up()
            try:
                await self._serve(ledger)
            except LedgerLost as error:
                _log.warning("ledger connection lost", shard=self.shard, reason=str(error))
            finally:
                ledger.terminate()

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
        for ticket in self._queue:
            if ticket.sent or ticket.request.kind is Kind.REVERSAL:
                kept.append(ticket)
            else:
                ticket.finish(Reply(Outcome.LEDGER_DOWN))
        self._queue = deque(kept)

    async def _serve(self, ledger: LaneLedger) -> None:
        while True:
            if not self._queue:
                self._arrived = anyio.Event()
                await self._arrived.wait()
            batch = self._take()
            if batch:
                await self._run_batch(ledger, batch)

    def _take(self) -> list[Ticket]:
        batch: list[Ticket] = []
        self._metrics.queue_depth(self.shard, len(self._queue))
        now_ns = self._clock.monotonic_ns()
        while self._queue and len(batch) < self._batch_max:
            ticket = self._queue.popleft()
            if self._hopeless(ticket, now_ns):
                continue
            self._metrics.stage("queue", (now_ns - ticket.queued_ns) / NANOSECONDS)
            batch.append(ticket)
        return batch

    def _hopeless(self, ticket: Ticket, now_ns: int) -> bool:
        """Let go of a ticket whose budget is gone and of which nothing can be in the ledger."""
        if ticket.sent or ticket.request.kind is Kind.REVERSAL:
            return False
        if ticket.answered is None and ticket.request.deadline_ns > now_ns:
            return False
        ticket.finish(Reply(ticket.answered or Outcome.NO_BUDGET))
        return True

    async def _run_batch(self, ledger: LaneLedger, batch: list[Ticket]) -> None:
        started_ns = self._clock.monotonic_ns()
        self._current = batch
        try:
            await self._process(ledger, batch)
        except LedgerLost:
            self._keep_after_loss(self._current)
            raise
        finally:
            self._current = []
        self._metrics.batch(len(batch))
        elapsed_ns = self._clock.monotonic_ns() - started_ns
        self._batch_ns += 0.1 * (elapsed_ns - self._batch_ns)
        self._request_ns += 0.1 * (elapsed_ns / len(batch) - self._request_ns)

    def _keep_after_loss(self, batch: list[Ticket]) -> None:
        """Tickets of a lost batch: in doubt where a posting was sent, else first in line."""
        unsent = []
        for ticket in batch:
            if ticket.sent:
                self._in_doubt.append(ticket)
            elif ticket.answered is None or ticket.request.kind is Kind.REVERSAL:
                unsent.append(ticket)
            else:
                ticket.settle(Reply(ticket.answered))
        self._queue.extendleft(reversed(unsent))

    async def _process(self, ledger: LaneLedger, batch: list[Ticket]) -> None:
        """Load, decide and post one batch; alone, row by row, where the ledger refuses it."""
        try:
            await self._round(ledger, batch)
        except LedgerRefused as refused:
            _log.error(
                "the ledger refused a batch",
                shard=self.shard,
                size=len(batch),
                sqlstate=refused.sqlstate,
                constraint=refused.constraint,
            )
            for index, ticket in enumerate(batch):
                self._current = batch[index:]
                if ticket.answered is None or ticket.sent:
                    await self._process_alone(ledger, ticket)

    async def _process_alone(self, ledger: LaneLedger, ticket: Ticket) -> None:
        """One ticket by itself, so that a bad row spoils no other. Nothing of it is written yet."""
        try:
            await self._round(ledger, [ticket])
        except LedgerRefused as refused:
            if refused.transient:
                self._again([ticket])
                return
            _log.error(
                "the ledger refused an authorization",
                shard=self.shard,
                link=ticket.request.link,
                stan=ticket.request.stan,
                sqlstate=refused.sqlstate,
                constraint=refused.constraint,
            )
            ticket.finish(Reply(Outcome.FAULT))

    async def _round(self, ledger: LaneLedger, batch: list[Ticket]) -> None:
        terms = self.terms
        moment = moment_at(self._clock.now_us(), self._calendar, terms)
        directed = [_directed(ticket) for ticket in batch]
        started_ns = self._clock.monotonic_ns()
        loaded = await ledger.load(self.shard, moment.business_date, moment.now_us, directed)
        loaded_ns = self._clock.monotonic_ns()
        self._metrics.stage("load", (loaded_ns - started_ns) / NANOSECONDS)
        self._metrics.round_trip("load", (loaded_ns - started_ns) / NANOSECONDS)

        writers: list[Ticket] = []
        postings: list[Posting] = []
        versions: dict[int, int] = {}
        for ticket, facts in zip(batch, loaded, strict=True):
            posting = self._decide(ticket, facts, terms, moment)
            if posting is not None:
                writers.append(ticket)
                postings.append(posting)
                if facts.account is not None:
                    versions[facts.account.account_id] = facts.account.version
        decided_ns = self._clock.monotonic_ns()
        self._metrics.stage("decide", (decided_ns - loaded_ns) / NANOSECONDS)
        if not postings:
            return
        verdicts = await self._post(ledger, moment, versions, writers, postings, terms)
        posted_ns = self._clock.monotonic_ns()
        self._metrics.stage("post", (posted_ns - decided_ns) / NANOSECONDS)
        self._metrics.round_trip("post", (posted_ns - decided_ns) / NANOSECONDS)
        again = [
            ticket
            for ticket, posting, posted in zip(writers, postings, verdicts, strict=True)
            if not self._conclude(ticket, posting, posted, posted_ns)
        ]
        if again:
            self._metrics.conflicts(len(again))
            self._again(again)

    def _decide(
        self, ticket: Ticket, facts: Loaded, terms: Terms, moment: Moment
    ) -> Posting | None:
        """What to post for a ticket, or None where it is already finished."""
        if ticket.answered is not None and ticket.request.kind is not Kind.REVERSAL:
            if not ticket.sent:
                ticket.settle(Reply(ticket.answered))
                return None
            return self._resolve(ticket, facts, moment)
        if self._hopeless(ticket, self._clock.monotonic_ns()):
            return None
        decision = decide(_directed(ticket), facts, terms, moment)
        if isinstance(decision, Posting):
            return decision
        if decision.replayed:
            self._metrics.duplicates("stored_answer")
        ticket.finish(decision)
        return None

    def _resolve(self, ticket: Ticket, facts: Loaded, moment: Moment) -> Posting | None:
        """Bring the ledger to agree with an answer given while the posting was in doubt."""
        assert ticket.answered is not None
        stored = facts.stored
        if stored is None:
            return resolved_as_answered(_directed(ticket), ticket.answered, moment)
        ticket.sent = False
        if stored.outcome.approved and Kind.REVERSAL not in stored.followed_by:
            self._reverse(ticket, stored.authorization_id)
        else:
            ticket.settle(Reply(ticket.answered))
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
            if ticket.answered is not None or ticket.request.kind is Kind.REVERSAL
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
            for ticket in writers:
                ticket.sent = True
            raise
        finally:
            for ticket in writers:
                ticket.posting = False

    def _conclude(self, ticket: Ticket, posting: Posting, posted: Posted, now_ns: int) -> bool:
        """Answer what the verdict says; False where the ticket must be loaded once more."""
        if posted.verdict is Verdict.CONFLICT:
            return False
        if posted.verdict is Verdict.EXPIRED:
            # This row is not written, yet one sent before a lost connection may be.
            if not ticket.sent and ticket.request.kind is not Kind.REVERSAL:
                ticket.finish(Reply(Outcome.NO_BUDGET))
                return True
            return False
        ticket.sent = False
        reply = posting.reply or Reply(
            posting.outcome,
            posting.approved_minor,
            posted.authorization_id,
            posting.auth_code,
            posting.rrn,
        )
        in_time = ticket.answered is None and now_ns < ticket.request.deadline_ns
        if in_time or ticket.request.kind is Kind.REVERSAL:
            ticket.finish(reply)
            return True
        ticket.answer(Reply(Outcome.ANSWERED_LATE))
        if posting.outcome.approved and posting.transfers:
            self._reverse(ticket, posted.authorization_id)
        else:
            ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))
        return True

    def _again(self, tickets: list[Ticket]) -> None:
        """First in line, in the order they came."""
        self._queue.extendleft(reversed(tickets))
        self._arrived.set()

    def _reverse(self, ticket: Ticket, authorization_id: int) -> None:
        """Give back an approval that was not answered in time; the ticket waits for it."""
        self._metrics.late_approvals_reversed()

        def reversed_now(reply: Reply) -> None:
            _log.warning(
                "approval reversed, it came after its deadline",
                authorization_id=authorization_id,
                link=ticket.request.link,
                stan=ticket.request.stan,
                outcome=reply.outcome.value,
            )
            ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))

        request = msgspec.structs.replace(
            ticket.request,
            kind=Kind.REVERSAL,
            original_id=authorization_id,
            key=derived_key(ticket.request.key, b"late-reversal"),
        )
        reversal = Ticket(request, reversed_now, _leave_nothing)
        reversal.directed = msgspec.structs.replace(_directed(ticket), request=request)
        reversal.queued_ns = self._clock.monotonic_ns()
        self._again([reversal])


def _directed(ticket: Ticket) -> Directed:
    assert ticket.directed is not None, "a ticket enters a lane only with its account"
    return ticket.directed


def _leave_nothing(_ticket: Ticket) -> None:
    """A posting of the switch's own is in no flight."""
