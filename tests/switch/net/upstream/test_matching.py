"""Which answer belongs to which message."""

from __future__ import annotations

import pytest

from protocols.iso8583 import Message
from switch.net.upstream.matching import ENDED_MAX, InFlight, match_key

SENT = Message("0200", {7: "0102030405", 11: "000001", 41: "T0000042"})


def test_an_answer_has_the_key_of_what_it_answers():
    answer = Message("0210", SENT.fields | {39: "00"})
    assert match_key("iso87_ascii", answer) == match_key("iso87_ascii", SENT)


@pytest.mark.parametrize(
    "other",
    [
        Message("0410", SENT.fields),
        Message("0210", SENT.fields | {11: "000002"}),
        Message("0210", SENT.fields | {7: "0102030406"}),
        Message("0210", SENT.fields | {41: "T0000043"}),
    ],
    ids=["class", "stan", "time", "terminal"],
)
def test_anything_else_is_the_answer_to_something_else(other):
    assert match_key("iso87_ascii", other) != match_key("iso87_ascii", SENT)


def test_unionpay_hosts_do_not_repeat_the_transmission_time():
    answer = Message("0210", {11: "000001", 41: "T0000042"})
    assert match_key("unionpay_pos", answer) == match_key("unionpay_pos", SENT)


def test_what_waits_is_never_overwritten():
    in_flight = InFlight[str](2)
    assert in_flight.add(("a",), "first")
    assert not in_flight.add(("a",), "second")
    assert in_flight.end(("a",)) == "first"
    assert in_flight.end(("a",)) is None
    assert in_flight.ended(("a",)) == "first"


def test_it_is_bounded_both_ways():
    in_flight = InFlight[int](1)
    for number in range(ENDED_MAX + 10):
        in_flight.add((str(number),), number)
        assert in_flight.full
        in_flight.end((str(number),))
    assert in_flight.ended(("9",)) is None
    assert in_flight.ended(("10",)) == 10
