"""A kept request shows no card number, and opens only where it belongs."""

from __future__ import annotations

import os

import msgspec
import pytest

from switch.ledger.sealed_request import NotOurs, RequestSealer
from tests.switch.net.upstream.city import CARD, request

KEY = bytes(32)


def test_it_opens_as_it_was_but_for_the_pin():
    asked = request(1_800, pin=b"0123456789abcdef", rrn="123456789012")
    opened = RequestSealer(KEY, os.urandom).open(RequestSealer(KEY, os.urandom).seal(asked))
    assert opened == msgspec.structs.replace(asked, pin=b"")
    assert opened.card == CARD


def test_neither_card_number_nor_pin_is_in_it():
    octets = RequestSealer(KEY, os.urandom).seal(request(1_800, pin=b"0123456789abcdef"))
    assert CARD.reveal().encode() not in octets
    assert b"0123456789abcdef" not in octets


def test_the_same_card_never_looks_the_same():
    sealer = RequestSealer(KEY, os.urandom)
    assert sealer.seal(request(1)) != sealer.seal(request(1))


@pytest.mark.parametrize("damage", ["key", "octets", "moved", "short"])
def test_what_is_not_ours_is_refused_without_a_word_of_it(damage):
    asked = request(1_800)
    octets = RequestSealer(KEY, os.urandom).seal(asked)
    key = KEY
    match damage:
        case "key":
            key = bytes([1]) * 32
        case "octets":
            octets = octets[:-1] + bytes([octets[-1] ^ 1])
        case "moved":
            octets = octets.replace(asked.key, bytes(16))
        case "short":
            octets = octets[:20]
    with pytest.raises(NotOurs) as refused:
        RequestSealer(key, os.urandom).open(octets)
    assert CARD.reveal() not in str(refused.value)
