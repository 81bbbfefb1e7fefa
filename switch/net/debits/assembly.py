"""Puts debit files together from a worker's configuration: the desk of its API, and the task."""

from __future__ import annotations

import functools
from collections.abc import Callable

from protocols.message import Request
from switch.admission import Respond
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.ledger.debits import DebitLedger
from switch.metrics import Metrics
from switch.net.debits.collecting import Collecting
from switch.net.debits.desk import DebitDesk
from switch.net.debits.intake import Intake


def debit_desk(
    config: Config, database: str, calendar: BusinessCalendar, clock: Clock
) -> DebitDesk:
    """What the API of one process needs."""
    seconds = float(config.ledger.connect_timeout_seconds)
    opened = functools.partial(DebitLedger.open, database, seconds)
    rows_max = config.uploads.debit_rows_max
    intake = Intake(opened, rows_max=rows_max, calendar=calendar, clock=clock)
    return DebitDesk(opened, intake, {biller.name: biller for biller in config.billers})


def collecting_of(
    config: Config,
    database: str,
    submit: Callable[[Request, Respond], None],
    clock: Clock,
    metrics: Metrics,
) -> Collecting:
    """The task that works files off; any number of processes may have one."""
    seconds = float(config.ledger.connect_timeout_seconds)
    return Collecting(
        functools.partial(DebitLedger.open, database, seconds),
        submit,
        {biller.name: biller for biller in config.billers},
        currency=config.ledger.currency,
        in_flight_max=config.uploads.in_flight_max,
        clock=clock,
        metrics=metrics,
    )
