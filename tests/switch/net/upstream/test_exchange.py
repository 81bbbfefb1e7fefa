"""The table of what becomes of a row, and that the book agrees with it."""

from __future__ import annotations

from switch.ledger.forwarding import TURNS, ForwardState
from switch.net.upstream.exchange import ROW_STATES, Verdict


def test_every_verdict_but_waiting_has_its_end():
    without_posting = {verdict for verdict, stands in ROW_STATES if not stands}
    assert without_posting == set(Verdict) - {Verdict.WAITING}


def test_only_an_approval_can_stand():
    assert {verdict for verdict, stands in ROW_STATES if stands} == {Verdict.APPROVED}


def test_a_sent_request_can_become_whatever_an_exchange_ends_in():
    for state in ROW_STATES.values():
        assert ForwardState.SENT in TURNS[state]


def test_nothing_is_turned_back():
    final = {ForwardState.DECLINED, ForwardState.REVERSED, ForwardState.GIVEN_UP}
    assert not any(final & before for before in TURNS.values())
