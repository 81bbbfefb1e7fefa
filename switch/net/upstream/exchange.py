"""One forwarded request from its frame to its end: what the host said, and what becomes of it.

A host's word is worth money on its side, so every way in which it can end is in one table,
`ROW_STATES`: by what the host said, and whether the ledger has it and the acquirer was told.

    waiting ── approved ──▶ posted by its lane ── stands ──▶ approved
       │                                      └─ refused, late, lost ──▶ reversing
       ├────── declined ──▶ posted as a decline ──▶ declined
       └────── silent (deadline, connection lost, an answer that makes no sense)
                   └──▶ posted as a decline ──▶ reversing
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from protocols.message import Kind, Outcome, Reply
from switch.admission import Ticket
from switch.ledger.forwarding import ForwardState
from switch.logs import get as get_log
from switch.posting import Forwarded

if TYPE_CHECKING:
    from switch.metrics import Metrics
    from switch.net.upstream.matching import MatchKey
    from switch.net.upstream.wire import HostAnswer

NANOSECONDS = 1_000_000_000

_log = get_log("upstream")


class Verdict(StrEnum):
    """What is known of a forwarded request at its host."""

    WAITING = "waiting"
    APPROVED = "approved"
    DECLINED = "declined"
    SILENT = "silent"
    UNSENT = "unsent"
    """It never left: the link went down, or its budget ended, after it was written down."""


ROW_STATES: Mapping[tuple[Verdict, bool], ForwardState] = {
    (Verdict.APPROVED, True): ForwardState.APPROVED,
    (Verdict.APPROVED, False): ForwardState.REVERSING,
    (Verdict.DECLINED, False): ForwardState.DECLINED,
    (Verdict.SILENT, False): ForwardState.REVERSING,
    (Verdict.UNSENT, False): ForwardState.DECLINED,
}
"""By the verdict and whether an approval stands: posted, and told within its budget."""


class Awaited(Protocol):
    """Something sent to a host, by which its answer is awaited; kept in a deadline heap too."""

    @property
    def match(self) -> MatchKey: ...

    @property
    def deadline_ns(self) -> int: ...

    @property
    def settled(self) -> bool: ...

    def expire(self) -> None: ...

    def answered(self, answer: HostAnswer) -> None:
        """The answer came in time."""
        ...

    def answered_late(self, answer: HostAnswer) -> None:
        """An answer came after the end, or once more."""
        ...

    def lost(self) -> None:
        """The connection ended before the answer."""
        ...


class Exchange:
    """A request at its host. `ended` writes its row's state; `post` hands it to its lane."""

    __slots__ = (
        "_ended",
        "_forget",
        "_metrics",
        "_now_ns",
        "_post",
        "_sent_ns",
        "deadline_ns",
        "match",
        "ticket",
        "upstream",
        "verdict",
    )

    def __init__(
        self,
        ticket: Ticket,
        upstream: str,
        match: MatchKey,
        sent_ns: int,
        deadline_ns: int,
        *,
        post: Callable[[Ticket, Forwarded], None],
        ended: Callable[[ForwardState], None],
        forget: Callable[[MatchKey], object],
        now_ns: Callable[[], int],
        metrics: Metrics,
    ) -> None:
        self.ticket = ticket
        self.upstream = upstream
        self.match = match
        self.deadline_ns = deadline_ns
        self.verdict = Verdict.WAITING
        self._sent_ns = sent_ns
        self._post = post
        self._ended = ended
        self._forget = forget
        self._now_ns = now_ns
        self._metrics = metrics

    @property
    def settled(self) -> bool:
        return self.verdict is not Verdict.WAITING

    def expire(self) -> None:
        """No answer by the deadline."""
        self._forget(self.match)
        self._be_silent()

    def lost(self) -> None:
        """No answer can come: the connection is gone."""
        self._be_silent()

    def answered(self, answer: HostAnswer) -> None:
        """The host's answer, in time."""
        seconds = (self._now_ns() - self._sent_ns) / NANOSECONDS
        self._metrics.upstream_answered(self.upstream, answer.outcome, seconds)
        if not answer.outcome.approved:
            self.verdict = Verdict.DECLINED
            self._write(stands=False)
            self._decline(answer.outcome, answer.rrn)
            return
        request = self.ticket.request
        approved_minor = answer.approved_minor or request.amount.amount_minor
        if not self._makes_sense(approved_minor):
            self.verdict = Verdict.SILENT
            self._write(stands=False)
            self._decline(Outcome.DO_NOT_HONOUR, answer.rrn)
            return
        if self.ticket.answered is not None and not request.must_post:
            self._metrics.upstream_late_approval(self.upstream)
        self.verdict = Verdict.APPROVED
        watcher = Ticket(request, self._concluded, _in_no_flight)
        watcher.first = self.ticket
        self.ticket.followers.append(watcher)
        rrn = answer.rrn or request.rrn
        self._post(
            self.ticket,
            Forwarded(self.upstream, Outcome.APPROVED, approved_minor, answer.auth_code, rrn),
        )

    def answered_late(self, answer: HostAnswer) -> None:
        """After the end: an approval of what was given up is being reversed already."""
        if self.verdict is Verdict.SILENT and answer.outcome.approved:
            self._metrics.upstream_late_approval(self.upstream)
            _log.warning("a host approved too late; it is reversed", upstream=self.upstream)

    def _be_silent(self) -> None:
        self.verdict = Verdict.SILENT
        self._metrics.upstream_answered(self.upstream, Outcome.DESTINATION_DOWN, None)
        self._write(stands=False)
        self._decline(Outcome.DESTINATION_DOWN, "")

    def _makes_sense(self, approved_minor: int) -> bool:
        """Less than was asked only where the terminal takes it, and for sales; never more."""
        request = self.ticket.request
        asked_minor = request.amount.amount_minor
        partial_taken = request.partial_allowed and request.kind is Kind.PURCHASE
        if approved_minor == asked_minor or (0 < approved_minor < asked_minor and partial_taken):
            return True
        _log.error("a host approved another amount; it is reversed", upstream=self.upstream)
        return False

    def _decline(self, outcome: Outcome, rrn: str) -> None:
        """Post that it was declined, for the record; an advice only where its host said so.

        Of an advice that got no answer nothing is posted: it is repeated, and sent again.
        """
        ticket = self.ticket
        late = ticket.answered is not None and not ticket.request.must_post
        if late or (ticket.request.must_post and self.verdict is Verdict.SILENT):
            ticket.finish(Reply(outcome))
            return
        self._post(ticket, Forwarded(self.upstream, outcome, 0, "", rrn))

    def _concluded(self, final: Reply) -> None:
        """Its ticket is settled: told as approved, or not."""
        self._write(stands=final.outcome.approved)

    def _write(self, *, stands: bool) -> None:
        self._ended(ROW_STATES[self.verdict, stands])


def _in_no_flight(_ticket: Ticket) -> None:
    """A watcher is nobody's request."""
