"""Who asks, and what people did: the operator of the token, and the audit trail."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from switch.console.desk import Desk
from switch.console.endpoint import READERS, Call, Endpoint, Query
from switch.console.fields import CountMax, Id
from switch.console.problems import Fault
from switch.ledger import rulesets
from switch.ledger.operators import Operator
from switch.ledger.rulesets import EventView

AUDITORS = frozenset({"auditor"})


class TrailQuery(Query, frozen=True):
    """About what, and older than which event; the newest about anything if nothing is said."""

    subject: Annotated[
        str,
        Meta(
            pattern=r"^[ -~]{0,80}$",
            description='a whole hash, or "rule ID", "list NAME", "operator NAME" and the like',
        ),
    ] = ""
    before: Id | None = None
    count_max: CountMax = 100


class TrailView(msgspec.Struct, frozen=True):
    """Events, newest first; `next_before` is what to give to see older ones, if there are any."""

    events: list[EventView]
    next_before: int | None


async def me(_desk: Desk, call: Call[None, Query]) -> Operator:
    return call.operator


async def trail(desk: Desk, call: Call[None, TrailQuery]) -> TrailView:
    asked = call.query
    found = await rulesets.trail(
        desk.ledger, subject=asked.subject, before=asked.before, count_max=asked.count_max
    )
    return TrailView(found, found[-1].event_id if len(found) == asked.count_max else None)


ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/me", summary="Whose token this is", roles=READERS, handler=me,
        answers=Operator, answer_example={"name": "li.wei", "roles": ["analyst", "author"]},
    ),
    Endpoint(
        method="GET", path="/v1/trail", summary="What people did about rules, and the switch",
        roles=AUDITORS, handler=trail, query=TrailQuery, answers=TrailView, faults=(Fault.FIELD,),
    ),
)  # fmt: skip
