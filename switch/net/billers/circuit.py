"""When a biller is left alone: a host that fails every call is not asked until it had a rest.

    CLOSED     every call goes out. `failures_max` failures in a row open the circuit; any
               success begins the count again.
    OPEN       no call goes out for `rest_ns`. Whoever asks is told at once, without waiting
               for a timeout that would only come.
    HALF_OPEN  one call, the probe, goes out; the others are told as if it were open. The
               probe closes the circuit, or opens it for another rest.

What ends after the circuit has changed says nothing about the circuit as it is now, so each
call carries the number of the change it was let out under, and an older one is not heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitEvent(StrEnum):
    """What moves a circuit."""

    SUCCEEDED = "succeeded"
    FAILED_TOO_OFTEN = "failed_too_often"
    """A failure, and the last of as many in a row as the state bears."""
    RESTED = "rested"


CIRCUIT: Mapping[tuple[CircuitState, CircuitEvent], CircuitState] = {
    (CircuitState.CLOSED, CircuitEvent.FAILED_TOO_OFTEN): CircuitState.OPEN,
    (CircuitState.OPEN, CircuitEvent.RESTED): CircuitState.HALF_OPEN,
    (CircuitState.HALF_OPEN, CircuitEvent.SUCCEEDED): CircuitState.CLOSED,
    (CircuitState.HALF_OPEN, CircuitEvent.FAILED_TOO_OFTEN): CircuitState.OPEN,
}
"""Every change there is; whatever is not here changes nothing."""


class Circuit:
    """One biller's circuit. Times are monotonic nanoseconds, told by whoever calls."""

    def __init__(self, failures_max: int, rest_ns: int) -> None:
        self.state = CircuitState.CLOSED
        self._failures_max = failures_max
        self._rest_ns = rest_ns
        self._failures = 0
        self._changes = 0
        self._opened_ns = 0
        self._probing = False

    def let_out(self, now_ns: int) -> int | None:
        """The number to end the call with, or None where the biller is to be left alone."""
        if self.state is CircuitState.OPEN and now_ns - self._opened_ns >= self._rest_ns:
            self._move(CircuitEvent.RESTED, now_ns)
        match self.state:
            case CircuitState.OPEN:
                return None
            case CircuitState.HALF_OPEN:
                if self._probing:
                    return None
                self._probing = True
            case CircuitState.CLOSED:
                pass
        return self._changes

    def succeeded(self, number: int, now_ns: int) -> None:
        """The biller answered this call, whatever it said."""
        if number == self._changes:
            self._failures = 0
            self._move(CircuitEvent.SUCCEEDED, now_ns)

    def failed(self, number: int, now_ns: int) -> None:
        """The biller did not answer this call, or not with words that can be understood."""
        if number != self._changes:
            return
        self._failures += 1
        if self.state is CircuitState.HALF_OPEN or self._failures >= self._failures_max:
            self._move(CircuitEvent.FAILED_TOO_OFTEN, now_ns)

    def given_up(self, number: int, now_ns: int) -> None:
        """Nobody waited for the answer; that tells nothing, but a probe must not stay out."""
        if number == self._changes and self.state is CircuitState.HALF_OPEN:
            self._move(CircuitEvent.FAILED_TOO_OFTEN, now_ns)

    def _move(self, event: CircuitEvent, now_ns: int) -> None:
        state = CIRCUIT.get((self.state, event))
        if state is None:
            return
        self.state = state
        self._changes += 1
        self._failures = 0
        self._probing = False
        if state is CircuitState.OPEN:
            self._opened_ns = now_ns
