"""What is answered where the ledger already holds something under the key of a request.

tombstone                     it was reversed before it came
another content               the key was used for another message
a decline                     the stored answer
an inquiry                    asked anew
what is written however late  the stored answer: nobody takes it back as late
an approval that was reversed answered too late
an approval                   the stored answer, once that is written down; of a tap with its
                              fare, of a chip's load with what was missing
"""

from __future__ import annotations

import msgspec

from protocols.message import Kind, Outcome, Reply, Request
from switch.decide.case import Case
from switch.decide.inquiry import asked_again
from switch.decide.keys import derived_key
from switch.decide.loads import shadow_told
from switch.decide.taps import fare_told
from switch.posting import Decision, Posting, Stored

CLAIMS_MAX = 8
"""Answers written down as giving out one approval; a further repeat is answered without.

That many would all have to be withdrawn at once before its answer could be wrong, and a
terminal that repeats without end cannot make the ledger grow.
"""


def stored_reply(stored: Stored, request: Request | None = None) -> Reply:
    """The answer that the ledger holds, to be given once more for the same `request`."""
    approved_minor, partial = stored.approved_minor, False
    if request is not None:
        asked_minor = request.amount.amount_minor
        partial = request.kind is Kind.PURCHASE and 0 < approved_minor < asked_minor
        if request.kind is Kind.COMPLETION and not asked_minor:
            approved_minor = 0  # what is stored is the hold that it cancelled
    if stored.kind is Kind.FARE_CREDIT:
        approved_minor = -approved_minor  # what a tap is charged: money went back
    return Reply(
        stored.outcome,
        approved_minor,
        stored.authorization_id,
        stored.auth_code,
        stored.rrn,
        replayed=True,
        partial=partial,
    )


def stored_answer(case: Case, stored: Stored) -> Decision:
    """The answer to a repeat; a posting where giving it out must be written down first."""
    request = case.request
    if stored.kind is Kind.TOMBSTONE:
        return Reply(Outcome.REVERSED_BEFORE)
    if stored.payload_hash != request.payload_hash:
        return Reply(Outcome.KEY_REUSED)
    if not stored.outcome.approved or request.must_post:
        return stored_reply(stored, request)
    if request.kind is Kind.INQUIRY:
        forwarded = case.directed.forwarded is not None
        return stored_reply(stored, request) if forwarded else asked_again(case, stored)
    if stored.followers.reversed:
        return Reply(Outcome.ANSWERED_LATE, replayed=True)
    return given_out_again(case, stored)


def given_out_again(case: Case, stored: Stored) -> Decision:
    """A stored approval that stands, told once more; written down first, as a claim on it."""
    request = case.request
    reply = stored_reply(stored, request)
    if request.tap is not None:
        fare = fare_told(case, stored.authorization_id)
        reply = msgspec.structs.replace(reply, fare=fare, balances=shadow_told(case))
    if stored.followers.claims >= CLAIMS_MAX:
        return reply
    # Its own worker may be about to reverse it as answered too late, at whatever moment
    # that worker learns of it. Writing down that it is given out now, under the version
    # check, makes exactly one of the two happen.
    repeat = request.key + case.moment.now_us.to_bytes(8, "big")
    return Posting(
        case.directed,
        case.moment.now_us,
        Outcome.APPROVED,
        auth_code=stored.auth_code,
        rrn=stored.rrn,
        original_id=stored.authorization_id,
        explanation="stored approval given out again",
        key=derived_key(repeat, b"repeat"),
        kind=Kind.REPEAT,
        reply=reply,
    )
