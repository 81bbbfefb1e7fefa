"""The key store in two files: what it keeps, what it refuses, and what it never shows."""

from __future__ import annotations

import hmac
import json
import stat

import pytest
from psec import des

from protocols.card_number import numbered_card
from protocols.iso8583.mac import mac_of
from protocols.pin_block import PinBlockError, pin_block_of
from switch.clock import SystemClock
from switch.keys import KeyFileError
from switch.keystore.seam import Algorithm, KeyStoreError, Usage
from switch.keystore.software import (
    PIN_VERIFICATION_LABEL,
    STORAGE_LABEL,
    SoftwareKeyStore,
    check_value,
    make_store,
    master_path,
    open_store,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
CLOCK = SystemClock()
CARD = numbered_card("621234", 7)
FIRST, SECOND = bytes(range(16)), bytes(range(100, 116))
KEY = bytes(a ^ b for a, b in zip(FIRST, SECOND, strict=True))


def zone(store, link="retail-1", algorithm=Algorithm.TDES):
    return store.generate(Usage.ZONE, algorithm, f"zone/{link}")


def test_files_are_for_their_owner_only_and_hold_no_clear_key(store_file):
    for path in (store_file, master_path(store_file)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    store = SoftwareKeyStore(store_file, CLOCK)
    store.install("zone/a", Usage.ZONE, Algorithm.TDES, [FIRST, SECOND], "")
    assert KEY.hex() not in store_file.read_text().lower()
    assert KEY.hex() not in repr(vars(store)["_named"]).lower()
    assert KEY.hex() not in repr(store)


def test_a_store_is_made_once(store_file):
    before = store_file.read_bytes()
    assert not make_store(store_file, CLOCK)
    assert store_file.read_bytes() == before
    assert open_store(store_file.with_name("none.json"), CLOCK) is None


def test_keys_outlive_the_process(store, store_file):
    kept = zone(store)
    again = SoftwareKeyStore(store_file, CLOCK).find("zone/retail-1")
    assert again is not None
    assert (again.kcv, again.usage, again.algorithm) == (kept.kcv, kept.usage, kept.algorithm)
    assert [key.label for key in store.labelled()] == [
        PIN_VERIFICATION_LABEL,
        STORAGE_LABEL,
        kept.label,
    ]


def test_a_key_that_another_process_installs_is_found(store, store_file):
    assert store.find("zone/retail-1") is None
    zone(SoftwareKeyStore(store_file, CLOCK))
    assert store.find("zone/retail-1") is not None


def test_components_make_a_key_with_the_check_value_of_psec(store):
    handle = store.install("zone/a", Usage.ZONE, Algorithm.TDES, [FIRST, SECOND], "")
    assert handle.kcv == des.generate_kcv(KEY + KEY[:8], 3).hex().upper()
    single = store.install("zone/b", Usage.ZONE, Algorithm.TDES, [KEY], handle.kcv.lower())
    assert single.kcv == handle.kcv


@pytest.mark.parametrize(
    ("components", "kcv", "says"),
    [
        ([KEY], "", "needs its check value"),
        ([KEY], "ABCD", "needs its check value"),
        ([KEY], "000000", "is another one"),
        ([KEY, KEY], "", "no key to rely on"),
        ([FIRST, FIRST[:8] + bytes(8), bytes(8) + FIRST[8:]], "", "no key to rely on"),
        ([b"k" * 16, b"j" * 16], "", "no key to rely on"),
        ([FIRST, SECOND[:15]], "", "32 hex digits"),
        ([], "", "1 to 3"),
        ([FIRST] * 4, "", "1 to 3"),
    ],
)
def test_a_ceremony_that_went_wrong_installs_nothing(store, components, kcv, says):
    with pytest.raises(KeyStoreError, match=says) as raised:
        store.install("zone/a", Usage.ZONE, Algorithm.TDES, components, kcv)
    assert store.find("zone/a") is None
    assert KEY.hex() not in str(raised.value).lower()


def test_a_key_is_replaced_only_when_asked(store):
    first = zone(store)
    with pytest.raises(KeyStoreError, match="--replace"):
        zone(store)
    second = store.install(
        first.label, Usage.ZONE, Algorithm.TDES, [FIRST, SECOND], "", replace=True
    )
    assert store.find(first.label) == second != first


@pytest.mark.parametrize("algorithm", [Algorithm.TDES, Algorithm.AES])
def test_a_working_key_reaches_the_peer_and_makes_the_same_mac(store, tmp_path, algorithm):
    """The peer is a second store with the same zone key."""
    length = 16 if algorithm is Algorithm.TDES else 32
    components = [bytes(range(length)), bytes(range(50, 50 + length))]
    peer_file = tmp_path / "peer.json"
    make_store(peer_file, CLOCK)
    peer = SoftwareKeyStore(peer_file, CLOCK)
    ours, theirs = (
        each.install("zone/a", Usage.ZONE, algorithm, components, "") for each in (store, peer)
    )
    key = store.generate(Usage.MAC, algorithm)
    block = store.export_block(key, ours, "a")
    received = peer.import_block(block, theirs, Usage.MAC, "a")
    assert received.kcv == key.kcv
    assert store.mac(key, b"message") == peer.mac(received, b"message")
    with pytest.raises(KeyStoreError, match="no pin key"):
        peer.import_block(block, theirs, Usage.PIN)
    with pytest.raises(KeyStoreError, match="another link"):
        peer.import_block(block, theirs, Usage.MAC, "b")
    with pytest.raises(KeyStoreError, match="cannot be read"):
        peer.import_block(block, zone(peer, "b", algorithm), Usage.MAC)


def test_each_key_does_what_it_is_for_and_nothing_else(store):
    mac, pin = (store.generate(usage, Algorithm.TDES) for usage in (Usage.MAC, Usage.PIN))
    pvk, storage = store.find(PIN_VERIFICATION_LABEL), store.find(STORAGE_LABEL)
    for misuse in (
        lambda: store.mac(pin, b""),
        lambda: store.pin_reference(mac, pvk, bytes(8), CARD),
        lambda: store.pin_reference(pin, storage, pin_block(store, pin, "1234"), CARD),
        lambda: store.reference_of_chosen_pin(storage, "1234", CARD),
        lambda: store.export_block(pvk, storage),
        lambda: store.export_block(storage, zone(store, "x", Algorithm.AES)),
        lambda: store.export_block(pin, mac),
        lambda: store.import_block("", pin, Usage.MAC),
        lambda: store.generate(Usage.ZONE, Algorithm.HMAC),
    ):
        with pytest.raises(KeyStoreError):
            misuse()


def pin_block(store, handle, pin, card=CARD):
    """What a terminal sends; it knows the key, which this test takes from behind the seam."""
    return pin_block_of(pin, store._key(handle), card)


@pytest.mark.parametrize("algorithm", [Algorithm.TDES, Algorithm.AES])
def test_an_entered_pin_gives_the_reference_of_the_chosen_one(store, algorithm):
    pvk = store.find(PIN_VERIFICATION_LABEL)
    key = store.generate(Usage.PIN, algorithm)
    chosen = store.reference_of_chosen_pin(pvk, "1234", CARD)
    assert len(chosen) == 16
    octets = f"{CARD.reveal()}\x001234".encode()
    assert chosen == hmac.digest(store._key(pvk), octets, "sha256")[:16]
    assert store.pin_reference(key, pvk, pin_block(store, key, "1234"), CARD) == chosen
    assert store.pin_reference(key, pvk, pin_block(store, key, "1235"), CARD) != chosen
    other = numbered_card("621234", 8)
    assert store.reference_of_chosen_pin(pvk, "1234", other) != chosen
    with pytest.raises(PinBlockError):
        store.pin_reference(key, pvk, pin_block(store, key, "1234", other), CARD)
    with pytest.raises(PinBlockError):
        store.reference_of_chosen_pin(pvk, "12", CARD)


def test_a_forgotten_session_key_is_gone_and_a_kept_one_is_not(store):
    key = store.generate(Usage.MAC, Algorithm.TDES)
    store.forget(key)
    store.forget(key)
    with pytest.raises(KeyStoreError, match="gone"):
        store.mac(key, b"")
    kept = zone(store)
    store.forget(kept)
    assert store.export_block(store.generate(Usage.MAC, Algorithm.TDES), kept)


def test_macs_are_those_of_the_protocol(store):
    for algorithm, method in ((Algorithm.TDES, "x9.19"), (Algorithm.AES, "aes_cmac")):
        key = store.generate(Usage.MAC, algorithm)
        assert store.mac(key, b"octets") == mac_of(method, store._key(key), b"octets")


def test_check_values_are_of_the_length_that_x9_24_gives():
    lengths = [len(check_value(bytes(range(n)), kind)) for n, kind in
               ((16, Algorithm.TDES), (32, Algorithm.AES), (32, Algorithm.HMAC))]  # fmt: skip
    assert lengths == [6, 10, 6]


def swapped(keys):
    keys[0]["label"], keys[1]["label"] = keys[1]["label"], keys[0]["label"]


def shortened(keys):
    keys[0]["block"] = keys[0]["block"][:-1]


@pytest.mark.parametrize("tamper", [swapped, shortened])
def test_a_file_that_was_tampered_with_is_refused(store_file, tamper):
    document = json.loads(store_file.read_text())
    tamper(document["keys"])
    store_file.write_text(json.dumps(document))
    with pytest.raises(KeyStoreError):
        SoftwareKeyStore(store_file, CLOCK)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 2, "keys": []}', "[1]", "\x00", "é"])
def test_a_file_that_is_no_store_is_refused(store_file, text):
    store_file.write_bytes(text.encode("latin-1"))
    with pytest.raises(KeyStoreError, match="no key store"):
        SoftwareKeyStore(store_file, CLOCK)


@pytest.mark.parametrize("of", [lambda path: path, master_path])
def test_files_that_others_may_read_are_refused(store_file, of):
    of(store_file).chmod(0o640)
    with pytest.raises((KeyStoreError, KeyFileError), match="chmod 600"):
        SoftwareKeyStore(store_file, CLOCK)


def test_another_master_key_opens_nothing(store_file):
    master_path(store_file).write_text("00" * 32)
    with pytest.raises(KeyStoreError, match="cannot be read under this key"):
        SoftwareKeyStore(store_file, CLOCK)


def test_a_missing_master_key_is_named(store_file):
    master_path(store_file).unlink()
    with pytest.raises(KeyFileError, match="master key of the key store"):
        SoftwareKeyStore(store_file, CLOCK)
