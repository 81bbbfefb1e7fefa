"""A request comes back whole from the spool's form, which shows no card number and no PIN."""

from __future__ import annotations

import msgspec
import pytest

from protocols.message import Kind, OriginalReference
from switch.standin.advice import AdviceUnreadable, Sealer
from tests.simulation.model_ledger import purchase
from tests.switch.decide.rides import ride

KEY = bytes(range(32))


@pytest.fixture
def request_() -> object:
    reference = OriginalReference(key=b"k" * 16, rrn="123456789012", mmdd="0331")
    return purchase(3, kind=Kind.REVERSAL, original=reference, replacement_minor=7, pin=b"p" * 16)


def test_a_request_comes_back_without_its_pin(request_):
    body, card = Sealer(KEY).seal(request_)
    assert Sealer(KEY).open(body, card) == msgspec.structs.replace(request_, pin=b"")


def test_a_tap_has_no_number_to_seal_and_comes_back_whole():
    tapped = ride(line="K1", stop="S01", nominal_minor=300)
    body, card = Sealer(KEY).seal(tapped)
    assert card == b""
    assert Sealer(KEY).open(body, card) == tapped


def test_neither_part_shows_the_card_number_or_the_pin(request_):
    body, card = Sealer(KEY).seal(request_)
    digits = request_.card.reveal()
    assert digits.encode() not in body + card
    assert bytes.fromhex(digits) not in body + card
    assert request_.pin not in body


def test_the_same_card_is_sealed_differently_each_time(request_):
    assert Sealer(KEY).seal(request_)[1] != Sealer(KEY).seal(request_)[1]


def test_another_key_and_an_exchanged_row_are_refused_in_a_sentence(request_):
    body, card = Sealer(KEY).seal(request_)
    other_body, _ = Sealer(KEY).seal(msgspec.structs.replace(request_, key=b"other key, 16 by"))
    for sealer, parts in [
        (Sealer(bytes(32)), (body, card)),
        (Sealer(KEY), (other_body, card)),
        (Sealer(KEY), (body, card[:-1])),
        (Sealer(KEY), (body[:-1], card)),
        (Sealer(KEY), (b"", card)),
    ]:
        with pytest.raises(AdviceUnreadable, match="card number key"):
            sealer.open(*parts)
