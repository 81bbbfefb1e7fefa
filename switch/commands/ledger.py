"""Where a command finds configuration, key and ledger, and how it reaches them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar
from urllib.parse import urlsplit

from cyclopts import Parameter

from switch import config as configuration
from switch.commands.exits import CommandFailed, LedgerUnreachable
from switch.commands.output import complain
from switch.config import Config
from switch.keys import read_key
from switch.ledger import bridge, embedded
from switch.ledger.bridge import Connection

T = TypeVar("T")

_URL = re.compile(r"postgres(ql)?://[^\s]*\Z")

_AWAY = (*bridge.CONNECTION_LOST, *bridge.CONNECTION_REFUSED, TimeoutError)
# while working, an OSError may also be about a file, which is no matter of the ledger
_LOST = (ConnectionError, TimeoutError, *(e for e in bridge.CONNECTION_LOST if e is not OSError))


@Parameter(name="*")
@dataclass(frozen=True)
class Where:
    """Which configuration, directory and ledger a command works with."""

    config: Annotated[
        Path | None,
        Parameter(help="Configuration file; citycard.toml of this folder if there is one."),
    ] = None
    database: Annotated[
        str | None,
        Parameter(help="Ledger, as postgresql://USER@HOST:PORT/NAME; the embedded one if none."),
    ] = None
    directory: Annotated[
        Path, Parameter(help="Where the key and the embedded ledger are kept.")
    ] = Path(".citycard")

    def load(self) -> Config:
        """The configuration that applies. Raises ConfigError."""
        if self.config is not None:
            return configuration.load(self.config)
        found = Path(configuration.MAIN_FILE)
        return configuration.load(found if found.is_file() else None)

    def url(self, config: Config) -> str | None:
        """The URL that was given on the command line or in the configuration."""
        url = self.database or config.ledger.database or None
        if url is not None and not _is_url(url):
            raise CommandFailed(
                "the ledger's URL cannot be understood; write postgresql://USER@HOST:PORT/NAME"
            )
        return url


HERE = Where()
"""Nothing said: everything is in the current folder."""


def _is_url(url: str) -> bool:
    try:
        return _URL.match(url) is not None and urlsplit(url).port != 0
    except ValueError:
        return False


@contextmanager
def ledger_url(where: Where, config: Config) -> Iterator[str]:
    """The ledger's URL; the embedded one is kept running for as long as the body runs."""
    url = where.url(config)
    if url is not None:
        yield url
        return
    with embedded.running(where.directory) as server:
        for notice in server.notices:
            complain(notice)
        yield server.url


class Ledger(NamedTuple):
    """A ledger that answers: a connection to it, and where it is."""

    connection: Connection
    url: str


def with_ledger(where: Where, config: Config, body: Callable[[Ledger], Awaitable[T]]) -> T:
    """Run `body` on the ledger. Raises LedgerUnreachable and what it raises."""

    async def connected(url: str) -> T:
        timeout_seconds = config.ledger.connect_timeout_seconds
        try:
            connection = await bridge.connect(url, timeout_seconds=timeout_seconds)
        except _AWAY as error:
            raise LedgerUnreachable(url, error) from error
        try:
            return await body(Ledger(connection, url))
        except _LOST as error:
            raise LedgerUnreachable(url, error) from error
        finally:
            await _closed(connection)

    with ledger_url(where, config) as url:
        return bridge.run("asyncio", connected, url)


async def _closed(connection: Connection) -> None:
    try:
        await connection.close()
    except _AWAY:
        connection.terminate()


def card_number_key(where: Where, config: Config) -> bytes:
    """The key of this switch. Raises KeyFileError."""
    return read_key(configuration.key_path(config, where.directory))
