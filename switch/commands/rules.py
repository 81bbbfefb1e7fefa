"""`rules`: rulesets as people write, read, compare and try them; `ruleset_life` has the acts.

Reading needs the ledger only. What changes something is an act of an operator, who is whoever
holds the token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from protocols.card_number import mask_digit_runs
from risk import check as ruleset_check
from risk.findings import Finding, RulesetError, Severity
from risk.read import RULESET_BYTES_MAX, read_ruleset
from risk.ruleset_diff import diff as ruleset_diff
from risk.sentences import Language
from switch.clock import SystemClock
from switch.commands import backtest, ruleset_life, ruleset_trial
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.files import text_of
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json
from switch.commands.rulesets_shown import (
    HASH_CHARACTERS,
    RulesetShown,
    ruleset_shown,
    write_changes,
    write_findings,
    write_ruleset,
    write_rulesets,
    write_trail,
)
from switch.ledger import rulesets
from switch.ledger.operators import AUTHOR
from switch.ledger.rulesets import EventView, RulesetUnknown, RulesetView, StoredRuleset

TRAIL_COUNT = 50

app = App(
    name="rules",
    help="Write rulesets, see what they do, and move them through their life.",
    help_format="plaintext",
)
ruleset_life.register(app)
ruleset_trial.register(app)
app.command(backtest.backtest)

Reference = Annotated[
    str, Parameter(help="The ruleset: live, canary, or the first 6 or more digits of its hash.")
]
Chinese = Annotated[bool, Parameter(name="--zh", negative=(), help="Sentences in Chinese.")]


@app.command(name="list")
def list_rulesets(*, where: Where = HERE, json: Json = False) -> int:
    """List the rulesets of the ledger, newest first, with their states."""
    config = where.load()

    async def body(ledger: Ledger) -> list[RulesetView]:
        return await rulesets.listed(ledger.connection)

    found = with_ledger(where, config, body)
    if json:
        write_json(found)
    else:
        write_rulesets(found, config.ledger.time_zone)
    return Exit.OK


@app.command
def show(
    reference: Reference = "live",
    /,
    *,
    where: Where = HERE,
    zh: Chinese = False,
    source: Annotated[bool, Parameter(negative=(), help="Print its text as it was given.")] = False,
    json: Json = False,
) -> int:
    """Show a ruleset: each rule as a sentence, with its owner and what it costs."""
    config = where.load()

    async def body(ledger: Ledger) -> tuple[StoredRuleset, RulesetShown]:
        view = await rulesets.found(ledger.connection, reference)
        stored = await rulesets.text(ledger.connection, view.hash)
        pauses = await rulesets.pauses(ledger.connection)
        return stored, ruleset_shown(view, stored.ruleset(), pauses, _language(zh))

    stored, shown = with_ledger(where, config, body)
    if source:
        write(stored.source.rstrip("\n"))
    elif json:
        write_json(shown)
    else:
        write_ruleset(shown, config.ledger.time_zone)
    return Exit.OK


@app.command
def new(
    file: Annotated[Path, Parameter(help="The ruleset, in TOML.")],
    /,
    *,
    where: Where = HERE,
    title: Annotated[str, Parameter(help="What is new in it; the file's name if not given.")] = "",
    parent: Annotated[str, Parameter(help="The ruleset that it was made from.")] = "live",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Put a ruleset into the ledger as a draft; exit 1 with every finding if it has an error."""
    token, config, source = acting(token_file), where.load(), text_of(file, RULESET_BYTES_MAX)
    ruleset, findings = read_ruleset(source)
    if ruleset is None:
        return _refused(file, findings, json)

    async def body(ledger: Ledger) -> RulesetView:
        author = await operator(ledger, token, AUTHOR)
        made_from = await rulesets.found(ledger.connection, parent)
        return await rulesets.add(
            ledger.connection,
            ruleset=ruleset,
            source=source,
            title=title or file.stem,
            parent=made_from.hash,
            actor=author.name,
        )

    try:
        view = with_ledger(where, config, body)
    except RulesetError as error:
        return _refused(file, error.findings, json)
    if json:
        write_json(view)
    else:
        write(view.hash)
        fresh = view.state == "draft"
        following = "next: rules shadow, or rules submit" if fresh else "the ledger had this text"
        write(f"{view.title}: {view.state}; {following}")
    return Exit.OK


@app.command
def diff(
    before: Reference,
    after: Reference,
    /,
    *,
    where: Where = HERE,
    zh: Chinese = False,
    json: Json = False,
) -> int:
    """Show what the second ruleset has that the first has not, and the other way round."""

    async def body(ledger: Ledger) -> tuple[StoredRuleset, StoredRuleset]:
        one = await rulesets.found(ledger.connection, before)
        other = await rulesets.found(ledger.connection, after)
        return (
            await rulesets.text(ledger.connection, one.hash),
            await rulesets.text(ledger.connection, other.hash),
        )

    one, other = with_ledger(where, where.load(), body)
    changes = ruleset_diff(one.ruleset(), other.ruleset(), _language(zh))
    if json:
        write_json({"before": one.hash, "after": other.hash, "changes": changes})
    else:
        write(f"{one.hash[:HASH_CHARACTERS]} → {other.hash[:HASH_CHARACTERS]}")
        write_changes(changes)
    return Exit.OK


@app.command
def check(file: Annotated[Path, Parameter(help="The ruleset.")], /, *, json: Json = False) -> int:
    """Check a ruleset; exit 1 if it has an error (a warning is none)."""
    text = text_of(file, RULESET_BYTES_MAX)
    findings = ruleset_check.check(text, str(file), now_us=SystemClock().now_us())
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if json:
        write_json(findings)
    elif findings:
        write_findings(str(file), findings)
    else:
        write(f"{file}: no findings")
    return Exit.FINDINGS if errors else Exit.OK


@app.command
def trail(
    *,
    where: Where = HERE,
    subject: Annotated[
        str,
        Parameter(help='A ruleset, or what the trail names: "rule ID", "list NAME"; all if none.'),
    ] = "",
    before: Annotated[int | None, Parameter(help="Only events before this one.")] = None,
    count: Annotated[int, Parameter(help="So many at most.")] = TRAIL_COUNT,
    json: Json = False,
) -> int:
    """Show who did what about rules, newest first."""
    config = where.load()
    if not 1 <= count <= 1_000:
        raise CommandFailed("--count is out of range; give 1 to 1000")

    async def body(ledger: Ledger) -> list[EventView]:
        about = subject
        try:
            about = (await rulesets.found(ledger.connection, subject)).hash if subject else ""
        except RulesetUnknown:
            pass  # then it is one of the other subjects
        return await rulesets.trail(
            ledger.connection, subject=about, before=before, count_max=count
        )

    events = with_ledger(where, config, body)
    if json:
        write_json(events)
    else:
        write_trail(events, config.ledger.time_zone)
    return Exit.OK


def _refused(file: Path, findings: Sequence[Finding], json: bool) -> int:
    sourced = [
        msgspec.structs.replace(each, source=mask_digit_runs(str(file))) for each in findings
    ]
    if json:
        write_json(sourced)
    else:
        write_findings(str(file), sourced)
    return Exit.FINDINGS


def _language(zh: bool) -> Language:
    return Language.CHINESE if zh else Language.ENGLISH
