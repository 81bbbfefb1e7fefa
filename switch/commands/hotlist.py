"""`hotlist`: cards that no reader lets pass, and the versions of the list that readers have.

A card is named by its id or its number; `-` reads one on each line of stdin, so that a number
is in no process list and no shell history.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec
from cyclopts import App, Parameter

from protocols.card_number import mask_digit_runs
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, card_number_key, with_ledger
from switch.commands.output import Json, given_or_stdin, write, write_json, write_table
from switch.config import Config
from switch.ledger import cards, hotlist_entries, hotlist_publishing
from switch.ledger.hotlist_publishing import (
    SHARE_PERCENT_MAX,
    HotlistJumps,
    HotlistUnproven,
    Version,
)

CARDS_AT_ONCE_MAX = 10_000
DIGEST_CHARACTERS = 16

app = App(
    name="hotlist",
    help="Put cards on the readers' hotlist, publish it, and see who has it.",
    help_format="plaintext",
)

Reference = Annotated[
    str,
    Parameter(help="Card ids or card numbers; - reads them from stdin, one on each line."),
]
Reason = Annotated[str, Parameter(help="Why, for the record.")]
Author = Annotated[str, Parameter(help="Who says so; you if not given.")]


class VersionView(msgspec.Struct, frozen=True):
    """A version for people: its digest in hex."""

    version: int
    published_at: datetime
    author: str
    entries: int
    added: int
    removed: int
    digest: str


@app.command
def add(
    *references: Reference,
    where: Where = HERE,
    reason: Reason,
    until: Annotated[
        str, Parameter(help="Stands until the start of this day, YYYY-MM-DD; for good if none.")
    ] = "",
    author: Author = "",
    json: Json = False,
) -> int:
    """Put cards on the hotlist: online they are declined at once, readers know by publish."""
    config = where.load()
    expires_at = _day(until, config) if until else None
    said, by = _words(reason), _author(author)
    given = _given(references)
    key = card_number_key(where, config)

    async def body(ledger: Ledger) -> list[int]:
        found = [(await cards.find(ledger.connection, each, key)).card_id for each in given]
        return await hotlist_entries.add(
            ledger.connection, found, reason=said, author=by, expires_at=expires_at
        )

    added = with_ledger(where, config, body)
    if json:
        write_json({"added": added})
    else:
        write(f"{len(added)} of {len(given)} put on the hotlist; readers get it by publish")
    return Exit.OK


@app.command
def remove(
    *references: Reference,
    where: Where = HERE,
    reason: Reason,
    author: Author = "",
    json: Json = False,
) -> int:
    """Take cards off the hotlist: online they pass at once, readers know by publish."""
    config = where.load()
    said, by = _words(reason), _author(author)
    given = _given(references)
    key = card_number_key(where, config)

    async def body(ledger: Ledger) -> list[int]:
        found = [(await cards.find(ledger.connection, each, key)).card_id for each in given]
        return await hotlist_entries.remove(ledger.connection, found, reason=said, author=by)

    removed = with_ledger(where, config, body)
    if json:
        write_json({"removed": removed})
    else:
        write(f"{len(removed)} of {len(given)} taken off the hotlist; readers get it by publish")
    return Exit.OK if removed else Exit.FINDINGS


@app.command
def publish(
    *,
    where: Where = HERE,
    share_percent_max: Annotated[
        int, Parameter(help="Refuse to add or take away more of the list than this share.")
    ] = SHARE_PERCENT_MAX,
    force: Annotated[bool, Parameter(help="Publish however much changes.")] = False,
    author: Author = "",
    json: Json = False,
) -> int:
    """Publish the next version, after it was proven with the readers' own code."""
    by = _author(author)
    if not 0 <= share_percent_max <= 100:
        raise CommandFailed("--share-percent-max is not 0 to 100; give a whole number of percent")

    async def body(ledger: Ledger) -> Version | None:
        return await hotlist_publishing.publish(
            ledger.connection, by, share_percent_max=share_percent_max, force=force
        )

    try:
        version = with_ledger(where, where.load(), body)
    except (HotlistJumps, HotlistUnproven) as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if json:
        write_json(None if version is None else _view(version))
    elif version is None:
        write("nothing to publish: the newest version has every entry")
    else:
        write(
            f"version {version.version} published: {version.entries} entries, "
            f"{version.added} added, {version.removed} taken away"
        )
    return Exit.OK


@app.command(name="list")
def list_(*, where: Where = HERE, json: Json = False) -> int:
    """List the cards on the hotlist, newest first."""

    async def body(
        ledger: Ledger,
    ) -> tuple[hotlist_entries.HotlistCounts, list[hotlist_entries.EntryView]]:
        counts = await hotlist_entries.counts(ledger.connection)
        return counts, await hotlist_entries.standing(ledger.connection)

    counts, entries = with_ledger(where, where.load(), body)
    if json:
        write_json({"counts": counts, "entries": entries})
        return Exit.OK
    rows = (
        (
            each.card_id,
            f"••{each.last4}",
            mask_digit_runs(each.reason),
            each.author,
            f"{each.added_at:%Y-%m-%d %H:%M}",
            f"{each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else "",
            each.version or "not published",
        )
        for each in entries
    )
    columns = ["card>", "number", "reason", "author", "added", "until", "since version>"]
    write_table("", columns, rows)
    write(
        f"{counts.standing} on the list; the next version adds {counts.to_add} "
        f"and takes away {counts.to_remove}"
    )
    return Exit.OK


@app.command
def versions(*, where: Where = HERE, json: Json = False) -> int:
    """List the published versions, newest first."""

    async def body(ledger: Ledger) -> list[Version]:
        return await hotlist_publishing.versions(ledger.connection)

    found = [_view(version) for version in with_ledger(where, where.load(), body)]
    if json:
        write_json(found)
        return Exit.OK
    rows = (
        (
            each.version,
            f"{each.published_at:%Y-%m-%d %H:%M}",
            each.author,
            f"{each.entries:,}",
            each.added,
            each.removed,
            each.digest[:DIGEST_CHARACTERS],
        )
        for each in found
    )
    columns = ["version>", "published", "author", "entries>", "added>", "taken away>", "digest"]
    write_table("", columns, rows)
    return Exit.OK


@app.command
def acknowledged(*, where: Where = HERE, json: Json = False) -> int:
    """Show which version each acquirer's readers have."""

    async def body(ledger: Ledger) -> list[hotlist_entries.AcknowledgementView]:
        return await hotlist_entries.acknowledgements(ledger.connection)

    found = with_ledger(where, where.load(), body)
    if json:
        write_json(found)
        return Exit.OK
    rows = (
        (each.acquirer, each.version, f"{each.acknowledged_at:%Y-%m-%d %H:%M}", each.behind)
        for each in found
    )
    write_table("", ["acquirer", "version>", "since", "versions behind>"], rows)
    return Exit.OK


@app.command
def check(*, where: Where = HERE, json: Json = False) -> int:
    """Make the newest version again from its entries, and compare it with what readers get."""

    async def body(ledger: Ledger) -> list[hotlist_publishing.Finding]:
        return await hotlist_publishing.check(ledger.connection)

    try:
        findings = with_ledger(where, where.load(), body)
    except HotlistUnproven as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from error
    if json:
        write_json(findings)
    else:
        for finding in findings:
            write(finding.sentence)
        if not findings:
            write("the newest version is what its entries make")
    return Exit.FINDINGS if findings else Exit.OK


def _given(references: Sequence[str]) -> list[str]:
    """The references, those of stdin line by line."""
    given = [line for each in references for line in given_or_stdin(each).splitlines()]
    given = [line.strip() for line in given if line.strip()]
    if not given:
        raise CommandFailed("no card was named; give ids or numbers, or - to read them from stdin")
    if len(given) > CARDS_AT_ONCE_MAX:
        raise CommandFailed(f"more than {CARDS_AT_ONCE_MAX} cards at once; give fewer")
    return given


def _words(reason: str) -> str:
    said = mask_digit_runs(reason.strip())
    if not 1 <= len(said) <= hotlist_entries.REASON_CHARACTERS_MAX:
        raise CommandFailed(
            f"--reason is not 1 to {hotlist_entries.REASON_CHARACTERS_MAX} characters; say why"
        )
    return said


def _author(author: str) -> str:
    if author:
        return mask_digit_runs(author[:80])
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise CommandFailed("nobody knows who you are here; give --author") from None


def _day(text: str, config: Config) -> datetime:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
        raise CommandFailed("--until is not a date; write it as YYYY-MM-DD")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(config.ledger.time_zone))
    except ValueError:
        raise CommandFailed("--until is not a date; write it as YYYY-MM-DD") from None


def _view(version: Version) -> VersionView:
    said = msgspec.structs.asdict(version)
    return VersionView(**{**said, "digest": version.digest.hex()})
