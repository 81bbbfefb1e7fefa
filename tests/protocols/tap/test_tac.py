"""The TAC of a chip's record, against an implementation of its own and by hand."""

from __future__ import annotations

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from psec.des import encrypt_tdes_ecb

from protocols.tap.mac import derived_key
from protocols.tap.tac import card_key, covered_by_tac, tac_of, tac_proves, tac_under
from protocols.tap.words import OfflineRecord

MASTER = bytes.fromhex("0123456789abcdeffedcba9876543210")
RECORD = OfflineRecord(
    bytes(range(16)), 1, 0, 1, 9, "360486600002", "20170214154000", 5, b"", 1, "S01"
)  # fmt: skip
RECORD = msgspec.structs.replace(RECORD, tac=bytes(4))
COVERED = bytes.fromhex("00000001 09 360486600002 00000005 20170214154000")


def flipped(octets: bytes) -> bytes:
    return bytes(byte ^ 0xFF for byte in octets)


def xored(left: bytes, right: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(left, right, strict=True))


def test_it_covers_what_the_standard_says():
    assert covered_by_tac(RECORD) == COVERED


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_the_pboc_method_is_single_des_with_the_halves_xored():
    key = MASTER
    for half in (RECORD.medium[:8], RECORD.medium[8:]):
        key = encrypt_tdes_ecb(key, half + flipped(half))
    assert card_key("pboc_des", MASTER, RECORD.medium) == key
    single = xored(key[:8], key[8:])
    chained = bytes(8)
    padded = COVERED + b"\x80\x00"
    for at in range(0, len(padded), 8):
        chained = encrypt_tdes_ecb(single, xored(chained, padded[at : at + 8]))
    assert tac_of("pboc_des", MASTER, RECORD) == chained[:4]


def test_the_new_method_is_cmac_under_a_derived_key():
    by_hand = CMAC(AES(derived_key(MASTER, b"tac", RECORD.medium)))
    by_hand.update(COVERED)
    assert tac_of("aes_cmac", MASTER, RECORD) == by_hand.finalize()[:4]


def test_whole_blocks_are_padded_too():
    assert tac_under("pboc_des", MASTER, bytes(8)) != tac_under("pboc_des", MASTER, bytes(7))
    assert len(tac_under("pboc_des", MASTER, b"")) == 4


@pytest.mark.parametrize("method", ["pboc_des", "aes_cmac"])
def test_only_the_chip_itself_can_have_made_it(method):
    genuine = msgspec.structs.replace(RECORD, tac=tac_of(method, MASTER, RECORD))
    assert tac_proves(method, MASTER, genuine)
    assert not tac_proves(method, MASTER[::-1], genuine)
    for name, value in {
        "medium": bytes(16), "amount_minor": 2, "type": 6, "terminal": "360486600003",
        "transaction_number": 6, "local_at": "20170214154001", "tac": bytes(4),
    }.items():  # fmt: skip
        forged = msgspec.structs.replace(genuine, **{name: value})
        assert not tac_proves(method, MASTER, forged), name


@pytest.mark.parametrize("method", ["pboc_des", "aes_cmac"])
def test_keys_and_mediums_of_another_length_are_refused_without_them(method):
    with pytest.raises(ValueError, match="bytes; give") as error:
        card_key(method, b"SECRET", RECORD.medium)
    assert "SECRET" not in str(error.value)
    with pytest.raises(ValueError, match="a medium has 16 bytes"):
        card_key(method, MASTER, b"SECRET")
