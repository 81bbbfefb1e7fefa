"""Every message a terminal makes is encodable and means what its maker's name says."""

from __future__ import annotations

from datetime import datetime

import pytest

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import Message, decode, encode
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
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind, Request, Segment

NOW = datetime(2026, 11, 22, 18, 5, 9)
LATER = datetime(2026, 11, 22, 18, 7, 30)
SALE = Sale(
    numbered_card("620000", 12_345), 40_000, 417, "T0000042", "M0042", NOW, "5542", "48021000"
)
DIALECTS: tuple[Dialect, ...] = ("unionpay_pos", "iso87_ascii")
both = pytest.mark.parametrize("dialect", DIALECTS)


def terms(dialect: Dialect) -> LinkTerms:
    return LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))


def understood(dialect: Dialect, message: Message) -> Request:
    heard = decode(dialect, encode(dialect, message))
    assert heard.fields == message.fields
    request = read(terms(dialect), heard, 1)
    assert isinstance(request, Request), request
    return request


def made(dialect: Dialect, *, repeat: bool) -> list[tuple[Message, str, Kind, int]]:
    """Each message with its type, its kind and its amount."""
    load = load_message(dialect, SALE, purse="TRN")
    completed = completion_message(
        dialect, SALE, stan=418, local_at=LATER, rrn="R1", amount_minor=27_450
    )

    def about(make: object, original: object, **more: object) -> Message:
        message = make(  # type: ignore[operator]
            dialect, original, stan=500, local_at=LATER, rrn="R1", auth_code="A1B2C3",
            repeat=repeat, **more,
        )  # fmt: skip
        assert isinstance(message, Message)
        return message

    return [
        (preauthorization_message(dialect, SALE, repeat=repeat), "0100",
         Kind.PREAUTHORIZATION, 40_000),
        (inquiry_message(dialect, SALE, repeat=repeat), "0200", Kind.INQUIRY, 0),
        (offline_sale_message(dialect, SALE, repeat=repeat), "0220", Kind.OFFLINE_SALE, 40_000),
        (load_message(dialect, SALE, repeat=repeat), "0200", Kind.LOAD_PENDING, 40_000),
        (about(void_message, SALE), "0200", Kind.VOID, 40_000),
        (about(void_message, completed), "0200", Kind.VOID, 27_450),
        (about(refund_message, SALE, amount_minor=5), "0220", Kind.REFUND, 5),
        (about(refund_message, completed), "0220", Kind.REFUND, 27_450),
        (about(cancel_message, SALE), "0100", Kind.PREAUTHORIZATION_CANCEL, 40_000),
        (about(completion_message, SALE, amount_minor=0), "0200", Kind.COMPLETION, 0),
        (about(completion_message, SALE, advice=True), "0220", Kind.COMPLETION, 40_000),
        (about(adjustment_message, SALE, total_minor=7), "0220", Kind.ADJUSTMENT, 7),
        (about(adjustment_message, SALE, total_minor=7, tip=True), "0220", Kind.ADJUSTMENT, 7),
        (about(load_confirmation_message, load), "0220", Kind.LOAD, 40_000),
    ]  # fmt: skip


@both
@pytest.mark.parametrize("repeat", [False, True])
@pytest.mark.parametrize("position", range(14))
def test_what_is_made_is_what_is_understood(dialect: Dialect, repeat: bool, position: int) -> None:
    message, mti, kind, amount_minor = made(dialect, repeat=repeat)[position]
    assert message.mti == mti[:3] + ("1" if repeat else "0")
    assert list(message.fields) == sorted(message.fields)
    request = understood(dialect, message)
    assert (request.kind, request.amount.amount_minor) == (kind, amount_minor)
    assert (request.card, request.terminal, request.mcc) == (SALE.card, "T0000042", "5542")
    first = understood(dialect, made(dialect, repeat=False)[position][0])
    assert (request.key, request.payload_hash) == (first.key, first.payload_hash)


@both
def test_a_load_and_its_confirmation_name_the_purse(dialect: Dialect) -> None:
    load = load_message(dialect, SALE, purse="TRN")
    confirmation = load_confirmation_message(dialect, load, stan=9, local_at=LATER, rrn="R1")
    assert understood(dialect, load).purse == understood(dialect, confirmation).purse == "TRN"


@both
@pytest.mark.parametrize("position", range(14))
@pytest.mark.parametrize("mti", ["0400", "0420"])
def test_anything_can_be_reversed(dialect: Dialect, position: int, mti: str) -> None:
    message = made(dialect, repeat=False)[position][0]
    first = reversal_message(dialect, message, stan=600, mti=mti)
    again = reversal_message(dialect, message, stan=600, mti=mti, repeat=True)
    assert (first.mti, again.mti) == (mti, f"{mti[:3]}1")
    heard, heard_again = understood(dialect, first), understood(dialect, again)
    assert heard.kind is Kind.REVERSAL
    assert heard.original is not None
    assert heard.original.key == understood(dialect, message).key
    assert (heard_again.key, heard_again.payload_hash) == (heard.key, heard.payload_hash)
    assert heard.advice is (mti == "0420")


def test_a_unionpay_reversal_has_no_number_of_its_own() -> None:
    message = reversal_message("unionpay_pos", SALE, stan=600)
    assert message.text(11) == "000417"
    assert 90 not in message.fields


@both
def test_a_sale_and_its_message_are_the_same_original(dialect: Dialect) -> None:
    message = sale_message(dialect, SALE)
    assert reversal_message(dialect, SALE, stan=9) == reversal_message(dialect, message, stan=9)
    assert void_message(dialect, SALE, stan=9, local_at=LATER) == void_message(
        dialect, message, stan=9, local_at=LATER
    )


def test_a_terminal_without_a_clock_follows_up_without_one() -> None:
    message = sale_message("unionpay_pos", SALE)
    for number in (12, 13):
        del message.fields[number]
    void = void_message("unionpay_pos", message, stan=9, local_at=LATER)
    assert 12 not in void.fields
    assert 13 not in void.fields
    assert void.text(61) == "0000010004171122"
    assert 12 not in reversal_message("unionpay_pos", message, stan=9).fields
