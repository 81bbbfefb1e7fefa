"""`standin`: what the operator sees of stand-in, its switch, and the drill that proves it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from protocols.money import display_minor
from switch import logs
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Where
from switch.commands.output import Json, write, write_json, write_table
from switch.config import Config
from switch.standin import spool_path
from switch.standin.rows import Summary
from switch.standin.spool import summarised, switched
from switch.standin.spool_file import SpoolUnusable

app = App(
    name="standin",
    help="Approving while the ledger is away: state, switch and drill.",
    help_format="plaintext",
)


class Status(msgspec.Struct, frozen=True):
    """The spool and the switch before it. `oldest_seconds` is the age of the oldest unposted."""

    spool: str
    configured: bool
    switched_on: bool
    oldest_seconds: float
    summary: Summary


@app.default
def shown(*, where: Where = HERE, json: Json = False) -> int:
    """Show whether stand-in may approve, what is unposted, in suspense or refused."""
    return status(where=where, json=json)


@app.command
def status(*, where: Where = HERE, json: Json = False) -> int:
    """Show whether stand-in may approve, what is unposted, in suspense or refused.

    Exit code 1 says that the ledger refused rows, which must be settled by hand.
    """
    config = where.load()
    path = spool_path(config, where.directory)
    with _spool_explained():
        found = summarised(path) if path.exists() else Summary(True, 0, 0, (), (), ())
    age_us = SystemClock().now_us() - found.oldest_at_us if found.oldest_at_us else 0
    enabled = config.standin.enabled
    told = Status(
        str(path), enabled, enabled and found.switched_on, max(age_us, 0) / 1_000_000, found
    )
    if json:
        write_json(told)
    else:
        _write_status(told, config)
    return Exit.FINDINGS if found.refused else Exit.OK


@app.command
def on(*, where: Where = HERE) -> int:
    """Let stand-in approve again, as far as the configuration allows."""
    return _switch(where, on=True)


@app.command
def off(*, where: Where = HERE) -> int:
    """Stop all approvals of stand-in at once, in every worker, also after a restart.

    Reversals are accepted still, and what was answered is posted.
    """
    return _switch(where, on=False)


@app.command
def drill(
    *,
    directory: Annotated[
        Path | None,
        Parameter(help="Where the drill keeps its own ledger; a temporary folder if not given."),
    ] = None,
    workers: Annotated[int, Parameter(help="Processes that share the ports.")] = 2,
    json: Json = False,
) -> int:
    """Prove stand-in on a switch and a ledger of its own: stop the ledger, tap, start it again.

    Nothing of this switch is touched. Exit code 0 only if everything holds.
    """
    from switch.demo import drill as rehearsal

    if workers < 1:
        raise CommandFailed("--workers is below 1; give a whole number from 1")
    logs.configure("auto", "warning", sys.stderr)
    return rehearsal.run(directory=directory, workers=workers, as_json=json)


def _switch(where: Where, *, on: bool) -> int:
    config = where.load()
    path = spool_path(config, where.directory)
    if not path.parent.is_dir():
        raise CommandFailed(
            f"there is no folder {path.parent}; run `citycard init`, or give --directory"
        )
    with _spool_explained():
        switched(path, on=on)
    if on and not config.standin.enabled:
        write("stand-in is on here, and off in the configuration: it approves nothing")
    else:
        write(f"stand-in is {'on' if on else 'off'}, in all workers, from now on")
    return Exit.OK


@contextmanager
def _spool_explained() -> Iterator[None]:
    try:
        yield
    except SpoolUnusable as error:
        raise CommandFailed(str(error), Exit.FINDINGS) from None


def _write_status(told: Status, config: Config) -> None:
    if not told.configured:
        state = "off by configuration"
    else:
        state = "on" if told.switched_on else "off: `citycard standin on` lets it approve again"
    found = told.summary
    write(f"stand-in  {state}")
    write(f"spool     {told.spool}")
    unposted = f"{found.open_rows:,} of at most {config.standin.spool_rows_max:,} rows"
    age = f", the oldest {told.oldest_seconds:,.0f} s old" if found.open_rows else ""
    write(f"unposted  {unposted}{age}")
    if found.totals:
        limits = {
            "transit": config.standin.transit.total_max_minor,
            "utility": config.standin.utility.total_max_minor,
            "retail": config.standin.retail.total_max_minor,
        }
        write_table(
            "Approved since the outage began",
            ["segment", "sales>", "amount>", "limit>"],
            (
                (
                    total.segment,
                    f"{total.count:,}",
                    display_minor(total.amount_minor),
                    display_minor(limits.get(total.segment, 0)),
                )
                for total in found.totals
            ),
        )
    if found.counts:
        write_table(
            "Rows of the spool",
            ["segment", "state", "rows>", "amount>"],
            (
                (each.segment, each.state, f"{each.rows:,}", display_minor(each.amount_minor))
                for each in found.counts
            ),
        )
    if found.refused:
        calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        write_table(
            "Refused by the ledger: settle these by hand",
            ["row>", "answered", "segment", "kind", "amount>", "outcome"],
            (
                (
                    each.id,
                    f"{calendar.local(each.at_us):%m-%d %H:%M:%S}",
                    each.segment,
                    each.kind,
                    display_minor(each.amount_minor),
                    each.result,
                )
                for each in found.refused
            ),
        )
