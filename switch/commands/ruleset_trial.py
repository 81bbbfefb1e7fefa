"""`rules simulate`: one made-up request, and how each rule of a ruleset comes to what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import App, Parameter

from risk.compile import compile_ruleset
from risk.explain import explain
from risk.facts_json import FACTS_BYTES_MAX, FactsUnreadable, facts_from_json
from risk.lists import ListBook
from risk.record import Assessment
from risk.trace import RuleTrace, trace
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.files import text_of
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json
from switch.ledger import rulesets
from switch.ledger.explained_trace import Traced, trace_lines
from switch.ledger.rules_now import lists_now
from switch.ledger.rulesets import RulesetView, StoredRuleset

COLUMNS = 100
CARD_SHOWN = "0000"
"""A made-up request has no card number whose last digits could be told."""


class Trial(msgspec.Struct, frozen=True):
    """What a ruleset says about made-up facts, and each rule of that kind as a tree."""

    hash: str
    state: str
    sentence: str
    assessment: Assessment
    rules: tuple[RuleTrace, ...]


class _Read(NamedTuple):
    view: RulesetView
    stored: StoredRuleset
    book: ListBook


def register(app: App) -> None:
    """Make it a command of `rules`."""
    app.command(simulate)


def simulate(
    reference: Annotated[
        str, Parameter(help="The ruleset: live, canary, or the first digits of its hash.")
    ],
    file: Annotated[Path, Parameter(help="The facts of a request and its history, in JSON.")],
    /,
    *,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Put made-up facts to a ruleset: what it decides, and each rule's condition with values.

    Lists are those of the ledger at this moment. Nothing is written.
    """
    text = text_of(file, FACTS_BYTES_MAX)

    async def body(ledger: Ledger) -> _Read:
        view = await rulesets.found(ledger.connection, reference)
        stored = await rulesets.text(ledger.connection, view.hash)
        return _Read(view, stored, await lists_now(ledger.connection, SystemClock().now_us()))

    read = with_ledger(where, where.load(), body)
    ruleset = read.stored.ruleset()
    try:
        facts = facts_from_json(text.encode(), ruleset.settings)
    except FactsUnreadable as error:
        raise CommandFailed(f"{file}: {error}", Exit.FINDINGS) from error
    said = compile_ruleset(ruleset, book=read.book).assess(facts)
    trial = Trial(
        hash=read.view.hash,
        state=read.view.state,
        sentence=explain(said, CARD_SHOWN, read.view.state),
        assessment=said,
        rules=trace(ruleset, facts, read.book),
    )
    if json:
        write_json(trial)
        return Exit.OK
    write(trial.sentence)
    for line in trace_lines(Traced(True, (), "", trial.rules), COLUMNS):
        write(line)
    return Exit.OK
