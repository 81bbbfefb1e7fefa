"""What a connection may take, how a link is kept, and why a connection ends."""

from __future__ import annotations

import msgspec

NANOSECONDS = 1_000_000_000
ECHO_ANSWER_SECONDS_MIN = 5
"""A host may be slow with an echo though it is quick with sales; never less than this."""


class LinkLimits(msgspec.Struct, frozen=True):
    """What one connection may take; see the configuration's [limits]."""

    connections_max: int
    idle_seconds: int
    first_frame_seconds: int
    unanswered_bytes_max: int


class Conduct(msgspec.Struct, frozen=True):
    """How a link is kept; see `sign_on` and `echo_idle_seconds` of the configuration's links.

    `echo_idle_seconds` 0 is never. Echo, cut-over and sign-off go to peers that signed on:
    a terminal that does not would take them for the answer it waits for.
    """

    sign_on_required: bool = True
    echo_idle_seconds: int = 60


WHY_CLOSED = {
    "peer": "the peer closed it",
    "framing": "frames cannot be told apart or read any more; check framing and dialect",
    "idle": "nothing came for as long as a link may be idle; send echoes (0800)",
    "slow_frame": "a frame was begun and not finished in time; send frames whole",
    "unread_answers": "answers are not being read; read them or open more links",
    "connections_max": "the process has as many connections as it may",
    "no_echo": "an echo was not answered in time; answer the 0800 of the switch",
    "tls": "the TLS handshake failed; check certificates and authority on both sides",
    "drain": "the switch is stopping; connect again",
    "fault": "the switch met a fault of its own on this link",
}
"""A sentence for each of the reasons in the metrics' catalogue."""
