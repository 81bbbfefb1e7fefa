"""How a process takes its leave of its peers: told to go, heard out, answered, then closed.

A peer that signed on is told by sign-off and sends nothing more on this connection; what it
sent before it knew is still read and answered. A peer that cannot be told is heard until it
is quiet. Only what goes on for longer than the time given is cut off between two messages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import anyio

from switch.clock import Clock
from switch.net.conversation import Conversation
from switch.net.entrance import Entrance

LOOK_SECONDS = 0.02


async def take_leave(
    links: Iterable[Entrance],
    open_connections: Collection[Conversation],
    clock: Clock,
    seconds: float,
) -> int:
    """Say goodbye on all connections and hear them out, for at most so long.

    Returns how many were still talking then. Afterwards nothing is read any more; what was
    read is being answered.
    """
    for link in links:
        link.leaving = True
    for connection in list(open_connections):
        connection.take_leave()
    with anyio.move_on_after(seconds):
        while any(not connection.draining for connection in open_connections):
            now_ns = clock.monotonic_ns()
            for connection in list(open_connections):
                if connection.is_quiet(now_ns):
                    connection.drain()
            await anyio.sleep(LOOK_SECONDS)
    talking = [connection for connection in open_connections if not connection.draining]
    for connection in talking:
        connection.drain()
    return len(talking)
