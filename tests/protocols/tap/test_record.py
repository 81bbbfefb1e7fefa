"""A record of a chip's purse: 56 bytes, each in its place, and what proves a batch."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError
from protocols.tap.record import (
    BatchProof,
    batch_digest,
    batch_total_minor,
    read_record,
    record_digest,
    write_record,
)
from protocols.tap.words import OfflineRecord

RECORD = OfflineRecord(
    bytes(range(16)), 0x0102, 0x030405, 200, 6, "3604866000AF", "20261122180509", 7, b"tac.", 2,
    "S01",
)  # fmt: skip
OCTETS = bytes.fromhex(
    "000102030405060708090a0b0c0d0e0f"  # medium
    "0102 030405 000000c8 06 3604866000af 20261122180509"  # the chip's own 23 bytes
    "00000007 7461632e 02 5330312020202020"  # transaction number, TAC, key version, stop
)


def test_every_byte_has_its_place():
    assert len(OCTETS) == 56
    assert write_record(RECORD) == OCTETS
    assert read_record(OCTETS) == RECORD


@given(drawn=st.data())
def test_records_are_read_as_written(spoken, drawn):
    record = drawn.draw(spoken.records)
    assert read_record(write_record(record)) == record


@given(st.binary(min_size=50, max_size=60))
def test_any_bytes_are_one_record_or_refused(octets):
    try:
        assert write_record(read_record(octets)) == octets
    except DecodeError:
        pass


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", 2),
        ("counter", 65_536),
        ("overdraft_minor", 1 << 24),
        ("amount_minor", -1),
        ("terminal", "36048660000"),
        ("terminal", "3604866000af"),
        ("terminal", "36048660 0AF"),
        ("local_at", "20260229000000"),
        ("local_at", "19991231235959"),
        ("local_at", "20261122240000"),
        ("local_at", "20261122006000"),
        ("local_at", "2026112200000"),
        ("local_at", "2026112200000A"),
        ("tac", b"tac"),
        ("medium", bytes(15)),
        ("stop", "NINELETTE"),
        ("stop", None),
    ],
)
def test_what_is_no_record_is_not_written(name, value):
    with pytest.raises(EncodeError) as error:
        write_record(msgspec.structs.replace(RECORD, **{name: value}))
    assert error.value.field_path == name


@pytest.mark.parametrize("local_at", ["2026022a000000", "20260230000000", "20261122235960"])
def test_a_time_that_is_none_is_refused_where_it_stands(local_at):
    with pytest.raises(DecodeError, match="local_at at byte 32"):
        read_record(OCTETS[:32] + bytes.fromhex(local_at) + OCTETS[39:])


def test_a_digest_is_of_all_that_a_record_says():
    changes = {
        "medium": bytes(16), "counter": 1, "overdraft_minor": 0, "amount_minor": 201, "type": 9,
        "terminal": "3604866000AE", "local_at": "20261122180508", "transaction_number": 8,
        "tac": b"TAC.", "tac_key_version": 1, "stop": "S02",
    }  # fmt: skip
    assert set(changes) == set(OfflineRecord.__struct_fields__)
    others = {
        record_digest(msgspec.structs.replace(RECORD, **{name: value}))
        for name, value in changes.items()
    }
    assert len(others | {record_digest(RECORD)}) == len(changes) + 1
    assert len(record_digest(RECORD)) == 8


def test_a_batch_is_proven_by_count_total_and_digest():
    other = msgspec.structs.replace(RECORD, amount_minor=300)
    proof = BatchProof()
    proof.add((RECORD,))
    proof.add((other,))
    assert (proof.count, proof.total_minor) == (2, 500)
    assert proof.digest == batch_digest([RECORD, other])
    assert proof.digest == hashlib.sha256(OCTETS + write_record(other)).digest()
    assert batch_total_minor([RECORD, other]) == 500
    assert BatchProof().digest == hashlib.sha256(b"").digest()
