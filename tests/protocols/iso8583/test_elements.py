"""Elements made of parts: what is written is read back, and what is not one is nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.iso8583.elements import (
    BatchReference,
    OriginalElements,
    account_type_of,
    balances_from,
    balances_text,
    batch_reference_from,
    batch_reference_text,
    digits,
    is_time,
    original_from,
    original_text,
    purse_of_processing_code,
    replacement_from,
    replacement_text,
)
from protocols.message import Balance

AMOUNTS = st.integers(-999_999_999_999, 999_999_999_999)
MOMENTS = st.datetimes().map(lambda at: f"{at:%m%d%H%M%S}")
NUMBERS = st.integers(0, 999_999).map("{:06}".format)


@given(MOMENTS, NUMBERS, st.sampled_from(["0100", "0220"]), st.integers(0, 99_999_999_999))
def test_original_elements_come_back(local_at: str, stan: str, mti: str, acquirer: int) -> None:
    original = OriginalElements(mti, stan, local_at, str(acquirer) if acquirer else "")
    text = original_text(original)
    assert len(text) == 42
    assert original_from(text) == original


@given(NUMBERS, NUMBERS, st.sampled_from(["", "1122", "0229"]))
def test_a_batch_reference_comes_back(batch: str, stan: str, mmdd: str) -> None:
    original = BatchReference(batch, stan, mmdd)
    assert batch_reference_from(batch_reference_text(original)) == original


def test_what_follows_a_batch_reference_is_not_read() -> None:
    assert batch_reference_from("0000010004171122" + "9" * 13) == BatchReference(
        "000001", "000417", "1122"
    )
    assert batch_reference_from("0000010004170230") == BatchReference("000001", "000417")


@given(st.integers(0, 999_999_999_999))
def test_a_replacement_comes_back(replacement_minor: int) -> None:
    text = replacement_text(replacement_minor)
    assert len(text) == 42
    assert replacement_from(text) == replacement_minor


@given(
    st.lists(
        st.builds(Balance, st.sampled_from(["TRN", "GEN"]), AMOUNTS, AMOUNTS),
        max_size=2,
        unique_by=lambda one: one.purse,
    )
)
def test_balances_come_back(balances: list[Balance]) -> None:
    text = balances_text(balances, "156")
    assert len(text) == 40 * len(balances)
    assert balances_from(text) == tuple(balances)


def test_balances_keep_to_the_room_there_is() -> None:
    rich = Balance("GEN", 10**15, -(10**15))
    assert len(balances_text([rich] * 5, "156")) == 120
    assert balances_from(balances_text([rich], "156")) == (
        Balance("GEN", 999_999_999_999, -999_999_999_999),
    )
    assert balances_text([Balance("SUB", 1, 1)], "156") == ""


@pytest.mark.parametrize(("purse", "code"), [("TRN", "210060"), ("GEN", "210000")])
def test_an_account_type_is_a_purse(purse: str, code: str) -> None:
    assert purse_of_processing_code(code) == purse
    assert account_type_of(purse) == code[4:]
    assert account_type_of("") == "00"


@given(st.text(max_size=45))
def test_any_text_is_read_as_something_or_nothing(text: str) -> None:
    for reader in (original_from, batch_reference_from, replacement_from, balances_from):
        reader(text)
    assert is_time(text) is False or len(text) == 6
    digits(text)


@pytest.mark.parametrize("text", ["235960", "240000", "126000", "12345", "１２３４５６", ""])
def test_there_is_no_such_time(text: str) -> None:
    assert not is_time(text)
