"""What leaves for another issuer's host is understood by a switch like this one."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.client import Dialect, forward_message, forward_reversal
from protocols.iso8583.dialect import read
from protocols.iso8583.elements import OriginalElements
from protocols.iso8583.link import LinkTerms
from protocols.message import LINKED_KINDS, Kind, OriginalReference, Request, Segment
from protocols.money import Money

both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
SENT_AT = datetime(2026, 11, 22, 18, 5, 9)
LATER = datetime(2026, 11, 23, 0, 0, 1)
CARD = numbered_card("622848", 7, length=19)
FORWARDABLE = [kind for kind in Kind if kind.value not in (
    "credit_adjustment", "reversal", "hold_expiry", "repeat", "tombstone", "fare", "tap_on",
    "tap_off", "inspect", "offline_fare", "incomplete_fare", "fare_credit", "bill",
    "bill_inquiry")]  # fmt: skip


def terms(dialect: Dialect) -> LinkTerms:
    """Those of the other issuer's host for this switch."""
    return LinkTerms("city-a", dialect, Framing(), "48029999", Segment.RETAIL, 800, ("156",))


def request(kind: Kind, **changes: object) -> Request:
    asked = Request(
        kind=kind,
        segment=Segment.TRANSIT,
        acquirer="48021000",
        link="shops",
        message_class="02",
        card=CARD,
        amount=Money(1_840, "156"),
        terminal="T1",
        merchant="M1",
        mcc="4111",
        stan="000417",
        local_at="000001",
        rrn="",
        entry_mode="071",
        expiry="3012",
        key=bytes(16),
        payload_hash=bytes(8),
        received_ns=1,
        deadline_ns=2,
        purse="TRN" if kind in (Kind.LOAD, Kind.LOAD_PENDING) else "",
        original=OriginalReference(rrn="632618000417", auth_code="A1B2C3")
        if kind in LINKED_KINDS or kind is Kind.LOAD
        else None,
    )
    return msgspec.structs.replace(asked, **changes)


def understood(dialect: Dialect, message: Message) -> Request:
    answer = read(terms(dialect), decode(dialect, encode(dialect, message)), 1)
    assert isinstance(answer, Request), answer
    return answer


@both
@pytest.mark.parametrize("kind", FORWARDABLE)
def test_a_forwarded_request_means_the_same_to_the_host(dialect: Dialect, kind: Kind) -> None:
    asked = request(kind)
    message = forward_message(dialect, asked, acquirer="48029999", stan=31, transmitted_at=SENT_AT)
    heard = understood(dialect, message)
    assert (heard.kind, heard.card, heard.purse) == (kind, CARD, asked.purse)
    assert heard.amount.amount_minor == (0 if kind is Kind.INQUIRY else 1_840)
    assert (heard.stan, heard.local_at, heard.acquirer) == ("000031", "1122180509", "48029999")
    assert (heard.terminal, heard.merchant, heard.mcc) == ("T1", "M1", "4111")
    assert message.text(7) == "1122180509"
    if asked.original is not None:
        assert heard.original is not None
        assert (heard.original.rrn, heard.original.auth_code) == ("632618000417", "A1B2C3")


@both
@pytest.mark.parametrize("kind", FORWARDABLE)
@pytest.mark.parametrize("repeat", [False, True])
def test_a_forwarded_reversal_names_the_key_at_the_host(
    dialect: Dialect, kind: Kind, repeat: bool
) -> None:
    asked = request(kind)
    sent = forward_message(dialect, asked, acquirer="48029999", stan=31, transmitted_at=SENT_AT)
    reversal = forward_reversal(
        dialect, asked, acquirer="48029999", stan=32, transmitted_at=LATER,
        original_stan=31, original_at=SENT_AT, repeat=repeat,
    )  # fmt: skip
    assert reversal.mti == ("0401" if repeat else "0400")
    assert reversal.text(7) == "1123000001"
    heard = understood(dialect, reversal)
    assert heard.kind is Kind.REVERSAL
    assert heard.original is not None
    assert heard.original.key == understood(dialect, sent).key
    assert heard.stan == ("000031" if dialect == "unionpay_pos" else "000032")


@both
def test_a_repeated_reversal_is_the_same_message(dialect: Dialect) -> None:
    def sent(transmitted_at: datetime, repeat: bool) -> Request:
        return understood(
            dialect,
            forward_reversal(
                dialect, request(Kind.PURCHASE), acquirer="48029999", stan=32,
                transmitted_at=transmitted_at, original_stan=31, original_at=SENT_AT,
                repeat=repeat,
            ),
        )  # fmt: skip

    first, again = sent(SENT_AT, False), sent(LATER, True)
    assert (first.key, first.payload_hash) == (again.key, again.payload_hash)


def test_an_original_at_the_host_is_named_to_it() -> None:
    sale = forward_message(
        "iso87_ascii", request(Kind.PURCHASE), acquirer="48029999", stan=31, transmitted_at=SENT_AT
    )
    named = OriginalElements("0200", "000031", "1122180509", "48029999")
    refund = forward_message(
        "iso87_ascii", request(Kind.REFUND), acquirer="48029999", stan=33, transmitted_at=LATER,
        original=named,
    )  # fmt: skip
    reference = understood("iso87_ascii", refund).original
    assert reference is not None
    assert reference.key == understood("iso87_ascii", sale).key
    batch = forward_message(
        "unionpay_pos", request(Kind.REFUND), acquirer="48029999", stan=33, transmitted_at=LATER,
        original=named, repeat=True,
    )  # fmt: skip
    assert (batch.mti, batch.text(61)) == ("0221", "0000010000311122")


@both
def test_an_advice_stays_an_advice(dialect: Dialect) -> None:
    completion = request(Kind.COMPLETION, advice=True)
    message = forward_message(
        dialect, completion, acquirer="48029999", stan=31, transmitted_at=SENT_AT
    )
    assert message.mti == "0220"
    reversal = forward_reversal(
        dialect, completion, acquirer="48029999", stan=32, transmitted_at=LATER, original_stan=31,
        original_at=SENT_AT,
    )  # fmt: skip
    reference = understood(dialect, reversal).original
    assert reference is not None
    assert reference.key == understood(dialect, message).key


@both
def test_a_reversal_of_something_unknown_is_passed_on(dialect: Dialect) -> None:
    asked = request(Kind.REVERSAL)
    reversal = forward_reversal(
        dialect, asked, acquirer="48029999", stan=32, transmitted_at=LATER, original_stan=0,
        original_at=SENT_AT, mti="0420", replacement_minor=40,
    )  # fmt: skip
    heard = understood(dialect, reversal)
    assert heard.original is not None
    assert heard.original.rrn == "632618000417"
    assert heard.replacement_minor == (40 if dialect == "iso87_ascii" else 0)


@pytest.mark.parametrize(
    "asked", [request(Kind.PURCHASE, card=None), request(Kind.HOLD_EXPIRY), request(Kind.REVERSAL)]
)
def test_some_requests_cannot_be_forwarded(asked: Request) -> None:
    with pytest.raises(ValueError, match="; "):
        forward_message("iso87_ascii", asked, acquirer="48029999", stan=31, transmitted_at=SENT_AT)
