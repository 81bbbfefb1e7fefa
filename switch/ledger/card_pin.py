"""The PIN of a card as the ledger keeps it: a keyed hash that is worth nothing without the key."""

from __future__ import annotations

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.cards import CardNotFound

_QUERIES = sql.queries("card_pin.sql")


async def set_pin_reference(connection: Connection, card_id: int, reference: bytes) -> None:
    """Give a card this PIN reference (16 bytes; b"" takes the PIN away), and all its tries.

    Decisions in flight see the change. Raises CardNotFound.
    """
    await _set(connection, card_id, reference)


async def reset_pin_tries(connection: Connection, card_id: int) -> bool:
    """Give a card all its tries again; whether it has a PIN. Raises CardNotFound."""
    return await _set(connection, card_id, None)


async def _set(connection: Connection, card_id: int, reference: bytes | None) -> bool:
    row = await connection.fetchrow(_QUERIES["set_pin"], card_id, reference)
    if row is None:
        raise CardNotFound
    return bool(row["has_pin"])
