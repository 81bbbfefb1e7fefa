"""Whose frame it is and which chip made a record: asked of the key store, by master key version.

Master keys are labelled `reader/ACQUIRER/VERSION` and `tac/VERSION`. The newest version holds,
and the one before it for [keys] overlap_minutes after the newest was installed: devices and
cards in the field do not change over in one moment. No key is ever in here, only handles.
"""

from __future__ import annotations

import hmac

from protocols.errors import EncodeError
from protocols.message import ChipVerdict
from protocols.tap.frame import MAC_BYTES, Frame
from protocols.tap.mac import READER_LABEL
from protocols.tap.tac import covered_by_tac
from protocols.tap.words import Head, OfflineRecord, RefusedReason
from switch.clock import Clock
from switch.keystore.seam import KeyHandle, KeyStore, KeyStoreError, Usage
from switch.logs import Throttle
from switch.logs import get as get_log

LOOK_AGAIN_NS = 1_000_000_000
MINUTE_US = 60_000_000
VERSION_MAX = 255
NO_MAC = bytes(MAC_BYTES)
"""What a refusal carries that no key of ours can seal: it proves nothing, and says so."""
TAC_PREFIX = "tac"

_log = get_log("devices")


def reader_prefix(acquirer: str) -> str:
    """What labels of an acquirer's reader master keys begin with."""
    return f"reader/{acquirer}"


def labelled(prefix: str, version: int) -> str:
    """The label of one version of a master key."""
    return f"{prefix}/{version}"


class KeyVersions:
    """The versions of one master key that hold now; looked up at most once a second."""

    def __init__(
        self, store: KeyStore | None, prefix: str, usage: Usage, overlap_minutes: int, clock: Clock
    ) -> None:
        self.newest = 0
        self._store = store
        self._prefix = prefix
        self._usage = usage
        self._overlap_us = overlap_minutes * MINUTE_US
        self._clock = clock
        self._holding: dict[int, KeyHandle] = {}
        self._look_ns = 0
        self._throttle = Throttle()

    def of(self, version: int) -> KeyHandle | None:
        """The key of a version; None for one that does not hold, or does not any more."""
        now_ns = self._clock.monotonic_ns()
        if now_ns >= self._look_ns:
            self._look_ns = now_ns + LOOK_AGAIN_NS
            self._look()
        return self._holding.get(version)

    def _look(self) -> None:
        if self._store is None:
            return
        try:
            found = {
                version: key
                for key in self._store.labelled()
                if key.usage is self._usage and (version := _version(key.label, self._prefix))
            }
        except KeyStoreError as error:
            # What was known goes on holding: a store that cannot be read is no new key.
            suppressed = self._throttle.admit("store", self._clock.monotonic_ns())
            if suppressed is not None:
                _log.warning("the key store cannot be read", why=str(error), suppressed=suppressed)
            return
        newest = sorted(found, reverse=True)[:2]
        self.newest = newest[0] if newest else 0
        over = newest and self._clock.now_us() > found[self.newest].created_at_us + self._overlap_us
        self._holding = {version: found[version] for version in newest[: 1 if over else 2]}


class DeviceKeys:
    """Proves frames of one acquirer's devices, and seals the answers to them."""

    def __init__(
        self, acquirer: str, store: KeyStore | None, overlap_minutes: int, clock: Clock
    ) -> None:
        prefix = reader_prefix(acquirer)
        self._store = store
        self._versions = KeyVersions(store, prefix, Usage.READER, overlap_minutes, clock)

    def refused(self, frame: Frame) -> RefusedReason | None:
        """Why a frame is not its device's own; None for one that is."""
        mac = self.mac(frame.head, frame.signed)
        if mac == NO_MAC:
            return RefusedReason.UNKNOWN_KEY
        return None if hmac.compare_digest(mac, frame.mac) else RefusedReason.MAC_WRONG

    def mac(self, head: Head, signed: bytes) -> bytes:
        """The MAC under the key of a device; NO_MAC where its key version does not hold."""
        key = self._versions.of(head.key_version)
        if key is None or self._store is None:
            return NO_MAC
        try:
            return self._store.derived_mac(key, READER_LABEL, head.device.encode("ascii"), signed)
        except KeyStoreError:
            return NO_MAC


class ChipKeys:
    """Tells whether chips of ours made the records that are uploaded."""

    def __init__(self, store: KeyStore | None, overlap_minutes: int, clock: Clock) -> None:
        self._store = store
        self._versions = KeyVersions(store, TAC_PREFIX, Usage.TAC, overlap_minutes, clock)

    def verdict(self, record: OfflineRecord) -> ChipVerdict:
        """GENUINE under the newest key, OLD_KEY under the one before it, WRONG else."""
        key = self._versions.of(record.tac_key_version)
        if key is None or self._store is None:
            return ChipVerdict.WRONG
        try:
            tac = self._store.tac(key, record.medium, covered_by_tac(record))
        except (KeyStoreError, EncodeError):
            return ChipVerdict.WRONG
        if not hmac.compare_digest(tac, record.tac):
            return ChipVerdict.WRONG
        newest = record.tac_key_version == self._versions.newest
        return ChipVerdict.GENUINE if newest else ChipVerdict.OLD_KEY


def _version(label: str, prefix: str) -> int:
    """The version in a label of this prefix; 0 where it is no such label."""
    start, _, number = label.rpartition("/")
    if start != prefix or not (number.isascii() and number.isdecimal()) or len(number) > 3:
        return 0
    return int(number) if int(number) <= VERSION_MAX else 0
