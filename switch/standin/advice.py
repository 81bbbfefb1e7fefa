"""A request as the spool keeps it: msgpack, with the card number sealed apart and no PIN.

The card number is encrypted (AES-256-GCM, NIST SP 800-38D) under a key derived by HKDF
(RFC 5869) from the card number key, and bound to its row by the idempotency key: a spool
that is copied away, or whose rows are exchanged, gives no card numbers.
"""

from __future__ import annotations

import os

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from protocols.card_number import CardNumber
from protocols.message import Request

NONCE_BYTES = 12
PURPOSE = b"citycard stand-in spool, card numbers"


class AdviceUnreadable(Exception):
    """A row of the spool cannot be read back; the sentence says why and what to do."""


class Sealer:
    """Turns requests into rows and back, under the card number key (32 bytes) of the switch."""

    def __init__(self, card_number_key: bytes) -> None:
        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE)
        self._cipher = AESGCM(derived.derive(card_number_key))
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Request)

    def seal(self, request: Request) -> tuple[bytes, bytes]:
        """The request without card number and PIN, and the sealed card number."""
        body = self._encoder.encode(msgspec.structs.replace(request, card=None, pin=b""))
        if request.card is None:
            return body, b""
        nonce = os.urandom(NONCE_BYTES)
        digits = request.card.reveal().encode("ascii")
        return body, nonce + self._cipher.encrypt(nonce, digits, request.key)

    def open(self, body: bytes, sealed: bytes) -> Request:
        """What was sealed, whole but for the PIN. Raises AdviceUnreadable."""
        try:
            request = self._decoder.decode(body)
            if not sealed:
                return request
            nonce, secret = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
            digits = self._cipher.decrypt(nonce, secret, request.key).decode("ascii")
            return msgspec.structs.replace(request, card=CardNumber(digits))
        except (msgspec.MsgspecError, ValueError, InvalidTag):
            raise AdviceUnreadable(
                "a row of the stand-in spool cannot be read with this card number key; "
                "put back the key under which it was written"
            ) from None
