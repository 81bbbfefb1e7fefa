"""`partitions`: the business days that the ledger keeps, makes ahead and hands to the archive."""

from __future__ import annotations

from datetime import date
from typing import Annotated

from cyclopts import App, Parameter

from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.config import Config
from switch.ledger import partitions

app = App(
    name="partitions", help="List, make and detach the ledger's days.", help_format="plaintext"
)


@app.default
def listed(*, where: Where = HERE, json: Json = False) -> int:
    """List the business days that have partitions."""
    return list_(where=where, json=json)


@app.command(name="list")
def list_(*, where: Where = HERE, json: Json = False) -> int:
    """List the business days that have partitions."""
    config = where.load()

    async def body(ledger: Ledger) -> list[partitions.Partition]:
        return await partitions.list_tables(ledger.connection)

    found = with_ledger(where, config, body)
    if json:
        write_json(found)
    else:
        rows = (
            (each.business_date, each.table_name, f"{each.row_estimate:,}", f"{each.bytes:,}")
            for each in found
        )
        write_table("", ["business day", "table", "rows, about>", "bytes>"], rows)
    return Exit.OK


@app.command
def ahead(*, where: Where = HERE, json: Json = False) -> int:
    """Make the partitions of the coming days, as many as are configured."""
    config = where.load()
    today = _today(config)

    async def body(ledger: Ledger) -> list[date]:
        return await partitions.make_ahead(
            ledger.connection, today, config.ledger.partitions_ahead_days
        )

    days = [day.isoformat() for day in with_ledger(where, config, body)]
    if json:
        write_json(days)
    else:
        write(f"made: {', '.join(days)}" if days else "all of them are there already")
    return Exit.OK


@app.command
def detach(
    *,
    where: Where = HERE,
    before: Annotated[str, Parameter(help="Detach the days before this one, YYYY-MM-DD.")],
    json: Json = False,
) -> int:
    """Move days that are over out of the way, to the archive schema; nothing is deleted."""
    try:
        day = date.fromisoformat(before)
    except ValueError:
        raise CommandFailed("--before is not a date; write it as YYYY-MM-DD") from None
    config = where.load()

    async def body(ledger: Ledger) -> list[str]:
        return await partitions.detach_before(ledger.connection, day, today=_today(config))

    detached = with_ledger(where, config, body)
    if json:
        write_json(detached)
    else:
        write(f"detached: {', '.join(detached)}" if detached else "there was nothing to detach")
    return Exit.OK


def _today(config: Config) -> date:
    calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
    return calendar.business_date(SystemClock().now_us())
