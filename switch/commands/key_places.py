"""Where commands find the key store, and how they read a component that somebody typed."""

from __future__ import annotations

from switch.clock import Clock
from switch.commands.exits import CommandFailed
from switch.commands.ledger import Where
from switch.config import Config
from switch.keystore.software import SoftwareKeyStore, open_store, store_path


def key_store(config: Config, where: Where, clock: Clock) -> SoftwareKeyStore:
    """The store of this switch. Raises CommandFailed where there is none."""
    store = open_store(store_path(config.keys.store_file, where.directory), clock)
    if store is None:
        raise CommandFailed("there is no key store; run citycard keys init")
    return store


def octets_of(line: str) -> bytes:
    """A component typed in hexadecimal. Raises CommandFailed, without the component."""
    try:
        return bytes.fromhex(line)
    except ValueError:
        pass
    raise CommandFailed("a component is not hexadecimal; type digits 0 to 9 and letters A to F")
