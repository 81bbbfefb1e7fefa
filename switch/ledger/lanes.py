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
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.decide import (
    Moment,
    Terms,
    decide,
    derived_key,
    moment_at,
    resolved_as_answered,
    stored_reply,
)
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
OWED_SECONDS = 1.0
"""How long what must be written and was refused waits before it is tried again."""
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
        turns: anyio.Semaphore | None = None,
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
        self._turns = turns or anyio.Semaphore(1)
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._queue: deque[Ticket] = deque()
        self._in_doubt: list[Ticket] = []
        self._owed: deque[Ticket] = deque()
        self._owed_due_ns = 0
        self._current: list[Ticket] = []
        self._arrived = anyio.Event()
        self._batch_ns = 0.0

    @property
    def waiting(self) -> int:
        """Tickets that no batch has taken yet."""
        return len(self._queue)

    @property
    def unfinished(self) -> int:
        """Tickets that still need this lane: waiting, in a batch, in doubt, or owed."""
        waiting = len(self._queue) + len(self._current)
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
        while self._queue and len(batch) < self._batch_max:
            ticket = self._queue.popleft()
            if self._hopeless(ticket, now_ns):
                continue
            self._metrics.stage("queue", (now_ns - ticket.queued_ns) / NANOSECONDS)
            batch.append(ticket)
        return batch

    def _hopeless(self, ticket: Ticket, now_ns: int) -> bool:
        """Let go of a ticket whose budget is gone and of which nothing can be in the ledger."""
        if ticket.done:
            return True
        if ticket.sent or ticket.request.kind is Kind.REVERSAL:
            return False
        if ticket.answered is None and ticket.request.deadline_ns > now_ns:
            return False
        ticket.finish(Reply(ticket.answered or Outcome.NO_BUDGET))
        return True

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
            elif ticket.answered is None or ticket.request.kind is Kind.REVERSAL:
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
            account_id = _directed(ticket).account_id
            if account_id and account_id in waiting_accounts:
                again.append(ticket)
                continue
            if self._hopeless(ticket, self._clock.monotonic_ns()):
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
        if ticket.request.kind is Kind.REVERSAL:
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
        terms = self.terms
        moment = moment_at(self._clock.now_us(), self._calendar, terms)
        directed = [_asked(ticket) for ticket in batch]
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
            return []
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
        return again

    def _decide(
        self, ticket: Ticket, facts: Loaded, terms: Terms, moment: Moment
    ) -> Posting | None:
        """What to post for a ticket, or None where nothing is."""
        is_reversal = ticket.request.kind is Kind.REVERSAL
        if ticket.sent and not is_reversal:
            known, posting = self._in_doubt_known(ticket, facts, moment)
            if known:
                return posting
        elif self._hopeless(ticket, self._clock.monotonic_ns()):
            return None
        try:
            decision = decide(_directed(ticket), facts, terms, moment)
        except Exception as fault:  # noqa: BLE001 - one message must not end all the others
            self._fault(ticket, fault=type(fault).__name__)
            return None
        if isinstance(decision, Posting):
            return decision
        self._count_duplicate(decision)
        ticket.finish(decision)
        return None

    def _in_doubt_known(
        self, ticket: Ticket, facts: Loaded, moment: Moment
    ) -> tuple[bool, Posting | None]:
        """Whether what was loaded ends the doubt about a ticket, and what to post for that.

        It does not where there is still time and nothing of the ticket is in the ledger.
        """
        stored = facts.stored
        was_repeat = ticket.sent[-1].kind is Kind.REPEAT
        if was_repeat or self._clock.monotonic_ns() >= ticket.request.deadline_ns:
            ticket.answer(Reply(Outcome.OUTCOME_UNKNOWN))
        own = stored is not None and any(sent.at_us == stored.at_us for sent in ticket.sent)
        if ticket.answered is None:
            if stored is None or not own:
                return False, None
            ticket.finish(stored_reply(stored))
        elif stored is None:
            return True, resolved_as_answered(
                _asked(ticket), facts.account, ticket.answered, moment
            )
        elif own and stored.outcome.approved:
            sent = ticket.sent[-1]
            self._reverse(ticket, sent.original_id or stored.authorization_id, sent.key)
        else:
            ticket.settle(Reply(ticket.answered))
        return True, None

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
            for ticket, posting in zip(writers, postings, strict=True):
                ticket.lost(posting)
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
        ticket.sent = ()
        reply = posting.reply or Reply(
            posting.outcome,
            posting.approved_minor,
            posted.authorization_id,
            posting.auth_code,
            posting.rrn,
        )
        in_time = ticket.answered is None and now_ns < ticket.request.deadline_ns
        if in_time or ticket.request.kind is Kind.REVERSAL:
            self._count_duplicate(reply)
            ticket.finish(reply)
            return True
        ticket.answer(Reply(Outcome.ANSWERED_LATE))
        if posting.outcome.approved:
            self._reverse(ticket, posting.original_id or posted.authorization_id, posting.key)
        else:
            ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))
        return True

    def _count_duplicate(self, reply: Reply) -> None:
        if reply.replayed:
            self._metrics.duplicates("stored_answer")
        elif reply.outcome is Outcome.KEY_REUSED:
            self._metrics.duplicates("key_reused")

    def _again(self, tickets: list[Ticket]) -> None:
        """First in line, in the order they came."""
        self._queue.extendleft(reversed(tickets))
        self._arrived.set()

    def _reverse(self, ticket: Ticket, authorization_id: int, claim: bytes) -> None:
        """Give back an approval that was not answered in time; the ticket waits for it.

        `claim` is the key of the posting by which this ticket would have given it out.
        """
        ticket.sent = ()
        ticket.reversing = True

        def reversed_now(reply: Reply) -> None:
            self._log_reversal(ticket, authorization_id, reply)
            ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))

        request = msgspec.structs.replace(
            ticket.request,
            kind=Kind.REVERSAL,
            original_id=authorization_id,
            key=derived_key(claim, b"late-reversal"),
        )
        reversal = Ticket(request, reversed_now, _leave_nothing)
        reversal.directed = msgspec.structs.replace(_directed(ticket), request=request)
        reversal.queued_ns = self._clock.monotonic_ns()
        self._again([reversal])

    def _log_reversal(self, ticket: Ticket, authorization_id: int, reply: Reply) -> None:
        where = {
            "authorization_id": authorization_id,
            "link": ticket.request.link,
            "stan": ticket.request.stan,
        }
        if reply.outcome.approved:
            self._metrics.late_approvals_reversed()
            _log.warning("approval reversed, it came after its deadline", **where)
        elif reply.outcome is Outcome.ANSWERED_LATE:
            _log.info("late approval stands, a repeat was answered with it", **where)
        else:
            _log.error(
                "an approval that came after its deadline could not be reversed; do it by hand",
                outcome=reply.outcome.value,
                **where,
            )


def _directed(ticket: Ticket) -> Directed:
    assert ticket.directed is not None, "a ticket enters a lane only with its account"
    return ticket.directed


def _asked(ticket: Ticket) -> Directed:
    """What to load for a ticket: itself, or the repeat that it wrote and is in doubt about."""
    directed = _directed(ticket)
    if not ticket.sent or ticket.sent[-1].key == directed.request.key:
        return directed
    request = msgspec.structs.replace(directed.request, kind=Kind.REPEAT, key=ticket.sent[-1].key)
    return msgspec.structs.replace(directed, request=request)


def _leave_nothing(_ticket: Ticket) -> None:
    """A posting of the switch's own is in no flight."""
