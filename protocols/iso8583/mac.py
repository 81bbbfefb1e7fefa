"""Message authentication codes: what proves that a message is the peer's and is whole.

The MAC is the last field, DE64, or DE128 where there is a secondary bitmap (ISO 8583:1987,
4.4.14). It covers the encoded message from the MTI up to that field, with the field's bit
already set in the bitmap. Two methods:

- `x9.19`, the retail MAC of existing terminals (ANSI X9.19; ISO/IEC 9797-1 MAC algorithm 3
  with padding method 1): a CBC-MAC under single DES whose last block is done with all of a
  double-length key. Zeros at the end of what is covered make no difference to it; in a
  message that decodes whole, none can be added there.
- `aes_cmac` for new links (NIST SP 800-38B, RFC 4493), its first 8 bytes.
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable, Iterable
from typing import Literal, assert_never

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from protocols.iso8583.codec import encode
from protocols.iso8583.message import Message
from protocols.iso8583.spec import Coding, Spec

MacMethod = Literal["x9.19", "aes_cmac"]
Compute = Callable[[bytes], bytes]
"""The octets that are covered → their MAC (8 bytes), by whoever keeps the key."""

MAC_BYTES = 8
DES_BLOCK_BYTES = 8
DOUBLE_LENGTH_BYTES = 16
AES_KEY_BYTES = frozenset({16, 24, 32})

_LAST_OF_PRIMARY = 64
_LAST_OF_SECONDARY = 128


def maker(method: MacMethod, key: bytes) -> Compute:
    """What makes the MACs of one key, over and over; not for two threads at a time.

    `key` is 16 bytes for x9.19, an AES key for aes_cmac. Raises ValueError, without the key,
    for one of another length.
    """
    match method:
        case "x9.19":
            return RetailMac(key)
        case "aes_cmac":
            if len(key) not in AES_KEY_BYTES:
                raise ValueError("an AES key has 16, 24 or 32 bytes; give one of those")
            return functools.partial(_cmac, CMAC(AES(key)))
        case _:
            assert_never(method)


def mac_of(method: MacMethod, key: bytes, octets: bytes) -> bytes:
    """The MAC (8 bytes) of octets under a key in hand; see `maker`."""
    return maker(method, key)(octets)


def sealed_by(spec: Spec, message: Message, compute: Compute) -> bytes:
    """The bytes of a message with its MAC in place. Raises EncodeError.

    A MAC that the message already has is replaced.
    """
    fields = dict(message.fields)
    fields.pop(_LAST_OF_PRIMARY, None)
    fields.pop(_LAST_OF_SECONDARY, None)
    fields[_mac_field(fields)] = bytes(MAC_BYTES)
    blank = Message(message.mti, fields)
    width, covered = _without_mac(spec, encode(spec, blank))
    mac = compute(covered)
    return covered + (mac if width == MAC_BYTES else mac.hex().upper().encode("ascii"))


def mac_in(message: Message) -> bytes | None:
    """The MAC that a decoded message has; None without one, or in the wrong field."""
    value = message.fields.get(_mac_field(message.fields))
    return value if isinstance(value, bytes) and len(value) == MAC_BYTES else None


def covered_by(spec: Spec, octets: bytes) -> bytes:
    """What of the octets of a message with a MAC is under it: all before the last field."""
    return _without_mac(spec, octets)[1]


def sealed(spec: Spec, message: Message, key: bytes, method: MacMethod) -> bytes:
    """`sealed_by` with a key in hand: for load generators and tests."""
    return sealed_by(spec, message, lambda octets: mac_of(method, key, octets))


def verified(
    spec: Spec, octets: bytes, message: Message, keys: Iterable[bytes], method: MacMethod
) -> bool:
    """Whether the MAC of a decoded message is that of its octets under one of the keys.

    False where it has none, or has it in the wrong one of DE64 and DE128. Compared in
    constant time.
    """
    received = mac_in(message)
    if received is None:
        return False
    covered = covered_by(spec, octets)
    return any(hmac.compare_digest(mac_of(method, key, covered), received) for key in keys)


def _mac_field(fields: Iterable[int]) -> int:
    """DE128 where any field needs the secondary bitmap, else DE64."""
    return _LAST_OF_SECONDARY if max(fields, default=0) > _LAST_OF_PRIMARY else _LAST_OF_PRIMARY


def _without_mac(spec: Spec, octets: bytes) -> tuple[int, bytes]:
    """The width of the MAC on the wire, and the octets before it: it is the last field."""
    width = MAC_BYTES * (2 if spec.fields[_LAST_OF_PRIMARY].coding is Coding.HEX else 1)
    return width, octets[:-width]


def _cmac(fresh: CMAC, octets: bytes) -> bytes:
    made = fresh.copy()
    made.update(octets)
    return made.finalize()[:MAC_BYTES]


class RetailMac:
    """X9.19 under one key, whose two ciphers are set up once: that costs more than a MAC.

    A CBC cipher goes on from the last block it made. XORed into the first block of the next
    message, that block cancels itself out, and chaining begins with zeros again.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != DOUBLE_LENGTH_BYTES:
            raise ValueError("a retail MAC key has 16 bytes; give a double-length DES key")
        left, right = key[:DES_BLOCK_BYTES], key[DES_BLOCK_BYTES:]
        # the same key three times makes single DES of triple DES
        single = TripleDES(left * 3)
        self._chain = Cipher(single, modes.CBC(bytes(DES_BLOCK_BYTES))).encryptor()
        self._chained = bytes(DES_BLOCK_BYTES)
        # one block at a time, so ECB is just the block cipher
        last = Cipher(TripleDES(left + right + left), modes.ECB())  # noqa: S305
        self._last = last.encryptor()

    def __call__(self, octets: bytes) -> bytes:
        padding = -len(octets) % DES_BLOCK_BYTES if octets else DES_BLOCK_BYTES
        padded = octets + bytes(padding)
        body, last = padded[:-DES_BLOCK_BYTES], padded[-DES_BLOCK_BYTES:]
        if not body:
            return self._last.update(last)
        first = _xor(body[:DES_BLOCK_BYTES], self._chained)
        self._chained = self._chain.update(first + body[DES_BLOCK_BYTES:])[-DES_BLOCK_BYTES:]
        return self._last.update(_xor(last, self._chained))


def _xor(left: bytes, right: bytes) -> bytes:
    mixed = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
    return mixed.to_bytes(DES_BLOCK_BYTES, "big")
