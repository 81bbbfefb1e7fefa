"""Who asks, and for how long they wait."""

from __future__ import annotations

import msgspec

MILLISECOND_NS = 1_000_000
RESERVE_NS = 20 * MILLISECOND_NS
"""What a posting leaves of the budget, to write down and say what came of it."""


class Caller(msgspec.Struct, frozen=True):
    """Who asks, through which API, and until when (monotonic nanoseconds)."""

    acquirer: str
    api: str
    received_ns: int
    deadline_ns: int
