"""Puts the console together from the configuration: its ledger, its desk, its port."""

from __future__ import annotations

from pathlib import Path

import anyio

from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.console.access import Gate
from switch.console.backtest_job import job_runner
from switch.console.backtest_queue import BacktestQueue
from switch.console.description import description_routes
from switch.console.desk import Desk
from switch.console.edge import Edge
from switch.console.endpoints import ENDPOINTS
from switch.console.ledger import console_ledger
from switch.console.reports import Reports
from switch.console.routes import application, routes
from switch.net.http.server import HttpPort
from switch.net.tls import server_context

NAME = "console"


class Console:
    """One console, from `open` to `leave`. Make it where it runs."""

    def __init__(self, desk: Desk, port: HttpPort) -> None:
        self.desk = desk
        self._port = port

    def open(self, host: str, number: int) -> int:
        """Bind; the port that it has. Raises OSError where it is not to be had: two consoles
        behind one port would each know the half of what was asked."""
        return self._port.open(host, number, shared=False)

    async def run(self) -> None:
        """Serve, and do the backtests that are asked for, until `leave` is called."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.desk.backtests.run)
                await self._port.run()
                tasks.cancel_scope.cancel()
        finally:
            self.desk.ledger.close()

    async def leave(self, seconds: float) -> None:
        """Take no more, answer what is under way for at most so long, and close."""
        await self._port.leave(seconds)


def console(config: Config, *, database: str, reports: Path, clock: Clock) -> Console:
    """The configured console; `reports` is where reports of backtests are kept. Raises
    ConfigError."""
    ledger = console_ledger(database, float(config.ledger.connect_timeout_seconds))
    calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
    backtests = BacktestQueue(ledger, job_runner(ledger, database))
    kept = Reports(backtests, reports, config.ledger.time_zone)
    desk = Desk(ledger, backtests, kept, config, calendar, clock)
    app = application([*routes(desk, ENDPOINTS), *description_routes(ENDPOINTS)])
    edge = Edge(app, Gate(ledger, clock), clock)
    port = HttpPort(NAME, edge, server_context(config.console.tls, "console.tls"))
    return Console(desk, port)
