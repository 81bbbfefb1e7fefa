"""What the handlers of the console work with; made once for a process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.console.ledger import ConsoleLedger

if TYPE_CHECKING:
    from switch.console.backtest_queue import BacktestQueue
    from switch.console.reports import Reports


class Desk(msgspec.Struct, frozen=True):
    """The ledger, the backtests and their reports, and what the configuration says."""

    ledger: ConsoleLedger
    backtests: BacktestQueue
    reports: Reports
    config: Config
    calendar: BusinessCalendar
    clock: Clock
