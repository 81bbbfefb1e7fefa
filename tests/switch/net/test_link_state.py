"""The table of link states: total, as its theory says, and as it is drawn for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switch.metrics_catalogue import LINK_STATES
from switch.net.link_state import (
    TRANSITIONS,
    Event,
    State,
    best,
    following,
    initial,
    markdown,
    takes_requests,
)

DRAWN_IN = Path(__file__).parents[3] / "ops" / "links.md"


def test_the_table_is_total_over_what_a_connection_can_be_in():
    assert set(TRANSITIONS) == set(State) - {State.DOWN}
    assert all(set(row) == set(Event) for row in TRANSITIONS.values())
    assert all(set(row.values()) <= set(TRANSITIONS) for row in TRANSITIONS.values())


def test_the_metrics_know_every_state():
    assert set(LINK_STATES) == set(State)


def test_the_drawing_is_the_table():
    assert markdown() in DRAWN_IN.read_text("utf-8")


def test_every_state_is_reached_from_the_beginning():
    reached = {initial(True)}
    while True:
        more = reached | {following(state, event) for state in reached for event in Event}
        if more == reached:
            break
        reached = more
    assert reached == set(TRANSITIONS)


SIGNING_ON = (Event.SIGN_ON_RECEIVED, Event.SIGN_ON_ANSWERED)


@given(st.lists(st.sampled_from([event for event in Event if event not in SIGNING_ON])))
def test_nothing_passes_before_a_sign_on(events):
    state = initial(True)
    for event in events:
        state = following(state, event)
        assert not takes_requests(state)


@given(st.lists(st.sampled_from([event for event in Event if event is not Event.DRAIN])))
def test_nothing_passes_after_a_sign_off(events):
    state = initial(True)
    for event in [*events, Event.SIGN_OFF]:
        state = following(state, event)
    assert state is State.SIGNED_OFF
    assert not takes_requests(state)


@given(st.lists(st.sampled_from(Event)))
def test_draining_is_for_good(events):
    state = following(State.UP, Event.DRAIN)
    for event in events:
        state = following(state, event)
    assert state is State.DRAINING


@given(st.lists(st.sampled_from([event for event in Event if event is not Event.DRAIN])))
def test_a_peer_that_signs_on_is_up_whatever_was_before(events):
    state = initial(True)
    for event in events:
        state = following(state, event)
    assert following(state, Event.SIGN_ON_RECEIVED) is State.UP


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        ([], State.DOWN),
        ([State.SIGNED_OFF, State.UP], State.UP),
        ([State.DRAINING, State.SIGNED_OFF], State.DRAINING),
        ([State.SIGNED_OFF, State.SIGNING_ON], State.SIGNING_ON),
    ],
)
def test_a_link_shows_the_best_of_its_connections(states, shown):
    assert best(states) is shown


def test_a_link_without_sign_on_is_up_at_once():
    assert takes_requests(initial(False))
    assert not takes_requests(initial(True))
