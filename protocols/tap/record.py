"""A record of a chip's purse as it is uploaded (56 bytes), and what proves a batch of them.

    medium 16 | counter 2 | overdraft 3 | amount 4 | type 1 | terminal 6 | date and time 7
    | transaction number 4 | TAC 4 | TAC key version 1 | stop 8

The 23 bytes from the counter to the time are the chip's own log record (PBOC e-purse, JR/T
0025.1; domain §2.1): the terminal is 12 hexadecimal characters in text, the date and time
YYYYMMDDhhmmss in BCD and in the terminal's own clock.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from datetime import date

from protocols.tap.layout import Kind, Layout, code, number, octets
from protocols.tap.words import DIGEST_BYTES, MEDIUM_BYTES, OfflineRecord

RECORD_BYTES = 56
RECORD_DIGEST_BYTES = 8
PURCHASE, COMPOUND = 0x06, 0x09
"""Types of a purchase and of a compound purchase; loads are no offline records."""
YEAR_MIN, YEAR_MAX = 2000, 2199


def _checked_type(value: int) -> int:
    if value not in (PURCHASE, COMPOUND):
        raise ValueError
    return value


def _written_overdraft(value: int) -> bytes:
    if not 0 <= value < 1 << 24:
        raise ValueError
    return value.to_bytes(3, "big")


def _written_terminal(value: str) -> bytes:
    raw = bytes.fromhex(value)
    if len(raw) != 6 or raw.hex().upper() != value:
        raise ValueError
    return raw


@functools.lru_cache(maxsize=1_024)
def _checked_date(digits: str) -> None:
    if not YEAR_MIN <= int(digits[:4]) <= YEAR_MAX:
        raise ValueError
    date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))


def _checked_local_at(digits: str) -> None:
    if len(digits) != 14 or not (digits.isascii() and digits.isdecimal()):
        raise ValueError
    _checked_date(digits[:8])
    if digits[8:10] > "23" or digits[10:12] > "59" or digits[12:] > "59":
        raise ValueError


def _read_local_at(raw: bytes) -> str:
    digits = raw.hex()
    _checked_local_at(digits)
    return digits


def _written_local_at(value: str) -> bytes:
    _checked_local_at(value)
    return bytes.fromhex(value)


RECORD = Layout(
    OfflineRecord,
    {
        "medium": octets(MEDIUM_BYTES),
        "counter": number(2),
        "overdraft_minor": Kind(
            "3s",
            "a whole number of 3 bytes",
            lambda raw: int.from_bytes(raw, "big"),
            _written_overdraft,
        ),
        "amount_minor": number(4),
        "type": Kind("B", "06 (purchase) or 09 (compound)", _checked_type, _checked_type),
        "terminal": Kind(
            "6s", "12 hexadecimal characters", lambda raw: raw.hex().upper(), _written_terminal
        ),
        "local_at": Kind(
            "7s", "a date and time, YYYYMMDDhhmmss", _read_local_at, _written_local_at
        ),
        "transaction_number": number(4),
        "tac": octets(4),
        "tac_key_version": number(1),
        "stop": code(8),
    },
)
assert RECORD.size == RECORD_BYTES


def read_record(octets: bytes) -> OfflineRecord:
    """The record that these 56 bytes are. Raises DecodeError."""
    return RECORD.read(octets)


def write_record(record: OfflineRecord) -> bytes:
    """The 56 bytes of a record. Raises EncodeError for what they cannot carry."""
    return RECORD.write(record)


def record_digest(record: OfflineRecord) -> bytes:
    """Names all that a record says (8 bytes, BLAKE2b, RFC 7693, of its 56 bytes).

    The same counter of a card with another digest is another record: a clone or a replay.
    """
    return hashlib.blake2b(
        RECORD.write(record), digest_size=RECORD_DIGEST_BYTES, person=b"citycard-record"
    ).digest()


def batch_digest(records: Iterable[OfflineRecord]) -> bytes:
    """SHA-256 of the bytes of all records of a batch in order (32 bytes)."""
    return hashlib.sha256(b"".join(map(RECORD.write, records))).digest()


def batch_total_minor(records: Iterable[OfflineRecord]) -> int:
    """The sum of what the records of a batch took, in minor units."""
    return sum(record.amount_minor for record in records)


class BatchProof:
    """Adds up a batch as its records come, so that nothing is spelt twice at its end."""

    def __init__(self) -> None:
        self.count = 0
        self.total_minor = 0
        self._sha256 = hashlib.sha256()

    def add(self, records: Iterable[OfflineRecord]) -> None:
        """Take the next records of the batch."""
        for record in records:
            self.count += 1
            self.total_minor += record.amount_minor
            self._sha256.update(RECORD.write(record))

    @property
    def digest(self) -> bytes:
        """SHA-256 of the bytes of what came so far (32 bytes)."""
        digest = self._sha256.digest()
        assert len(digest) == DIGEST_BYTES
        return digest
