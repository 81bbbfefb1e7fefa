"""A whole link under guard: keys over the wire, sealed answers, PINs, and a wrong MAC."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from protocols.iso8583 import Message, decode, spec_named
from protocols.iso8583.dialect import NetworkFunction
from protocols.iso8583.mac import MacMethod, mac_in, sealed, verified
from protocols.iso8583.tlv import Element, build
from protocols.pin_block import pin_block_of
from switch.clock import SystemClock
from switch.keystore import key_block, working
from switch.keystore.seam import Usage
from switch.keystore.software import PIN_VERIFICATION_LABEL, SoftwareKeyStore, make_store
from switch.ledger import bridge
from switch.net.guard import Guards

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
LINK = "retail-1"
KEY_FIELD = {"unionpay_pos": 62, "iso87_ascii": 48}
CLOCK = SystemClock()
METHODS: tuple[MacMethod, ...] = ("x9.19", "aes_cmac")


class Keys(NamedTuple):
    """What both sides of the link have."""

    store: SoftwareKeyStore
    guards: Guards
    zone: bytes
    method: MacMethod

    def opened(self, text: str) -> dict[Usage, bytes]:
        algorithm = working.algorithm_for(self.method)
        found = [key_block.unwrap(block, self.zone, algorithm) for block in key_block.split(text)]
        return {one.usage: one.key for one in found}

    def seal(self, message: Message, dialect: str, key: bytes) -> bytes:
        return sealed(spec_named(dialect), message, key, self.method)


@pytest.fixture(params=METHODS)
async def keys(
    request: pytest.FixtureRequest, database: str, tmp_path: Path, ledger_loop: None
) -> Keys:
    method = request.param
    path = tmp_path / "key_store.json"
    make_store(path, CLOCK)
    store = SoftwareKeyStore(path, CLOCK)
    algorithm = working.algorithm_for(method)
    zone = bytes(range(key_block.KEY_BYTES[algorithm]))
    half = bytes(byte ^ 0xA5 for byte in zone)
    other = bytes(a ^ b for a, b in zip(zone, half, strict=True))
    store.install(working.zone_label(LINK), Usage.ZONE, algorithm, [half, other], "")
    guards = Guards({LINK: method}, store, functools.partial(bridge.connect, database), 60, CLOCK)
    await guards.load()
    return Keys(store, guards, zone, method)


async def keys_of(keys: Keys, peer: Any) -> dict[Usage, bytes]:
    """The working keys that a peer is given when it asks."""
    await peer.send(peer.management(NetworkFunction.KEY_EXCHANGE, 77))
    (answer,) = await peer.receive()
    assert (answer.mti, answer.text(39)) == ("0810", "00")
    return keys.opened(answer.text(KEY_FIELD[peer.terms.dialect]))


def framed(peer: Any, payload: bytes) -> bytes:
    octets: bytes = peer.framed(payload)
    return octets


async def test_a_link_with_a_mac_takes_what_is_sealed_and_seals_what_it_answers(
    keys, serving, approver, link_terms, dialect
):
    link = {"guard": keys.guards.of(LINK)}
    terms, spec = link_terms(dialect), spec_named(dialect)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keys.guards.run)
        async with serving(terms, approver.submit, link=link) as edge:
            peer = await edge.peer()
            await peer.send(peer.sale(1))
            assert await peer.codes() == ["63"]
            assert edge.metric("citycard_mac_failures_total", link=LINK) == 1
            working_keys = await keys_of(keys, peer)
            mac_key = working_keys[Usage.MAC]
            await peer.write(framed(peer, keys.seal(peer.sale(2), dialect, mac_key)))
            (answer,) = await peer.receive()
            assert answer.text(39) == "00"
            whole = sealed(spec, answer, mac_key, keys.method)
            assert decode(spec, whole).fields == answer.fields
            assert verified(spec, whole, answer, [mac_key], keys.method)
            of_nobody = bytes(byte ^ 0x10 for byte in mac_key)
            await peer.write(framed(peer, keys.seal(peer.sale(3), dialect, of_nobody)))
            (refused,) = await peer.receive()
            assert refused.text(39) == "63"
            assert mac_in(refused)
            assert len(approver.requests) == 1
        tasks.cancel_scope.cancel()


async def test_an_entered_pin_reaches_the_decision_as_its_reference_only(
    keys, serving, approver, link_terms, card
):
    dialect, link = "unionpay_pos", {"guard": keys.guards.of(LINK)}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keys.guards.run)
        async with serving(link_terms(dialect), approver.submit, link=link) as edge:
            peer = await edge.peer()
            working_keys = await keys_of(keys, peer)
            pvk = keys.store.find(PIN_VERIFICATION_LABEL)
            chosen = keys.store.reference_of_chosen_pin(pvk, "739158", card)
            block = pin_block_of("739158", working_keys[Usage.PIN], card)
            for stan, sent in ((1, block), (2, bytes(len(block)))):
                # a format 4 block has no room in DE52
                in_chip = build([Element("9F36", b"\x00\x1a"), Element("99", sent)])
                sale = peer.sale(stan, {52: sent} if len(sent) == 8 else {55: in_chip})
                await peer.write(framed(peer, keys.seal(sale, dialect, working_keys[Usage.MAC])))
            assert sorted(await peer.codes(2)) == ["00", "55"]
            assert [request.pin for request in approver.requests] == [chosen]
            assert "739158" not in edge.log.stream.getvalue()
        tasks.cancel_scope.cancel()
