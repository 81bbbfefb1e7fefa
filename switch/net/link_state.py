"""In which state a connection is, and what may pass on it: one table, for links and upstreams.

Theory. TCP says that a peer is reachable, not that its host is ready to work: that is said
by sign-on and sign-off (0800 with DE70 001 and 002). Between connecting and sign-on nothing
that moves money passes. A sign-on takes time where working keys have to be made first, and
the side that signs on waits for its answer: that is SIGNING_ON. The side that is going says
so (DRAIN) and goes on answering what was under way; a peer cannot undo that, so DRAINING
leads nowhere. Who had not signed on by then has nothing under way and will be refused. A
peer that signs off stays connected and may sign on again. Losing the connection ends its
state with it: the next connection begins anew, signed off.

A sign-on refused to the peer is no event: nothing changes. Terminals that open a connection
for each transaction do not sign on; on their links (`sign_on = "none"`) a connection is UP
from the beginning, and what single terminals sign on or off for themselves is only answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum


class State(StrEnum):
    """The state of one connection; DOWN is a link without any."""

    DOWN = "down"
    SIGNED_OFF = "signed_off"
    SIGNING_ON = "signing_on"
    UP = "up"
    DRAINING = "draining"


class Event(StrEnum):
    """What happens to a connection."""

    SIGN_ON_RECEIVED = "sign_on_received"
    """The peer signed on and was told yes."""
    SIGN_ON_SENT = "sign_on_sent"
    """We signed on and wait for the answer, or the peer did and waits for its working keys."""
    SIGN_ON_ANSWERED = "sign_on_answered"
    """What SIGN_ON_SENT waited for is there."""
    SIGN_ON_REFUSED = "sign_on_refused"
    """What SIGN_ON_SENT waited for will not come."""
    SIGN_OFF = "sign_off"
    """The peer signed off."""
    DRAIN = "drain"
    """We are going; a peer that had signed on is told."""


_SIGNED_OFF, _SIGNING_ON, _UP, _DRAINING = (
    State.SIGNED_OFF, State.SIGNING_ON, State.UP, State.DRAINING,
)  # fmt: skip
EVENTS = tuple(Event)
TRANSITIONS: Mapping[State, Mapping[Event, State]] = {
    state: dict(zip(EVENTS, following_states, strict=True))
    for state, following_states in {
        # received, sent, answered, refused, sign_off, drain
        _SIGNED_OFF: (_UP, _SIGNING_ON, _SIGNED_OFF, _SIGNED_OFF, _SIGNED_OFF, _SIGNED_OFF),
        _SIGNING_ON: (_UP, _SIGNING_ON, _UP, _SIGNED_OFF, _SIGNED_OFF, _SIGNED_OFF),
        _UP: (_UP, _UP, _UP, _UP, _SIGNED_OFF, _DRAINING),
        _DRAINING: (_DRAINING,) * len(EVENTS),
    }.items()
}
"""Total over the states that a connection can be in. UP stays UP while it signs on again: the
keys of before are still good."""

_BEST_FIRST = (State.UP, State.DRAINING, State.SIGNING_ON, State.SIGNED_OFF)


def initial(sign_on_required: bool) -> State:
    """The state of a fresh connection."""
    return State.SIGNED_OFF if sign_on_required else State.UP


def following(state: State, event: Event) -> State:
    """The state after an event."""
    return TRANSITIONS[state][event]


def takes_requests(state: State) -> bool:
    """Whether what moves money may pass; everything else is refused as LINK_SIGNED_OFF."""
    return state is State.UP or state is State.DRAINING


def best(states: Iterable[State]) -> State:
    """The state of a link by those of its connections; DOWN without any."""
    known = set(states)
    return next((state for state in _BEST_FIRST if state in known), State.DOWN)


def markdown() -> str:
    """The table as it stands in ops/links.md."""
    lines = [
        f"| | {' | '.join(EVENTS)} |",
        f"|---|{'---|' * len(EVENTS)}",
        *(f"| **{state}** | {' | '.join(row.values())} |" for state, row in TRANSITIONS.items()),
    ]
    return "\n".join(lines)
