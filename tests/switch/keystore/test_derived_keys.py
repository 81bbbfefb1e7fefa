"""Keys derived from master keys: right, for their usage only, and exported to who needs them."""

from __future__ import annotations

import pytest

from protocols.tap.mac import FrameMac, derived_key
from protocols.tap.tac import card_key, tac_under
from switch.keystore import software
from switch.keystore.seam import Algorithm, KeyStoreError, Usage

MASTER = bytes(range(32))
MEDIUM = bytes(range(16))
OCTETS = b"what is signed"


def test_a_derived_mac_is_that_of_the_device_and_few_devices_are_kept(store, monkeypatch):
    monkeypatch.setattr(software, "DERIVED_KEPT", 3)
    kcv = software.check_value(MASTER, Algorithm.AES)
    key = store.install("reader/48/1", Usage.READER, Algorithm.AES, [MASTER], kcv)
    for device in (b"A", b"B", b"C", b"D", b"A", b"D"):
        expected = FrameMac(derived_key(MASTER, b"reader", device)).of(OCTETS)
        assert store.derived_mac(key, b"reader", device, OCTETS) == expected
    assert len(vars(store)["_derived"]) == 3


@pytest.mark.parametrize(
    ("algorithm", "method"), [(Algorithm.TDES, "pboc_des"), (Algorithm.AES, "aes_cmac")]
)
def test_a_tac_is_made_by_the_method_of_its_key(store, algorithm, method):
    master = MASTER[: 16 if algorithm is Algorithm.TDES else 32]
    kcv = software.check_value(master, algorithm)
    key = store.install("tac/1", Usage.TAC, algorithm, [master], kcv)
    expected = tac_under(method, card_key(method, master, MEDIUM), OCTETS)
    assert store.tac(key, MEDIUM, OCTETS) == expected


def test_a_master_key_derives_for_its_usage_only_and_leaves_in_a_block(store):
    reader, tac = (
        store.generate(usage, Algorithm.AES, usage.value) for usage in (Usage.READER, Usage.TAC)
    )
    for refused in (
        lambda: store.derived_mac(tac, b"reader", b"A", OCTETS),
        lambda: store.tac(reader, MEDIUM, OCTETS),
        lambda: store.mac(reader, OCTETS),
        lambda: store.generate(Usage.READER, Algorithm.TDES),
    ):
        with pytest.raises(KeyStoreError):
            refused()
    zone = store.generate(Usage.ZONE, Algorithm.AES, "zone/a")
    there = store.import_block(store.export_block(reader, zone, "r/1"), zone, Usage.READER, "r/1")
    assert there.kcv == reader.kcv
    assert store.derived_mac(there, b"reader", b"A", OCTETS) == store.derived_mac(
        reader, b"reader", b"A", OCTETS
    )
