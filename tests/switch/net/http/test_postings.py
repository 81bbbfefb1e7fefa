"""What a request is told apart by: never by a hash from which a card number could be guessed."""

from __future__ import annotations

from protocols.bills.api import PaymentAsked, RefundAsked, SaleAsked
from protocols.card_number import CardNumber, numbered_card
from switch.ledger.cards import medium_of
from switch.net.http.postings import content_hash, named_by_medium

KEY = bytes(range(32))
CARD = numbered_card("621234", 7)


def _medium(card: CardNumber, key: bytes = KEY) -> bytes:
    return medium_of(card, key)


def test_what_is_hashed_names_the_card_by_its_medium() -> None:
    number, medium = CARD.reveal(), _medium(CARD).hex()
    asked = (
        PaymentAsked("0" * 32, 700, number),
        SaleAsked("cinema", "CINEMA1", "T1", 700, number),
        RefundAsked(700, number),
    )
    for one in asked:
        hashed = named_by_medium(one, _medium)
        assert number.encode() not in hashed
        assert medium.encode() in hashed
        other = named_by_medium(one, lambda card: medium_of(card, bytes(32)))
        assert content_hash(hashed) != content_hash(other), "who has no key cannot guess it"
    by_medium = named_by_medium(RefundAsked(700, medium), _medium)
    assert by_medium == named_by_medium(RefundAsked(700, number), _medium), "one card, one content"
