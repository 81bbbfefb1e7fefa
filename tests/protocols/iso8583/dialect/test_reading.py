"""The ladder of a sale, rung by rung, and that no fields at all make it raise."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocols.card_number import CardNumber, numbered_card
from protocols.errors import DecodeError
from protocols.framing import Framing
from protocols.iso8583 import SPECS, Message, Spec, decode, encode
from protocols.iso8583.client import (
    Dialect,
    Sale,
    reconciliation_message,
    reversal_message,
    sale_message,
    void_message,
)
from protocols.iso8583.dialect import Totals, read, write
from protocols.iso8583.link import LinkTerms
from protocols.message import (
    LINKED_KINDS,
    Kind,
    Outcome,
    Refusal,
    Reply,
    Request,
    Segment,
)

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
CARD = numbered_card("620000", 12_345)
NOW = datetime(2026, 11, 22, 18, 5, 9)
APPROVED = Reply(Outcome.APPROVED, 1_840, 7, "A1B2C3", "632618000417")
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii", **changes: object) -> LinkTerms:
    agreed = LinkTerms(
        "shops", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",), default_mcc="5999"
    )
    return msgspec.structs.replace(agreed, **changes)


def sale(dialect: Dialect = "iso87_ascii", mti: str = "0200", /, **changes: str | None) -> Message:
    """A sale with fields changed (`de4="…"`) or taken out (`de4=None`)."""
    message = sale_message(
        dialect,
        Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000", mti=mti),
    )
    for name, value in changes.items():
        number = int(name.removeprefix("de"))
        message.fields.pop(number, None)
        if value is not None:
            message.fields[number] = value
    return message


def understood(message: Message, agreed: LinkTerms | None = None, **more: bytes) -> Request:
    request = read(agreed or terms(), message, 5_000, **more)
    assert isinstance(request, Request)
    return request


# ---- sales ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_sale_is_understood(dialect: Dialect, mti: str) -> None:
    request = understood(sale(dialect, mti), terms(dialect))
    assert (request.kind, request.segment, request.link) == (Kind.PURCHASE, Segment.RETAIL, "shops")
    assert (request.acquirer, request.terminal, request.merchant) == (
        "48021000",
        "T0000042",
        "M0042",
    )
    assert request.card == CARD
    assert (request.amount.amount_minor, request.amount.currency) == (1_840, "156")
    assert (request.mcc, request.stan, request.local_at) == ("5411", "000417", "1122180509")
    assert (request.entry_mode, request.expiry) == ("071", "3012")
    assert request.message_class == mti[:2]
    assert (request.received_ns, request.deadline_ns) == (5_000, 5_000 + 800_000_000)
    assert (len(request.key), len(request.payload_hash)) == (16, 8)


def test_the_entered_pin_passes_through_and_a_partial_approval_is_as_agreed() -> None:
    request = understood(sale(), pin=b"0123456789abcdef")
    assert request.pin == b"0123456789abcdef"
    assert not request.partial_allowed
    assert understood(sale(), terms(partial_approval=True)).partial_allowed


def test_what_is_missing_is_taken_from_the_link() -> None:
    request = understood(sale(de18=None, de32=None, de37=None, de22=None, de14=None, de35=None))
    assert (request.mcc, request.acquirer) == ("5999", "48021000")
    assert (request.rrn, request.entry_mode, request.expiry) == ("", "", "")


@pytest.mark.parametrize("separator", ["=", "D"])
def test_track_2_gives_card_and_expiry(separator: str) -> None:
    track = f"{CARD.reveal()}{separator}29012010000"
    request = understood(sale(de2=None, de14=None, de35=track))
    assert (request.card, request.expiry) == (CARD, "2901")
    assert understood(sale(de14=None, de35=track)).expiry == "2901"
    assert understood(sale(de35=track)).expiry == "3012"
    assert understood(sale(de2=None, de14=None, de35=CARD.reveal())).expiry == ""


REFUSED: list[tuple[Message, Outcome, str]] = [
    (Message("0210", {}), Outcome.UNSUPPORTED, "mti"),
    (Message("0410", {}), Outcome.UNSUPPORTED, "mti"),
    (Message("1200", {}), Outcome.UNSUPPORTED, "mti"),
    (Message("0202", {3: "000000"}), Outcome.UNSUPPORTED, "mti"),
    (Message("0240", {3: "000000"}), Outcome.UNSUPPORTED, "mti"),
    (sale(de3="010000"), Outcome.UNSUPPORTED, "DE3"),
    (sale(de3="310000", de41=None), Outcome.MALFORMED, "DE41"),
    *(
        (sale(**{f"de{n}": None}), Outcome.MALFORMED, f"DE{n}")
        for n in (3, 4, 11, 12, 13, 41, 42, 49)
    ),
    (sale(de2=None, de35=None), Outcome.MALFORMED, "DE2"),
    (sale(de41=" " * 8), Outcome.MALFORMED, "DE41"),
    (sale(de2="62000000000"), Outcome.MALFORMED, "DE2"),
    (sale(de2="6200000000x00003"), Outcome.MALFORMED, "DE2"),
    (sale(de2=None, de35="62000=2901"), Outcome.MALFORMED, "DE35"),
    (sale(de12="240000"), Outcome.MALFORMED, "DE12"),
    (sale(de12="236000"), Outcome.MALFORMED, "DE12"),
    (sale(de12="235960"), Outcome.MALFORMED, "DE12"),
    (sale(de13="0230"), Outcome.MALFORMED, "DE13"),
    (sale(de13="0000"), Outcome.MALFORMED, "DE13"),
    (sale(de13="1301"), Outcome.MALFORMED, "DE13"),
    (sale(de32="48021001"), Outcome.TERMINAL_NOT_PERMITTED, "DE32"),
    (sale(de49="840"), Outcome.CURRENCY_NOT_CONFIGURED, "DE49"),
    (sale(de4="000000000000"), Outcome.INVALID_AMOUNT, "DE4"),
    # precedence: what the message is worth, then the terminal, the currency, the amount
    (sale(de13="0230", de32="1", de49="840"), Outcome.MALFORMED, "DE13"),
    (sale(de32="1", de49="840", de4="0" * 12), Outcome.TERMINAL_NOT_PERMITTED, "DE32"),
    (sale(de49="840", de4="0" * 12), Outcome.CURRENCY_NOT_CONFIGURED, "DE49"),
]


@pytest.mark.parametrize(("message", "outcome", "path"), REFUSED)
def test_a_refusal_says_what_and_where(message: Message, outcome: Outcome, path: str) -> None:
    refusal = read(terms(), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, path)
    assert not re.search(r"\d{5}", refusal.reason)


@pytest.mark.parametrize("year", [2027, 2028])
def test_every_day_of_the_calendar_is_a_date(year: int) -> None:
    first = datetime(year, 1, 1)
    for day in range(366 if calendar.isleap(year) else 365):
        understood(sale(de13=f"{first + timedelta(days=day):%m%d}"))


# ---- terminals that leave the clock to the host ------------------------------------------


def test_a_pos_terminal_without_a_clock_is_known_by_its_batch() -> None:
    pos = terms("unionpay_pos")
    first = sale("unionpay_pos", de12=None, de13=None, de60="22000001000600")
    request = understood(first, pos)
    assert request.local_at == "000001"
    assert understood(first, pos).key == request.key
    later = sale("unionpay_pos", de12=None, de13=None, de60="22000002000600")
    assert understood(later, pos).key != request.key
    answer = write(pos, first, APPROVED, NOW)
    assert answer is not None
    assert (answer.fields[12], answer.fields[13]) == ("180509", "1122")


@pytest.mark.parametrize(
    ("dialect", "changes", "path"),
    [
        ("unionpay_pos", {"de12": None, "de13": None, "de60": None}, "DE12"),
        ("unionpay_pos", {"de12": None, "de13": None, "de60": "22"}, "DE12"),
        ("unionpay_pos", {"de12": None}, "DE12"),
        ("unionpay_pos", {"de13": None}, "DE13"),
        ("iso87_ascii", {"de12": None, "de13": None}, "DE12"),
    ],
)
def test_without_clock_and_batch_a_sale_is_malformed(
    dialect: Dialect, changes: dict[str, str | None], path: str
) -> None:
    refusal = read(terms(dialect), sale(dialect, **changes), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.MALFORMED, path)


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_any_decoded_message_is_read_as_a_value(
    dialect: Dialect, any_message: AnyMessage, sample: st.DataObject
) -> None:
    """Fields of a sale replaced by any others the format allows: never an exception."""
    drawn = sample.draw(any_message(SPECS[dialect]))
    mixed = sale(dialect).fields | drawn.fields
    understood_as = read(terms(dialect), Message("0200", mixed), 1)
    assert isinstance(understood_as, Request | Refusal)
    if isinstance(understood_as, Request):
        assert isinstance(understood_as.card, CardNumber)
        assert understood_as.linked is (understood_as.kind in LINKED_KINDS)


_MTIS = [f"0{c}{f}{o}" for c in "124589" for f in "0123" for o in "012"] + ["1200", "٠٢٠٠", ""]


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=300, deadline=None)
@given(sample=st.data())
def test_any_fields_under_any_type_are_read_as_a_value(
    dialect: Dialect, sample: st.DataObject
) -> None:
    """Fields that no codec would give, mixed into a message that would pass: never raises."""
    numbers = [2, 3, 4, 11, 12, 13, 14, 25, 35, 37, 38, 41, 42, 48, 49, 60, 61, 70, 74, 86, 90, 95]
    plausible = ["", "00", "06", "000000", "200000", "210060", "1122", "01000004171122180509" * 3,
                 "000001000417", "000000000000", "156", "25", "30", "0" * 42, "9" * 42]  # fmt: skip
    drawn = sample.draw(
        st.dictionaries(
            st.sampled_from(numbers),
            st.sampled_from(plausible) | st.text(max_size=50) | st.binary(max_size=20),
            max_size=6,
        )
    )
    mti = sample.draw(st.sampled_from(_MTIS))
    fields = {n: value for n, value in (sale(dialect).fields | drawn).items() if value is not None}
    understood_as = read(terms(dialect), Message(mti, fields), 1)
    if isinstance(understood_as, Refusal):
        assert not re.search(r"\d{5}", understood_as.reason)


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=300, deadline=None)
@given(sample=st.data())
def test_any_bytes_that_decode_are_read_and_answered(
    dialect: Dialect, sample: st.DataObject
) -> None:
    """A good message with a few bytes changed on the way."""
    original = sale(dialect)
    message = sample.draw(
        st.sampled_from(
            [
                original,
                reversal_message(dialect, original, stan=9, replacement_minor=7),
                void_message(dialect, original, stan=9, local_at=NOW, rrn="632618000417"),
                reconciliation_message(dialect, Totals(1, 2, 3, 4), stan=9, local_at=NOW),
            ]
        )
    )
    octets = bytearray(encode(dialect, message))
    for _ in range(sample.draw(st.integers(0, 3))):
        octets[sample.draw(st.integers(0, len(octets) - 1))] = sample.draw(st.integers(0, 255))
    try:
        heard = decode(dialect, bytes(octets))
    except DecodeError:
        return
    read(terms(dialect), heard, 1)
    answer = write(terms(dialect), heard, Reply(Outcome.MALFORMED), NOW)
    if answer is not None:
        assert decode(dialect, encode(dialect, answer)).fields == answer.fields
