"""Encrypted PIN blocks, ISO 9564-1: format 0 under triple DES, format 4 under AES.

What psec says of a block that does not fit may quote the PIN, so nothing of it is passed
on: not as text, and not as the cause or context of an error.
"""

from __future__ import annotations

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from psec import pinblock

from protocols.card_number import CardNumber

PIN_DIGITS_MIN, PIN_DIGITS_MAX = 4, 12
"""ISO 9564-1, 8.1."""
FORMAT_0_BYTES, FORMAT_4_BYTES = 8, 16
TDES_KEY_BYTES, AES_KEY_BYTES = 16, 32
"""Double-length triple DES, and AES-256: their lengths tell the format."""
PAN_DIGITS_IN_BLOCK = 13
"""Format 0 takes the 12 digits before the check digit; a shorter number is filled with zeros."""


class PinBlockError(Exception):
    """A PIN block that holds no PIN of this card under this key; the text shows nothing of it."""


def pin_in(block: bytes, key: bytes, card: CardNumber) -> str:
    """The clear PIN: only for a key store, which must not let it out.

    8 bytes are format 0 and need a double-length TDES key; 16 bytes are format 4 and need an
    AES key. Raises PinBlockError.
    """
    clear = _opened(block, key, card.reveal())
    if clear is None:
        raise PinBlockError(
            "the PIN block holds no PIN of this card under the PIN key; "
            "exchange keys, and send ISO 9564-1 format 0 (8 bytes) or 4 (16 bytes)"
        )
    return clear


def pin_block_of(pin: str, key: bytes, card: CardNumber) -> bytes:
    """The encrypted block: format 4 under an AES key (32 bytes), format 0 under TDES (16).

    Raises PinBlockError for a PIN that is not 4 to 12 digits.
    """
    if not is_pin(pin):
        raise PinBlockError("a PIN is 4 to 12 digits; give one of those")
    digits = card.reveal()
    if len(key) == AES_KEY_BYTES:
        return bytes(pinblock.encipher_pinblock_iso_4(key, pin, digits))
    encryptor = Cipher(_triple_des(key), modes.ECB()).encryptor()  # noqa: S305 - one block
    return encryptor.update(pinblock.encode_pinblock_iso_0(pin, _format_0_digits(digits)))


def is_pin(text: str) -> bool:
    """Whether a text is 4 to 12 ASCII digits."""
    return PIN_DIGITS_MIN <= len(text) <= PIN_DIGITS_MAX and text.isascii() and text.isdecimal()


def _opened(block: bytes, key: bytes, digits: str) -> str | None:
    try:
        if len(block) == FORMAT_4_BYTES and len(key) == AES_KEY_BYTES:
            return str(pinblock.decipher_pinblock_iso_4(key, block, digits))
        if len(block) == FORMAT_0_BYTES and len(key) == TDES_KEY_BYTES:
            decryptor = Cipher(_triple_des(key), modes.ECB()).decryptor()  # noqa: S305 - one block
            return str(
                pinblock.decode_pinblock_iso_0(decryptor.update(block), _format_0_digits(digits))
            )
    except ValueError:
        pass
    return None


def _format_0_digits(digits: str) -> str:
    return digits.zfill(PAN_DIGITS_IN_BLOCK)


def _triple_des(key: bytes) -> TripleDES:
    return TripleDES(key + key[:8])
