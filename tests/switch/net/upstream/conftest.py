"""A stage for cards of another city: a prepared ledger and a listening host."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from loadtest.host import HostPlan, IssuerHost
from switch.clock import SystemClock
from switch.config import Config, Ledger
from switch.config_trouble import Upstream
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.prepare import prepare
from tests.switch.net.upstream.city import CARD_KEY, CITY_B, City, Stage

ORDINARY = HostPlan()


@pytest.fixture
def staged(database: str, ledger_loop: None) -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """`async with staged(HostPlan(...), timeout_ms=…) as stage`; ends with audit and balance."""

    @asynccontextmanager
    async def make(
        plan: HostPlan = ORDINARY, *, listening: bool = True, balanced: bool = True, **terms: Any
    ) -> AsyncIterator[Stage]:
        host = IssuerHost(plan)
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        said: dict[str, Any] = {
            "name": "city-b", "host": "127.0.0.1", "port": port, "bins": (CITY_B,),
            "acquirer": "48029999", "timeout_ms": 300,
        }  # fmt: skip
        config = Config(ledger=Ledger(shards=2), upstreams=(Upstream(**(said | terms)),))
        connection = await bridge.connect(database)
        await prepare(connection, config, key=CARD_KEY, now_us=SystemClock().now_us())
        await connection.close()
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                await listener.serve(lambda stream: host.serve(stream, tasks), tasks)

            stage = Stage(database, host, config, lambda: tasks.start_soon(listen))
            if listening:
                stage.listen()
            yield stage
            tasks.cancel_scope.cancel()
        await listener.aclose()
        connection = await bridge.connect(database)
        report = await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
        await connection.close()
        assert report.clean, report
        if balanced:
            city = City(config, database, host, 0)
            assert await city.owed_minor() == host.standing_minor

    return make


@pytest.fixture
async def stage(staged: Any) -> AsyncIterator[Stage]:
    async with staged() as made:
        yield made


@pytest.fixture
async def city(stage: Stage) -> AsyncIterator[City]:
    """A worker with its host up."""
    async with stage.worker() as made:
        await made.up()
        yield made
