"""Reconciliation: what is claimed, what is answered, and when the two are in balance."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.framing import Framing
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.client import Dialect, reconciliation_message
from protocols.iso8583.dialect import (
    ReconciliationRequest,
    Totals,
    read,
    reconciliation_reply,
)
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.totals import batch_totals_from, totals_from
from protocols.message import Outcome, Refusal, Segment

NOW = datetime(2026, 11, 22, 18, 5, 9)
OURS = Totals(1, 840, 0, 0, 7, 12_880, 1, 1_840)
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii") -> LinkTerms:
    return LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))


def asked(dialect: Dialect, totals: Totals | None, mti: str = "0500") -> Message:
    return reconciliation_message(
        dialect, totals, stan=425, local_at=NOW, settlement_mmdd="1122", terminal="T1",
        merchant="M1", acquirer="48021000", mti=mti,
    )  # fmt: skip


@both
@pytest.mark.parametrize("mti", ["0500", "0501", "0520", "0521"])
def test_a_reconciliation_is_understood(dialect: Dialect, mti: str) -> None:
    heard = decode(dialect, encode(dialect, asked(dialect, OURS, mti)))
    # a batch shows what stands, so its claim has no reversals in it
    claimed = OURS if dialect == "iso87_ascii" else Totals(1, 840, 0, 0, 6, 11_040, 0, 0)
    expected = ReconciliationRequest("000425", "1122", claimed, 5_000, 5_000 + 800_000_000)
    assert read(terms(dialect), heard, 5_000) == expected


@both
def test_totals_may_be_asked_for_without_a_claim(dialect: Dialect) -> None:
    message = asked(dialect, None)
    del message.fields[15]
    request = read(terms(dialect), message, 1)
    assert isinstance(request, ReconciliationRequest)
    assert (request.claimed, request.mmdd) == (None, "")
    answer = reconciliation_reply(terms(dialect), message, OURS, NOW, "1123")
    assert (answer.text(39), answer.text(15)) == ("00", "1123")
    assert 66 not in answer.fields
    assert reconciliation_reply(terms(dialect), message, OURS, NOW).text(15) == "1122"
    message.fields[13] = "1121"
    dated = read(terms(dialect), message, 1)
    assert isinstance(dated, ReconciliationRequest)
    assert dated.mmdd == "1121"


@both
@settings(max_examples=50, deadline=None)
@given(sample=st.data())
def test_the_answer_has_our_totals_and_tells_whether_they_are_theirs(
    dialect: Dialect, sample: st.DataObject
) -> None:
    counts, amounts = st.integers(0, 999), st.integers(0, 999_999_999_999)
    totals = st.builds(Totals, counts, amounts, st.just(0), st.just(0),
                       counts, amounts, st.just(0), st.just(0))  # fmt: skip
    ours, theirs = sample.draw(totals), sample.draw(totals)
    claimed = ours if sample.draw(st.booleans()) else theirs
    message = decode(dialect, encode(dialect, asked(dialect, claimed)))
    reply = reconciliation_reply(terms(dialect), message, ours, NOW)
    answer = decode(dialect, encode(dialect, reply))
    balanced = ours == claimed
    assert answer.mti == "0510"
    assert answer.text(39) == ("00" if balanced else "95")
    code = "1" if balanced else "2"
    if dialect == "iso87_ascii":
        assert answer.text(66) == code
        assert totals_from(answer) == ours
    else:
        assert answer.text(48)[30] == answer.text(48)[61] == code
        blocks = batch_totals_from(answer.text(48))
        assert blocks is not None
        assert msgspec.structs.astuple(blocks[0]) == (
            ours.debit_minor, ours.debit_count, ours.credit_minor, ours.credit_count
        )  # fmt: skip


def test_a_batch_of_foreign_cards_is_out_of_balance() -> None:
    message = asked("unionpay_pos", OURS)
    text = message.text(48)
    message.fields[48] = text[:31] + "000000000100" + "001" + text[46:]
    answer = reconciliation_reply(terms("unionpay_pos"), message, OURS, NOW)
    assert answer.text(39) == "95"


def test_a_batch_may_show_domestic_cards_only() -> None:
    message = asked("unionpay_pos", OURS)
    message.fields[48] = message.text(48)[:31]
    answer = reconciliation_reply(terms("unionpay_pos"), message, OURS, NOW)
    assert (answer.text(39), len(answer.text(48))) == ("00", 31)


def test_more_than_a_batch_can_count_is_never_in_balance() -> None:
    many = msgspec.structs.replace(OURS, debit_count=1_500)
    message = asked("unionpay_pos", many)
    answer = reconciliation_reply(terms("unionpay_pos"), message, many, NOW)
    assert (answer.text(48)[12:15], answer.text(39)) == ("999", "95")


def test_a_total_left_out_is_zero() -> None:
    message = asked("iso87_ascii", Totals(debit_count=7, debit_minor=12_880))
    for number in (74, 75, 77, 86, 87, 89):
        del message.fields[number]
    request = read(terms(), message, 1)
    assert isinstance(request, ReconciliationRequest)
    assert request.claimed == Totals(debit_count=7, debit_minor=12_880)


@pytest.mark.parametrize(
    ("dialect", "fields", "outcome", "path"),
    [
        ("iso87_ascii", {11: " " * 6}, Outcome.MALFORMED, "DE11"),
        ("iso87_ascii", {15: "0230"}, Outcome.MALFORMED, "DE15"),
        ("iso87_ascii", {15: "", 13: "1301"}, Outcome.MALFORMED, "DE13"),
        ("iso87_ascii", {32: "48021001"}, Outcome.TERMINAL_NOT_PERMITTED, "DE32"),
        ("iso87_ascii", {88: "x"}, Outcome.MALFORMED, "DE88"),
        ("iso87_ascii", {74: "1" * 11}, Outcome.MALFORMED, "DE74"),
        ("unionpay_pos", {48: "1" * 30}, Outcome.MALFORMED, "DE48"),
        ("unionpay_pos", {48: "x" * 31}, Outcome.MALFORMED, "DE48"),
    ],
)
def test_what_cannot_be_read_is_refused_and_never_in_balance(
    dialect: Dialect, fields: dict[int, str | bytes], outcome: Outcome, path: str
) -> None:
    message = asked(dialect, OURS)
    message.fields.update(fields)
    refusal = read(terms(dialect), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, path)
    if path in ("DE88", "DE74", "DE48"):
        answer = reconciliation_reply(terms(dialect), message, OURS, NOW)
        assert answer.text(39) == "95"
        assert encode(dialect, answer)
