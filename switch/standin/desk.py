"""The desk of stand-in: takes what the ledger cannot have, and answers once it is on disk.

One task of the process talks to the spool. What waits when it comes round is one
transaction, so the disk syncs once for many answers, in a thread, and the loop goes on. A
card that owes postings stays with the desk until they are posted, or its sales would be
posted out of order.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, assert_never

import anyio
from anyio import to_thread

from protocols.message import Kind, Outcome, Reply, Request, Segment
from risk.lists import Lookup
from switch.admission import Ticket
from switch.config import Config
from switch.config_trouble import Standin, StandinPolicy
from switch.decide import Terms, auth_code_of, moment_at, rrn_of
from switch.logs import get as get_log
from switch.standin.advice import Sealer
from switch.standin.hotlist import hotlist_of, nobody
from switch.standin.policy import SALE_KINDS, CardStanding, Refusal, refusal_of
from switch.standin.rows import Answer, Offer, Verdict, View, Withdrawal
from switch.standin.spool import Spool
from switch.standin.spool_file import SpoolUnusable

if TYPE_CHECKING:
    from switch.calendar import BusinessCalendar
    from switch.clock import Clock
    from switch.metrics import Metrics

T = TypeVar("T")

WAITING_MAX = 8_192
"""Offers that wait for the disk; admission bounds them too. What is over is declined."""
BATCH_MAX = 128
"""Offers of one transaction: about ten milliseconds, in which no other worker can write."""
LOOK_SECONDS = 1.0
LOOK_NS = int(LOOK_SECONDS * 1_000_000_000)
"""How soon a worker learns that a card of another one owes postings, or owes none any more."""
LAST_TURN_SECONDS = 2.0
MICROSECONDS = 1_000_000
FORGOTTEN_ON = frozenset(
    {
        Outcome.CARD_STOLEN,
        Outcome.CARD_LOST,
        Outcome.CARD_BLOCKED,
        Outcome.CARD_CLOSED,
        Outcome.CARD_EXPIRED,
        Outcome.ACCOUNT_FROZEN,
        Outcome.ACCOUNT_CLOSED,
        Outcome.HOTLISTED,
    }
)
"""Answers of the ledger after which a card is not known to be good any more."""

_log = get_log("standin")


class Desk:
    """Stand-in of one process; the pipeline hands it tickets (see `pipeline.StandinDesk`)."""

    def __init__(
        self,
        *,
        spool: Spool,
        sealer: Sealer,
        policies: Mapping[Segment, StandinPolicy],
        currency: str,
        hotlisted: Lookup,
        terms: Terms,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        seen_max: int,
    ) -> None:
        self.sealer = sealer
        self.open_rows = 0
        self.ledger_is_up: Callable[[], bool] = lambda: False
        """Set to the pipeline's once there is one."""
        self._spool = spool
        self._policies = policies
        self._currency = currency
        self._hotlisted = hotlisted
        self._terms = terms
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._seen: OrderedDict[bytes, int] = OrderedDict()
        self._seen_max = seen_max
        self._owing: set[bytes] = set()
        self._pending: Counter[bytes] = Counter()
        self._waiting: deque[tuple[Ticket, bytes]] = deque()
        self._withdrawals: list[Withdrawal] = []
        self._answers: Counter[str] = Counter()
        self._usable = True
        self._complete_look_ns = 0
        self._arrived = anyio.Event()
        # One call at a time: a spool is one connection.
        self._turn = anyio.CapacityLimiter(1)

    def follow(self, terms: Terms, hotlisted: Lookup | None) -> None:
        """Stand in by these terms from now on, and by the hotlist that rules look into."""
        self._terms = terms
        self._hotlisted = hotlisted or nobody

    def owes(self, medium: bytes) -> bool:
        """Whether postings of this card are still to come: then it is the desk's."""
        return medium in self._owing or medium in self._pending

    def offer(self, ticket: Ticket, medium: bytes) -> None:
        """Take a ticket that the ledger cannot have. It is answered here, or within a turn."""
        # What the desk approves is no approval of the ledger's, which `seen` counts.
        ticket.directed = None
        request = ticket.request
        refusal = self._refused_at_once(request)
        if refusal is not None:
            self._decline(ticket, refusal)
            return
        self._waiting.append((ticket, medium))
        self._pending[medium] += 1
        self._arrived.set()

    def forget(self, medium: bytes) -> None:
        """Stand in for this card only after the ledger has approved it once more."""
        self._seen.pop(medium, None)

    def seen(self, ticket: Ticket, medium: bytes) -> None:
        """Remember a card that the ledger approved, forget one that it found to be bad."""
        outcome = ticket.answered
        if outcome in FORGOTTEN_ON:
            self._seen.pop(medium, None)
        elif outcome is Outcome.APPROVED and not ticket.request.must_post:
            self._seen[medium] = self._clock.now_us()
            self._seen.move_to_end(medium)
            if len(self._seen) > self._seen_max:
                self._seen.popitem(last=False)

    async def run(self) -> None:
        """Write and answer until cancelled; what is to be withdrawn is withdrawn at the end."""
        try:
            while True:
                if not self._waiting and not self._withdrawals:
                    self._arrived = anyio.Event()
                    with anyio.move_on_after(LOOK_SECONDS):
                        await self._arrived.wait()
                await self._serve_turn()
        finally:
            if self._withdrawals:
                with anyio.move_on_after(LAST_TURN_SECONDS, shield=True):
                    await self._serve_turn()

    async def ask(self, call: Callable[[Spool], T]) -> T:
        """Run one call on the spool in a thread, in turn. Raises SpoolUnusable."""
        return await to_thread.run_sync(call, self._spool, limiter=self._turn)

    def look_soon(self) -> None:
        """Have a turn now: the spool has just changed."""
        self._arrived.set()

    def begin(self) -> None:
        """Look at the spool before the first request: cards may owe from an earlier run.

        Blocks; for the start of a process. A spool that cannot be used is told, and tried
        again with every turn; until then nothing is approved.
        """
        try:
            self._see(self._spool.look(complete=True))
        except SpoolUnusable as error:
            self._unusable(error)

    async def _serve_turn(self) -> None:
        taken = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_MAX))]
        batch = [(ticket, medium) for ticket, medium in taken if self._wanted(ticket)]
        try:
            answers, view = await self._written(batch)
        except SpoolUnusable as error:
            self._unusable(error)
            for ticket, _ in batch:
                ticket.posting = False
                if error.in_doubt and ticket.request.kind in SALE_KINDS:
                    self._withdrawals.append(self._withdrawal_of(ticket))
                self._decline(ticket, Refusal.SPOOL_UNUSABLE)
        else:
            self._see(view)
            for (ticket, medium), answer in zip(batch, answers, strict=True):
                self._conclude(ticket, medium, answer)
        finally:
            for _, medium in taken:
                self._pending[medium] -= 1
                if not self._pending[medium]:
                    del self._pending[medium]
        self._tell()

    def _wanted(self, ticket: Ticket) -> bool:
        """Whether to write it still. A reversal is written however late it is."""
        if ticket.done:
            return False
        if ticket.answered is not None and ticket.request.kind is not Kind.REVERSAL:
            ticket.finish(Reply(ticket.answered))
            return False
        return True

    async def _written(self, batch: list[tuple[Ticket, bytes]]) -> tuple[list[Answer], View]:
        """One turn in the thread: what was withdrawn first, then the batch, then a look."""
        withdrawals = self._withdrawals[:WAITING_MAX]
        offers = [self._offer_of(ticket.request, medium) for ticket, medium in batch]
        # While nobody posts, cards only come to owe: what is new is enough.
        now_ns = self._clock.monotonic_ns()
        complete = self.ledger_is_up() and now_ns >= self._complete_look_ns
        if complete:
            self._complete_look_ns = now_ns + LOOK_NS

        def turn(spool: Spool) -> tuple[list[Answer], View]:
            # By itself: a turn that fails must not make more to withdraw than it takes away.
            if withdrawals:
                _without_doubt(spool, withdrawals)
            answers = spool.take(offers) if offers else []
            return answers, spool.look(complete=complete)

        for ticket, _ in batch:
            ticket.posting = True  # at its deadline nobody knows whether it is on disk
        answers, view = await self.ask(turn)
        del self._withdrawals[: len(withdrawals)]
        return answers, view

    def _offer_of(self, request: Request, medium: bytes) -> Offer:
        now_us = self._clock.now_us()
        body, card = self.sealer.seal(request)
        sale = request.kind in SALE_KINDS
        policy = self._policies[request.segment]
        return Offer(
            key=request.key,
            payload_hash=request.payload_hash,
            kind="purchase" if sale else "reversal",
            segment=request.segment.value,
            medium=medium,
            amount_minor=request.amount.amount_minor,
            request=body,
            card=card,
            auth_code=auth_code_of(request.key) if sale else "",
            rrn=rrn_of(request, moment_at(now_us, self._calendar, self._terms)),
            at_us=now_us,
            original_key=request.original.key if request.original is not None else b"",
            policy=policy,
            refusal=self._refusal_of(policy, request, medium, now_us) if sale else None,
        )

    def _refusal_of(
        self, policy: StandinPolicy, request: Request, medium: bytes, now_us: int
    ) -> Refusal | None:
        standing = CardStanding(self._seen.get(medium, 0), self._hotlisted(medium.hex(), now_us))
        return refusal_of(policy, request, standing, now_us, self._currency)

    def _refused_at_once(self, request: Request) -> Refusal | None:
        """What needs no look at the spool, because nothing of it can be there."""
        if request.kind not in SALE_KINDS and request.kind is not Kind.REVERSAL:
            return Refusal.KIND
        if request.kind in SALE_KINDS and not self._policies[request.segment].enabled:
            return Refusal.SEGMENT
        if len(self._waiting) >= WAITING_MAX:
            return Refusal.SPOOL_UNUSABLE
        return None

    def _conclude(self, ticket: Ticket, medium: bytes, answer: Answer) -> None:
        ticket.posting = False
        verdict = answer.verdict
        match verdict:
            case Refusal():
                self._decline(ticket, verdict)
            case Verdict.TAKEN | Verdict.STORED:
                self._approve(ticket, answer)
            case Verdict.KEY_REUSED:
                self._metrics.duplicates("key_reused")
                ticket.finish(Reply(Outcome.KEY_REUSED))
            case Verdict.WITHDRAWN:
                ticket.finish(Reply(Outcome.ANSWERED_LATE, replayed=True))
            case Verdict.REVERSED_BEFORE:
                ticket.finish(Reply(Outcome.REVERSED_BEFORE))
            case _:
                assert_never(verdict)

    def _approve(self, ticket: Ticket, answer: Answer) -> None:
        request = ticket.request
        stored = answer.verdict is Verdict.STORED
        reply = Reply(
            Outcome.APPROVED,
            answer.amount_minor,
            auth_code=answer.auth_code,
            rrn=answer.rrn,
            replayed=stored,
        )
        # The deadline heap may not have run yet, and an answer that is late is none.
        if self._clock.monotonic_ns() >= request.deadline_ns:
            ticket.answer(Reply(Outcome.ANSWERED_LATE))
        in_time = ticket.finish(reply)
        if not in_time and request.kind in SALE_KINDS:
            self._withdrawals.append(self._withdrawal_of(ticket))
        if stored:
            self._metrics.duplicates("stored_answer")
            return
        self._count(request.segment, "approved" if request.kind in SALE_KINDS else "accepted")

    def _withdrawal_of(self, ticket: Ticket) -> Withdrawal:
        return Withdrawal(ticket.request.key, self._clock.now_us())

    def _decline(self, ticket: Ticket, refusal: Refusal) -> None:
        segment = ticket.request.segment
        self._count(segment, "declined", refusal)
        if ticket.answered is None:
            self._metrics.shed(segment, Outcome.LEDGER_DOWN)
        ticket.finish(Reply(Outcome.LEDGER_DOWN))

    def _count(self, segment: Segment, answer: str, refusal: Refusal | None = None) -> None:
        self._metrics.standin(segment, answer)
        self._answers[refusal.value if refusal is not None else answer] += 1

    def _see(self, view: View) -> None:
        """Take in a look at the spool."""
        if not self._usable:
            _log.info("the stand-in spool can be used again")
        self._usable = True
        self.open_rows = view.open_rows
        if view.complete or not view.open_rows:
            self._owing = set(view.mediums)
        else:
            self._owing |= view.mediums
        age_us = self._clock.now_us() - view.oldest_at_us if view.oldest_at_us else 0
        self._metrics.standin_spool(view.open_rows, max(age_us, 0) / MICROSECONDS)

    def _unusable(self, error: SpoolUnusable) -> None:
        if self._usable:
            _log.error("stand-in approves nothing", reason=str(error))
        self._usable = False

    def _tell(self) -> None:
        """One line a turn at most, however many were answered."""
        if self._answers and not self._waiting:
            _log.warning("stand-in answered", **self._answers, unposted=self.open_rows)
            self._answers.clear()


def _without_doubt(spool: Spool, withdrawals: list[Withdrawal]) -> None:
    try:
        spool.take(withdrawals)
    except SpoolUnusable as error:
        raise SpoolUnusable(str(error)) from None


def policies_of(standin: Standin) -> dict[Segment, StandinPolicy]:
    """The policy of each segment."""
    return {
        Segment.TRANSIT: standin.transit,
        Segment.UTILITY: standin.utility,
        Segment.RETAIL: standin.retail,
    }


def desk_of(
    config: Config,
    *,
    key: bytes,
    slot: int,
    terms: Terms,
    calendar: BusinessCalendar,
    clock: Clock,
    metrics: Metrics,
) -> Desk:
    """The desk of one worker, which has looked at its spool. `key` is the card number key.

    The configuration names the spool's file; see `with_spool_file`.
    """
    standin = config.standin
    desk = Desk(
        spool=Spool(
            Path(standin.spool_file),
            slot=slot,
            rows_max=standin.spool_rows_max,
            switched_on=standin.enabled,
        ),
        sealer=Sealer(key),
        policies=policies_of(standin),
        currency=config.ledger.currency,
        hotlisted=hotlist_of(config),
        terms=terms,
        calendar=calendar,
        clock=clock,
        metrics=metrics,
        seen_max=config.limits.directory_cache,
    )
    desk.begin()
    return desk
