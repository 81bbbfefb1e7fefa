"""A request as it is kept in the book of forwards: whole, but for its card number in clear.

A reversal may have to be said days later by another process, and needs the card number on the
wire. So it is kept encrypted (AES-256-GCM, NIST SP 800-38D) under a key derived from the card
number key, bound to the idempotency key of its row; PIN hashes are not kept at all.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.card_number import CardNumber
from protocols.message import Request

NONCE_BYTES = 12
_PURPOSE = b"citycard: card numbers of forwarded requests"


class NotOurs(Exception):
    """A kept request that this card number key cannot open: another key, or a damaged row."""


class _Kept(msgspec.Struct, frozen=True):
    request: Request
    card: bytes


class RequestSealer:
    """Seals and opens requests under one card number key. `entropy` gives random bytes."""

    def __init__(self, card_key: bytes, entropy: Callable[[int], bytes]) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(card_key)
        self._cipher = AESGCM(derived)
        self._entropy = entropy
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Kept)

    def seal(self, request: Request) -> bytes:
        """The request as msgpack, its card number encrypted; 60 bytes longer than the request."""
        assert request.card is not None, "only a request with a card is forwarded"
        nonce = self._entropy(NONCE_BYTES)
        digits = request.card.reveal().encode("ascii")
        sealed = nonce + self._cipher.encrypt(nonce, digits, request.key)
        bare = msgspec.structs.replace(request, card=None, pin=b"")
        return self._encoder.encode(_Kept(bare, sealed))

    def open(self, octets: bytes) -> Request:
        """The request with its card. Its monotonic times mean nothing here. Raises NotOurs."""
        try:
            kept = self._decoder.decode(octets)
            nonce, sealed = kept.card[:NONCE_BYTES], kept.card[NONCE_BYTES:]
            digits = self._cipher.decrypt(nonce, sealed, kept.request.key)
            card = CardNumber(digits.decode("ascii"))
        except (msgspec.DecodeError, InvalidTag, ValueError):
            # without its cause, which may quote what was decoded
            raise NotOurs(
                "a kept request cannot be opened; put back the card number key of this ledger"
            ) from None
        return msgspec.structs.replace(kept.request, card=card)
