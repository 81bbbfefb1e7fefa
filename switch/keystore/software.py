"""The key store in software: one file of wrapped keys, and a file with the key they are under.

For demonstrations, tests and small installations; a card scheme asks for hardware. Clear
keys are in the memory of the process that uses them, and nowhere on disk. Both files are
refused when others may read them.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from protocols.card_number import CardNumber
from protocols.iso8583.mac import Compute, MacMethod, maker
from protocols.pin_block import PinBlockError, is_pin, pin_in
from protocols.tap.mac import FrameMac, derived_key
from protocols.tap.tac import TacMethod, card_key, tac_under
from switch.clock import Clock
from switch.keys import make_key, read_key
from switch.keystore import key_block, key_file
from switch.keystore.key_file import StoredKey
from switch.keystore.seam import Algorithm, KeyHandle, KeyStoreError, Usage

PIN_VERIFICATION_LABEL = "pvk"
STORAGE_LABEL = "storage"
MASTER_KEY_NAME = "master key of the key store"
PIN_REFERENCE_BYTES = 16
COMPONENTS_MAX = 3
DERIVED_KEPT = 16_384
"""Readers whose key is kept ready: deriving one costs ten times what a MAC does."""
KCV_DIGITS_MIN = 6

Entropy = Callable[[int], bytes]


def store_path(store_file: str, directory: Path) -> Path:
    """Where the store is: as configured, else beside the other keys of the switch."""
    return Path(store_file) if store_file else directory / "key_store.json"


def master_path(store: Path) -> Path:
    """Where the key is that the store's keys are wrapped under."""
    return store.with_suffix(".key")


def make_store(path: Path, clock: Clock, entropy: Entropy = secrets.token_bytes) -> bool:
    """Make a store with its own two keys unless there is one; True if it was made.

    Raises KeyStoreError, and KeyFileError about the master key's file.
    """
    if path.exists():
        return False
    make_key(master_path(path))
    store = SoftwareKeyStore(path, clock, entropy)
    store.generate(Usage.PIN_VERIFICATION, Algorithm.HMAC, PIN_VERIFICATION_LABEL)
    store.generate(Usage.STORAGE, Algorithm.AES, STORAGE_LABEL)
    return True


def open_store(path: Path, clock: Clock) -> SoftwareKeyStore | None:
    """The store at a path; None where there is none. Raises KeyStoreError and KeyFileError."""
    return SoftwareKeyStore(path, clock) if path.exists() else None


class SoftwareKeyStore:
    """A `KeyStore` in two files. Raises KeyStoreError and KeyFileError when they are unfit."""

    def __init__(self, path: Path, clock: Clock, entropy: Entropy = secrets.token_bytes) -> None:
        self._path = path
        self._clock = clock
        self._entropy = entropy
        self._master = read_key(master_path(path), MASTER_KEY_NAME)
        self._numbers = itertools.count(1)
        self._clear: dict[int, bytes] = {}
        self._makers: dict[int, Compute] = {}
        self._derived: OrderedDict[tuple[int, bytes, bytes], FrameMac] = OrderedDict()
        self._named: dict[str, KeyHandle] = {}
        self._blocks: dict[str, str] = {}
        self._read_mark: object = None
        self._refresh()

    def __repr__(self) -> str:
        return f"SoftwareKeyStore({len(self._named)} keys)"

    def generate(self, usage: Usage, algorithm: Algorithm, label: str = "") -> KeyHandle:
        if not key_block.may_be(usage, algorithm):
            raise KeyStoreError(f"there is no {algorithm.value} key for {usage.value}")
        key = self._entropy(key_block.KEY_BYTES[algorithm])
        return self._keep(key, usage, algorithm, label, replace=False)

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
        key = _combined(components, key_block.KEY_BYTES[algorithm], kcv)
        if not key_block.may_be(usage, algorithm) or not label:
            raise KeyStoreError(f"there is no {algorithm.value} key for {usage.value}")
        if kcv and not check_value(key, algorithm).startswith(kcv.upper()):
            raise KeyStoreError(
                "the check value of the key is another one; type the components again"
            )
        if not any(key) or (algorithm is Algorithm.TDES and key[:8] == key[8:]):
            raise KeyStoreError("this key is no key to rely on; make new random components")
        return self._keep(key, usage, algorithm, label, replace=replace)

    def import_block(
        self, block: str, under: KeyHandle, usage: Usage, bound_to: str = ""
    ) -> KeyHandle:
        self._must_wrap(under)
        found = key_block.unwrap(block, self._key(under), under.algorithm)
        if found.usage is not usage:
            raise KeyStoreError(f"the key block holds no {usage.value} key; send one for that")
        if bound_to and found.label != bound_to:
            raise KeyStoreError("the key block was made for another link; exchange keys again")
        return self._session(found.key, usage, found.algorithm)

    def export_block(self, key: KeyHandle, under: KeyHandle, bound_to: str = "") -> str:
        self._must_wrap(under)
        if key.usage not in key_block.EXPORTED:
            raise KeyStoreError(f"a {key.usage.value} key never leaves the store")
        return key_block.wrap(
            self._key(key), key.usage, key.algorithm, bound_to, self._key(under), under.algorithm
        )

    def find(self, label: str) -> KeyHandle | None:
        self._refresh()
        return self._named.get(label)

    def labelled(self) -> list[KeyHandle]:
        self._refresh()
        return [self._named[label] for label in sorted(self._named)]

    def forget(self, key: KeyHandle) -> None:
        if not key.label:
            self._clear.pop(key.number, None)
            self._makers.pop(key.number, None)

    def mac(self, key: KeyHandle, octets: bytes) -> bytes:
        if key.usage is not Usage.MAC:
            raise KeyStoreError(f"a {key.usage.value} key makes no MAC; use a mac key")
        compute = self._makers.get(key.number)
        if compute is None:
            method: MacMethod = "x9.19" if key.algorithm is Algorithm.TDES else "aes_cmac"
            compute = self._makers[key.number] = maker(method, self._key(key))
        return compute(octets)

    def derived_mac(self, key: KeyHandle, label: bytes, context: bytes, octets: bytes) -> bytes:
        named = (key.number, label, context)
        made = self._derived.get(named)
        if made is None:
            if key.usage is not Usage.READER:
                raise KeyStoreError(f"a {key.usage.value} key derives none; use a reader key")
            made = self._derived[named] = FrameMac(derived_key(self._key(key), label, context))
            if len(self._derived) > DERIVED_KEPT:
                self._derived.popitem(last=False)
        else:
            self._derived.move_to_end(named)
        return made.of(octets)

    def tac(self, key: KeyHandle, medium: bytes, octets: bytes) -> bytes:
        if key.usage is not Usage.TAC:
            raise KeyStoreError(f"a {key.usage.value} key makes no TAC; use a tac key")
        method: TacMethod = "pboc_des" if key.algorithm is Algorithm.TDES else "aes_cmac"
        return tac_under(method, card_key(method, self._key(key), medium), octets)

    def pin_reference(
        self, pin_key: KeyHandle, verification_key: KeyHandle, block: bytes, card: CardNumber
    ) -> bytes:
        if pin_key.usage is not Usage.PIN:
            raise KeyStoreError(f"a {pin_key.usage.value} key opens no PIN block; use a pin key")
        pin = pin_in(block, self._key(pin_key), card)
        return self._reference(verification_key, pin, card)

    def reference_of_chosen_pin(
        self, verification_key: KeyHandle, pin: str, card: CardNumber
    ) -> bytes:
        if not is_pin(pin):
            raise PinBlockError("a PIN is 4 to 12 digits; give one of those")
        return self._reference(verification_key, pin, card)

    def _reference(self, key: KeyHandle, pin: str, card: CardNumber) -> bytes:
        """HMAC-SHA-256 over number, a zero byte and PIN: of no use without the key."""
        if key.usage is not Usage.PIN_VERIFICATION:
            raise KeyStoreError("PINs are checked with the pin_verification key only")
        octets = f"{card.reveal()}\0{pin}".encode("ascii")
        return hmac.digest(self._key(key), octets, "sha256")[:PIN_REFERENCE_BYTES]

    def _must_wrap(self, key: KeyHandle) -> None:
        if key.usage not in (Usage.ZONE, Usage.STORAGE):
            raise KeyStoreError(f"a {key.usage.value} key wraps no keys; use a zone key")

    def _key(self, handle: KeyHandle) -> bytes:
        key = self._clear.get(handle.number)
        if key is None:
            raise KeyStoreError("the key is gone from the store; look it up again")
        return key

    def _session(self, key: bytes, usage: Usage, algorithm: Algorithm) -> KeyHandle:
        handle = KeyHandle(next(self._numbers), "", usage, algorithm, check_value(key, algorithm))
        self._clear[handle.number] = key
        return handle

    def _keep(
        self, key: bytes, usage: Usage, algorithm: Algorithm, label: str, *, replace: bool
    ) -> KeyHandle:
        if not label:
            return self._session(key, usage, algorithm)
        block = key_block.wrap(key, usage, algorithm, label, self._master, Algorithm.AES)
        stored = StoredKey(label, block, self._clock.now_us())
        key_file.put(self._path, master_path(self._path), stored, replace=replace)
        self._refresh()
        return self._named[label]

    def _refresh(self) -> None:
        """Read the file again if it is another one than was read; a look-up costs one stat."""
        mark = key_file.mark(self._path)
        if mark == self._read_mark:
            return
        for stored in key_file.read(self._path):
            if self._blocks.get(stored.label) != stored.block:
                self._adopt(stored)
        self._read_mark = mark

    def _adopt(self, stored: StoredKey) -> None:
        found = key_block.unwrap(stored.block, self._master, Algorithm.AES)
        if found.label != stored.label:
            raise KeyStoreError(f"{self._path} has been tampered with; put back a copy of it")
        number = next(self._numbers)
        self._clear[number] = found.key
        self._blocks[stored.label] = stored.block
        self._named[stored.label] = KeyHandle(
            number,
            stored.label,
            found.usage,
            found.algorithm,
            check_value(found.key, found.algorithm),
            stored.created_at_us,
        )


def check_value(key: bytes, algorithm: Algorithm) -> str:
    """The key check value in capital hex; see KeyHandle."""
    match algorithm:
        case Algorithm.TDES:
            cipher = Cipher(TripleDES(key + key[:8]), modes.ECB())  # noqa: S305 - as X9.24 has it
            return cipher.encryptor().update(bytes(8))[:3].hex().upper()
        case Algorithm.AES:
            made = CMAC(AES(key))
            made.update(bytes(16))
            return made.finalize()[:5].hex().upper()
        case Algorithm.HMAC:
            return hmac.new(key, b"", hashlib.sha256).digest()[:3].hex().upper()


def _combined(components: Sequence[bytes], length: int, kcv: str) -> bytes:
    if not 1 <= len(components) <= COMPONENTS_MAX:
        raise KeyStoreError(f"a key is made of 1 to {COMPONENTS_MAX} components; give those")
    if any(len(component) != length for component in components):
        raise KeyStoreError(f"each component has {length} bytes; give {length * 2} hex digits")
    if (len(components) == 1 or kcv) and len(kcv) < KCV_DIGITS_MIN:
        raise KeyStoreError(
            f"a key in one piece needs its check value; give {KCV_DIGITS_MIN} hex digits or more"
        )
    key = bytes(length)
    for component in components:
        key = bytes(a ^ b for a, b in zip(key, component, strict=True))
    return key
