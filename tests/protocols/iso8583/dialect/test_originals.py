"""What a message says of its original is the key that the original itself had."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import FieldValue, Message, decode, encode
from protocols.iso8583.client import (
    Dialect,
    Sale,
    adjustment_message,
    cancel_message,
    completion_message,
    inquiry_message,
    load_confirmation_message,
    load_message,
    offline_sale_message,
    preauthorization_message,
    refund_message,
    reversal_message,
    sale_message,
    void_message,
)
from protocols.iso8583.dialect import read
from protocols.iso8583.elements import OriginalElements, original_text
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind, OriginalReference, Outcome, Refusal, Request, Segment

NOW = datetime(2026, 11, 22, 18, 5, 9)
LATER = datetime(2026, 11, 23, 0, 0, 1)
CARD = numbered_card("620000", 12_345)
SALE = Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000")
RRN, CODE = "632618000417", "A1B2C3"
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii", **changes: object) -> LinkTerms:
    agreed = LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))
    return msgspec.structs.replace(agreed, **changes)


def understood(message: Message, agreed: LinkTerms) -> Request:
    """Over the wire and back, then read."""
    heard = decode(agreed.dialect, encode(agreed.dialect, message))
    request = read(agreed, heard, 1)
    assert isinstance(request, Request), request
    return request


def original(message: Message, agreed: LinkTerms) -> OriginalReference:
    reference = understood(message, agreed).original
    assert reference is not None
    return reference


def without_clock(message: Message) -> Message:
    return Message(message.mti, {n: v for n, v in message.fields.items() if n not in (12, 13)})


def plain_messages(dialect: Dialect, sale: Sale) -> list[Message]:
    """Every message that stands for itself."""
    return [
        sale_message(dialect, sale),
        preauthorization_message(dialect, sale),
        inquiry_message(dialect, sale),
        offline_sale_message(dialect, sale),
        load_message(dialect, sale, purse="TRN"),
    ]


def linked_messages(dialect: Dialect, sale: Sale, **about: str) -> list[tuple[Message, Message]]:
    """Every message about another, and that other."""
    paid, set_aside, load = (
        sale_message(dialect, sale),
        preauthorization_message(dialect, sale),
        load_message(dialect, sale),
    )
    completed = completion_message(dialect, set_aside, stan=501, local_at=LATER, **about)
    return [
        (void_message(dialect, paid, stan=502, local_at=LATER, **about), paid),
        (refund_message(dialect, paid, stan=503, local_at=LATER, **about), paid),
        (cancel_message(dialect, set_aside, stan=504, local_at=LATER, **about), set_aside),
        (completed, set_aside),
        (void_message(dialect, completed, stan=505, local_at=LATER, **about), completed),
        (
            adjustment_message(dialect, paid, total_minor=9, stan=506, local_at=LATER, **about),
            paid,
        ),
        (load_confirmation_message(dialect, load, stan=507, local_at=LATER, **about), load),
    ]


# ---- reversals -----------------------------------------------------------------------------

MATCH_KEYS = (
    ("acquirer", "terminal", "stan", "local_at", "message_class"),
    ("terminal", "stan", "local_at"),
    ("acquirer", "terminal", "merchant", "stan"),
)


@both
@settings(max_examples=60, deadline=None)
@given(sample=st.data())
def test_a_reversal_names_the_key_of_whatever_it_reverses(
    dialect: Dialect, sample: st.DataObject
) -> None:
    draw = sample.draw
    sale = msgspec.structs.replace(
        SALE,
        stan=draw(st.integers(0, 999_999)),
        local_at=draw(st.datetimes(datetime(2026, 1, 1), datetime(2028, 12, 31))),
        terminal=draw(st.text("AZ09", min_size=1, max_size=8)),
    )
    by_class = {"02": MATCH_KEYS[2]} if draw(st.booleans()) else {}
    agreed = terms(
        dialect, match_key=draw(st.sampled_from(MATCH_KEYS)), match_key_by_class=by_class
    )
    linked = [message for message, _ in linked_messages(dialect, sale, rrn=RRN, auth_code=CODE)]
    reversed_message = draw(st.sampled_from(plain_messages(dialect, sale) + linked))
    if dialect == "unionpay_pos" and draw(st.booleans()):
        reversed_message = without_clock(reversed_message)
    reversal = reversal_message(
        dialect,
        reversed_message,
        stan=draw(st.integers(0, 999_999)),
        repeat=draw(st.booleans()),
        mti=draw(st.sampled_from(["0400", "0420"])),
    )
    request = understood(reversal, agreed)
    reversed_request = understood(reversed_message, agreed)
    assert request.kind is Kind.REVERSAL
    assert request.original is not None
    assert request.original.key == reversed_request.key
    assert request.key != reversed_request.key


@both
@pytest.mark.parametrize("position", range(7))
def test_a_reversal_of_a_linked_message_gives_no_number_of_the_one_before(
    dialect: Dialect, position: int
) -> None:
    """Or it would find the sale where only the void should be taken back."""
    linked = linked_messages(dialect, SALE, rrn=RRN, auth_code=CODE)[position][0]
    assert linked.text(37) == RRN
    reversal = reversal_message(dialect, linked, stan=600)
    reversal.fields[37], reversal.fields[38] = RRN, CODE
    reference = original(reversal, terms(dialect))
    assert reference.key
    assert (reference.rrn, reference.auth_code) == ("", "")


@both
def test_a_reversal_of_a_sale_gives_its_numbers(dialect: Dialect) -> None:
    reversal = reversal_message(dialect, SALE, stan=600)
    reversal.fields[37], reversal.fields[38] = RRN, CODE
    reference = original(reversal, terms(dialect))
    assert (reference.rrn, reference.auth_code, reference.mmdd) == (RRN, CODE, "1122")


def test_without_de90_a_reversal_repeats_its_original() -> None:
    """Domain §4.1: by DE90, or by (11, 12, 13, 41, 42)."""
    sale = sale_message("iso87_ascii", SALE)
    preauthorization = preauthorization_message("iso87_ascii", SALE)
    for message in (sale, preauthorization):
        reversal = Message("0400", dict(message.fields))
        key = understood(message, terms()).key
        assert original(reversal, terms()).key == key


def test_what_repeats_may_be_a_preauthorization_or_its_completion_must_be_named() -> None:
    completion = completion_message(
        "iso87_ascii", preauthorization_message("iso87_ascii", SALE), stan=501, local_at=LATER
    )
    del completion.fields[90]
    completion.fields[37], completion.fields[38] = RRN, CODE
    refusal = read(terms(), Message("0400", completion.fields), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.MALFORMED, "DE90")


# ---- DE95 ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("replacement_minor", "stands"), [(0, 0), (1, 1), (1_839, 1_839)])
def test_a_partial_reversal_says_what_shall_stand(replacement_minor: int, stands: int) -> None:
    message = reversal_message("iso87_ascii", SALE, stan=600, replacement_minor=replacement_minor)
    request = understood(message, terms())
    assert (request.replacement_minor, request.amount.amount_minor) == (stands, 1_840)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("0" * 8 + "1840" + "0" * 30, Outcome.INVALID_AMOUNT),
        ("9" * 42, Outcome.INVALID_AMOUNT),
        ("00000000001x" + "0" * 30, Outcome.MALFORMED),
        ("0001", Outcome.MALFORMED),
    ],
)
def test_what_shall_stand_is_less_than_there_was(text: str, outcome: Outcome) -> None:
    message = reversal_message("iso87_ascii", SALE, stan=600)
    message.fields[95] = text
    refusal = read(terms(), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, "DE95")


def test_only_a_reversal_has_replacement_amounts() -> None:
    message = void_message("iso87_ascii", SALE, stan=600, local_at=LATER)
    message.fields[95] = "9" * 42
    assert understood(message, terms()).replacement_minor == 0


# ---- voids, refunds, completions, cancellations, adjustments, confirmations ----------------


@pytest.mark.parametrize("position", range(7))
@pytest.mark.parametrize("numbers", [{}, {"rrn": RRN}, {"rrn": RRN, "auth_code": CODE}])
def test_de90_names_the_key_of_the_original(position: int, numbers: dict[str, str]) -> None:
    message, earlier = linked_messages("iso87_ascii", SALE, **numbers)[position]
    reference = original(message, terms())
    assert reference.key == understood(earlier, terms()).key
    assert reference.mmdd == earlier.text(13)
    assert reference.rrn == numbers.get("rrn", earlier.text(37))
    assert reference.auth_code == numbers.get("auth_code", "")


@pytest.mark.parametrize("position", range(7))
def test_a_terminal_with_a_clock_names_its_original_by_number(position: int) -> None:
    message, earlier = linked_messages("unionpay_pos", SALE, rrn=RRN, auth_code=CODE)[position]
    expected = OriginalReference(rrn=RRN, auth_code=CODE, mmdd=earlier.text(13))
    assert original(message, terms("unionpay_pos")) == expected


def test_a_terminal_without_a_clock_names_its_original_by_batch() -> None:
    agreed = terms("unionpay_pos")
    paid, set_aside = (
        without_clock(sale_message("unionpay_pos", SALE)),
        without_clock(preauthorization_message("unionpay_pos", SALE)),
    )
    at = {"stan": 501, "local_at": LATER}
    completed = completion_message("unionpay_pos", set_aside, **at)  # type: ignore[arg-type]
    advised = completion_message("unionpay_pos", set_aside, advice=True, **at)  # type: ignore[arg-type]
    followed: list[tuple[Callable[..., Message], Message]] = [
        (void_message, paid),
        (refund_message, paid),
        (cancel_message, set_aside),
        (void_message, completed),
        (void_message, advised),
    ]
    for make, earlier in followed:
        message = make("unionpay_pos", earlier, stan=502, local_at=LATER)
        assert 12 not in message.fields
        assert original(message, agreed).key == understood(earlier, agreed).key
    for message in (completed, advised):
        assert original(message, agreed).key == understood(set_aside, agreed).key


REFERENCE = OriginalElements("0200", "000417", "1122180509", "48021000")


@both
@pytest.mark.parametrize("number", ["0" * 12, " " * 12, ""])
def test_without_any_name_a_linked_message_is_malformed(dialect: Dialect, number: str) -> None:
    message = void_message(dialect, SALE, stan=502, local_at=LATER)
    for absent in (37, 38, 61, 90):
        message.fields.pop(absent, None)
    message.fields[37] = number
    refusal = read(terms(dialect), message, 1)
    assert isinstance(refusal, Refusal)
    path = "DE90" if dialect == "iso87_ascii" else "DE37"
    assert (refusal.outcome, refusal.field_path) == (Outcome.MALFORMED, path)


@pytest.mark.parametrize(
    "unusable",
    [
        original_text(msgspec.structs.replace(REFERENCE, local_at="")),
        original_text(msgspec.structs.replace(REFERENCE, local_at="0230180509")),
        original_text(msgspec.structs.replace(REFERENCE, mti="0800")),
        "0" * 42,
        "1" * 41,
        "x" * 42,
    ],
)
@pytest.mark.parametrize("mti", ["0200", "0400"])
def test_an_original_that_cannot_be_is_none(unusable: str, mti: str) -> None:
    """Then the number must do; a reversal of a void has none that may be taken."""
    message = Message(mti, void_message("iso87_ascii", SALE, stan=502, local_at=LATER).fields)
    message.fields[90], message.fields[37] = unusable, RRN
    answer = read(terms(), message, 1)
    if mti == "0200":
        assert isinstance(answer, Request)
        assert answer.original == OriginalReference(rrn=RRN)
    else:
        assert isinstance(answer, Refusal)
        assert (answer.outcome, answer.field_path) == (Outcome.MALFORMED, "DE90")


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"acquirer": "48021001"}, Outcome.TERMINAL_NOT_PERMITTED),
        ({"mti": "0400"}, Outcome.UNSUPPORTED),
    ],
)
def test_some_originals_are_not_taken(changes: dict[str, str], outcome: Outcome) -> None:
    message = reversal_message("iso87_ascii", SALE, stan=600)
    message.fields[90] = original_text(msgspec.structs.replace(REFERENCE, **changes))
    refusal = read(terms(), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, "DE90")


def test_an_original_may_leave_its_acquirer_out() -> None:
    message = reversal_message("iso87_ascii", SALE, stan=600)
    named = original(message, terms()).key
    message.fields[90] = original_text(msgspec.structs.replace(REFERENCE, acquirer=""))
    assert original(message, terms()).key == named


def test_a_reference_of_a_batch_may_lack_its_date() -> None:
    fields: dict[int, FieldValue] = dict(
        void_message(
            "unionpay_pos", without_clock(sale_message("unionpay_pos", SALE)), stan=502,
            local_at=LATER, auth_code=CODE,
        ).fields
    )  # fmt: skip
    whole = original(Message("0200", fields), terms("unionpay_pos"))
    dateless = original(Message("0200", fields | {61: str(fields[61])[:12]}), terms("unionpay_pos"))
    assert (whole.mmdd, dateless.mmdd) == ("1123", "")
    assert dateless.key == whole.key
    short = original(Message("0200", fields | {61: "000001"}), terms("unionpay_pos"))
    assert short == OriginalReference(auth_code=CODE)
