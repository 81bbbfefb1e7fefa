"""The transaction authentication code by which a chip proves a record to its issuer.

Only the issuer can check it, and later: the card's key is derived from the TAC master key
by the card's medium. It covers amount 4 | type 1 | terminal 6 | transaction number 4 |
date 4 | time 3, and is cut to 4 bytes. Two methods, by key version:

- `pboc_des` of the PBOC e-purse (JR/T 0025.1; CJ/T 166 and JT/T 978 are its relatives): the
  halves of the card's double-length key XORed into a key of single DES, a CBC-MAC with it
  (ISO/IEC 9797-1, algorithm 1, padding method 2, so 80 is always added). The card's key is
  diversified twice, by the first and then the second half of the medium, each time as
  3DES of the half and of its complement.
- `aes_cmac` of new cards (NIST SP 800-38B), the key derived as a device's is (mac.py).
"""

from __future__ import annotations

import hmac
from typing import Literal, assert_never

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from protocols.tap.mac import TAC_LABEL, derived_key
from protocols.tap.record import RECORD
from protocols.tap.words import MEDIUM_BYTES, OfflineRecord

TacMethod = Literal["pboc_des", "aes_cmac"]
TAC_BYTES = 4
PBOC_KEY_BYTES = 16
_BLOCK = 8
_COMPLEMENT = bytes([0xFF]) * _BLOCK
_AMOUNT_AT = RECORD.offset_of("amount_minor")
_TAC_AT = RECORD.offset_of("tac")
_NUMBER_AT = RECORD.offset_of("transaction_number")
_LOCAL_AT = RECORD.offset_of("local_at")


def covered_by_tac(record: OfflineRecord) -> bytes:
    """The 22 bytes of a record that its TAC covers. Raises EncodeError for no record."""
    octets = RECORD.write(record)
    return octets[_AMOUNT_AT:_LOCAL_AT] + octets[_NUMBER_AT:_TAC_AT] + octets[_LOCAL_AT:_NUMBER_AT]


def card_key(method: TacMethod, master: bytes, medium: bytes) -> bytes:
    """A card's TAC key (16 bytes) under the master key.

    Raises ValueError, without the key, for a master or a medium of another length.
    """
    if len(medium) != MEDIUM_BYTES:
        raise ValueError(f"a medium has {MEDIUM_BYTES} bytes; give one")
    match method:
        case "pboc_des":
            _refuse_pboc_length(master)
            return _diversified(_diversified(master, medium[:_BLOCK]), medium[_BLOCK:])
        case "aes_cmac":
            return derived_key(master, TAC_LABEL, medium)
        case _:
            assert_never(method)


def tac_under(method: TacMethod, key: bytes, covered: bytes) -> bytes:
    """The TAC (4 bytes) of what it covers under a card's key in hand: what the chip does."""
    match method:
        case "pboc_des":
            _refuse_pboc_length(key)
            single = _xor(key[:_BLOCK], key[_BLOCK:])
            padded = covered + b"\x80" + bytes(-(len(covered) + 1) % _BLOCK)
            # the same key three times makes single DES of triple DES
            cipher = Cipher(TripleDES(single * 3), modes.CBC(bytes(_BLOCK))).encryptor()
            return cipher.update(padded)[-_BLOCK:][:TAC_BYTES]
        case "aes_cmac":
            made = CMAC(AES(key))
            made.update(covered)
            return made.finalize()[:TAC_BYTES]
        case _:
            assert_never(method)


def tac_of(method: TacMethod, master: bytes, record: OfflineRecord) -> bytes:
    """The TAC that the record of a chip of ours has; the record's own is not looked at."""
    key = card_key(method, master, record.medium)
    return tac_under(method, key, covered_by_tac(record))


def tac_proves(method: TacMethod, master: bytes, record: OfflineRecord) -> bool:
    """Whether a chip of ours made the record; compared in constant time."""
    return hmac.compare_digest(tac_of(method, master, record), record.tac)


def _diversified(master: bytes, factor: bytes) -> bytes:
    # each block by itself is what the card's own command does, so ECB is the block cipher
    cipher = Cipher(TripleDES(master + master[:_BLOCK]), modes.ECB()).encryptor()  # noqa: S305
    return cipher.update(factor + _xor(factor, _COMPLEMENT))


def _refuse_pboc_length(key: bytes) -> None:
    if len(key) != PBOC_KEY_BYTES:
        raise ValueError("a PBOC key has 16 bytes; give a double-length DES key")


def _xor(left: bytes, right: bytes) -> bytes:
    mixed = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return mixed.to_bytes(len(left), "big")
