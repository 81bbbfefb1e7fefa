"""Totals of a settlement, as fields and as a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.iso8583.message import Message
from protocols.iso8583.totals import (
    BatchTotals,
    Totals,
    batch_totals_from,
    batch_totals_text,
    misspelt_total,
    standing,
    totals_fields,
    totals_from,
)

COUNTS, AMOUNTS = st.integers(0, 10**10 - 1), st.integers(0, 10**16 - 1)
BATCHES = st.builds(
    BatchTotals,
    st.integers(0, 999_999_999_999),
    st.integers(0, 999),
    st.integers(0, 999_999_999_999),
    st.integers(0, 999),
)


@given(st.builds(Totals, *[COUNTS, AMOUNTS] * 4))
def test_totals_come_back(totals: Totals) -> None:
    message = Message("0500", totals_fields(totals))
    assert misspelt_total(message) is None
    assert totals_from(message) == totals


def test_a_total_beyond_its_width_is_written_as_the_largest() -> None:
    fields = totals_fields(Totals(credit_count=10**11))
    assert fields[74] == "9" * 10


@given(BATCHES, BATCHES, st.sampled_from("012"))
def test_a_batch_comes_back(domestic: BatchTotals, foreign: BatchTotals, code: str) -> None:
    text = batch_totals_text(domestic, foreign, code)
    assert len(text) == 62
    assert batch_totals_from(text) == (domestic, foreign)
    assert batch_totals_from(text[:31]) == (domestic, BatchTotals())


def test_what_was_given_back_no_longer_stands() -> None:
    totals = Totals(3, 300, 1, 100, 7, 700, 2, 200)
    assert standing(totals) == BatchTotals(500, 5, 200, 2)
    # more given back today than was sold today: a batch has no sign for it
    assert (
        batch_totals_text(standing(Totals(debit_reversal_minor=5)), BatchTotals())[:15] == "0" * 15
    )


@given(st.text(max_size=70))
def test_any_text_is_a_batch_or_not(text: str) -> None:
    batch_totals_from(text)
