"""Whose card it is, by its first digits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocols.card_number import CardNumber, numbered_card
from switch.net.upstream.route_table import RouteTable

BINS = st.text("0123456789", min_size=4, max_size=8)


def test_the_longest_bin_wins():
    table = RouteTable({"6228": "city-b", "622848": "city-c", "62284801": "city-d"})
    assert table.route_of(numbered_card("62289", 1)) == "city-b"
    assert table.route_of(numbered_card("6228489", 1)) == "city-c"
    assert table.route_of(numbered_card("62284801", 1)) == "city-d"


def test_other_cards_are_ours():
    assert RouteTable({"622848": "city-b"}).route_of(numbered_card("621234", 1)) == ""
    assert RouteTable({}).route_of(numbered_card("621234", 1)) == ""


@given(st.dictionaries(BINS, st.sampled_from(["city-b", "city-c"])), st.integers(0, 10**15))
def test_it_agrees_with_trying_every_bin(routes, number):
    digits = f"{number:016}"
    fitting = [bin for bin in routes if digits.startswith(bin)]
    expected = routes[max(fitting, key=len)] if fitting else ""
    assert RouteTable(routes).route_of(CardNumber(digits)) == expected
