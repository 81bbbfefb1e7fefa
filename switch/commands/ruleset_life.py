"""The acts of a ruleset's life, each by an operator who may: shadow to retired, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from switch.backtest.running import BacktestRefused
from switch.backtest.submission import submit_ruleset
from switch.clock import SystemClock
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json
from switch.commands.rulesets_shown import HASH_CHARACTERS
from switch.ledger import rulesets
from switch.ledger.operators import ANALYST, APPROVER, AUTHOR
from switch.ledger.rulesets import PauseView, RulesetView

PAUSING = (ANALYST, AUTHOR, APPROVER)
LIFTING = (AUTHOR, APPROVER)
"""A pause is one person's; that a rule works again is for those who answer for rules."""
ANY_ROLE = (ANALYST, AUTHOR, APPROVER)
"""Whether an act is this one's is for the table of moves to say."""

Reference = Annotated[
    str, Parameter(help="The ruleset: live, canary, or the first 6 or more digits of its hash.")
]
Reason = Annotated[str, Parameter(help="Why, for the record.")]


def register(app: App) -> None:
    """Make the acts commands of `rules`."""
    for act in (
        shadow,
        withdraw,
        submit,
        approve,
        reject,
        canary,
        promote,
        pause,
        lift,
        rollback,
        resume,
    ):
        app.command(act)


def shadow(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Have a draft look on: evaluated on live traffic, and deciding nothing."""
    return _act("shadow", reference, where, reason, token_file, json)


def withdraw(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Take a ruleset out of shadow, or back from the approvers; it is a draft again."""
    return _act("withdraw", reference, where, reason, token_file, json)


def submit(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    override: Annotated[
        str, Parameter(help="Why it is submitted although it declines much of yesterday.")
    ] = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Put a ruleset before the approvers, with what it would have done to yesterday."""
    token, config = acting(token_file), where.load()

    async def body(ledger: Ledger) -> RulesetView:
        author = await operator(ledger, token, *ANY_ROLE)
        view = await rulesets.found(ledger.connection, reference)
        return await submit_ruleset(
            ledger.connection,
            ledger.url,
            view,
            actor=author,
            reason=reason,
            override=override,
            config=config,
            now_us=SystemClock().now_us(),
        )

    try:
        return _told(with_ledger(where, config, body), json)
    except BacktestRefused as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error


def approve(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Approve a ruleset that others wrote. The approval is of this very hash."""
    return _act("approve", reference, where, reason, token_file, json)


def reject(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Give a ruleset back to its authors; it is a draft again."""
    return _act("reject", reference, where, reason, token_file, json)


def canary(
    reference: Reference,
    /,
    *,
    percent: Annotated[int, Parameter(help="It decides for so many cards of a hundred, 1 to 99.")],
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Have an approved ruleset decide for some cards, or for more or fewer of them."""
    return _act("canary", reference, where, reason, token_file, json, percent)


def promote(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Make an approved ruleset the live one; the present one is retired."""
    return _act("promote", reference, where, reason, token_file, json)


def rollback(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Make a ruleset live again that was live before; the present one is retired."""
    return _act("rollback", reference, where, reason, token_file, json)


def resume(
    reference: Reference,
    /,
    *,
    where: Where = HERE,
    reason: Reason = "",
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Make a paused ruleset a draft, which has to be approved anew."""
    return _act("resume", reference, where, reason, token_file, json)


def pause(
    rule_id: Annotated[str, Parameter(help="The rule, as `rules show live` names it.")] = "",
    /,
    *,
    reason: Reason,
    ruleset: Annotated[
        str, Parameter(help="Pause this ruleset instead; for the live one, the one before decides.")
    ] = "",
    where: Where = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Stop a rule, or a whole ruleset, at once: what one person may do alone."""
    if bool(rule_id) == bool(ruleset):
        raise CommandFailed("that is not one rule or one ruleset; give an id, or --ruleset")
    if ruleset:
        return _act("pause", ruleset, where, reason, token_file, json)
    token = acting(token_file)

    async def body(ledger: Ledger) -> list[PauseView]:
        actor = await operator(ledger, token, *PAUSING)
        return await rulesets.pause_rule(
            ledger.connection, rule_id, actor=actor.name, reason=reason
        )

    paused = with_ledger(where, where.load(), body)
    if json:
        write_json(paused)
    else:
        versions = " and ".join(f"v{each.rule_version}" for each in paused)
        write(f"{rule_id} {versions} is paused on every worker within seconds; rules lift ends it")
    return Exit.OK


def lift(
    rule_id: Annotated[str, Parameter(help="The rule that is paused.")],
    /,
    *,
    reason: Reason,
    where: Where = HERE,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """End the pause of a rule."""
    token = acting(token_file)

    async def body(ledger: Ledger) -> list[int]:
        actor = await operator(ledger, token, *LIFTING)
        return await rulesets.lift_pause(
            ledger.connection, rule_id, actor=actor.name, reason=reason
        )

    versions = with_ledger(where, where.load(), body)
    if json:
        write_json({"rule_id": rule_id, "versions": versions})
    else:
        write(f"{rule_id} works again on every worker within seconds")
    return Exit.OK


def _act(
    name: str,
    reference: str,
    where: Where,
    reason: str,
    token_file: Path | None,
    json: bool,
    percent: int | None = None,
) -> int:
    token, config = acting(token_file), where.load()

    async def body(ledger: Ledger) -> RulesetView:
        actor = await operator(ledger, token, *ANY_ROLE)
        view = await rulesets.found(ledger.connection, reference)
        if name == "shadow":
            await rulesets.require_shadow_place(ledger.connection, config.rules.shadows_max)
        return await rulesets.act(
            ledger.connection, view.hash, name, actor=actor, reason=reason, percent=percent
        )

    return _told(with_ledger(where, config, body), json)


def _told(view: RulesetView, json: bool) -> int:
    if json:
        write_json(view)
        return Exit.OK
    share: Any = f" for {view.canary_percent} % of the cards" if view.canary_percent else ""
    write(f"ruleset {view.hash[:HASH_CHARACTERS]} is {view.state}{share}")
    return Exit.OK
