"""Working keys of one link: made, wrapped for the ledger and for the peer, and taken apart.

The zone key's algorithm decides theirs, because a weaker key must not protect a stronger
one: TDES gives an X9.19 MAC key and format 0 PIN blocks, AES gives AES-CMAC and format 4.
"""

from __future__ import annotations

import msgspec

from switch.config_types import MacMethod
from switch.keystore import key_block
from switch.keystore.seam import Algorithm, KeyHandle, KeyStore, KeyStoreError, Usage
from switch.keystore.software import STORAGE_LABEL

ALGORITHM_OF: dict[MacMethod, Algorithm] = {"x9.19": Algorithm.TDES, "aes_cmac": Algorithm.AES}


def zone_label(link: str) -> str:
    """The label of the zone key of a link or upstream."""
    return f"zone/{link}"


def algorithm_for(method: MacMethod) -> Algorithm:
    """The algorithm of a link's zone key, from its MAC method; TDES where it has none."""
    return ALGORITHM_OF.get(method, Algorithm.TDES)


class WorkingKeys(msgspec.Struct, frozen=True):
    """The keys of one exchange as handles; a link without MAC has a PIN key only."""

    mac: KeyHandle | None
    pin: KeyHandle | None

    @property
    def all(self) -> list[KeyHandle]:
        return [key for key in (self.mac, self.pin) if key is not None]


def zone_key(store: KeyStore, link: str, method: MacMethod) -> KeyHandle:
    """The zone key of a link. Raises KeyStoreError where there is none that fits the MAC."""
    zone = store.find(zone_label(link))
    if zone is None:
        raise KeyStoreError(
            f"link {link} has no zone key; run citycard keys zone install --link {link}"
        )
    if method != "none" and zone.algorithm is not algorithm_for(method):
        raise KeyStoreError(
            f"the zone key of link {link} is {zone.algorithm.value} and its MAC is {method}; "
            f"install one that is {algorithm_for(method).value}"
        )
    return zone


def make(store: KeyStore, link: str, method: MacMethod) -> WorkingKeys:
    """New working keys of a link, in memory only. Raises KeyStoreError."""
    algorithm = zone_key(store, link, method).algorithm
    return WorkingKeys(
        None if method == "none" else store.generate(Usage.MAC, algorithm),
        store.generate(Usage.PIN, algorithm),
    )


def for_peer(store: KeyStore, link: str, method: MacMethod, keys: WorkingKeys) -> str:
    """The keys under the zone key: TR-31 blocks, MAC key first, one after the other."""
    zone = zone_key(store, link, method)
    return "".join(store.export_block(key, zone) for key in keys.all)


def from_peer(store: KeyStore, link: str, method: MacMethod, text: str) -> WorkingKeys:
    """The keys that a peer made, under the zone key. Raises KeyStoreError."""
    zone = zone_key(store, link, method)
    found: dict[Usage, KeyHandle] = {}
    for block in key_block.split(text):
        usage = _usage_of(block)
        if usage in found:
            raise KeyStoreError("there are two key blocks of one usage; send each key once")
        found[usage] = store.import_block(block, zone, usage)
    keys = WorkingKeys(None if method == "none" else found.get(Usage.MAC), found.get(Usage.PIN))
    if not keys.all or (keys.mac is None and method != "none"):
        raise KeyStoreError("the key blocks hold no MAC key; send one for each usage")
    return keys


def wrapped(store: KeyStore, link: str, keys: WorkingKeys) -> list[tuple[str, str, str]]:
    """Usage, block and check value of each key as the ledger keeps it: bound to its link."""
    storage = storage_key(store)
    return [(key.usage.value, store.export_block(key, storage, link), key.kcv) for key in keys.all]


def _usage_of(block: str) -> Usage:
    """What a block says in clear that its key is for; `import_block` proves it."""
    return Usage.PIN if block[5:7] == "P0" else Usage.MAC


def storage_key(store: KeyStore) -> KeyHandle:
    """What working keys are wrapped under in the ledger. Raises KeyStoreError."""
    storage = store.find(STORAGE_LABEL)
    if storage is None:
        raise KeyStoreError("the key store has no storage key; run citycard keys init")
    return storage
