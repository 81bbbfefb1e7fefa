"""Where the city is: ports, keys and citizens, as whoever staged the switch wrote them down.

One JSON file, readable by its owner only, because of the keys in it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from loadtest.population import population_card
from loadtest.tap_link import TapTerms
from protocols.card_number import CardNumber
from protocols.iso8583.client import Dialect

TIMEOUT_SECONDS = 20.0
"""How long an answer is waited for, of whatever protocol: far longer than any budget."""


class IsoDoor(msgspec.Struct, frozen=True):
    """A link that tills speak to."""

    port: int
    acquirer: str
    dialect: Dialect


class TapDoor(msgspec.Struct, frozen=True):
    """A link that readers speak to; `reader_key` is their master key in hex."""

    port: int
    acquirer: str
    reader_key: str

    def terms(self, host: str) -> TapTerms:
        return TapTerms(
            host=host,
            port=self.port,
            acquirer=self.acquirer,
            reader_key=bytes.fromhex(self.reader_key),
            timeout_seconds=TIMEOUT_SECONDS,
        )

    def __repr__(self) -> str:
        return f"TapDoor(port={self.port})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("port", self.port)]


class ApiDoor(msgspec.Struct, frozen=True):
    """The HTTP API, and the keys to it: of the counters, and of the sender of debit files."""

    port: int
    api_key: str
    debits_key: str = ""

    def __repr__(self) -> str:
        return f"ApiDoor(port={self.port})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("port", self.port)]


class Citizen(msgspec.Struct, frozen=True):
    """Somebody with a card: its index in the population, and the medium that readers see."""

    index: int
    medium: str
    chip: bool = False

    @property
    def card(self) -> CardNumber:
        return population_card(self.index)

    @property
    def medium_octets(self) -> bytes:
        return bytes.fromhex(self.medium)


class Places(msgspec.Struct, frozen=True):
    """Everything that a city needs to know about the switch.

    `shops` is the link of retail, `counters` one that takes partial approvals, `taxis` that
    of the fleet; `transit` and `sites` are links of readers. Citizens have money for all
    venues, the blocked are refused everywhere, the poor have next to nothing. The TAC master
    key is that of the chips, AES, in hex.
    """

    shops: IsoDoor
    counters: IsoDoor
    taxis: IsoDoor
    transit: TapDoor
    sites: TapDoor
    api: ApiDoor
    tac_key: str
    citizens: list[Citizen]
    blocked: list[Citizen]
    poor: list[Citizen]
    host: str = "127.0.0.1"
    time_zone: str = "Asia/Shanghai"

    def __repr__(self) -> str:
        return f"Places(citizens={len(self.citizens)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("citizens", len(self.citizens))]


def read_places(file: Path) -> Places:
    """The places of a staged switch. Raises OSError, and ValueError without any of it."""
    octets = file.read_bytes()
    try:
        return msgspec.json.decode(octets, type=Places)
    except msgspec.MsgspecError:
        raise ValueError(
            "the file of places is not one that a stage wrote; stage it anew"
        ) from None
