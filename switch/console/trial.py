"""One made-up request put to a ruleset over HTTP: what it decides, and every rule as a tree."""

from __future__ import annotations

import anyio
import msgspec

from risk.compile import compile_ruleset
from risk.explain import explain
from risk.facts_json import FACTS_BYTES_MAX, FactsUnreadable, WrittenFacts, facts_from_json
from risk.lists import ListBook
from risk.record import Assessment
from risk.ruleset import Ruleset
from risk.trace import RuleTrace, trace
from switch.console.desk import Desk
from switch.console.endpoint import Call, Endpoint, Query
from switch.console.problems import Fault, refusal
from switch.console.rulesets import typed
from switch.ledger import rulesets
from switch.ledger.rules_now import lists_now

TRIERS = frozenset({"analyst", "author", "approver"})
CARD_SHOWN = "0000"
"""A made-up request has no card number whose last digits could be told."""


class TrialView(msgspec.Struct, frozen=True):
    """What a ruleset says about made-up facts, and each rule of that kind as a tree: a part
    `holds`, or not, or (null) it is unknown whether it does."""

    hash: str
    state: str
    sentence: str
    assessment: Assessment
    rules: tuple[RuleTrace, ...]


async def simulate(desk: Desk, call: Call[None, Query]) -> TrialView:
    async with desk.ledger.connection() as connection:
        view = await rulesets.found(connection, call.path["ref"])
        text = await rulesets.text(connection, view.hash)
        book = await lists_now(connection, desk.clock.now_us())
    ruleset = typed(text)
    said, traces = await anyio.to_thread.run_sync(_tried, ruleset, call.body, book)
    return TrialView(view.hash, view.state, explain(said, CARD_SHOWN, view.state), said, traces)


def _tried(
    ruleset: Ruleset, body: bytes, book: ListBook
) -> tuple[Assessment, tuple[RuleTrace, ...]]:
    try:
        facts = facts_from_json(body, ruleset.settings)
    except FactsUnreadable as error:
        pointer = "/" + error.path.replace("[", "/").replace("]", "").replace(".", "/")
        raise refusal(Fault.FIELD, str(error), pointer if error.path else "") from None
    said = compile_ruleset(ruleset, book=book).assess(facts)
    return said, trace(ruleset, facts, book)


ENDPOINTS = (
    Endpoint(
        method="POST", path="/v1/rulesets/{ref}/simulate", roles=TRIERS, handler=simulate,
        summary="Put a made-up request to it; lists are those of the ledger, nothing is written",
        raw=True, asked_as=WrittenFacts, answers=TrialView, body_bytes_max=FACTS_BYTES_MAX,
        faults=(Fault.FIELD, Fault.STATE),
        example={
            "at": "2026-10-01T08:30:00+08:00", "kind": "fare", "segment": "transit",
            "amount": 200, "stop": "K1/12",
            "history": [{"ago_s": 30, "kind": "fare", "amount": 200, "stop": "K1/9"}],
        },
    ),
)  # fmt: skip
