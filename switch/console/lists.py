"""Lists and their entries over HTTP. Nothing here takes or tells a card number: cards are on
lists by their id or their medium."""

from __future__ import annotations

import hashlib
from typing import Annotated

import anyio
import msgspec
from msgspec import Meta

from risk.lists import ListField
from switch.console.desk import Desk
from switch.console.endpoint import IMPORT_BYTES_MAX, READERS, Asked, Call, Endpoint, Query
from switch.console.fields import EntriesMax, InstantUs, Name, Reason, Title
from switch.console.problems import Fault
from switch.ledger import rule_lists
from switch.ledger.rule_list_file import read_entries
from switch.ledger.rule_lists import EntryView, ListView, NewEntry

VALUES_MAX = 1_000
WRITERS = frozenset({"author"})

Values = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=128)]],
    Meta(
        min_length=1,
        max_length=VALUES_MAX,
        description=f"1 to {VALUES_MAX} values of 1 to 128 characters; import longer lists",
    ),
]


class ListsView(msgspec.Struct, frozen=True):
    """Every list, by name."""

    lists: list[ListView]


class ListAsked(Asked, frozen=True):
    """A list to make. Its field is fixed from then on."""

    name: Name
    field: Annotated[ListField, Meta(description="what the list holds, such as medium or merchant")]
    title: Title = ""


class EntriesQuery(Query, frozen=True):
    """Which entries; those that stand now if nothing is said."""

    ended: Annotated[bool, Meta(description="true, to see those that ended or begin later")] = False
    count_max: EntriesMax = 1_000


class EntriesView(msgspec.Struct, frozen=True):
    """Entries, newest first, then those that rules made."""

    name: str
    entries: list[EntryView]


class EntriesAsked(Asked, frozen=True):
    """Values to put on a list, and from when until when; from as soon as may be, and open."""

    values: Values
    reason: Reason
    from_us: InstantUs | None = None
    until_us: InstantUs | None = None


class AddedView(msgspec.Struct, frozen=True):
    """How many were given, and how many were not on the list for as long already."""

    name: str
    given: int
    added: int


class ImportQuery(Query, frozen=True):
    """The reason of lines that have none of their own."""

    reason: Annotated[
        str, Meta(max_length=120, description="why, in at most 120 characters, for lines without")
    ] = ""


class RemovalAsked(Asked, frozen=True):
    """Values whose entries are to end."""

    values: Values
    reason: Reason


class RemovedView(msgspec.Struct, frozen=True):
    """How many values were taken off, and the rules by which some of them still are listed."""

    name: str
    removed: int
    rules: list[str]


async def all_lists(desk: Desk, _call: Call[None, Query]) -> ListsView:
    return ListsView(await rule_lists.lists(desk.ledger))


async def make(desk: Desk, call: Call[ListAsked, Query]) -> ListView | None:
    asked = call.asked
    async with desk.ledger.connection() as connection:
        await rule_lists.create(
            connection, asked.name, asked.field, title=asked.title, author=call.operator.name
        )
        return next(each for each in await rule_lists.lists(connection) if each.name == asked.name)


async def entries(desk: Desk, call: Call[None, EntriesQuery]) -> EntriesView:
    name = call.path["name"]
    at_us = None if call.query.ended else desk.clock.now_us()
    found = await rule_lists.entries(
        desk.ledger, name, standing_at_us=at_us, count_max=call.query.count_max
    )
    return EntriesView(name, found)


async def add(desk: Desk, call: Call[EntriesAsked, Query]) -> AddedView:
    asked, name = call.asked, call.path["name"]
    async with desk.ledger.connection() as connection:
        added = await rule_lists.add_entries(
            connection,
            name,
            "",
            asked.values,
            reason=asked.reason,
            author=call.operator.name,
            from_us=asked.from_us,
            until_us=asked.until_us,
            now_us=desk.clock.now_us(),
        )
    return AddedView(name, len(asked.values), added)


async def import_file(desk: Desk, call: Call[None, ImportQuery]) -> AddedView:
    name = call.path["name"]
    digest = hashlib.sha256(call.body).hexdigest()
    zone = desk.config.ledger.time_zone

    def read() -> list[NewEntry]:
        entries = read_entries(call.body, zone, reason=call.query.reason)
        return [NewEntry(each.value, each.reason, each.from_us, each.until_us) for each in entries]

    new = await anyio.to_thread.run_sync(read)
    async with desk.ledger.connection() as connection:
        added = await rule_lists.import_entries(
            connection,
            name,
            new,
            digest=digest,
            author=call.operator.name,
            now_us=desk.clock.now_us(),
        )
    return AddedView(name, len(new), added)


async def remove(desk: Desk, call: Call[RemovalAsked, Query]) -> RemovedView:
    asked, name = call.asked, call.path["name"]
    async with desk.ledger.connection() as connection:
        removed = await rule_lists.remove_entries(
            connection,
            name,
            asked.values,
            reason=asked.reason,
            author=call.operator.name,
            now_us=desk.clock.now_us(),
        )
    return RemovedView(name, removed.values, list(removed.rules))


_ENTRIES = "/v1/lists/{name}/entries"
ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/lists", summary="Every list, and how many entries stand on it",
        roles=READERS, handler=all_lists, answers=ListsView,
    ),
    Endpoint(
        method="POST", path="/v1/lists", summary="Make an empty list", roles=WRITERS, handler=make,
        asked=ListAsked, answers=ListView, status=201, faults=(Fault.FIELD, Fault.REFUSED),
        example={"name": "event_stops", "field": "stop", "title": "Stops of the marathon"},
    ),
    Endpoint(
        method="GET", path=_ENTRIES, summary="The entries of a list", roles=READERS,
        handler=entries, query=EntriesQuery, answers=EntriesView, faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="POST", path=_ENTRIES, summary="Put values on a list", roles=WRITERS, handler=add,
        asked=EntriesAsked, answers=AddedView, faults=(Fault.FIELD, Fault.REFUSED),
        example={"values": ["north/7"], "reason": "marathon", "until_us": 1_800_000_000_000_000},
    ),
    Endpoint(
        method="POST", path=f"{_ENTRIES}/import", roles=WRITERS, handler=import_file,
        summary="Put the entries of a CSV file on a list, all or none", raw=True,
        asked_type="text/csv", query=ImportQuery, answers=AddedView,
        body_bytes_max=IMPORT_BYTES_MAX, faults=(Fault.FIELD, Fault.REFUSED),
        example="value,reason,from,until\nnorth/7,marathon,2026-10-01T06:00,2026-10-01T18:00\n",
    ),
    Endpoint(
        method="POST", path=f"{_ENTRIES}/remove", summary="Have the entries of values end",
        roles=WRITERS, handler=remove, asked=RemovalAsked, answers=RemovedView,
        faults=(Fault.FIELD, Fault.REFUSED),
        example={"values": ["north/7"], "reason": "the marathon is over"},
    ),
)  # fmt: skip
