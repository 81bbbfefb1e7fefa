"""Reviews and snoozes over HTTP: what waits for a person, and which cards a rule spares."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from switch.console.desk import Desk
from switch.console.endpoint import READERS, Asked, Call, Endpoint, Query
from switch.console.fields import CountMax, Id, InstantUs, Name, Reason
from switch.console.problems import Fault
from switch.ledger import reviews, snoozes
from switch.ledger.reviews import NOTE_CHARACTERS_MAX, QueueView, ReviewView, Verdict
from switch.ledger.snoozes import SnoozeView

CLOSERS = frozenset({"approver", "analyst"})
SNOOZERS = frozenset({"author"})
AnyName = Annotated[
    str, Meta(pattern=r"^([a-z][a-z0-9_]{0,39})?$", description="the name of a queue, or nothing")
]


class ReviewsQuery(Query, frozen=True):
    """Of which queue, and from after which instant on; the oldest of all if nothing is said."""

    queue: AnyName = ""
    after_us: InstantUs | None = None
    count_max: CountMax = 100


class ReviewsView(msgspec.Struct, frozen=True):
    """What waits, oldest first, and how much there is of each queue."""

    queues: list[QueueView]
    reviews: list[ReviewView]


class VerdictAsked(Asked, frozen=True):
    """What a person found; it stays."""

    verdict: Annotated[Verdict, Meta(description="fraud, genuine or unclear")]
    note: Annotated[
        str,
        Meta(
            max_length=NOTE_CHARACTERS_MAX,
            description=f"what was found, in at most {NOTE_CHARACTERS_MAX} characters",
        ),
    ] = ""
    queue: AnyName = ""


class ClosedView(msgspec.Struct, frozen=True):
    """The queues in which it waited."""

    authorization_id: int
    queues: list[str]


class SnoozesQuery(Query, frozen=True):
    """Of which card; of all if nothing is said."""

    card_id: Id | None = None


class SnoozesView(msgspec.Struct, frozen=True):
    """The snoozes that stand or begin soon, newest first."""

    snoozes: list[SnoozeView]


class SnoozeAsked(Asked, frozen=True):
    """Which card a rule is to spare, until when, and why."""

    rule_id: Name
    card_id: Id
    until_us: InstantUs
    reason: Reason


class SnoozedView(msgspec.Struct, frozen=True):
    """The snooze that was made."""

    snooze_id: int


class LiftAsked(Asked, frozen=True):
    """Which snoozes end."""

    rule_id: Name
    card_id: Id
    reason: Reason


class SnoozesLiftedView(msgspec.Struct, frozen=True):
    """How many snoozes that ended."""

    lifted: int


async def waiting(desk: Desk, call: Call[None, ReviewsQuery]) -> ReviewsView:
    asked = call.query
    async with desk.ledger.connection() as connection:
        return ReviewsView(
            await reviews.queues(connection),
            await reviews.open_reviews(
                connection, asked.queue, after_us=asked.after_us, count_max=asked.count_max
            ),
        )


async def close(desk: Desk, call: Call[VerdictAsked, Query]) -> ClosedView:
    asked, authorization_id = call.asked, int(call.path["id"])
    async with desk.ledger.connection() as connection:
        queues = await reviews.close(
            connection,
            authorization_id,
            verdict=asked.verdict,
            note=asked.note,
            closed_by=call.operator.name,
            queue=asked.queue,
        )
    return ClosedView(authorization_id, queues)


async def snoozed(desk: Desk, call: Call[None, SnoozesQuery]) -> SnoozesView:
    now_us, card_id = desk.clock.now_us(), call.query.card_id
    return SnoozesView(await snoozes.standing(desk.ledger, now_us, card_id=card_id))


async def snooze(desk: Desk, call: Call[SnoozeAsked, Query]) -> SnoozedView:
    asked = call.asked
    async with desk.ledger.connection() as connection:
        snooze_id = await snoozes.add(
            connection,
            rule_id=asked.rule_id,
            card_id=asked.card_id,
            until_us=asked.until_us,
            reason=asked.reason,
            author=call.operator.name,
            now_us=desk.clock.now_us(),
        )
    return SnoozedView(snooze_id)


async def lift(desk: Desk, call: Call[LiftAsked, Query]) -> SnoozesLiftedView:
    asked = call.asked
    async with desk.ledger.connection() as connection:
        lifted = await snoozes.lift(
            connection,
            rule_id=asked.rule_id,
            card_id=asked.card_id,
            reason=asked.reason,
            author=call.operator.name,
            now_us=desk.clock.now_us(),
        )
    return SnoozesLiftedView(lifted)


_SNOOZE = {"rule_id": "tap_burst", "card_id": 42, "reason": "a teacher taps for a class"}
ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/reviews", summary="What rules put before a person",
        roles=READERS, handler=waiting, query=ReviewsQuery, answers=ReviewsView,
        faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="POST", path="/v1/reviews/{id}/close", roles=CLOSERS, handler=close,
        summary="Give the verdict on an authorization", asked=VerdictAsked, answers=ClosedView,
        faults=(Fault.FIELD, Fault.REFUSED),
        example={"verdict": "genuine", "note": "the holder called"},
    ),
    Endpoint(
        method="GET", path="/v1/snoozes", summary="Which cards are spared from which rules",
        roles=READERS, handler=snoozed, query=SnoozesQuery, answers=SnoozesView,
        faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="POST", path="/v1/snoozes", summary="Spare a card from a rule for a while",
        roles=SNOOZERS, handler=snooze, asked=SnoozeAsked, answers=SnoozedView, status=201,
        faults=(Fault.FIELD, Fault.REFUSED),
        example=_SNOOZE | {"until_us": 1_800_000_000_000_000},
    ),
    Endpoint(
        method="POST", path="/v1/snoozes/lift", summary="Spare a card no longer",
        roles=SNOOZERS, handler=lift, asked=LiftAsked, answers=SnoozesLiftedView,
        faults=(Fault.FIELD, Fault.REFUSED), example=_SNOOZE,
    ),
)  # fmt: skip
