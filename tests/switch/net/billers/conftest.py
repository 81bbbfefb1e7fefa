"""A biller's host behind a real socket, and the switch's client before it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from loadtest.biller import BillerHost, Plan, bound, serve
from switch.clock import SystemClock
from switch.config_city import Biller
from switch.metrics import Metrics
from switch.net.billers.circuit import Circuit
from switch.net.billers.client import Billers

PATIENCE_SECONDS = 20


class Town:
    """One biller, called `water`, and what was counted about it."""

    def __init__(self, host: BillerHost, billers: Billers, metrics: Metrics) -> None:
        self.host, self.billers, self.metrics = host, billers, metrics
        self.clock = SystemClock()

    @property
    def circuit(self) -> Circuit:
        return self.billers._hosts["water"].circuit

    def by(self, seconds: float = PATIENCE_SECONDS) -> int:
        """A deadline so far away."""
        return self.clock.monotonic_ns() + int(seconds * 1e9)

    def counted(self, how: str) -> float:
        labels = {"biller": "water", "call_outcome": how}
        name = "citycard_biller_calls_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def town_of(host: BillerHost, port: int, **terms: object) -> Town:
    usual = {
        "name": "water", "url": f"http://127.0.0.1:{port}", "venue": "water",
        "acquirer": "48041000", "timeout_ms": 10_000,
    }  # fmt: skip
    metrics = Metrics(billers=["water"])
    biller = Biller(**(usual | terms))  # type: ignore[arg-type]
    return Town(
        host, Billers((biller,), {"water": host.plan.api_key}, SystemClock(), metrics), metrics
    )


@asynccontextmanager
async def _in_town(plan: Plan = Plan(), **terms: object) -> AsyncIterator[Town]:  # noqa: B008
    host, listener, stop = BillerHost(plan), bound(), anyio.Event()
    listener.listen(128)
    town = town_of(host, listener.getsockname()[1], **terms)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, host, listener, stop.wait)
        try:
            with anyio.fail_after(PATIENCE_SECONDS):
                yield town
        finally:
            await town.billers.close()
            stop.set()


@pytest.fixture
def in_town() -> Callable[..., object]:
    """`async with in_town(plan, **terms of the biller) as town`."""
    return _in_town


Answers = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def _raw_host(octets: bytes) -> AsyncIterator[Town]:
    """Whatever comes is answered with these bytes, and the connection is closed."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(octets)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    town = town_of(BillerHost(Plan()), port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        yield town
        await town.billers.close()
        tasks.cancel_scope.cancel()


@pytest.fixture
def raw_host() -> Callable[[bytes], object]:
    return _raw_host


@pytest.fixture
def nobody_there() -> Town:
    """A biller at a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return town_of(BillerHost(Plan()), probe.getsockname()[1])
