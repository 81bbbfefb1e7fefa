"""Master keys by version: the newest holds, the one before it for the overlap, others do not."""

from __future__ import annotations

import msgspec
import pytest

from protocols.message import ChipVerdict
from switch.clock import SystemClock
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore, check_value, make_store
from switch.net.tap.device_keys import ChipKeys, KeyVersions

MINUTE_US = 60_000_000


class Clock(SystemClock):
    shift_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_us

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.shift_us * 1000


@pytest.fixture
def store(tmp_path) -> SoftwareKeyStore:
    assert make_store(tmp_path / "key_store.json", SystemClock())
    return SoftwareKeyStore(tmp_path / "key_store.json", SystemClock())


def test_the_newest_holds_and_the_one_before_it_for_the_overlap(store):
    clock = Clock()
    for version in (1, 2, 3):
        store.generate(Usage.READER, Algorithm.AES, f"reader/48/{version}")
    for label in ("reader/48/x", "reader/48/999", "reader/49/4", "reader/48"):
        store.generate(Usage.READER, Algorithm.AES, label)
    store.generate(Usage.TAC, Algorithm.AES, "reader/48/9")
    versions = KeyVersions(store, "reader/48", Usage.READER, 60, clock)

    def holding() -> list[int]:
        return [number for number in range(11) if versions.of(number) is not None]

    assert holding() == [2, 3]
    assert versions.newest == 3
    clock.shift_us = 61 * MINUTE_US
    assert holding() == [3]
    store.generate(Usage.READER, Algorithm.AES, "reader/48/10")
    clock.shift_us += 2_000_000
    # the new one was installed an hour ago for this clock
    assert holding() == [10]


def test_without_a_store_or_its_file_nothing_new_holds(store, tmp_path):
    assert KeyVersions(None, "tac", Usage.TAC, 60, Clock()).of(1) is None
    clock = Clock()
    store.generate(Usage.TAC, Algorithm.AES, "tac/1")
    versions = KeyVersions(store, "tac", Usage.TAC, 60, clock)
    assert versions.of(1) is not None
    (tmp_path / "key_store.json").write_text("{")
    clock.shift_us += 2_000_000
    assert versions.of(1) is not None, "what was known goes on holding"


def test_a_tac_is_genuine_under_the_newest_key_old_within_the_overlap_and_else_wrong(
    key_store, record, old_tac
):
    clock = Clock()
    chips = ChipKeys(key_store, 60, clock)
    genuine, old = record(1), record(1, **old_tac)
    assert chips.verdict(genuine) is ChipVerdict.GENUINE
    assert chips.verdict(old) is ChipVerdict.OLD_KEY
    for spoilt in (
        msgspec.structs.replace(genuine, amount_minor=1),
        msgspec.structs.replace(genuine, medium=bytes(16)),
        msgspec.structs.replace(genuine, tac_key_version=1),
        msgspec.structs.replace(old, tac_key_version=2),
        msgspec.structs.replace(genuine, tac_key_version=3),
        msgspec.structs.replace(genuine, terminal="no terminal"),
    ):
        assert chips.verdict(spoilt) is ChipVerdict.WRONG
    clock.shift_us = 61 * MINUTE_US
    assert chips.verdict(old) is ChipVerdict.WRONG
    assert chips.verdict(genuine) is ChipVerdict.GENUINE
    assert ChipKeys(None, 60, clock).verdict(genuine) is ChipVerdict.WRONG


def test_a_key_that_was_replaced_in_the_store_is_the_one_that_holds(store):
    clock = Clock()
    store.generate(Usage.TAC, Algorithm.AES, "tac/1")
    versions = KeyVersions(store, "tac", Usage.TAC, 60, clock)
    before = versions.of(1)
    other = bytes(range(32))
    kcv = check_value(other, Algorithm.AES)
    store.install("tac/1", Usage.TAC, Algorithm.AES, [other], kcv, replace=True)
    clock.shift_us += 2_000_000
    after = versions.of(1)
    assert before is not None
    assert after is not None
    assert (after.kcv, before.kcv != after.kcv) == (kcv, True)
