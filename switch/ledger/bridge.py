"""The only module that knows asyncio and trio: starts a backend, and carries asyncpg over it.

asyncpg needs an asyncio loop. On the asyncio backend it is called directly; on trio the
loop is a guest of trio-asyncio and each call crosses once, which costs 0.3-0.4 ms and is
why the ledger is reached in few, large calls.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar, get_args
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import sniffio

from protocols.card_number import mask_digit_runs

Backend = Literal["asyncio", "trio"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

T = TypeVar("T")

CONNECTION_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the server is away, on connecting or in the middle of a call."""


def run(backend: Backend, main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `main` to its end on the backend, with a loop for asyncpg under it."""
    # Named, because importing trio-asyncio replaces the loop policy of the whole process,
    # and its loops outside trio cost two to three times as much for each callback.
    options = {"loop_factory": asyncio.SelectorEventLoop} if backend == "asyncio" else {}
    return anyio.run(with_ledger_loop, main, *args, backend=backend, backend_options=options)


async def with_ledger_loop(main: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Await `main(*args)`; on trio, inside an asyncio loop that is trio's guest."""
    if sniffio.current_async_library() == "asyncio":
        return await main(*args)
    import trio_asyncio

    async with trio_asyncio.open_loop():
        return await main(*args)


async def call(function: Callable[..., Awaitable[T]], *args: Any, **keywords: Any) -> T:
    """Await one coroutine function of asyncpg, from whichever backend is running."""
    if sniffio.current_async_library() == "asyncio":
        return await function(*args, **keywords)
    import trio_asyncio

    crossed: T = await trio_asyncio.aio_as_trio(function)(*args, **keywords)
    return crossed


CONNECTION_REFUSED = (
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidPasswordError,
    asyncpg.exceptions.ClientConfigurationError,
    ValueError,
)
"""What asyncpg raises for an address, a database or a role that is not right."""


def without_secrets(url: str) -> str:
    """HOST:PORT/DATABASE of a connection URL, without user and password."""
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        host = parts.hostname or query.get("host", ["localhost"])[0]
        port = parts.port or query.get("port", ["5432"])[0]
    except ValueError:
        return "the address given"
    return mask_digit_runs(f"{host}:{port}/{parts.path.lstrip('/')}")


def reason_without_secrets(error: BaseException) -> str:
    """Why a connection failed, in words that quote nothing of its address."""
    match error:
        case TimeoutError():
            return "no answer in time"
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return "user or password refused"
        case asyncpg.InvalidCatalogNameError():
            return "there is no such database"
        case ConnectionRefusedError():
            return "connection refused"
        case FileNotFoundError():
            return "no server socket there"
        case OSError() if error.strerror and error.errno:
            return os.strerror(error.errno).lower()
        case OSError():
            # asyncpg joins the failures of several addresses into one text
            return "connection refused" if "refused" in str(error) else "no connection"
        case _:
            return type(error).__name__


class Prepared:
    """A prepared statement of one connection."""

    def __init__(self, statement: asyncpg.prepared_stmt.PreparedStatement[Any]) -> None:
        self._statement = statement

    async def fetch(self, *args: object, seconds: float | None = None) -> Sequence[asyncpg.Record]:
        """Run it; after so many seconds without an answer it is cancelled (TimeoutError)."""
        return await call(self._statement.fetch, *args, timeout=seconds)


class Connection:
    """One asyncpg connection, usable from both backends; one call at a time."""

    def __init__(self, raw: asyncpg.Connection[Any]) -> None:
        self._raw = raw

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        return await call(self._raw.fetch, query, *args)

    async def fetchrow(self, query: str, *args: object) -> asyncpg.Record | None:
        return await call(self._raw.fetchrow, query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        return await call(self._raw.fetchval, query, *args)

    async def execute(self, script: str, *args: object) -> str:
        """Run one statement with arguments, or a script of many without; one transaction."""
        return await call(self._raw.execute, script, *args)

    async def prepare(self, query: str) -> Prepared:
        return Prepared(await call(self._raw.prepare, query))

    async def listen(self, channel: str, told: Callable[[], None]) -> None:
        """Call `told` at each notification on the channel, for as long as the connection lasts.

        It is called between two steps of other tasks, and must only note that there is news.
        """

        def heard(_raw: object, _pid: int, _channel: str, _payload: object) -> None:
            told()

        await call(self._raw.add_listener, channel, heard)

    async def close(self) -> None:
        await call(self._raw.close, timeout=5)

    def terminate(self) -> None:
        """Drop the connection at once, without a word to the server."""
        self._raw.terminate()

    @property
    def closed(self) -> bool:
        return self._raw.is_closed()


ARRAYS = {
    "_bool": (1000, 16),
    "_bytea": (1001, 17),
    "_int2": (1005, 21),
    "_int4": (1007, 23),
    "_int8": (1016, 20),
    "_date": (1182, 1082),
}
"""The array types that the ledger's calls take and give: own number and that of the elements.

They are the same in every Postgres (its pg_type.dat); text[] the driver knows by itself.
"""
_TYPE_ROWS = [
    {
        "oid": array,
        "ns": "pg_catalog",
        "name": name,
        "kind": b"b",
        "basetype": None,
        "elemtype": element,
        "elemdelim": ",",
        "range_subtype": None,
        "attrtypoids": None,
    }
    for name, (array, element) in ARRAYS.items()
]


async def connect(
    url: str, *, timeout_seconds: float = 10, settings: dict[str, str] | None = None
) -> Connection:
    """Open one connection. Raises one of CONNECTION_LOST or TimeoutError when that fails."""
    raw = await call(asyncpg.connect, url, timeout=timeout_seconds, server_settings=settings)
    _tell_arrays(raw)
    return Connection(raw)


def _tell_arrays(raw: asyncpg.Connection[Any]) -> None:
    """Spare a new connection the look-up of what is the same everywhere.

    asyncpg asks each new connection what `bigint[]` is: 6 ms and four round trips, eight times
    over after an outage, and there is no public way to tell it. Where this way is gone one
    day, it asks again.
    """
    with suppress(AttributeError, LookupError, TypeError):
        raw._protocol.get_settings().register_data_types(_TYPE_ROWS)  # type: ignore[attr-defined]
