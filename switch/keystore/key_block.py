"""TR-31 key blocks (ANSI X9.143): a key wrapped together with what it may be used for.

Version B under a double-length TDES key, D under AES. What psec says of a block that does
not fit may quote parts of it, so nothing of that is passed on.
"""

from __future__ import annotations

import re
import warnings
from typing import NamedTuple

from cryptography.utils import CryptographyDeprecationWarning
from psec import tr31

from switch.keystore.seam import Algorithm, KeyStoreError, Usage

# psec hands double-length keys to triple DES as they are, which is to be spelt otherwise one day
warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning, module="psec")

BLOCK_CHARACTERS_MAX = 512
"""An AES key under AES with a label is 176 characters."""
BLOCKS_MAX = 4
KEY_BYTES = {Algorithm.TDES: 16, Algorithm.AES: 32, Algorithm.HMAC: 32}

EXPORTED = frozenset({Usage.MAC, Usage.PIN, Usage.READER, Usage.TAC})
"""Usages of keys that others need too; the others never leave the store."""

_LABEL = "LB"
_HEADER_CHARACTERS = 16
_BLOCK = re.compile(r"[BD][0-9]{4}[0-9A-Za-z]{11}[ -~]*")


class _Spelling(NamedTuple):
    """Key usage, algorithm and mode of use of a block's header (X9.143, tables 4 to 6)."""

    usage: str
    algorithm: str
    mode: str


_SPELLINGS = {
    (Usage.ZONE, Algorithm.TDES): _Spelling("K0", "T", "B"),
    (Usage.ZONE, Algorithm.AES): _Spelling("K0", "A", "B"),
    (Usage.STORAGE, Algorithm.AES): _Spelling("K1", "A", "B"),
    (Usage.MAC, Algorithm.TDES): _Spelling("M3", "T", "C"),
    (Usage.MAC, Algorithm.AES): _Spelling("M6", "A", "C"),
    (Usage.PIN, Algorithm.TDES): _Spelling("P0", "T", "B"),
    (Usage.PIN, Algorithm.AES): _Spelling("P0", "A", "B"),
    (Usage.PIN_VERIFICATION, Algorithm.HMAC): _Spelling("V0", "H", "C"),
    (Usage.READER, Algorithm.AES): _Spelling("B3", "A", "X"),
    (Usage.TAC, Algorithm.TDES): _Spelling("E6", "T", "X"),
    (Usage.TAC, Algorithm.AES): _Spelling("E6", "A", "X"),
}
_MEANINGS = {
    (spelling.usage, spelling.algorithm): meaning for meaning, spelling in _SPELLINGS.items()
}


class Unwrapped(NamedTuple):
    """What was in a block."""

    key: bytes
    usage: Usage
    algorithm: Algorithm
    label: str

    def __repr__(self) -> str:
        return f"Unwrapped(usage={self.usage.value}, algorithm={self.algorithm.value})"


def may_be(usage: Usage, algorithm: Algorithm) -> bool:
    """Whether there are keys of this algorithm for this usage."""
    return (usage, algorithm) in _SPELLINGS


def wrap(
    key: bytes, usage: Usage, algorithm: Algorithm, label: str, under: bytes, version: Algorithm
) -> str:
    """The block of a key under another, whose algorithm gives the version.

    Raises KeyStoreError where the wrapping key is the weaker of the two.
    """
    if version is Algorithm.TDES and algorithm is not Algorithm.TDES:
        raise KeyStoreError(
            "a TDES key cannot protect a stronger one; install an AES zone key for this link"
        )
    spelling = _SPELLINGS[usage, algorithm]
    header = tr31.Header(
        "B" if version is Algorithm.TDES else "D",
        spelling.usage,
        spelling.algorithm,
        spelling.mode,
        "00",
        "E" if usage in EXPORTED else "N",
    )
    if label:
        header.blocks[_LABEL] = label
    return str(tr31.KeyBlock(under, header).wrap(key))


def unwrap(block: str, under: bytes, version: Algorithm) -> Unwrapped:
    """The key in a block. Raises KeyStoreError and nothing else for any text."""
    opened = _opened(block, under, "B" if version is Algorithm.TDES else "D")
    if opened is None:
        raise KeyStoreError(
            "the key block cannot be read under this key; compare the check values of both sides"
        )
    header, key = opened
    meaning = _MEANINGS.get((header.key_usage, header.algorithm))
    if meaning is None or len(key) != KEY_BYTES[meaning[1]]:
        raise KeyStoreError(
            "the key in the block is of no kind that is used here; "
            "send M3, P0 or E6 of 16 bytes TDES, or M6, P0, B3 or E6 of 32 bytes AES"
        )
    return Unwrapped(key, *meaning, header.blocks.get(_LABEL, ""))


def split(text: str) -> list[str]:
    """The blocks that stand one after the other in a field; each begins with its length.

    Raises KeyStoreError for a text that is no such thing.
    """
    blocks: list[str] = []
    rest = text.rstrip(" ")
    while rest:
        length = int(rest[1:5]) if _BLOCK.fullmatch(rest) else 0
        if not _HEADER_CHARACTERS < length <= min(len(rest), BLOCK_CHARACTERS_MAX):
            raise KeyStoreError("these are no TR-31 key blocks; send version B or D, each whole")
        if len(blocks) == BLOCKS_MAX:
            raise KeyStoreError(f"there are more than {BLOCKS_MAX} key blocks; send fewer")
        blocks.append(rest[:length])
        rest = rest[length:]
    return blocks


def _opened(block: str, under: bytes, version: str) -> tuple[tr31.Header, bytes] | None:
    if len(block) > BLOCK_CHARACTERS_MAX or not block.startswith(version):
        return None
    if not _BLOCK.fullmatch(block):
        return None
    try:
        return tr31.unwrap(under, block)
    except ValueError:
        return None
