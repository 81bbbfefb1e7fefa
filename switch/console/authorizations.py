"""Why an authorization was answered as it was, over HTTP."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import msgspec
from msgspec import Meta

from switch.console.desk import Desk
from switch.console.endpoint import READERS, Call, Endpoint, Query
from switch.console.fields import Id
from switch.console.problems import Fault, refusal
from switch.ledger.explained import Explained
from switch.ledger.explained_trace import Traced, traced
from switch.ledger.explaining import RRN_DAYS, explained


class ExplanationQuery(Query, frozen=True):
    """Of which card, and on which business day, where the reference alone is not enough."""

    card_id: Id | None = None
    day: Annotated[date | None, Meta(description="a business day, such as 2026-10-01")] = None


class ExplanationView(msgspec.Struct, frozen=True):
    """What the reference means, newest first; several where an RRN was used again. Of one the
    rules are gone through again, each as a tree."""

    authorizations: list[Explained]
    traced: Traced | None


async def explanation(desk: Desk, call: Call[None, ExplanationQuery]) -> ExplanationView:
    async with desk.ledger.connection() as connection:
        found = await explained(
            connection, call.path["reference"], card_id=call.query.card_id, day=call.query.day
        )
        trees = await traced(connection, found[0]) if len(found) == 1 else None
    if not found:
        words = "no authorization has this reference"
        if call.query.day is None:
            words += f"; an RRN is looked for on the last {RRN_DAYS} days, older ones by day="
        raise refusal(Fault.NOT_FOUND, words)
    return ExplanationView(found, trees)


ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/authorizations/{reference}/explanation", roles=READERS,
        handler=explanation, query=ExplanationQuery, answers=ExplanationView,
        summary="What was asked and answered, by which rules, and what became of it",
        faults=(Fault.FIELD,),
    ),
)  # fmt: skip
