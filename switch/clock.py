"""The one place that reads the time, so that everything else can be told it.

Wall time (epoch microseconds) names when something happened; monotonic time (nanoseconds)
measures budgets. They are never compared with one another.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What may be asked about the time."""

    def now_us(self) -> int:
        """Wall time: microseconds since 1970 in UTC. It may step when the host is adjusted."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds since an unknown moment; never goes back. Deadlines are made of it."""
        ...


class SystemClock:
    """The clocks of this machine."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()
