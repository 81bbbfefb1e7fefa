"""`snooze`: spare one card from one rule for a while, with a reason and a name."""

from __future__ import annotations

import re
from typing import Annotated

from cyclopts import App, Parameter

from protocols.card_number import mask_digit_runs
from switch.clock import SystemClock
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.instants import instant_us, shown
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import STDIN, Json, given_or_stdin, write, write_json, write_table
from switch.ledger import cards, snoozes
from switch.ledger.list_acts import ActRejected
from switch.ledger.operators import AUTHOR
from switch.ledger.snoozes import SnoozeView

_RULE = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")

app = App(
    name="snooze", help="Spare a card from a rule, and see who is spared.", help_format="plaintext"
)

RuleId = Annotated[str, Parameter(help="The rule's id, as `rules show live` prints it.")]
CardReference = Annotated[
    str, Parameter(help="Card id; - reads an id or a card number from stdin.")
]
Reason = Annotated[str, Parameter(help="Why, for the record.")]


@app.command
def add(
    rule: RuleId,
    card: CardReference,
    /,
    *,
    until: Annotated[str, Parameter(help="When it ends: 2026-03-31, or 2026-03-31T18:00.")],
    reason: Reason,
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Spare the card from the rule: it still fires, is recorded, and does nothing."""
    token, config = acting(token_file), where.load()
    ends_us = instant_us(until, "--until", config.ledger.time_zone)
    if ends_us is None:
        raise CommandFailed("--until is empty; write 2026-03-31 or 2026-03-31T18:00")
    rule_id, reference = _rule(rule), named_card(card)
    key = card_number_key(where, config)

    async def body(ledger: Ledger) -> tuple[int, int]:
        author = await operator(ledger, token, AUTHOR)
        found = await cards.find(ledger.connection, reference, key)
        made = await snoozes.add(
            ledger.connection,
            rule_id=rule_id,
            card_id=found.card_id,
            until_us=ends_us,
            reason=reason,
            author=author.name,
            now_us=SystemClock().now_us(),
        )
        return made, found.card_id

    try:
        snooze_id, card_id = with_ledger(where, config, body)
    except ActRejected as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if json:
        write_json({"snooze_id": snooze_id, "rule_id": rule_id, "card_id": card_id})
    else:
        end = shown(ends_us, config.ledger.time_zone)
        write(f"card {card_id} is spared from {rule_id} until {end}, beginning in two seconds")
    return Exit.OK


@app.command
def lift(
    rule: RuleId,
    card: CardReference,
    /,
    *,
    reason: Reason,
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Have the rule work for the card again, two seconds from now."""
    token, config = acting(token_file), where.load()
    rule_id, reference = _rule(rule), named_card(card)
    key = card_number_key(where, config)

    async def body(ledger: Ledger) -> int:
        author = await operator(ledger, token, AUTHOR)
        found = await cards.find(ledger.connection, reference, key)
        return await snoozes.lift(
            ledger.connection,
            rule_id=rule_id,
            card_id=found.card_id,
            reason=reason,
            author=author.name,
            now_us=SystemClock().now_us(),
        )

    try:
        lifted = with_ledger(where, config, body)
    except ActRejected as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if json:
        write_json({"lifted": lifted})
    elif lifted:
        write(f"{rule_id} works for this card again in two seconds")
    if not lifted and not json:
        raise CommandFailed("the card is not spared from this rule; list them", Exit.FINDINGS)
    return Exit.OK if lifted else Exit.FINDINGS


@app.command(name="list")
def list_(*, where: Where = HERE, json: Json = False) -> int:
    """List who is spared from what now, newest first."""
    config = where.load()

    async def body(ledger: Ledger) -> list[SnoozeView]:
        return await snoozes.standing(ledger.connection, SystemClock().now_us())

    found = with_ledger(where, config, body)
    if json:
        write_json(found)
        return Exit.OK
    rows = (
        (
            each.rule_id,
            each.card_id,
            f"••{each.last4}",
            shown(each.until_us, config.ledger.time_zone),
            mask_digit_runs(each.reason),
            each.author,
        )
        for each in found
    )
    write_table("", ["rule", "card>", "number", "until", "reason", "author"], rows)
    return Exit.OK


def _rule(rule: str) -> str:
    if _RULE.match(rule) is None:
        raise CommandFailed("that is no rule's id; `citycard rules show live` lists them")
    return rule


def named_card(reference: str) -> str:
    """A card's id, or what stdin has: a number on a command line would be in process lists."""
    if reference not in ("-", STDIN) and len(reference) > cards.CARD_ID_DIGITS_MAX:
        raise CommandFailed("that is no card id; give one, or - to read a card number from stdin")
    return given_or_stdin(reference)
