"""The guard of one link: verifies what comes, seals what goes, opens PIN blocks.

What is called for each message is synchronous and waits for nothing. An answer is sealed
under the key that its request was verified under, so a peer may change keys at any moment.
Whoever keeps the keys up to date is in `guard.py`.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from protocols.card_number import CardNumber
from protocols.errors import DecodeError
from protocols.iso8583 import Message, Spec, encode
from protocols.iso8583.mac import covered_by, mac_in, sealed_by
from protocols.iso8583.tlv import parse, value_of
from protocols.pin_block import PinBlockError
from switch.clock import Clock
from switch.config_types import MacMethod
from switch.keystore.seam import KeyHandle, KeyStore, KeyStoreError
from switch.keystore.software import PIN_VERIFICATION_LABEL
from switch.keystore.working import WorkingKeys

NANOSECONDS = 1_000_000_000
YOUNG_SECONDS = 60.0
"""An exchange hands out keys again that are younger: connections of one link that ask at the
same time get the same ones, and nobody fills the ledger, or pushes a key out, by asking."""
PIN_FIELD, CHIP_FIELD = 52, 55
CHIP_PIN_TAG = "99"
"""EMV Book 3, annex A: transaction PIN data. DE52 has 8 bytes (ISO 8583:1987), so a format 4
block (16 bytes) comes in DE55 under this tag, in every format that has a DE55."""
_CHIP_PIN_START = b"\x99\x10"


class PinBlockRefused(Exception):
    """A PIN block that cannot be read; the sentence says why, never what. Answer PIN_WRONG."""


class Seal(msgspec.Struct, frozen=True):
    """Which working key a message was verified under (always true): pass it to `seal`."""

    sequence: int


NO_MAC = Seal(0)


class Exchange(msgspec.Struct, frozen=True):
    """The keys of one exchange, and the monotonic time up to which they are accepted."""

    sequence: int
    keys: WorkingKeys
    created_ns: int
    accepted_until_ns: int | None


class Errands(Protocol):
    """What a guard asks of the task that keeps its keys."""

    def enqueue(self, asked: Asked) -> None:
        """Have an exchange served; its `failed` is called at once where too many wait."""
        ...

    def look_again(self) -> None:
        """Look for newer keys soon."""
        ...


class Asked(msgspec.Struct, frozen=True):
    """An exchange somebody waits for; with a `key_block` the peer made the keys."""

    guard: LinkGuard
    respond: Callable[[str], None]
    failed: Callable[[], None]
    key_block: str = ""

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("guard", self.guard)]


class LinkGuard:
    """The guard of one link or upstream. With mac "none" it lets every message pass."""

    def __init__(
        self,
        name: str,
        method: MacMethod,
        store: KeyStore | None,
        clock: Clock,
        ask: Errands,
        *,
        peer_makes_keys: bool = False,
    ) -> None:
        self.name = name
        self.method = method
        self._peer_makes_keys = peer_makes_keys
        self._store = store
        self._clock = clock
        self._ask = ask
        self._exchanges: list[Exchange] = []
        self._used: Seal | None = None
        self._verification_key: KeyHandle | None = None

    def verify(self, spec: Spec, octets: bytes, message: Message) -> Seal | None:
        """The seal that a message came under; None where its MAC is missing or wrong.

        Do not call it for sign-on, sign-off, echo and key exchange (0800): they come before
        keys. A wrong MAC also makes the guard look for newer keys.
        """
        if self.method == "none":
            return NO_MAC
        received = mac_in(message)
        if received is not None and self._store is not None:
            covered = covered_by(spec, octets)
            for exchange in self._accepted():
                key = exchange.keys.mac
                if key and hmac.compare_digest(self._store.mac(key, covered), received):
                    seal = Seal(exchange.sequence)
                    # a peer that makes the keys has the newest; another may not have it yet
                    self._used = None if self._peer_makes_keys else seal
                    return seal
        self._ask.look_again()
        return None

    def seal(self, spec: Spec, message: Message, under: Seal | None = None) -> bytes:
        """The payload with its MAC: `under` the request's seal, else the key the peer uses.

        Without any key, or with mac "none", it is `encode(spec, message)`. Raises EncodeError.
        """
        store, key = self._store, self._sealing(under or self._used)
        if store is None or key is None:
            return encode(spec, message)
        return sealed_by(spec, message, lambda octets: store.mac(key, octets))

    def pin_of(self, message: Message, card: CardNumber) -> bytes:
        """`Request.pin` of a message: 16 bytes, b"" without a PIN. Raises PinBlockRefused.

        DE52 is an ISO 9564-1 format 0 block under the PIN key; a format 4 block is in DE55
        under tag 99. DE26 and DE53 are not asked: the length tells the format.
        """
        block = _pin_block(message)
        if not block:
            return b""
        try:
            reference = self._reference(block, card)
        except KeyStoreError as error:
            raise PinBlockRefused(str(error)) from None
        if reference is not None:
            return reference
        raise PinBlockRefused(
            f"link {self.name} sent a PIN block that no PIN key of it opens; exchange keys"
        )

    def _reference(self, block: bytes, card: CardNumber) -> bytes | None:
        """The reference under the first accepted key that opens the block."""
        store = self._store
        if store is not None and self._verification_key is None:
            self._verification_key = store.find(PIN_VERIFICATION_LABEL)
        if store is None or self._verification_key is None:
            raise KeyStoreError(f"link {self.name} sent a PIN; run citycard keys init")
        for exchange in self._accepted():
            if exchange.keys.pin is not None:
                try:
                    return store.pin_reference(
                        exchange.keys.pin, self._verification_key, block, card
                    )
                except PinBlockError:
                    continue  # it may be under the key before
        return None

    def exchange(self, respond: Callable[[str], None], failed: Callable[[], None]) -> None:
        """New working keys; later `respond(key block text)` or `failed()` is called, once.

        Keys younger than a minute are handed out again.
        """
        self._ask.enqueue(Asked(self, respond, failed))

    def receive(
        self, key_block: str, accepted: Callable[[], None], failed: Callable[[], None]
    ) -> None:
        """Keys that the peer made (an upstream's answer); `accepted()` once they are stored."""
        self._ask.enqueue(Asked(self, lambda _: accepted(), failed, key_block))

    # ---- for Guards ------------------------------------------------------------------------

    def young(self) -> WorkingKeys | None:
        """The newest keys, where they were made within YOUNG_SECONDS."""
        if not self._exchanges:
            return None
        age_ns = self._clock.monotonic_ns() - self._exchanges[0].created_ns
        return self._exchanges[0].keys if age_ns < YOUNG_SECONDS * NANOSECONDS else None

    def adopt(self, exchanges: list[Exchange]) -> None:
        """Take the keys as they are in the ledger, newest first."""
        self._exchanges = exchanges

    @property
    def exchanges(self) -> list[Exchange]:
        """What is accepted, or was until a moment ago; newest first."""
        return self._exchanges

    def _accepted(self) -> Iterable[Exchange]:
        now_ns = self._clock.monotonic_ns()
        for exchange in self._exchanges:
            if exchange.accepted_until_ns is None or now_ns < exchange.accepted_until_ns:
                yield exchange

    def _sealing(self, wanted: Seal | None) -> KeyHandle | None:
        """The MAC key of that exchange, else of the newest."""
        if self.method == "none" or not self._exchanges:
            return None
        for exchange in self._exchanges:
            if wanted is not None and exchange.sequence == wanted.sequence:
                return exchange.keys.mac
        return self._exchanges[0].keys.mac


def _pin_block(message: Message) -> bytes:
    """The encrypted PIN block of a message; b"" where it has none."""
    block = message.fields.get(PIN_FIELD)
    if isinstance(block, bytes):
        return block
    chip = message.fields.get(CHIP_FIELD)
    if not isinstance(chip, bytes) or _CHIP_PIN_START not in chip:
        return b""
    try:
        return value_of(parse(chip), CHIP_PIN_TAG) or b""
    except DecodeError:
        # chip data that cannot be taken apart is refused elsewhere, by who needs it
        return b""
