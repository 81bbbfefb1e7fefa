"""Every account that a decision may post to is open before the first request."""

from __future__ import annotations

from datetime import UTC, datetime

from switch.calendar import epoch_us
from switch.config import Config, parse
from switch.ledger import bridge, migrate
from switch.ledger.prepare import accounts_to_open, prepare

NOON_US = epoch_us(datetime(2026, 3, 1, 12, tzinfo=UTC))
MORE = """
[standin.retail]
suspense_owner = "shops"
[[links]]
[[links]]
name = "fuel-1"
port = 1
acquirer = "48029999"
[[upstreams]]
name = "city-b"
host = "127.0.0.1"
port = 9
bins = ["622848"]
acquirer = "48021000"
"""


def test_what_the_shipped_configuration_needs() -> None:
    assert accounts_to_open(Config()) == [
        ("ACQ", "48021000"),
        ("AGENT", "48021000"),
        ("PENDING", "48021000"),
        ("SUSPENSE", "risk office"),
        ("SUSPENSE", "transit operations"),
    ]


async def test_what_becomes_configured_gets_its_account_once(
    connection: bridge.Connection,
) -> None:
    more = parse(MORE, "test.toml")
    for config in (Config(), more, more):
        await prepare(connection, config, key=bytes(range(32)), now_us=NOON_US)
    opened = await migrate.settlement_accounts(connection)
    assert set(accounts_to_open(Config())) | set(accounts_to_open(more)) < set(opened)
    assert {
        ("AGENT", "48029999"),
        ("PENDING", "48029999"),
        ("INTERCITY", "city-b"),
        ("SUSPENSE", "shops"),
        ("BANK", "trust"),
    } <= set(opened)
    assert len(set(opened.values())) == len(opened)
