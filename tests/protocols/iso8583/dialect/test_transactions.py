"""The table of transactions: domain §4.1 row by row, and what is in none of its rows."""

from __future__ import annotations

import re

import pytest

from protocols.framing import Framing
from protocols.iso8583 import Message
from protocols.iso8583.client import Dialect
from protocols.iso8583.dialect import read
from protocols.iso8583.dialect.transactions import Transaction, is_linked, transaction_of
from protocols.iso8583.link import LinkTerms
from protocols.message import LINKED_KINDS, Kind, Outcome, Refusal, Request, Segment

UNIONPAY, ISO87 = "unionpay_pos", "iso87_ascii"

# dialect (or both), MTI, DE3, DE25, 60.1, kind
ROWS: list[tuple[str, str, str, str, str, Kind]] = [
    ("", "0200", "310000", "00", "01", Kind.INQUIRY),
    ("", "0100", "310000", "00", "01", Kind.INQUIRY),
    ("", "0100", "030000", "06", "10", Kind.PREAUTHORIZATION),
    ("", "0100", "000000", "06", "10", Kind.PREAUTHORIZATION),
    ("", "0100", "200000", "06", "11", Kind.PREAUTHORIZATION_CANCEL),
    ("", "0200", "000000", "06", "20", Kind.COMPLETION),
    ("", "0220", "000000", "06", "24", Kind.COMPLETION),
    ("", "0120", "000000", "06", "20", Kind.COMPLETION),
    ("", "0200", "200000", "06", "21", Kind.VOID),
    ("", "0200", "000000", "00", "22", Kind.PURCHASE),
    ("", "0100", "000000", "00", "22", Kind.PURCHASE),
    ("", "0200", "000000", "", "", Kind.PURCHASE),
    ("", "0200", "200000", "00", "23", Kind.VOID),
    ("", "0220", "200000", "00", "25", Kind.REFUND),
    (UNIONPAY, "0200", "200000", "00", "25", Kind.REFUND),
    (ISO87, "0200", "200000", "00", "25", Kind.VOID),
    (UNIONPAY, "0220", "000000", "00", "30", Kind.OFFLINE_SALE),
    (UNIONPAY, "0220", "000000", "00", "32", Kind.ADJUSTMENT),
    (UNIONPAY, "0220", "000000", "00", "34", Kind.ADJUSTMENT),
    (ISO87, "0220", "000000", "00", "", Kind.OFFLINE_SALE),
    (ISO87, "0220", "020000", "00", "", Kind.ADJUSTMENT),
    ("", "0200", "210060", "00", "46", Kind.LOAD_PENDING),
    ("", "0220", "210060", "00", "46", Kind.LOAD),
    ("", "0400", "000000", "00", "22", Kind.REVERSAL),
    (UNIONPAY, "0420", "200000", "06", "21", Kind.REVERSAL),
    ("", "0400", "", "", "", Kind.REVERSAL),
]
CASES = [
    (dialect, *row[1:])
    for row in ROWS
    for dialect in (UNIONPAY, ISO87)
    if row[0] in ("", dialect)
]  # fmt: skip


def terms(dialect: Dialect) -> LinkTerms:
    return LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))


def said(mti: str, processing_code: str, condition: str, type_code: str) -> Message:
    fields: dict[int, str | bytes] = {
        2: "6200000000123450",
        4: "000000001840",
        11: "000417",
        12: "180509",
        13: "1122",
        37: "632618000417",
        41: "T0000042",
        42: "M00000000000042",
        49: "156",
    }
    for number, text in ((3, processing_code), (25, condition), (60, type_code)):
        if text:
            fields[number] = text + "000001" if number == 60 else text
    return Message(mti, fields)


@pytest.mark.parametrize(("dialect", "mti", "de3", "de25", "type_code", "kind"), CASES)
def test_a_row_of_the_table(
    dialect: Dialect, mti: str, de3: str, de25: str, type_code: str, kind: Kind
) -> None:
    for repeat in "01":
        message = said(mti[:3] + repeat, de3, de25, type_code)
        request = read(terms(dialect), message, 1)
        assert isinstance(request, Request)
        assert request.kind is kind
        assert request.message_class == mti[:2]
        assert request.advice is (mti[2] == "2")
        linked = kind in LINKED_KINDS or kind is Kind.LOAD
        assert request.linked is linked is is_linked(dialect, message)
        # DE37 is the original's where there is one
        assert request.rrn == ("" if linked else "632618000417")


@pytest.mark.parametrize(
    ("dialect", "mti", "de3", "de25", "type_code", "outcome", "path"),
    [
        (ISO87, "0200", "", "00", "", Outcome.MALFORMED, "DE3"),
        (ISO87, "0200", "010000", "00", "", Outcome.UNSUPPORTED, "DE3"),
        (ISO87, "0200", "020000", "00", "", Outcome.UNSUPPORTED, "DE3"),
        (ISO87, "0100", "210000", "00", "", Outcome.UNSUPPORTED, "DE3"),
        (ISO87, "0220", "310000", "00", "", Outcome.UNSUPPORTED, "DE3"),
        (UNIONPAY, "0220", "020000", "00", "32", Outcome.UNSUPPORTED, "DE3"),
        (ISO87, "0100", "030000", "00", "", Outcome.UNSUPPORTED, "DE25"),
        (ISO87, "0100", "200000", "00", "", Outcome.UNSUPPORTED, "DE25"),
        (ISO87, "0120", "000000", "00", "", Outcome.UNSUPPORTED, "DE25"),
        (ISO87, "0200", "310000", "06", "", Outcome.UNSUPPORTED, "DE25"),
        (ISO87, "0220", "200000", "06", "", Outcome.UNSUPPORTED, "DE25"),
        (ISO87, "0220", "020000", "06", "", Outcome.UNSUPPORTED, "DE25"),
        (UNIONPAY, "0220", "000000", "00", "36", Outcome.UNSUPPORTED, "DE60"),
        (UNIONPAY, "0220", "000000", "00", "", Outcome.UNSUPPORTED, "DE60"),
    ],
)
def test_what_is_in_no_row_is_refused_with_a_remedy(
    dialect: Dialect, mti: str, de3: str, de25: str, type_code: str, outcome: Outcome, path: str
) -> None:
    refusal = read(terms(dialect), said(mti, de3, de25, type_code), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, path)
    assert "; " in refusal.reason
    assert not re.search(r"\d{5}", refusal.reason)


@pytest.mark.parametrize("mti", ["0300", "0500", "0800", "1200", ""])
def test_another_type_is_no_transaction(mti: str) -> None:
    refusal = transaction_of("iso87_ascii", mti, Message(mti, {3: "000000"}))
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.UNSUPPORTED, "mti")
    assert not is_linked("iso87_ascii", Message(mti, {}))


@pytest.mark.parametrize(("account_type", "purse"), [("60", "TRN"), ("00", "GEN"), ("30", "GEN")])
def test_the_account_type_names_the_purse_of_a_load(account_type: str, purse: str) -> None:
    for mti in ("0200", "0220"):
        request = read(terms("iso87_ascii"), said(mti, f"2100{account_type}", "00", ""), 1)
        assert isinstance(request, Request)
        assert request.purse == purse


@pytest.mark.parametrize(
    ("mti", "de3", "de25", "taken"),
    [
        ("0200", "000000", "00", False),
        ("0200", "200000", "00", False),
        ("0220", "200000", "00", False),
        ("0100", "030000", "06", False),
        ("0220", "020000", "00", False),
        ("0200", "210000", "00", False),
        ("0200", "310000", "00", True),
        ("0200", "000000", "06", True),
        ("0400", "000000", "00", True),
    ],
)
def test_only_some_transactions_have_an_amount_of_zero(
    mti: str, de3: str, de25: str, taken: bool
) -> None:
    message = said(mti, de3, de25, "")
    message.fields[4] = "0" * 12
    answer = read(terms("iso87_ascii"), message, 1)
    if taken:
        assert isinstance(answer, Request)
        assert answer.amount.amount_minor == 0
    else:
        assert isinstance(answer, Refusal)
        assert (answer.outcome, answer.field_path) == (Outcome.INVALID_AMOUNT, "DE4")


def test_an_inquiry_needs_neither_amount_nor_currency() -> None:
    message = said("0200", "310000", "00", "")
    del message.fields[4], message.fields[49]
    request = read(terms("iso87_ascii"), message, 1)
    assert isinstance(request, Request)
    assert (request.amount.amount_minor, request.amount.currency) == (0, "156")
    message.fields[49] = "840"
    refusal = read(terms("iso87_ascii"), message, 1)
    assert isinstance(refusal, Refusal)
    assert refusal.outcome is Outcome.CURRENCY_NOT_CONFIGURED


@pytest.mark.parametrize("number", [4, 11, 12, 13, 41, 42, 49, 2])
@pytest.mark.parametrize(
    ("mti", "de3", "de25"), [("0400", "000000", "00"), ("0220", "200000", "00")]
)
def test_a_linked_message_needs_the_fields_of_a_sale(
    mti: str, de3: str, de25: str, number: int
) -> None:
    message = said(mti, de3, de25, "")
    del message.fields[number]
    refusal = read(terms("iso87_ascii"), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.MALFORMED, f"DE{number}")


def test_a_transaction_knows_whether_it_is_about_another() -> None:
    for dialect, mti, de3, de25, type_code, kind in CASES:
        row = transaction_of(dialect, mti, said(mti, de3, de25, type_code))  # type: ignore[arg-type]
        assert isinstance(row, Transaction)
        assert row.linked is (kind in LINKED_KINDS or kind is Kind.LOAD)
