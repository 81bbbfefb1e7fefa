"""The seam between the switch and whatever keeps its keys, in the shape of PKCS#11.

Keys are named by handles; clear key bytes, and clear PINs, stay behind the seam. A store in
hardware takes the place of the one in software (`software.py`) by having these methods.
They are synchronous, as PKCS#11 is.

| Key | Usage | For | How it comes here |
|---|---|---|---|
| ZMK, zone key | `ZONE` | wraps the working keys of one link or upstream | by ceremony |
| ZAK | `MAC` | messages | generated, exchanged under the zone key |
| ZPK | `PIN` | PIN blocks | generated, exchanged under the zone key |
| PVK | `PIN_VERIFICATION` | references that cards keep of PINs | generated, never leaves |
| storage key | `STORAGE` | wraps working keys in the ledger | generated, never leaves |
| reader master key | `READER` | keys of an acquirer's readers, derived | by ceremony, or exported |
| TAC master key | `TAC` | keys by which chips sign their records, derived | likewise |
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from protocols.card_number import CardNumber


class Usage(StrEnum):
    """What a key may do; nothing else is done with it."""

    ZONE = "zone"
    MAC = "mac"
    PIN = "pin"
    PIN_VERIFICATION = "pin_verification"
    STORAGE = "storage"
    READER = "reader"
    TAC = "tac"


class Algorithm(StrEnum):
    """What a key is a key of: double-length triple DES, AES, or HMAC-SHA-256."""

    TDES = "tdes"
    AES = "aes"
    HMAC = "hmac"


class KeyHandle(msgspec.Struct, frozen=True):
    """A key by name. `number` tells keys of one store apart; `label` is "" for a session key.

    `kcv` is the key check value in hex: of TDES the first 3 bytes of encrypted zeros, of AES
    the first 5 of their CMAC (ANSI X9.24-1:2017 annex A), of HMAC the first 3 over nothing.
    `created_at_us` is epoch microseconds, 0 where it is not known.
    """

    number: int
    label: str
    usage: Usage
    algorithm: Algorithm
    kcv: str
    created_at_us: int = 0


class KeyStoreError(Exception):
    """A key cannot be made, found, read or used so; one sentence that shows no key."""


class KeyStore(Protocol):
    """What the switch asks of its keys. Every method raises KeyStoreError and nothing else,
    but `pin_reference`, which raises PinBlockError of `protocols.pin_block` too.

    A key without a label is a session key: it is gone with the process, or with `forget`.
    """

    def generate(self, usage: Usage, algorithm: Algorithm, label: str = "") -> KeyHandle:
        """A new random key."""
        ...

    def install(
        self,
        label: str,
        usage: Usage,
        algorithm: Algorithm,
        components: Sequence[bytes],
        kcv: str,
        *,
        replace: bool = False,
    ) -> KeyHandle:
        """The key that is the XOR of 1 to 3 components, if its check value begins with `kcv`.

        A single component needs a `kcv` of 6 hex digits or more.
        """
        ...

    def import_block(
        self, block: str, under: KeyHandle, usage: Usage, bound_to: str = ""
    ) -> KeyHandle:
        """The session key in a TR-31 block, which must be of this usage.

        With `bound_to` the block must carry that label (optional block LB).
        """
        ...

    def export_block(self, key: KeyHandle, under: KeyHandle, bound_to: str = "") -> str:
        """The TR-31 block of a working key: version B under TDES, D under AES."""
        ...

    def find(self, label: str) -> KeyHandle | None:
        """The key with this label, also where another process has just installed it."""
        ...

    def labelled(self) -> list[KeyHandle]:
        """The keys that have a label, by label."""
        ...

    def forget(self, key: KeyHandle) -> None:
        """Drop a session key; without effect on one that is gone."""
        ...

    def mac(self, key: KeyHandle, octets: bytes) -> bytes:
        """The MAC of octets, 8 bytes: x9.19 of a TDES key, aes_cmac of an AES key."""
        ...

    def derived_mac(self, key: KeyHandle, label: bytes, context: bytes, octets: bytes) -> bytes:
        """The MAC (8 bytes) of octets under a key derived from a reader master key.

        AES-CMAC under NIST SP 800-108r1 counter mode of master, label and context; see
        `protocols.tap.mac`.
        """
        ...

    def tac(self, key: KeyHandle, medium: bytes, octets: bytes) -> bytes:
        """The TAC (4 bytes) that the chip of a medium makes of a record's octets.

        Under the chip's key, derived from a TAC master key; see `protocols.tap.tac`.
        """
        ...

    def pin_reference(
        self, pin_key: KeyHandle, verification_key: KeyHandle, block: bytes, card: CardNumber
    ) -> bytes:
        """What a card keeps of the PIN in an encrypted PIN block (16 bytes).

        ISO 9564-1 format 0 in 8 bytes under a TDES key, format 4 in 16 bytes under AES.
        """
        ...

    def reference_of_chosen_pin(
        self, verification_key: KeyHandle, pin: str, card: CardNumber
    ) -> bytes:
        """The same for a PIN of 4 to 12 digits that was chosen at the counter."""
        ...
