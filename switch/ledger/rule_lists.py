"""Lists that rules look things up in: who or what is on them, from when, until when and why.

Nothing is deleted: removing an entry ends it. Every instant lies a little ahead of when it was
written (`list_acts.takes_effect_us`), so what was decided depends on instants only, and a
backtest decides the same. A list's field is fixed, and is that of a list of the same name in
the live ruleset's text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, get_args

import msgspec

from risk.lists import LIST_ENTRIES_MAX, LISTS_MAX, ListField
from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.list_acts import (
    AUTHOR_CHARACTERS_MAX,
    ActRejected,
    noted,
    recorded,
    rulesets_in_force,
    takes_effect_us,
    words,
)
from switch.ledger.migrate import transaction
from switch.ledger.rule_list_values import valid_value
from switch.ledger.rules_trail import Rows

FIELDS: tuple[str, ...] = get_args(ListField)
TITLE_CHARACTERS_MAX = 80
VALUES_IN_TRAIL_MAX = 20
"""Of a small act the trail names the values; of a large one it says how many there were."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")
_QUERIES = sql.queries("rule_lists.sql")


class ListUnknown(ActRejected):
    """There is no list of this name."""

    def __init__(self) -> None:
        super().__init__("there is no list of this name; see `citycard lists list`, or make it")


class ListView(msgspec.Struct, frozen=True):
    """A list. `standing` entries of people and `by_rules` values that rules put on it stand now.

    `in_ruleset` tells that the live ruleset's text has a list of this name, with `in_text`
    entries of its own. A list that only the text has was made by nobody here.
    """

    name: str
    field: str
    title: str
    created_at: datetime | None
    created_by: str
    standing: int
    by_rules: int
    in_ruleset: bool
    in_text: int


class EntryView(msgspec.Struct, frozen=True):
    """An entry, in force from `from_us` until before `until_us` (epoch microseconds; None: open).

    One that a rule made has `entry_id` 0, the rule and the authorization that made it fire.
    """

    entry_id: int
    value: str
    reason: str
    author: str
    from_us: int
    until_us: int | None
    removed_by: str = ""
    removed_reason: str = ""
    rule_id: str = ""
    authorization_id: int = 0


class NewEntry(NamedTuple):
    """An entry to write; `from_us` None: as soon as it may be, `until_us` None: open."""

    value: str
    reason: str
    from_us: int | None = None
    until_us: int | None = None


class BookRow(NamedTuple):
    """An entry as a `ListBook` holds it: a card id is a number, everything else text."""

    list: str
    field: str
    value: int | str
    from_us: int
    until_us: int | None


class ListingRow(NamedTuple):
    """An entry that a rule made."""

    shard: int
    authorization_id: int
    list: str
    field: str
    value: int | str
    rule_id: str
    from_us: int
    until_us: int
    posted_at_us: int


class Removed(NamedTuple):
    """How many values were taken off, and the rules by which some of them are still listed."""

    values: int
    rules: tuple[str, ...]


async def lists(rows: Rows) -> list[ListView]:
    """Every list by name: those made here, and those that only the live ruleset's text has."""
    made = {row["name"]: row for row in await rows.fetch(_QUERIES["lists"])}
    by_rules = {row["list"]: row for row in await rows.fetch(_QUERIES["listed_by_rules"])}
    declared = {named.name: named for named in await _declared(rows)}
    return [
        ListView(
            name=name,
            field=_field_of(name, made, declared, by_rules),
            title=made[name]["title"] if name in made else "",
            created_at=made[name]["created_at"] if name in made else None,
            created_by=made[name]["created_by"] if name in made else "",
            standing=made[name]["standing"] if name in made else 0,
            by_rules=by_rules[name]["standing"] if name in by_rules else 0,
            in_ruleset=name in declared,
            in_text=len(declared[name].entries) if name in declared else 0,
        )
        for name in sorted({*made, *declared, *by_rules})
    ]


def _field_of(name: str, made: Any, declared: Any, by_rules: Any) -> str:
    if name in made:
        return str(made[name]["field"])
    return str(declared[name].field if name in declared else by_rules[name]["field"])


async def field_of(rows: Rows, name: str) -> str:
    """What a list holds. Raises ListUnknown."""
    found = await rows.fetch(_QUERIES["list_field"], name)
    if found:
        return str(found[0]["field"])
    for named in await _declared(rows):
        if named.name == name:
            return str(named.field)
    raise ListUnknown


async def entries(
    rows: Rows, name: str, *, standing_at_us: int | None, count_max: int = LIST_ENTRIES_MAX
) -> list[EntryView]:
    """The entries of a list, newest first, then those that rules made.

    Only those in force at an instant, or (None) all there ever were. Raises ListUnknown.
    """
    await field_of(rows, name)
    own = await rows.fetch(_QUERIES["entries"], name, standing_at_us, count_max)
    made = await rows.fetch(_QUERIES["listings_of"], name, standing_at_us, count_max)
    return [EntryView(**dict(row)) for row in own] + [
        EntryView(
            entry_id=0,
            value=row["value"],
            reason="put there by a rule",
            author=f"rule {row['rule_id']}",
            from_us=row["from_us"],
            until_us=row["until_us"],
            rule_id=row["rule_id"],
            authorization_id=row["authorization_id"],
        )
        for row in made
    ]


async def create(
    connection: Connection, name: str, field: str, *, title: str = "", author: str
) -> None:
    """Make an empty list. Raises ActRejected: taken, too many, or another field than declared."""
    by, said = _author(author), words(title, "title", TITLE_CHARACTERS_MAX) if title else ""
    async with transaction(connection):
        if not await _made(connection, name, field, said, by):
            raise ActRejected("there is a list of this name already; add entries to it")
        await recorded(
            connection, actor=by, act="list_new", subject=f"list {name}", detail={"field": field}
        )


async def add_entries(
    connection: Connection,
    name: str,
    field: str,
    values: Sequence[str],
    *,
    reason: str,
    author: str,
    from_us: int | None = None,
    until_us: int | None = None,
    now_us: int,
) -> int:
    """Put values on a list and return how many were not on it for as long already.

    `field` is what the caller takes the list to hold ('': whatever it does). Raises
    ListUnknown, and ActRejected for what a list can't hold.
    """
    new = [NewEntry(value, reason, from_us, until_us) for value in values]
    return await _written(connection, name, field, new, author, now_us, "list_add", reason, {})


async def import_entries(
    connection: Connection,
    name: str,
    new: Sequence[NewEntry],
    *,
    digest: str,
    author: str,
    now_us: int,
) -> int:
    """Put the entries of a file (SHA-256 `digest`, hex) on a list, all or none; see add_entries."""
    about = {"sha256": digest}
    return await _written(connection, name, "", new, author, now_us, "list_import", "", about)


async def _written(
    connection: Connection,
    name: str,
    field: str,
    new: Sequence[NewEntry],
    author: str,
    now_us: int,
    act: str,
    reason: str,
    about: dict[str, Any],
) -> int:
    by = _author(author)
    said = words(reason, "reason") if reason else ""
    async with transaction(connection):
        held = await _locked(connection, name, by)
        if field not in ("", held):
            raise ActRejected(f"this list holds {held}; its field never changes, make another list")
        unique = list(dict.fromkeys(_checked(each, held, now_us, len(new)) for each in new))
        if not 1 <= len(unique) <= LIST_ENTRIES_MAX:
            raise ActRejected(f"give 1 to {LIST_ENTRIES_MAX:,} values at once")
        added: int = await connection.fetchval(
            _QUERIES["add_entries"], name, *(list(column) for column in _columns(unique)), by
        )
        if await connection.fetchval(_QUERIES["count_entries"], name, now_us) > LIST_ENTRIES_MAX:
            raise ActRejected(f"a list has at most {LIST_ENTRIES_MAX:,} entries; remove some first")
        detail = {"given": len(new), "added": added, **about, **_named([e.value for e in unique])}
        subject = f"list {name}"
        if added:
            effect_us = takes_effect_us(0, len(new))
            await recorded(
                connection, actor=by, act=act, subject=subject, reason=said, detail=detail,
                effect_us=effect_us,
            )  # fmt: skip
        else:
            await noted(connection, actor=by, act=act, subject=subject, reason=said, detail=detail)
    return added


async def remove_entries(
    connection: Connection,
    name: str,
    values: Sequence[str],
    *,
    reason: str,
    author: str,
    now_us: int,
) -> Removed:
    """End the entries of these values; those that rules made end by themselves."""
    by, said = _author(author), words(reason, "reason")
    async with transaction(connection):
        held = await _locked(connection, name, by)
        unique = list(dict.fromkeys(valid_value(held, value) for value in values))
        if not 1 <= len(unique) <= LIST_ENTRIES_MAX:
            raise ActRejected(f"give 1 to {LIST_ENTRIES_MAX:,} values at once")
        ends_us = takes_effect_us(now_us, len(unique))
        count: int = await connection.fetchval(
            _QUERIES["remove_entries"], name, unique, ends_us, by, said
        )
        rules = await connection.fetch(_QUERIES["listed_by_rule"], name, unique, ends_us)
        if count:
            await recorded(
                connection,
                actor=by,
                act="list_remove",
                subject=f"list {name}",
                reason=said,
                detail={"given": len(unique), "removed": count, **_named(unique)},
                effect_us=ends_us - now_us,
            )
    return Removed(count, tuple(row["rule_id"] for row in rules))


async def book_fields(rows: Rows) -> dict[str, ListField]:
    """What each list made here holds, to declare it in a `ListBook`; it may be empty."""
    return {row["name"]: row["field"] for row in await rows.fetch(_QUERIES["book_fields"])}


async def book_rows(rows: Rows, *, until_after_us: int | None = None) -> list[BookRow]:
    """The entries of people of all lists for a `ListBook`, oldest first.

    With `until_after_us` only those that end after it, which is what a worker needs; a backtest
    needs those that end after its first instant.
    """
    found = await rows.fetch(_QUERIES["book_rows"], until_after_us)
    return [
        BookRow(row["list"], row["field"], _as_facts(row), row["from_us"], row["until_us"])
        for row in found
    ]


async def listings_since(rows: Rows, posted_after_us: int) -> list[ListingRow]:
    """The entries that rules made in postings after an instant, oldest first."""
    found = await rows.fetch(_QUERIES["listings_since"], posted_after_us)
    return [ListingRow(**{**dict(row), "value": _as_facts(row)}) for row in found]


async def mediums_of_cards(rows: Rows, card_ids: Sequence[int]) -> dict[int, list[str]]:
    """The mediums (hex) of cards; a card that is not known is left out."""
    found = await rows.fetch(_QUERIES["mediums_of_cards"], list(card_ids))
    return {row["card_id"]: [medium.hex() for medium in row["mediums"]] for row in found}


async def cards_of_mediums(rows: Rows, mediums: Sequence[bytes]) -> dict[bytes, int]:
    """The cards of mediums (16 bytes); one that is not known is left out."""
    found = await rows.fetch(_QUERIES["cards_of_mediums"], list(mediums))
    return {row["medium"]: row["card_id"] for row in found}


async def _declared(rows: Rows) -> Sequence[Any]:
    in_force = await rulesets_in_force(rows)
    return in_force[0].lists if in_force else ()


async def _locked(connection: Connection, name: str, by: str) -> str:
    """The field of a list whose row is now locked; made where only the live text has it."""
    held = await connection.fetchval(_QUERIES["lock_list"], name)
    if held is not None:
        return str(held)
    field = await field_of(connection, name)
    if not await _made(connection, name, field, "", by):
        # waiting for its row here, with the head locked, could wait for who waits for the head
        raise ActRejected(
            "somebody has just begun this list too, and nothing was written; try again"
        )
    await recorded(
        connection, actor=by, act="list_new", subject=f"list {name}", detail={"field": field}
    )
    return field


async def _made(connection: Connection, name: str, field: str, title: str, by: str) -> bool:
    if _NAME.match(name) is None:
        raise ActRejected("a list's name is a small letter, then at most 39 of a-z, 0-9 and _")
    if field not in FIELDS:
        raise ActRejected(f"there is no such field; a list holds one of {', '.join(FIELDS)}")
    for named in await _declared(connection):
        if named.name == name and named.field != field:
            raise ActRejected(
                f"the live ruleset has a list of this name, of field {named.field}; give that"
            )
    await connection.fetchval(_QUERIES["lock_head"])  # lists are made one after another
    made = await connection.fetchval(_QUERIES["add_list"], name, field, title, by)
    if await connection.fetchval(_QUERIES["count_lists"]) > LISTS_MAX:
        raise ActRejected(f"there are {LISTS_MAX} lists, which is the most; use one of them")
    return made is not None


def _checked(each: NewEntry, field: str, now_us: int, count: int) -> NewEntry:
    earliest_us = takes_effect_us(now_us, count)
    from_us = max(earliest_us, each.from_us or 0)
    if each.until_us is not None and each.until_us <= from_us:
        raise ActRejected("an entry ends before it begins, or before now; give a later end")
    value = valid_value(field, each.value)
    return NewEntry(value, words(each.reason, "reason"), from_us, each.until_us)


def _columns(unique: Sequence[NewEntry]) -> Any:
    return zip(*unique, strict=True)


def _named(values: Sequence[str]) -> dict[str, Any]:
    return {"values": list(values)} if len(values) <= VALUES_IN_TRAIL_MAX else {}


def _as_facts(row: Any) -> int | str:
    return int(row["value"]) if row["field"] == "card_id" else str(row["value"])


def _author(author: str) -> str:
    return words(author, "author", AUTHOR_CHARACTERS_MAX)
