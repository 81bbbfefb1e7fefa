"""What proves that a frame is a device's own: AES-CMAC under a key that only it has.

An acquirer's reader master key never leaves its key store; the key of a device is derived
from it by the device's name, so the switch keeps none of them (NIST SP 800-108r1, counter
mode with CMAC). The MAC is CMAC (NIST SP 800-38B, RFC 4493) cut to 8 bytes.
"""

from __future__ import annotations

import hmac

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFCMAC, CounterLocation, Mode

from protocols.tap.frame import MAC_BYTES

READER_LABEL = b"reader"
TAC_LABEL = b"tac"
DERIVED_BYTES = 16
_AES_KEY_BYTES = frozenset({16, 24, 32})


def derived_key(master: bytes, label: bytes, context: bytes) -> bytes:
    """The key (16 bytes) of one device or card under a master key of 16, 24 or 32 bytes.

    NIST SP 800-108r1, 4.1: PRF CMAC-AES, a counter of 32 bits before the fixed part, which is
    label, 00, context and the length in bits (32 bits). Raises ValueError, without the key,
    for a master of another length.
    """
    _refuse_length(master)
    return KBKDFCMAC(
        algorithm=AES,
        mode=Mode.CounterMode,
        length=DERIVED_BYTES,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(master)


def device_key(master: bytes, device: str) -> bytes:
    """The key of a device (16 bytes) under its acquirer's reader master key."""
    return derived_key(master, READER_LABEL, device.encode("ascii"))


class FrameMac:
    """The MACs of one device's key, which is set up once: that costs as much as a MAC.

    Raises ValueError, without the key, for one that is not of 16, 24 or 32 bytes.
    """

    __slots__ = ("_fresh",)

    def __init__(self, key: bytes) -> None:
        _refuse_length(key)
        self._fresh = CMAC(AES(key))

    def of(self, signed: bytes) -> bytes:
        """The MAC (8 bytes) of what is signed."""
        made = self._fresh.copy()
        made.update(signed)
        return made.finalize()[:MAC_BYTES]

    def proves(self, signed: bytes, mac: bytes) -> bool:
        """Whether this is the MAC of what is signed; compared in constant time."""
        return hmac.compare_digest(self.of(signed), mac)


def _refuse_length(key: bytes) -> None:
    if len(key) not in _AES_KEY_BYTES:
        raise ValueError("an AES key has 16, 24 or 32 bytes; give one of those")
