"""`lists`: the lists that rules look things up in.

A card is named by its id, or by its number on stdin, which is stored as the medium or the
card id and printed nowhere.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter

from protocols.card_number import PAN_DIGITS_MAX, mask_digit_runs
from risk.lists import LIST_ENTRIES_MAX, ListField
from switch.clock import SystemClock
from switch.commands.acting import TokenFile, acting, operator
from switch.commands.exits import CommandFailed, Exit
from switch.commands.instants import instant_us, shown
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import (
    Json,
    complain,
    given_or_stdin,
    write,
    write_json,
    write_table,
)
from switch.ledger import rule_lists
from switch.ledger.cards import CARD_ID_DIGITS_MAX
from switch.ledger.list_acts import ActRejected, ActTooSlow, takes_effect_us
from switch.ledger.listed_cards import (
    CARD_FIELDS,
    entries_of,
    known_values,
)
from switch.ledger.operators import AUTHOR
from switch.ledger.rule_list_file import (
    FILE_BYTES_MAX,
    ListFileFaulty,
    read_entries,
)
from switch.ledger.rule_lists import EntryView, ListView, Removed

T = TypeVar("T")

SHOWN_MAX = 1_000
FAULTS_SHOWN_MAX = 20
TRIES_MAX = 3
TYPED_DIGITS_MAX = 15
"""A merchant's id may have so many; what is longer and on a command line is a card number."""

app = App(name="lists", help="The lists that rules look things up in.", help_format="plaintext")

Name = Annotated[str, Parameter(help="The list's name.")]
Values = Annotated[
    str,
    Parameter(help="Values; cards by id. - reads them from stdin, one a line, card numbers too."),
]
Reason = Annotated[str, Parameter(help="Why, for the record.")]


@app.command(name="list")
def list_(*, where: Where = HERE, json: Json = False) -> int:
    """List the lists, and how much is on each now."""

    async def body(ledger: Ledger) -> list[ListView]:
        return await rule_lists.lists(ledger.connection)

    found = with_ledger(where, where.load(), body)
    if json:
        write_json(found)
        return Exit.OK
    rows = (
        (
            each.name,
            each.field,
            f"{each.standing:,}",
            f"{each.by_rules:,}",
            f"{each.in_text:,}" if each.in_ruleset else "",
            each.title,
        )
        for each in found
    )
    columns = ["list", "field", "entries>", "by rules>", "in live ruleset>", "title"]
    write_table("", columns, rows)
    return Exit.OK


@app.command
def show(
    name: Name,
    /,
    *,
    all_: Annotated[
        bool, Parameter(name="--all", negative="", help="What has ended or begins later, too.")
    ] = False,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Show the entries of a list, newest first; those that rules made come last."""
    config = where.load()
    found = _acted(lambda: with_ledger(where, config, lambda ledger: _entries(ledger, name, all_)))
    if json:
        write_json(found)
        return Exit.OK
    zone = config.ledger.time_zone
    rows = (
        (
            each.value,
            shown(each.from_us, zone),
            shown(each.until_us, zone),
            mask_digit_runs(each.reason),
            each.author,
            f"{each.removed_by}: {each.removed_reason}" if each.removed_by else "",
        )
        for each in found[:SHOWN_MAX]
    )
    write_table("", ["value", "from", "until", "reason", "author", "removed"], rows)
    if len(found) > SHOWN_MAX:
        write(f"{SHOWN_MAX:,} of {len(found):,} entries; `citycard lists export` writes all")
    return Exit.OK


@app.command
def new(
    name: Name,
    /,
    *,
    field: Annotated[ListField, Parameter(help="What it holds; that never changes.")],
    title: Annotated[str, Parameter(help="What it is for.")] = "",
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Make an empty list, for rules to come."""
    token = acting(token_file)

    async def body(ledger: Ledger) -> None:
        author = await operator(ledger, token, AUTHOR)
        await rule_lists.create(ledger.connection, name, field, title=title, author=author.name)

    _acted(lambda: with_ledger(where, where.load(), body))
    if json:
        write_json({"name": name, "field": field})
    else:
        write(f"list {name} holds {field} and is empty")
    return Exit.OK


@app.command
def add(
    name: Name,
    /,
    *values: Values,
    reason: Reason,
    from_: Annotated[
        str, Parameter(name="--from", help="2026-03-31, or 2026-03-31T18:00; soon if none.")
    ] = "",
    until: Annotated[str, Parameter(help="The same; for good if none.")] = "",
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Put values on a list, two seconds from now; what is on it already stays as it is."""
    token, config = acting(token_file), where.load()
    begins_us = instant_us(from_, "--from", config.ledger.time_zone)
    ends_us = instant_us(until, "--until", config.ledger.time_zone)
    given = _given(values)

    def key_of() -> bytes:
        return card_number_key(where, config)

    async def body(ledger: Ledger) -> int:
        author = await operator(ledger, token, AUTHOR)
        field = await rule_lists.field_of(ledger.connection, name)
        _require_typed(field, values)
        known = await known_values(ledger.connection, field, given, key_of)
        return await _again_if_slow(
            lambda now_us: rule_lists.add_entries(
                ledger.connection,
                name,
                field,
                known,
                reason=reason,
                author=author.name,
                from_us=begins_us,
                until_us=ends_us,
                now_us=now_us,
            )
        )

    added = _acted(lambda: with_ledger(where, config, body))
    if json:
        write_json({"list": name, "added": added})
    else:
        write(f"{added} put on list {name}, in force in a few seconds")
    return Exit.OK


@app.command
def remove(
    name: Name,
    /,
    *values: Values,
    reason: Reason,
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Take values off a list, two seconds from now; what was on it stays known."""
    token, config = acting(token_file), where.load()
    given = _given(values)

    def key_of() -> bytes:
        return card_number_key(where, config)

    async def body(ledger: Ledger) -> Removed:
        author = await operator(ledger, token, AUTHOR)
        field = await rule_lists.field_of(ledger.connection, name)
        _require_typed(field, values)
        known = await known_values(ledger.connection, field, given, key_of)
        return await _again_if_slow(
            lambda now_us: rule_lists.remove_entries(
                ledger.connection, name, known, reason=reason, author=author.name, now_us=now_us
            )
        )

    removed = _acted(lambda: with_ledger(where, config, body))
    if json:
        write_json({"list": name, "removed": removed.values, "still_by_rules": removed.rules})
    else:
        write(f"{removed.values} taken off list {name}, in a few seconds")
        if removed.rules:
            write(
                f"some are still on it by rule {', '.join(removed.rules)}, and end by themselves; "
                "meanwhile snooze a rule that declines them"
            )
    return Exit.OK if removed.values else Exit.FINDINGS


@app.command(name="import")
def import_(
    name: Name,
    file: Annotated[Path, Parameter(help="CSV with the columns value,reason,from,until.")],
    /,
    *,
    reason: Annotated[str, Parameter(help="The reason of lines that have none.")] = "",
    token_file: TokenFile = None,
    where: Where = HERE,
    json: Json = False,
) -> int:
    """Put a file of values on a list: all of them, or none where a line cannot be."""
    token, config = acting(token_file), where.load()
    octets = _octets(file)
    lines = _acted(lambda: read_entries(octets, config.ledger.time_zone, reason=reason))

    def key_of() -> bytes:
        return card_number_key(where, config)

    async def body(ledger: Ledger) -> int:
        author = await operator(ledger, token, AUTHOR)
        field = await rule_lists.field_of(ledger.connection, name)
        now_us = SystemClock().now_us()
        entries = await entries_of(ledger.connection, field, lines, key_of, now_us=now_us)
        return await _again_if_slow(
            lambda now_us: rule_lists.import_entries(
                ledger.connection,
                name,
                entries,
                digest=hashlib.sha256(octets).hexdigest(),
                author=author.name,
                now_us=now_us,
            )
        )

    added = _acted(lambda: with_ledger(where, config, body))
    if json:
        write_json({"list": name, "lines": len(lines), "added": added})
    else:
        write(f"{added} of {len(lines)} put on list {name}, in force in a few seconds")
    return Exit.OK


@app.command
def export(name: Name, /, *, where: Where = HERE) -> int:
    """Print the entries that stand as CSV, which `lists import` reads."""
    config = where.load()
    found = _acted(lambda: with_ledger(where, config, lambda ledger: _entries(ledger, name, False)))
    zone = config.ledger.time_zone
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["value", "reason", "from", "until"])
    for each in found:
        instants = (shown(each.from_us, zone), shown(each.until_us, zone))
        writer.writerow([each.value, each.reason, *instants])
    return Exit.OK


async def _entries(ledger: Ledger, name: str, ended_too: bool) -> list[EntryView]:
    at_us = None if ended_too else SystemClock().now_us()
    if at_us is not None:
        # one that was written just now is shown too: it is in force in a moment
        at_us = takes_effect_us(at_us)
    return await rule_lists.entries(ledger.connection, name, standing_at_us=at_us)


async def _again_if_slow(act: Callable[[int], Awaitable[T]]) -> T:
    """Try again what a busy ledger wrote too slowly to be known in time."""
    for _ in range(TRIES_MAX - 1):
        try:
            return await act(SystemClock().now_us())
        except ActTooSlow:
            continue
    return await act(SystemClock().now_us())


def _acted(act: Callable[[], T]) -> T:
    """What an act gives; what it refuses as the sentence of the command."""
    try:
        return act()
    except ListFileFaulty as error:
        for fault in error.faults[:FAULTS_SHOWN_MAX]:
            complain(mask_digit_runs(f"line {fault.line}: {fault.why}"))
        left = len(error.faults) - FAULTS_SHOWN_MAX
        more = f" ({left} more of them)" if left > 0 else ""
        raise CommandFailed(
            f"nothing was taken; mend these lines{more} and import the file again", Exit.FINDINGS
        ) from error
    except ActRejected as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error


def _given(values: Sequence[str]) -> list[str]:
    _require_typed("", values)
    given = [line for each in values for line in given_or_stdin(each).splitlines()]
    given = [line.strip() for line in given if line.strip()]
    if not given:
        raise CommandFailed("no value was given; give some, or - to read them from stdin")
    if len(given) > LIST_ENTRIES_MAX:
        raise CommandFailed(f"more than {LIST_ENTRIES_MAX:,} values at once; give fewer")
    return given


def _require_typed(field: str, values: Sequence[str]) -> None:
    """No card number stands on the command line, where process lists show it."""
    digits_max = CARD_ID_DIGITS_MAX if field in CARD_FIELDS else TYPED_DIGITS_MAX
    for value in values:
        digits = value.replace(" ", "").replace("-", "")
        if digits.isdigit() and digits_max < len(digits) <= PAN_DIGITS_MAX:
            raise CommandFailed(
                "a card number does not belong on a command line; give the card's id, or - to "
                "read the number from stdin"
            )


def _octets(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CommandFailed(f"{file} cannot be read ({error.strerror}); check it") from None
