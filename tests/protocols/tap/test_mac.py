"""Keys of devices and the MACs of frames, against published vectors and by hand."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from protocols.tap.mac import FrameMac, derived_key, device_key

# RFC 4493, section 4
KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
MESSAGE = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411"
)


@pytest.mark.parametrize(
    ("octets", "mac"),
    [
        (b"", "bb1d6929e9593728"),
        (MESSAGE[:16], "070a16b46b4d4144"),
        (MESSAGE, "dfa66747de9ae630"),
    ],
)
def test_the_mac_is_cmac_cut_to_eight_bytes(octets, mac):
    frames = FrameMac(KEY)
    assert frames.of(octets).hex() == mac
    assert frames.proves(octets, bytes.fromhex(mac))
    assert not frames.proves(octets + b"\x00", bytes.fromhex(mac))
    assert not frames.proves(octets, bytes.fromhex(mac)[:7])


@pytest.mark.parametrize("size", [16, 24, 32])
def test_a_derived_key_is_the_prf_of_counter_label_context_and_length(size):
    master = bytes(range(size))
    by_hand = CMAC(AES(master))
    by_hand.update(b"\x00\x00\x00\x01" + b"reader" + b"\x00" + b"GATE0001" + b"\x00\x00\x00\x80")
    assert derived_key(master, b"reader", b"GATE0001") == by_hand.finalize()
    assert device_key(master, "GATE0001") == derived_key(master, b"reader", b"GATE0001")


def test_devices_and_uses_have_keys_of_their_own():
    keys = {
        derived_key(KEY, b"reader", b"GATE0001"),
        derived_key(KEY, b"reader", b"GATE0002"),
        derived_key(KEY, b"tac", b"GATE0001"),
    }
    assert len(keys) == 3


def test_another_length_is_refused_without_the_key():
    for make in (FrameMac, lambda key: derived_key(key, b"reader", b"G1")):
        with pytest.raises(ValueError, match="16, 24 or 32 bytes") as error:
            make(b"SECRET-SECRET")
        assert "SECRET" not in str(error.value)
