"""Who may enter: tickets for requests, those in flight, and the order of shedding.

Every request holds one ticket from its first byte to its answer. Counts are bounded here,
so that a queue forms nowhere else and nobody waits in silence.
"""

from __future__ import annotations

from collections.abc import Callable

from protocols.message import Kind, Outcome, Reply, Request, Segment
from switch.posting import Directed, Posting

Respond = Callable[[Reply], None]


class Ticket:
    """A request on its way to one answer.

    `answered` is the outcome already given, before or after the ledger knew. `sent` are the
    postings of it that may be in the ledger though no verdict came back. `reversing` means
    that its approval is being given back, and that settles it. `followers` are repeats of
    the same message that arrived meanwhile and get the same answer; `first` is whom they
    follow. `reverses` is the key of the message whose late approval this one, the switch's
    own, gives back.
    """

    __slots__ = (
        "answered",
        "directed",
        "done",
        "first",
        "followers",
        "on_settled",
        "posting",
        "queued_ns",
        "request",
        "respond",
        "reverses",
        "reversing",
        "sent",
    )

    def __init__(
        self, request: Request, respond: Respond, on_settled: Callable[[Ticket], None]
    ) -> None:
        self.request = request
        self.respond = respond
        self.on_settled = on_settled
        self.directed: Directed | None = None
        self.answered: Outcome | None = None
        self.posting = False
        self.sent: tuple[Posting, ...] = ()
        self.reversing = False
        self.reverses = b""
        self.done = False
        self.queued_ns = 0
        self.first: Ticket | None = None
        self.followers: list[Ticket] = []

    @property
    def deadline_ns(self) -> int:
        return self.request.deadline_ns

    @property
    def settled(self) -> bool:
        return self.answered is not None

    @property
    def in_doubt(self) -> bool:
        """Whether the ledger may hold money of this message that no answer has told of."""
        first = self.first
        under_way = self.posting or self.reversing or bool(self.sent)
        return under_way or (first is not None and first.in_doubt)

    def lost(self, posting: Posting) -> None:
        """Remember a posting that was sent and brought no verdict back.

        An approval is made only within the budget, and what must be posted is known by its
        key, so a few are enough however long the ledger stays away.
        """
        if self.request.must_post:
            self.sent = (posting,)
        elif posting.outcome.approved or not self.sent:
            self.sent = (*self.sent, posting)

    def answer(self, reply: Reply) -> bool:
        """Give the answer once; False when another was given before."""
        if self.answered is not None:
            return False
        self.answered = reply.outcome
        self.respond(reply)
        return True

    def expire(self) -> None:
        """The deadline: admit that it can't be met, and whether a posting may be under way."""
        self.answer(Reply(Outcome.OUTCOME_UNKNOWN if self.in_doubt else Outcome.NO_BUDGET))

    def finish(self, reply: Reply) -> bool:
        """Answer and settle: nothing more happens to this ticket. False if answered before."""
        in_time = self.answer(reply)
        # What is written however late is no secret from those who ask once more.
        tell = in_time or self.request.must_post
        self.settle(reply if tell else Reply(self.answered or reply.outcome))
        return in_time

    def settle(self, final: Reply) -> None:
        """Leave the flight, once; repeats that waited get the answer that was given."""
        if self.done:
            return
        self.done = True
        self.sent = ()
        self.reversing = False
        self.on_settled(self)
        for follower in self.followers:
            follower.finish(final)
        self.followers = []


NEVER_SHED_FACTOR = 2
"""What is never shed may fill the flight to this many times its bound: even that has one."""


class Flight:
    """The requests of this process that have no final answer yet, by idempotency key."""

    def __init__(self, in_flight_max: int) -> None:
        self._by_key: dict[bytes, Ticket] = {}
        self._in_flight_max = in_flight_max
        self.count = 0

    def admit(self, ticket: Ticket) -> Outcome | None:
        """Let a request in, or the outcome to refuse it with.

        A repeat of one in flight joins it: it is watched by its own deadline and answered
        with the first. The same key with another content is refused, never overwritten.
        """
        bound = self._in_flight_max * (NEVER_SHED_FACTOR if ticket.request.never_shed else 1)
        if self.count >= bound:
            return Outcome.OVERLOADED
        first = self._by_key.get(ticket.request.key)
        if first is not None and first.request.payload_hash != ticket.request.payload_hash:
            return Outcome.KEY_REUSED
        self.count += 1
        if first is not None:
            ticket.first = first
            first.followers.append(ticket)
        else:
            self._by_key[ticket.request.key] = ticket
        return None

    def is_repeat(self, ticket: Ticket) -> bool:
        """Whether an admitted ticket waits for another one's answer."""
        return self._by_key.get(ticket.request.key) is not ticket

    def leave(self, ticket: Ticket) -> None:
        """Take a settled ticket out."""
        self.count -= 1
        if self._by_key.get(ticket.request.key) is ticket:
            del self._by_key[ticket.request.key]


WAIT_BUDGET_PARTS = 5
"""At most this part (a fifth) of a budget may go by in a lane's queue: 160 of 800 ms.

The rest is for posting and answering, so that what is accepted under overload is answered
within the p99 of its segment (200 of 800 ms, 50 of 150), and what is not hears so at once.
"""

STANDING_WAIT_NS = 40_000_000
"""The longest queue that is let in while one stands: more would add latency and no answers.

A burst may fill a queue to its fifth of the budget, and is worked off. A queue that has been
longer than this for `STANDING_AFTER_NS` is no burst: then more comes than can be done.
"""
STANDING_AFTER_NS = 100_000_000

INQUIRY_SHARE = 0.5
QUEUE_SHARE_BY_SEGMENT = {Segment.UTILITY: 0.75, Segment.RETAIL: 0.85, Segment.TRANSIT: 1.0}
"""How full a lane's queue may be for each: inquiries are shed first, taps last (design §4)."""


def refuse_at_lane(
    request: Request,
    waiting: int,
    lane_queue_max: int,
    wait_ns: int,
    now_ns: int,
    *,
    standing: bool = False,
) -> Outcome | None:
    """Whether a lane with this many waiting, due in `wait_ns`, can still serve the request.

    Reversals, completions and confirmations are never shed: their number is bounded by what
    they follow. A queue longer than its part of the budget refuses at once.
    """
    if request.never_shed:
        return None
    budget_ns = request.deadline_ns - request.received_ns
    outcome = overload(
        request.segment,
        budget_ns,
        waiting,
        lane_queue_max,
        wait_ns,
        standing=standing,
        inquiry=request.kind is Kind.INQUIRY,
    )
    if outcome is None and now_ns + wait_ns >= request.deadline_ns:
        return Outcome.NO_BUDGET
    return outcome


def overload(
    segment: Segment,
    budget_ns: int,
    waiting: int,
    lane_queue_max: int,
    wait_ns: int,
    *,
    standing: bool,
    inquiry: bool = False,
) -> Outcome | None:
    """Whether a lane this busy refuses what may be shed; None where it takes it."""
    share = INQUIRY_SHARE if inquiry else QUEUE_SHARE_BY_SEGMENT[segment]
    if waiting >= lane_queue_max * share:
        return Outcome.OVERLOADED
    wait_ns_max = budget_ns // WAIT_BUDGET_PARTS
    if standing:
        wait_ns_max = min(wait_ns_max, STANDING_WAIT_NS)
    return Outcome.NO_BUDGET if wait_ns > wait_ns_max else None
