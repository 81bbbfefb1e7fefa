"""Keys and codes that follow from a message's own key, so that deciding again gives them again."""

from __future__ import annotations

import hashlib

AUTH_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that a cashier cannot confuse; DE38 is six of them."""


def auth_code_of(key: bytes) -> str:
    """DE38: six letters and digits that follow from the key, so a replay gives the same."""
    digest = hashlib.blake2b(key, digest_size=4, person=b"auth-code").digest()
    number = int.from_bytes(digest)
    # Each character is five bits: the alphabet has 32.
    return "".join([AUTH_CODE_ALPHABET[number >> shift & 31] for shift in (0, 5, 10, 15, 20, 25)])


def derived_key(key: bytes, purpose: bytes) -> bytes:
    """A key of the switch's own for a message that follows another; same time prefix."""
    return key[:4] + hashlib.blake2b(key, digest_size=12, person=purpose[:16]).digest()
