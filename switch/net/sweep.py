"""What happens on connections because time passes: one look a second for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from protocols.iso8583.dialect import NetworkFunction
from switch.clock import Clock
from switch.net.limits import NANOSECONDS, LinkLimits

if TYPE_CHECKING:
    from switch.net.connection import Connection

SWEEP_SECONDS = 1.0


async def sweep(
    open_connections: set[Connection],
    limits: LinkLimits,
    clock: Clock,
    interval_seconds: float = SWEEP_SECONDS,
) -> None:
    """Cut idle, dawdling and deaf connections, echo on silent ones, and tell the day cut.

    Runs until cancelled.
    """
    while True:
        await anyio.sleep(interval_seconds)
        now_ns, now_us = clock.monotonic_ns(), clock.now_us()
        for connection in list(open_connections):
            look_at(connection, limits, now_ns, now_us)


def look_at(connection: Connection, limits: LinkLimits, now_ns: int, now_us: int) -> None:
    """One look at one connection; what is asked of it waits for no timer but the next look."""
    link, management = connection.link, connection.management
    silent_ns = now_ns - connection.last_byte_ns
    begun_ns = connection.frame_begun_ns
    if begun_ns and now_ns - begun_ns > limits.first_frame_seconds * NANOSECONDS:
        connection.cut("slow_frame")
        return
    if silent_ns > limits.idle_seconds * NANOSECONDS:
        connection.cut("idle")
        return
    for function in management.overdue(now_ns, connection.last_byte_ns):
        link.unanswered(connection, function)
        if function is NetworkFunction.ECHO:
            connection.cut("no_echo")
            return
    if not management.told:
        return
    # Only forwards: a clock that was put back does not bring a day back.
    if link.calendar.business_date(now_us) > management.day:
        connection.ask(NetworkFunction.CUT_OVER)
    echo_idle_ns = link.conduct.echo_idle_seconds * NANOSECONDS
    if echo_idle_ns and silent_ns > echo_idle_ns and not management.asks(NetworkFunction.ECHO):
        connection.ask(NetworkFunction.ECHO)
