"""What becomes of one ticket, given what the ledger holds and what it said of a posting.

Here is the rule that nobody is misled: an answer is given once; an approval that was not
told in time is given back, linked to it; where a posting was lost with its connection, what
is stored under its key decides, and until then nothing is guessed (see lanes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.clock import Clock
from switch.decide import (
    Moment,
    Terms,
    decide,
    derived_key,
    resolved_as_answered,
    stored_reply,
)
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.posting import Directed, Loaded, Posted, Posting, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = get_log("lanes")


class Settling:
    """Decides and concludes the tickets of one lane.

    `first_in_line` takes tickets that the lane must see next.
    """

    def __init__(
        self, clock: Clock, metrics: Metrics, first_in_line: Callable[[Sequence[Ticket]], None]
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._first_in_line = first_in_line

    def hopeless(self, ticket: Ticket, now_ns: int) -> bool:
        """Let go of a ticket whose budget is gone and of which nothing can be in the ledger."""
        if ticket.done:
            return True
        if ticket.sent or ticket.request.must_post:
            return False
        if ticket.answered is None and ticket.request.deadline_ns > now_ns:
            return False
        ticket.finish(Reply(ticket.answered or Outcome.NO_BUDGET))
        return True

    def decide(self, ticket: Ticket, facts: Loaded, terms: Terms, moment: Moment) -> Posting | None:
        """What to post for a ticket, or None where nothing is. Raises what decide() raises."""
        if ticket.sent and not ticket.request.must_post:
            known, posting = self._in_doubt_known(ticket, facts, moment)
            if known:
                return posting
        elif self.hopeless(ticket, self._clock.monotonic_ns()):
            return None
        decision = decide(directed_of(ticket), facts, terms, moment)
        if isinstance(decision, Posting):
            return decision
        self._count_duplicate(decision)
        ticket.finish(decision)
        return None

    def conclude(self, ticket: Ticket, posting: Posting, posted: Posted, now_ns: int) -> bool:
        """Answer what the verdict says; False where the ticket must be loaded once more."""
        if posted.verdict is Verdict.CONFLICT:
            return False
        must_post = ticket.request.must_post
        if posted.verdict is Verdict.EXPIRED:
            # This row is not written, yet one sent before a lost connection may be.
            if not ticket.sent and not must_post:
                ticket.finish(Reply(Outcome.NO_BUDGET))
                return True
            return False
        ticket.sent = ()
        reply = _reply(posting, posted)
        if posting.outcome is Outcome.ORIGINAL_NOT_FOUND:
            self._metrics.unmatched(posting.kind)
        in_time = ticket.answered is None and now_ns < ticket.request.deadline_ns
        if in_time or must_post:
            self._count_duplicate(reply)
            ticket.finish(reply)
            return True
        ticket.answer(Reply(Outcome.ANSWERED_LATE))
        if _to_give_back(posting):
            repeated = posting.kind is Kind.REPEAT
            given_out = posting.original_id if repeated else posted.authorization_id
            self._reverse(ticket, given_out, posting.key)
        else:
            ticket.settle(Reply(ticket.answered or Outcome.ANSWERED_LATE))
        return True

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
            if stored is None or not own or ticket.request.kind is Kind.INQUIRY:
                return False, None
            ticket.finish(stored_reply(stored, ticket.request))
        elif stored is None:
            return True, resolved_as_answered(
                asked_of(ticket), facts.account, ticket.answered, moment
            )
        elif own and _to_give_back(ticket.sent[-1]) and stored.outcome.approved:
            sent = ticket.sent[-1]
            given_out = sent.original_id if was_repeat else stored.authorization_id
            self._reverse(ticket, given_out, sent.key)
        else:
            ticket.settle(Reply(ticket.answered))
        return True, None

    def _count_duplicate(self, reply: Reply) -> None:
        if reply.replayed:
            self._metrics.duplicates("stored_answer")
        elif reply.outcome is Outcome.KEY_REUSED:
            self._metrics.duplicates("key_reused")

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
            original=None,
            advice=False,
            replacement_minor=0,
            pin=b"",
            background=False,  # what waits there is given up when the ledger goes away
        )
        reversal = Ticket(request, reversed_now, _leave_nothing)
        reversal.reverses = ticket.request.key
        reversal.directed = msgspec.structs.replace(directed_of(ticket), request=request)
        reversal.queued_ns = self._clock.monotonic_ns()
        self._first_in_line([reversal])

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


def directed_of(ticket: Ticket) -> Directed:
    """The ticket's request with its account."""
    assert ticket.directed is not None, "a ticket enters a lane only with its account"
    return ticket.directed


def asked_of(ticket: Ticket) -> Directed:
    """What to load for a ticket: itself, or the repeat that it wrote and is in doubt about."""
    directed = directed_of(ticket)
    if not ticket.sent or ticket.sent[-1].key == directed.request.key:
        return directed
    request = msgspec.structs.replace(directed.request, kind=Kind.REPEAT, key=ticket.sent[-1].key)
    return msgspec.structs.replace(directed, request=request)


def _reply(posting: Posting, posted: Posted) -> Reply:
    reply = posting.reply
    if reply is None:
        return Reply(
            posting.outcome,
            posting.approved_minor,
            posted.authorization_id,
            posting.auth_code,
            posting.rrn,
            partial=posting.partial,
            suspense=posting.in_suspense,
        )
    if not reply.authorization_id:
        return msgspec.structs.replace(reply, authorization_id=posted.authorization_id)
    return reply


def _to_give_back(posting: Posting) -> bool:
    """Whether it gave out something that a late answer must take back; an inquiry does not."""
    return posting.outcome.approved and (posting.has_effect or posting.kind is Kind.REPEAT)


def _leave_nothing(_ticket: Ticket) -> None:
    """A posting of the switch's own is in no flight."""
