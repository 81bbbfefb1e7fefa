"""What was in force beside a ruleset: lists, snoozes, other rulesets, and what people said.

All of it has instants, so it is read once and holds for every day that is replayed.
"""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple, get_args

import msgspec

from risk.backtest import Subject, Verdict, alike
from risk.lists import ListBook, ListField
from risk.ruleset import Ruleset, ruleset_from_bytes
from risk.snooze import Snoozed
from switch.ledger import bridge, sql

_QUERIES = sql.queries("backtest.sql")
_FIELDS: dict[str, ListField] = {field: field for field in get_args(ListField)}


class Beside(NamedTuple):
    """The tested ruleset with all that stands beside it, and the labels of the days."""

    tested: Subject
    labels: dict[int, Verdict]


async def read_beside(
    connection: bridge.Connection,
    ruleset: Ruleset,
    *,
    live: Ruleset | None,
    from_date: date,
    to_date: date,
) -> Beside:
    """Read it, inside a transaction of the caller."""
    stored: dict[str, dict[str, str]] = {}
    for row in await connection.fetch(_QUERIES["rulesets"]):
        try:
            other = ruleset_from_bytes(row["canonical"])
        except (msgspec.ValidationError, msgspec.DecodeError):
            continue  # of a later version: its values are recounted
        stored[row["hash"]] = alike(ruleset, other)
    labels = await connection.fetch(_QUERIES["labels"], from_date, to_date)
    tested = Subject(
        ruleset,
        await read_book(connection, ruleset),
        await read_snoozed(connection),
        live,
        stored,
    )
    verdicts: dict[int, Verdict] = {row[0]: "fraud" if row[1] else "genuine" for row in labels}
    return Beside(tested, verdicts)


async def read_book(connection: bridge.Connection, ruleset: Ruleset) -> ListBook:
    """All lists with all entries that there ever were, and those that rules made.

    As workers do, a list is what the ledger says, else what the ruleset's text says; what rules
    listed of another fact under that name is left out.
    """
    book = ListBook()
    for row in await connection.fetch(_QUERIES["lists"]):
        book.declare(row["name"], _FIELDS[row["field"]])
    for named in ruleset.lists:
        if named.name not in book.fields:
            book.declare(named.name, named.field)
    for row in await connection.fetch(_QUERIES["list_entries"]):
        _put(book, row["list"], row)
    for row in await connection.fetch(_QUERIES["listings"]):
        if row["list"] not in book.fields:
            book.declare(row["list"], _FIELDS[row["field"]])
        if book.fields[row["list"]] == row["field"]:
            _put(book, row["list"], row)
    return book


def _put(book: ListBook, name: str, row: Any) -> None:
    value = int(row["value"]) if book.fields[name] == "card_id" else row["value"]
    book.put(name, value, row["from_us"], row["until_us"])


async def read_snoozed(connection: bridge.Connection) -> Snoozed:
    """Every snooze that there ever was, by rule and card."""
    spans: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for row in await connection.fetch(_QUERIES["snoozes"]):
        spans.setdefault((row[0], row[1]), []).append((row[2], row[3]))
    return {key: tuple(found) for key, found in spans.items()}
