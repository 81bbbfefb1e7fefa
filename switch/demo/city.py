"""What a staged switch needs for all fifteen venues: ports, keys, billers, an API key.

`loadtest.city` reads where it all is from one file, readable by its owner only; the two
sides share nothing else.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from protocols.card_number import numbered_card
from switch.clock import SystemClock
from switch.config import Config
from switch.demo.stage import CITY_CARD_BIN, LINK, Crowd, has_chip
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore, check_value, make_store, store_path
from switch.ledger import api_keys, bridge, sql
from switch.ledger.cards import medium_of
from switch.net.tap.device_keys import TAC_PREFIX, labelled, reader_prefix

PLACES_FILE = "places.json"
COUNTERS, TAXIS, TRANSIT, SITES, API = "counters-1", "taxi-1", "transit-1", "sites-1", "bills-1"
TRANSIT_ACQUIRER, SITES_ACQUIRER = "48031000", "48033000"
BANK, WATER = "48051000", "48041000"
BILLERS: Mapping[str, str] = {
    "city-water": "postpaid",
    "city-power": "prepaid",
    "homes": "postpaid",
}
"""Whose bills are paid, and which of the billers' hosts (by its kind) they ask."""
HOSTS = ("postpaid", "prepaid")
KEY_BYTES = 32

BUDGETS_MS: Mapping[str, int] = {COUNTERS: 800, TAXIS: 500, TRANSIT: 150, SITES: 500, API: 10_000}
_FRAMING = """\
[links.framing]
length = "ascii4"
tpdu = false
header_bytes = 0
"""
_BILLER = """
[[billers]]
name = "{name}"
url = "http://127.0.0.1:{port}"
kind = "{kind}"
venue = "{venue}"
acquirer = "{acquirer}"
mcc = "{mcc}"
cut_off = "23:59"
"""
_BILLER_TERMS: Mapping[str, tuple[str, str, str]] = {
    "city-water": ("water", WATER, "4900"),
    "city-power": ("electricity", "48042000", "4900"),
    "homes": ("community", "48043000", "6513"),
}


class CityKeys(msgspec.Struct, frozen=True):
    """Master keys in hex: of readers by acquirer, and of the chips' TACs."""

    readers: dict[str, str]
    tac: str

    def __repr__(self) -> str:
        return "CityKeys(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class CityApiKeys(msgspec.Struct, frozen=True):
    """Keys of the HTTP API by who holds them."""

    bank: str
    water: str

    def __repr__(self) -> str:
        return "CityApiKeys(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


def configuration(
    biller_ports: Mapping[str, int], budgets_ms: Mapping[str, int] = BUDGETS_MS
) -> str:
    """The part of the configuration that a city adds; `biller_ports` are by kind of host."""
    billers = ""
    for name, kind in BILLERS.items():
        venue, acquirer, mcc = _BILLER_TERMS[name]
        billers += _BILLER.format(
            name=name, port=biller_ports[kind], kind=kind, venue=venue, acquirer=acquirer, mcc=mcc
        )
    return _doors(budgets_ms) + billers


def _doors(budgets_ms: Mapping[str, int]) -> str:
    return f"""
[[links]]
name = "{COUNTERS}"
port = 0
dialect = "iso87_ascii"
acquirer = "48023000"
partial_approval = true
budget_ms = {budgets_ms[COUNTERS]}
{_FRAMING}
[[links]]
name = "{TAXIS}"
port = 0
dialect = "iso87_ascii"
acquirer = "48032000"
segment = "transit"
default_mcc = "4121"
venues = ["taxi"]
budget_ms = {budgets_ms[TAXIS]}
{_FRAMING}
[[taps]]
name = "{TRANSIT}"
port = 0
acquirer = "{TRANSIT_ACQUIRER}"
modes = ["bus", "metro", "ferry"]
budget_ms = {budgets_ms[TRANSIT]}

[[taps]]
name = "{SITES}"
port = 0
acquirer = "{SITES_ACQUIRER}"
modes = ["parking", "park", "stadium", "community"]
budget_ms = {budgets_ms[SITES]}

[[apis]]
name = "{API}"
port = 0
budget_ms = {budgets_ms[API]}
"""


def make_keys(config: Config, directory: Path) -> CityKeys:
    """New master keys of readers and chips, in the key store of this directory.

    Raises KeyStoreError and KeyFileError.
    """
    path = store_path(config.keys.store_file, directory)
    make_store(path, SystemClock())
    store = SoftwareKeyStore(path, SystemClock())

    def installed(prefix: str, usage: Usage) -> str:
        key = secrets.token_bytes(KEY_BYTES)
        kcv = check_value(key, Algorithm.AES)
        store.install(labelled(prefix, 1), usage, Algorithm.AES, [key], kcv, replace=True)
        return key.hex()

    owners = (TRANSIT_ACQUIRER, SITES_ACQUIRER)
    return CityKeys(
        {owner: installed(reader_prefix(owner), Usage.READER) for owner in owners},
        installed(TAC_PREFIX, Usage.TAC),
    )


async def open_counters(url: str) -> CityApiKeys:
    """API keys of the bank at whose counters bills are paid, and of the water company.

    The bank gets its accounts, for it is no acquirer of the configuration.
    """
    connection = await bridge.connect(url)
    try:
        await connection.fetch(
            sql.queries()["open_settlement_accounts"], ["ACQ", "AGENT", "PENDING"], [BANK] * 3
        )
        bank, _key_id = await api_keys.add(connection, BANK, "counters", os.urandom)
        water, _key_id = await api_keys.add(connection, WATER, "debit files", os.urandom)
        return CityApiKeys(bank, water)
    finally:
        await connection.close()


def write_places(
    home: Path, ports: Mapping[str, int], config: Config, keys: CityKeys, api: CityApiKeys,
    card_key: bytes, crowd: Crowd,
) -> Path:  # fmt: skip
    """Tell the load generator where everything is; mediums, and never a card number."""
    acquirer_of = {link.name: link.acquirer for link in config.links}
    dialect_of = {link.name: link.dialect for link in config.links}

    def till_door(link: str) -> dict[str, object]:
        return {
            "port": ports[link],
            "acquirer": acquirer_of[link],
            "dialect": dialect_of[link],
        }

    def tap_door(link: str, acquirer: str) -> dict[str, object]:
        key = keys.readers[acquirer]
        return {"port": ports[link], "acquirer": acquirer, "reader_key": key}

    def citizens(first: int, count: int) -> list[dict[str, object]]:
        return [
            {
                "index": index,
                "medium": medium_of(numbered_card(CITY_CARD_BIN, index), card_key).hex(),
                "chip": has_chip(index, crowd),
            }
            for index in range(first, first + count)
        ]

    places = {
        "shops": till_door(LINK),
        "counters": till_door(COUNTERS),
        "taxis": till_door(TAXIS),
        "transit": tap_door(TRANSIT, TRANSIT_ACQUIRER),
        "sites": tap_door(SITES, SITES_ACQUIRER),
        "api": {"port": ports[API], "api_key": api.bank, "debits_key": api.water},
        "tac_key": keys.tac,
        "citizens": citizens(crowd.first_rider, crowd.riders),
        "blocked": citizens(0, crowd.blocked),
        "poor": citizens(crowd.blocked, crowd.poor),
        "host": config.server.host,
        "time_zone": config.ledger.time_zone,
    }
    path = home / PLACES_FILE
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(places))
    return path
