"""Puts the HTTP API of a worker together: its ports, its desks, and the keeper of bills."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import anyio
from anyio.abc import TaskGroup

from protocols.card_number import CardNumber
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.ledger.bills import bill_ledger
from switch.metrics import Metrics
from switch.net.billers.assembly import billers_of
from switch.net.billers.client import Billers
from switch.net.debits.assembly import debit_desk
from switch.net.debits.routes import ENDPOINTS as DEBIT_ENDPOINTS
from switch.net.debits.routes import debit_routes
from switch.net.http.access import Gate
from switch.net.http.description import description_routes
from switch.net.http.edge import Edge
from switch.net.http.endpoints import ENDPOINTS
from switch.net.http.keeper import BillKeeper
from switch.net.http.postings import Posts, Submit
from switch.net.http.routes import application, bill_routes, sale_routes
from switch.net.http.saga import BillDesk
from switch.net.http.sales import SaleDesk
from switch.net.http.server import HttpPort
from switch.net.http.steps import BillSteps
from switch.net.tls import server_context
from switch.venues import VenueTable

LEDGER_CONNECTIONS = 2
"""Of the desk, and of the keeper, which leads for as long as it has its own."""


class HttpApi:
    """All ports of the API in one process."""

    def __init__(self, ports: list[HttpPort], keeper: BillKeeper, billers: Billers) -> None:
        self._ports = ports
        self._keeper = keeper
        self._billers = billers
        self._keeping = anyio.CancelScope()
        self._kept = anyio.Event()

    def open(self, host: str, numbers: Mapping[str, int]) -> dict[str, int]:
        """Bind the ports, by name. Raises OSError where one is not to be had."""
        return {port.name: port.open(host, numbers[port.name]) for port in self._ports}

    def start(self, tasks: TaskGroup) -> None:
        """Serve in a task group."""
        for port in self._ports:
            tasks.start_soon(port.run)
        tasks.start_soon(self._keep)

    async def leave(self, seconds: float) -> None:
        """Take no more, answer what is under way for at most so long, and close; once started."""
        async with anyio.create_task_group() as tasks:
            for port in self._ports:
                tasks.start_soon(port.leave, seconds)
        self._keeping.cancel()
        await self._kept.wait()  # its last call to the ledger has an end of its own
        await self._billers.close()

    async def _keep(self) -> None:
        try:
            with self._keeping:
                await self._keeper.run()
        finally:
            self._kept.set()


def http_api(
    config: Config,
    *,
    database: str,
    submit: Submit,
    venues: VenueTable,
    acquirers: Collection[str],
    medium_of: Callable[[CardNumber], bytes],
    calendar: BusinessCalendar,
    clock: Clock,
    metrics: Metrics,
    entropy: Callable[[int], bytes],
) -> HttpApi:
    """The configured API. `acquirers` are those with an account. Raises ConfigError."""
    seconds = float(config.ledger.connect_timeout_seconds)
    ledger = bill_ledger(database, seconds)
    billers = billers_of(config.billers, clock, metrics)
    posts = Posts(submit, calendar, clock, metrics)
    by_name = {each.name: each for each in config.billers}
    steps = BillSteps(ledger, billers, posts, by_name, calendar, clock)
    desk = BillDesk(
        ledger,
        billers,
        posts,
        steps,
        currency=config.ledger.currency,
        medium_of=medium_of,
        clock=clock,
        entropy=entropy,
    )
    sales = SaleDesk(
        posts,
        venues,
        currency=config.ledger.currency,
        acquirers=acquirers,
        medium_of=medium_of,
        local_at=lambda: f"{calendar.local(clock.now_us()):%m%d%H%M%S}",
        clock=clock,
    )
    debits = debit_routes(debit_desk(config, database, calendar, clock), medium_of)
    described = description_routes([*ENDPOINTS, *DEBIT_ENDPOINTS])
    routes = [*bill_routes(desk), *sale_routes(sales), *debits, *described]
    ports = []
    for number, api in enumerate(config.apis):
        gate = Gate(api.acquirer, ledger, calendar, clock)
        app = Edge(application(list(routes), api.body_bytes_max), api, gate, clock)
        ports.append(HttpPort(api.name, app, server_context(api.tls, f"apis[{number}].tls")))
    keeper = BillKeeper(bill_ledger(database, seconds), steps, metrics)
    return HttpApi(ports, keeper, billers)
