"""What happens on connections because time passes: one look a second for all of them."""

from __future__ import annotations

from collections.abc import Collection

import anyio

from switch.clock import Clock
from switch.net.conversation import Conversation
from switch.net.limits import NANOSECONDS, LinkLimits

SWEEP_SECONDS = 1.0


async def sweep(
    open_connections: Collection[Conversation],
    limits: LinkLimits,
    clock: Clock,
    interval_seconds: float = SWEEP_SECONDS,
) -> None:
    """Cut idle and dawdling connections, and let the others do what is due.

    Runs until cancelled.
    """
    while True:
        await anyio.sleep(interval_seconds)
        now_ns, now_us = clock.monotonic_ns(), clock.now_us()
        for connection in list(open_connections):
            look_at(connection, limits, now_ns, now_us)


def look_at(connection: Conversation, limits: LinkLimits, now_ns: int, now_us: int) -> None:
    """One look at one connection; what is asked of it waits for no timer but the next look."""
    begun_ns = connection.frame_begun_ns
    if begun_ns and now_ns - begun_ns > limits.first_frame_seconds * NANOSECONDS:
        connection.cut("slow_frame")
    elif now_ns - connection.last_byte_ns > limits.idle_seconds * NANOSECONDS:
        connection.cut("idle")
    else:
        connection.attend(now_ns, now_us)
