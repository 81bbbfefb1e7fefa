"""Another key than the right one: of the card numbers, and of a link's messages."""

from __future__ import annotations

import os
import time
from datetime import datetime
from zoneinfo import ZoneInfo

import anyio
import pytest

from loadtest.population import population_card
from loadtest.wire import HEADER, TPDU, Asked, Wire
from protocols.framing import frame
from protocols.iso8583 import spec_named
from protocols.iso8583.client import Sale, sale_message
from protocols.iso8583.dialect import NetworkFunction
from protocols.iso8583.mac import sealed
from switch.clock import SystemClock
from switch.demo.children import ChildFailed
from switch.keys import make_key
from switch.keystore import key_block, working
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore, make_store
from tests.faults.reckoning_table import FaultRow

SALES = 20
LINK = "retail-1"
ACQUIRER = "48021000"
CHINA = ZoneInfo("Asia/Shanghai")
MOVED = "select count(*) as rows from ledger.every_authorization where kind = 'purchase'"


def test_another_card_number_key(database, life_setting, fault_row):
    """No card would be found with it, so the switch does not even start."""
    staged = life_setting(database)
    staged.key_file.unlink()
    make_key(staged.key_file)
    with pytest.raises(ChildFailed, match=r"the switch ended with 2 ") as refused, staged.serving():
        pass
    assert "card number key" in str(refused.value)
    fault_row(FaultRow("another card number key", 1, 0, 0, 0, 0, "refuses to start, exit code 2"))


def test_another_mac_key(database, life_setting, fault_row):
    """Every message is answered 63, and nothing moves."""
    staged = life_setting(database, link='mac = "x9.19"')
    store_file = staged.home / "key_store.json"
    make_store(store_file, SystemClock())
    halves = [os.urandom(key_block.KEY_BYTES[Algorithm.TDES]) for _ in range(2)]
    SoftwareKeyStore(store_file, SystemClock()).install(
        working.zone_label(LINK), Usage.ZONE, Algorithm.TDES, halves, ""
    )
    with staged.serving(workers=2) as ready:
        codes = anyio.run(sell_under_another_key, ready.links[LINK])
    assert codes == ["63"] * SALES
    (stored,) = staged.rows(MOVED)
    fault_row(FaultRow("another MAC key on a link", SALES, len(codes), 0, stored["rows"], 0))
    assert stored["rows"] == 0
    report = staged.audit()
    assert report.clean, report


async def sell_under_another_key(port: int) -> list[str]:
    """Sign on, have working keys made, and seal all sales with a key of nobody."""
    wire = Wire(dialect="unionpay_pos", acquirer=ACQUIRER, time_zone=CHINA.key)
    framer, at_seconds, codes = wire.framer(), int(time.time()), []

    with anyio.fail_after(30):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:

            async def told() -> list[str]:
                heard = [wire.read(received) for received in framer.feed(await stream.receive())]
                assert not any(one is None or isinstance(one, Asked) for one in heard)
                return [one[1].code for one in heard]

            for stan, function in ((1, NetworkFunction.SIGN_ON), (2, NetworkFunction.KEY_EXCHANGE)):
                await stream.send(wire.management(function, stan, at_seconds))
                assert await told() == ["00"]
            for stan in range(10, 10 + SALES):
                await stream.send(sealed_sale(wire, stan))
            while len(codes) < SALES:
                codes += await told()
    return codes


def sealed_sale(wire: Wire, stan: int) -> bytes:
    sale = Sale(
        card=population_card(100 + stan),
        amount_minor=100,
        stan=stan,
        terminal="K0000001",
        merchant="KEYS",
        local_at=datetime.now(CHINA),
        mcc="5411",
        acquirer=ACQUIRER,
    )
    message = sale_message("unionpay_pos", sale)
    key_of_nobody = bytes(range(16))
    octets = sealed(spec_named("unionpay_pos"), message, key_of_nobody, "x9.19")
    return frame(wire.framing, octets, TPDU, HEADER)
