"""No key, PIN or PIN block in any repr, log line, error or answer, whatever somebody sends.

A key store and a guard are used as a link uses them, with secrets that a test can look for;
everything that they say while they fail is searched, in every spelling.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from protocols.card_number import numbered_card
from protocols.errors import ProtocolError
from protocols.iso8583 import Message, decode, spec_named
from protocols.iso8583.mac import MAC_BYTES, mac_of, sealed
from protocols.pin_block import PinBlockError, pin_block_of, pin_in
from switch import logs
from switch.clock import SystemClock
from switch.keystore import key_block, working
from switch.keystore.seam import Algorithm, KeyStoreError, Usage
from switch.keystore.software import SoftwareKeyStore, make_store
from switch.ledger.link_keys import LinkKeyRow, WrappedKey
from switch.net.guard import Guards, LinkGuard, PinBlockRefused

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
PATIENT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LINK = "retail-1"
CARD = numbered_card("621234", 7)
PIN = "739158264091"
SALE = Message("0200", {3: "000000", 4: "000000001250", 11: "000001", 41: "T0000001"})

tdes_keys = st.binary(min_size=16, max_size=16).filter(lambda key: key[:8] != key[8:] and any(key))
aes_keys = st.binary(min_size=32, max_size=32).filter(any)


def assert_shows_none(told: list[str], secrets: list[bytes | str]) -> None:
    for secret in secrets:
        spellings = (
            [secret]
            if isinstance(secret, str)
            else [secret.hex(), secret.hex().upper(), repr(secret)[2:-1], str(list(secret))[1:-1]]
        )
        for text in told:
            # hexadecimal of a few bytes may stand anywhere by chance; a whole key does not
            assert not any(spelling in text for spelling in spellings)


def texts_of(error: BaseException) -> list[str]:
    """Everything a log could make of an error, also with what it was raised from."""
    causes = [error.__cause__, error.__context__]
    whole = traceback.TracebackException.from_exception(error, capture_locals=False)
    return [
        str(error), repr(error), "".join(whole.format()), pretty_repr(error),
        *(text for cause in causes if cause is not None for text in texts_of(cause)),
    ]  # fmt: skip


def told_by(action: Callable[[], object]) -> list[str]:
    try:
        result = action()
    except (KeyStoreError, PinBlockError, PinBlockRefused, ProtocolError, ValueError) as error:
        return texts_of(error)
    return [] if isinstance(result, bytes | str) else [repr(result), pretty_repr(result)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SoftwareKeyStore:
    path: Path = tmp_path_factory.mktemp("keys") / "key_store.json"
    make_store(path, SystemClock())
    return SoftwareKeyStore(path, SystemClock())


@PATIENT
@given(key=tdes_keys, other=tdes_keys, cut=st.integers(0, 20))
def test_no_ceremony_shows_a_component(store, key, other, cut):
    label, clear = working.zone_label(LINK), bytes(a ^ b for a, b in zip(key, other, strict=True))
    told: list[str] = []
    for components, kcv in (
        ([key, other], ""), ([key], ""), ([key], "000000"), ([key[:cut], other], ""),
        ([key, key], ""), ([key] * 4, ""),
    ):  # fmt: skip
        told += told_by(
            lambda components=components, kcv=kcv: store.install(
                label, Usage.ZONE, Algorithm.TDES, components, kcv, replace=True
            )
        )
    told += told_by(lambda: store.find(label)) + told_by(store.labelled) + [repr(store)]
    assert_shows_none(told, [key, other, clear])


@PATIENT
@given(key=tdes_keys, under=aes_keys, at=st.integers(0), new=st.characters(max_codepoint=127))
def test_no_error_of_a_key_block_shows_its_key(key, under, at, new):
    block = key_block.wrap(key, Usage.MAC, Algorithm.TDES, LINK, under, Algorithm.AES)
    at %= len(block)
    changed = block[:at] + new + block[at + 1 :]
    told = told_by(lambda: key_block.unwrap(block, under, Algorithm.AES))
    for wrong in (changed, changed[:at], block + block, block[:-2]):
        told += told_by(lambda wrong=wrong: key_block.unwrap(wrong, under, Algorithm.AES))
        told += told_by(lambda wrong=wrong: len(key_block.split(wrong + new)))
    told += told_by(lambda: WrappedKey("mac", block, "AABBCC"))
    told += told_by(lambda: LinkKeyRow(LINK, 1, "mac", block, "AABBCC", 1.0))
    assert_shows_none(told, [key, under])
    # of a block only the header may be told, never what is wrapped in it
    assert_shows_none(told, [block[-32:], block[-96:-64]])


@PATIENT
@given(
    key=st.one_of(tdes_keys, aes_keys),
    flipped=st.integers(0, 127),
    method=st.sampled_from(["x9.19", "aes_cmac"]),
)
def test_no_error_shows_a_pin_or_its_block(key, flipped, method):
    block = bytearray(pin_block_of(PIN, key, CARD))
    whole = bytes(block)
    block[flipped % len(block)] ^= 1 << flipped % 8
    told = told_by(lambda: pin_in(bytes(block), key, CARD))
    told += told_by(lambda: pin_in(whole, key, numbered_card("621234", 8)))
    told += told_by(lambda: pin_in(whole[1:], key, CARD))
    told += told_by(lambda: pin_block_of(PIN + "0", key, CARD))
    told += told_by(lambda: mac_of(method, key[1:], b"octets"))
    assert_shows_none(told, [PIN, whole, bytes(block), key])


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Everything that is logged; the process is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level
    captured = io.StringIO()
    logs.configure("json", "debug", captured)
    yield captured
    root.handlers, level = before
    root.setLevel(level)
    logging.captureWarnings(False)


async def _never() -> None:
    raise ConnectionRefusedError(PIN)


async def _one_exchange(guards: Guards, guard: LinkGuard, blocks: str) -> None:
    ended = anyio.Event()
    guard.receive(blocks, ended.set, ended.set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(guards.run)
        await ended.wait()
        tasks.cancel_scope.cancel()


@settings(PATIENT, max_examples=20)
@given(key=tdes_keys, junk=st.binary(max_size=40))
def test_no_log_line_of_a_guard_shows_a_key_or_a_pin(store, stream, key, junk):
    spec = spec_named("unionpay_pos")
    guards = Guards({LINK: "x9.19"}, store, _never, 60, SystemClock())  # type: ignore[arg-type]
    guard = guards.of(LINK)
    assert guard is not None
    block = pin_block_of(PIN, key, CARD)
    with_pin = Message("0200", SALE.fields | {52: block})
    octets = sealed(spec, with_pin, key, "x9.19")
    received = decode(spec, octets)
    told = told_by(lambda: guard.verify(spec, octets, received))
    told += told_by(lambda: guard.pin_of(received, CARD))
    told += told_by(lambda: guard.pin_of(Message("0200", {52: junk}), CARD))
    blocks = key_block.wrap(key, Usage.MAC, Algorithm.TDES, "", key, Algorithm.TDES)
    anyio.run(_one_exchange, guards, guard, blocks)
    told += [stream.getvalue(), repr(guard), repr(guards), pretty_repr(guard)]
    assert "working keys could not be" in stream.getvalue()
    mac = octets[-MAC_BYTES:]
    assert_shows_none(told, [key, PIN, block, mac, CARD.reveal(), blocks[-64:]])
