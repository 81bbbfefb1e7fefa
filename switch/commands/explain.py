"""`explain`: why any authorization was answered as it was, in words that fit a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import date
from typing import Annotated

from cyclopts import Parameter

from protocols.card_number import mask_digit_runs
from protocols.money import display_minor
from risk.record import AssessedFacts
from switch.commands.exits import CommandFailed, Exit
from switch.commands.instants import shown
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.commands.snooze import named_card
from switch.ledger import cards
from switch.ledger.explained import Explained, RuleSeen
from switch.ledger.explained_trace import Traced, trace_lines, traced
from switch.ledger.explaining import (
    RRN_DAYS,
    ReferenceUnfit,
    SearchTooLong,
    explained,
)

COLUMNS = 80
_NO_BREAK = "\N{NO-BREAK SPACE}"
PURSES = {0: "no purse", 1: "TRN", 2: "GEN", 3: "CHIP"}


def explain(
    reference: Annotated[
        str, Parameter(help="RRN (12 characters), key (32 hex digits) or authorization id.")
    ],
    /,
    *,
    card: Annotated[
        str, Parameter(help="Only of this card: its id; - reads an id or a number from stdin.")
    ] = "",
    day: Annotated[
        str, Parameter(help="Only of this business day, archived or not, as YYYY-MM-DD.")
    ] = "",
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Tell why an authorization was answered as it was, and what became of it."""
    config = where.load()
    on = _day(day)
    named = named_card(card) if card else ""

    async def body(ledger: Ledger) -> tuple[list[Explained], Traced | None]:
        card_id = None
        if named:
            key = card_number_key(where, config)
            card_id = (await cards.find(ledger.connection, named, key)).card_id
        found = await explained(ledger.connection, reference, card_id=card_id, day=on)
        return found, await traced(ledger.connection, found[0]) if len(found) == 1 else None

    try:
        found, trace = with_ledger(where, config, body)
    except ReferenceUnfit as error:
        raise CommandFailed(str(error)) from error
    except SearchTooLong as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if not found:
        raise CommandFailed(
            f"no authorization has this reference (an RRN is looked for in the last {RRN_DAYS} "
            "business days); check it, or give --day YYYY-MM-DD of an older one",
            Exit.FINDINGS,
        )
    zone = config.ledger.time_zone
    if json:
        write_json([{"explained": each, "trace": trace} for each in found])
    elif len(found) > 1:
        _listed(found, zone)
    else:
        for line in explanation_lines(found[0], trace, zone):
            write(line)
    return Exit.OK


def _listed(found: list[Explained], zone: str) -> None:
    rows = (
        (
            each.authorization_id,
            each.business_date,
            shown(each.at_us, zone),
            f"••{each.asked.last4}",
            each.asked.kind,
            display_minor(each.asked.amount_minor),
            each.answered.outcome,
        )
        for each in found
    )
    columns = ["authorization>", "business day", "decided", "card", "kind", "amount>", "outcome"]
    write_table("", columns, rows)
    write(f"{len(found)} authorizations have this reference; explain one by its id")


def explanation_lines(told: Explained, trace: Traced | None, zone: str) -> Iterator[str]:
    """What is printed of one authorization: lines of at most COLUMNS columns."""
    yield from _wrapped(told.answered.sentence or told.answered.outcome)
    yield ""
    yield from _request(told, zone)
    yield from _ruleset(told)
    yield from _features(told)
    yield from _facts(told.facts)
    yield from _became(told, zone)
    if trace is not None:
        yield ""
        yield from _wrapped(trace.note)
        yield from trace_lines(trace, COLUMNS)


def _request(told: Explained, zone: str) -> Iterator[str]:
    asked, answered = told.asked, told.answered
    card = f"card {asked.card_id} ••{asked.last4}" if asked.card_id else "a card not of this ledger"
    yield from _named("asked", f"{asked.kind} of {display_minor(asked.amount_minor)}, {card}")
    place = [
        f"{name} {value}"
        for name, value in (
            ("acquirer", asked.acquirer),
            ("terminal", asked.terminal),
            ("merchant", asked.merchant),
            ("MCC", asked.mcc),
            ("venue", asked.venue),
            ("stop", asked.stop),
            ("vehicle", asked.vehicle),
            ("entry mode", asked.entry_mode),
        )
        if value
    ]
    yield from _named("at", ", ".join([asked.segment, *place]))
    approved = display_minor(answered.approved_minor)
    purse = PURSES.get(answered.purse, str(answered.purse))
    yield from _named(
        "answered",
        f"{answered.response_code} {answered.outcome}, {approved} approved, {purse}",
    )
    yield from _named("decided", f"{shown(told.at_us, zone)}, business day {told.business_date}")
    codes = f"authorization {told.authorization_id}, RRN {answered.rrn or '(none)'}"
    yield from _named(
        "known as", codes + (f", code {answered.auth_code}" if answered.auth_code else "")
    )
    if asked.original_id:
        yield from _named("about", f"authorization {asked.original_id}")


def _ruleset(told: Explained) -> Iterator[str]:
    if told.decider is None or (told.facts is None and not told.rules and not told.features):
        yield from _named("rules", "were not asked: it was decided before they come, or without")
        return
    state = told.decider.state or "not in this ledger"
    title = f", {told.decider.title}" if told.decider.title else ""
    yield from _named("ruleset", f"{told.decider.hash[:12]}, now {state}{title}")
    if not told.rules:
        yield from _named("rules", "none fired, and none was unknown")
        return
    yield ""
    yield "Rules that fired, or could not tell:"
    for rule in told.rules:
        yield from _rule(rule)


def _rule(rule: RuleSeen) -> Iterator[str]:
    words = [rule.effect + (f" {rule.outcome}" if rule.outcome else "")]
    words += [rule.why] if rule.why else []
    mark = "→" if rule.decided else " "
    yield from _wrapped(
        f"{rule.stage} {rule.rule_id} v{rule.version}: {', '.join(words)}", f"{mark} ", "    "
    )
    if rule.sentence:
        yield from _wrapped(rule.sentence, "    ", "    ")


def _features(told: Explained) -> Iterator[str]:
    if not told.features:
        return
    yield ""
    yield "Counters, this request not included:"
    for feature in told.features:
        yield from _wrapped(f"{feature.id} = {feature.shown}", "  ", "    ")
        if feature.says:
            yield from _wrapped(feature.says, "    ", "    ")
        for limit in feature.limits:
            yield from _wrapped(limit, "    ", "      ")


def _facts(facts: AssessedFacts | None) -> Iterator[str]:
    if facts is None:
        return
    yield ""
    yield "Facts beside the request:"
    said = {
        "amount": display_minor(facts.amount_minor),
        "balance": None if facts.balance_minor is None else display_minor(facts.balance_minor),
        "card status": facts.card_status,
        "card age": None if facts.card_age_days is None else f"{facts.card_age_days} days",
        "tier": facts.tier,
        "product": facts.product,
        "holder class": facts.holder_class,
        "kind": facts.kind,
        "line": facts.line,
        "mode": facts.mode,
        "event age": f"{facts.event_age_s} s" if facts.event_age_s else None,
        "channel": facts.channel,
        "PIN": facts.pin,
        "clock skew": None if facts.clock_skew_s is None else f"{facts.clock_skew_s} s",
        "month": _total(facts.month_count, facts.month_minor),
        "week": _total(facts.week_count, facts.week_minor),
        "lifetime": _total(facts.lifetime_count, facts.lifetime_minor),
    }
    known = [f"{name} {value}" for name, value in said.items() if value not in (None, "")]
    # a line never breaks between a fact's name and its value
    together = ", ".join(each.replace(" ", _NO_BREAK) for each in known)
    for line in _wrapped(together, "  ", "  "):
        yield line.replace(_NO_BREAK, " ")


def _total(count: int | None, minor: int | None) -> str | None:
    return None if count is None or minor is None else f"{display_minor(minor)} in {count}"


def _became(told: Explained, zone: str) -> Iterator[str]:
    became = told.became
    lines = [
        f"{each.kind} {each.authorization_id}: {each.outcome}, "
        f"{display_minor(each.approved_minor)}, {shown(each.at_us, zone)}"
        for each in became.followers
    ]
    if became.hold is not None:
        hold = became.hold
        lines.append(f"hold of {display_minor(hold.amount_minor)} ({hold.purpose}): {hold.status}")
    lines += [f"tag {each.tag} by {each.rule_id}" for each in became.tags]
    lines += [
        f"review in {each.queue} by {each.rule_id}: "
        + (f"{each.verdict}, {each.closed_by}" if each.verdict else "open")
        for each in became.reviews
    ]
    lines += [
        f"{each.field} put on list {each.list} by {each.rule_id} until {shown(each.until_us, zone)}"
        for each in became.listings
    ]
    lines += [f"in shadow {each.hash[:12]}: {each.sentence}" for each in became.shadows]
    if lines:
        yield ""
        yield "What became of it:"
        for line in lines:
            yield from _wrapped(mask_digit_runs(line), "  ", "    ")


def _named(name: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, f"{name + ':':<10}", " " * 10)


def _wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, COLUMNS, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _day(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandFailed("--day is not a date; write it as YYYY-MM-DD") from None
