"""The two ways a ledger call fails: nothing was written, or nobody knows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import anyio
import asyncpg

from switch.ledger import bridge

T = TypeVar("T")

TRANSIENT_SQLSTATES = frozenset({"40001", "40P01", "55P03", "57014"})
"""Serialization failure, deadlock, lock timeout, cancelled: the same batch may pass next time."""


class LedgerLost(Exception):
    """The connection is gone or silent; a posting under way may or may not be written."""


class LedgerRefused(Exception):
    """The server refused the call and wrote nothing. Never carries the row's values."""

    def __init__(self, sqlstate: str, constraint: str) -> None:
        self.sqlstate = sqlstate
        self.constraint = constraint
        super().__init__(
            f"the ledger refused a batch with SQLSTATE {sqlstate} {constraint}".strip()
        )

    @property
    def transient(self) -> bool:
        return self.sqlstate in TRANSIENT_SQLSTATES


async def guarded(call: Callable[..., Awaitable[T]], *args: object, seconds: float) -> T:
    """Await one ledger call; raises LedgerLost or LedgerRefused and nothing else of the driver.

    `seconds` is no request's deadline: it is when a silent server counts as lost.
    """
    with translated(seconds), anyio.fail_after(seconds):
        return await call(*args)


async def fetched(
    statement: bridge.Prepared, *args: object, seconds: float
) -> Sequence[asyncpg.Record]:
    """`guarded` for a prepared statement: by the driver's own timer, which costs far less."""
    with translated(seconds):
        return await statement.fetch(*args, seconds=seconds)


@contextmanager
def translated(seconds: float) -> Iterator[None]:
    """Make LedgerLost or LedgerRefused of what the driver raises in the body."""
    try:
        yield
    except asyncpg.DataError as error:
        # The driver's own refusal is one of these too, without any of the server's fields.
        raise LedgerRefused(error.sqlstate or "22000", "") from _without_values(error)
    except TimeoutError:
        # Before the others: it is an OSError too.
        raise LedgerLost(f"no answer for {seconds:g} s") from None
    except bridge.CONNECTION_LOST as error:
        raise LedgerLost(type(error).__name__) from _without_values(error)
    except asyncpg.PostgresError as error:
        sqlstate = error.sqlstate or "XX000"
        raise LedgerRefused(sqlstate, error.constraint_name or "") from _without_values(error)


def _without_values(error: BaseException) -> BaseException | None:
    """The cause, unless its text may quote a row ("Failing row contains ...")."""
    return error if isinstance(error, OSError) else None
