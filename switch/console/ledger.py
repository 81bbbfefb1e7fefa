"""The console's few connections to the ledger, each lent for one piece of work.

A piece of work that fails in any way gives up its connection, and with it a transaction that
was left open; the next one opens another, which costs milliseconds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio

from switch.ledger import bridge
from switch.ledger.failures import LedgerLost, translated

CONNECTIONS_MAX = 4
WAIT_SECONDS = 5.0
WORK_SECONDS = 25.0
"""Longer than the server lets any one statement take."""
SETTINGS = {
    "application_name": "citycard console",
    "synchronous_commit": "on",
    "statement_timeout": "20s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "30s",
    "jit": "off",
}

Connect = Callable[[], Awaitable[bridge.Connection]]


class ConsoleLedger:
    """Connections, at most CONNECTIONS_MAX of them, opened when they are needed."""

    def __init__(
        self,
        connect: Connect,
        connections_max: int = CONNECTIONS_MAX,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._connect = connect
        self._wait_seconds = wait_seconds
        self._turns = anyio.Semaphore(connections_max)
        self._idle: list[bridge.Connection] = []

    async def fetch(self, query: str, *args: object) -> Sequence[Any]:
        """One query. Raises LedgerLost and LedgerRefused."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[bridge.Connection]:
        """A connection for as long as the body runs.

        What the driver raises in the body becomes LedgerLost or LedgerRefused; whatever else it
        raises passes.
        """
        try:
            with translated(self._wait_seconds), anyio.fail_after(self._wait_seconds):
                await self._turns.acquire()
            try:
                with translated(WORK_SECONDS), anyio.fail_after(WORK_SECONDS):
                    async with self._lent() as connection:
                        yield connection
            finally:
                self._turns.release()
        except LedgerLost:
            self.close()  # the others were most likely lost with it
            raise

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[bridge.Connection]:
        connection = await self._opened()
        try:
            yield connection
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)

    async def _opened(self) -> bridge.Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        try:
            return await self._connect()
        except bridge.CONNECTION_REFUSED as error:
            raise LedgerLost(type(error).__name__) from None

    def close(self) -> None:
        """Drop the connections that nobody works with."""
        for connection in self._idle:
            connection.terminate()
        self._idle.clear()


def console_ledger(url: str, timeout_seconds: float) -> ConsoleLedger:
    """The ledger at `url`, by connections whose statements have an end."""

    async def connect() -> bridge.Connection:
        return await bridge.connect(url, timeout_seconds=timeout_seconds, settings=SETTINGS)

    return ConsoleLedger(connect)
