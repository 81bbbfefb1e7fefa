"""`venues`: the places where the card is taken, and what became of their messages on a day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from protocols.money import display_minor
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit, LedgerUnreachable
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, complain, write_json, write_table
from switch.config import Config
from switch.ledger import bridge, embedded_places, sql
from switch.ledger.migrate import LedgerUnfit
from switch.venues import Venue, load_venues

_QUERIES = sql.queries("venues.sql")


class VenueDay(msgspec.Struct, frozen=True):
    """What the ledger holds of a venue on a business day. `money_minor` is what its acquirers
    got, less what they gave back."""

    messages: int = 0
    approved: int = 0
    declined: int = 0
    money_minor: int = 0


class VenueView(msgspec.Struct, frozen=True):
    """A venue and its day; `day` is None where no ledger was asked."""

    venue: Venue
    day: VenueDay | None


class VenuesView(msgspec.Struct, frozen=True):
    """The whole table; `business_date` is empty where no ledger was asked."""

    business_date: str
    venues: list[VenueView]


def venues(
    *,
    where: Where = HERE,
    file: Annotated[
        Path | None, Parameter(help="A table of venues to check and show; no ledger is asked.")
    ] = None,
    day: Annotated[str, Parameter(help="Business day, as YYYY-MM-DD; today's if not given.")] = "",
    json: Json = False,
) -> int:
    """Show the venues, with the messages and the money of a business day."""
    config = where.load()
    table = load_venues(str(file) if file else config.venues.file)
    business_date = _day(day, config)
    counted = None if file else _counts(where, config, business_date)
    shown = VenuesView(
        business_date="" if counted is None else business_date.isoformat(),
        venues=[
            VenueView(each, None if counted is None else counted.get(each.code, VenueDay()))
            for each in sorted(table.venues, key=lambda each: each.number)
        ],
    )
    if json:
        write_json(shown)
    else:
        _show(shown)
    return Exit.OK


def _day(said: str, config: Config) -> date:
    if not said:
        calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        return calendar.business_date(SystemClock().now_us())
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise CommandFailed("--day is not a date; write it as YYYY-MM-DD") from None


def _counts(where: Where, config: Config, day: date) -> Mapping[str, VenueDay] | None:
    """The counts of a day by venue; None, with a sentence, where no ledger answers."""
    if where.url(config) is None and not _is_embedded(where.directory):
        complain("there is no ledger here, so nothing is counted; run citycard init to make one")
        return None

    async def body(ledger: Ledger) -> Mapping[str, VenueDay]:
        return await venue_counts(ledger.connection, day)

    try:
        return with_ledger(where, config, body)
    except (LedgerUnreachable, LedgerUnfit, embedded_places.EmbeddedServerError) as away:
        complain(f"nothing is counted: {away}")
        return None


def _is_embedded(directory: Path) -> bool:
    """Whether a ledger was made here; looking at venues must not make one."""
    return (directory / "postgres").exists()


async def venue_counts(connection: bridge.Connection, day: date) -> Mapping[str, VenueDay]:
    """Messages and money of a business day by venue's code; of the archive too."""
    rows = await connection.fetch(_QUERIES["venue_counts"], day)
    return {
        row["venue"]: VenueDay(
            row["messages"], row["approved"], row["declined"], row["money_minor"]
        )
        for row in rows
    }


def _show(shown: VenuesView) -> None:
    columns = ["no>", "venue", "中文", "categories", "segment", "flow", "purses", "at most>"]
    columns += ["p99/hard ms>"]
    if shown.business_date:
        columns += ["messages>", "approved>", "declined>", "money>"]
    title = f"Venues · business day {shown.business_date}" if shown.business_date else "Venues"
    write_table(title, columns, (_row(each) for each in shown.venues))


def _row(shown: VenueView) -> list[object]:
    venue, day = shown.venue, shown.day
    row: list[object] = [
        venue.number,
        venue.name,
        venue.name_zh,
        " ".join(venue.mccs),
        venue.segment.value,
        venue.flow,
        "→".join(venue.purse_order),
        display_minor(venue.amount_max_minor) if venue.amount_max_minor else "",
        f"{venue.p99_ms}/{venue.hard_ms}",
    ]
    if day is not None:
        row += [f"{day.messages:,}", f"{day.approved:,}", f"{day.declined:,}"]
        row.append(display_minor(day.money_minor))
    return row
