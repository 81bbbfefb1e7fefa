"""Where the lanes of a process wait for their connections, and share the first one at first.

After an outage each new connection costs the ledger twenty milliseconds of a core: a process of
its own, and the plans of both functions. Eight of them at once would all be slow, and whoever
comes first would wait for all. So one lane knocks for all; what it gets, all lanes of the process
use in turn, and half a second later one after the other moves to a connection of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Protocol

import anyio

from switch.clock import Clock
from switch.ledger.failures import LedgerLost
from switch.posting import Directed, Loaded, Posted, Posting

SHARED_NS = 500_000_000
"""So young a connection is shared: the ledger has just shown that it is there."""


class TimeToMove(LedgerLost):
    """Nothing is lost: a lane has been the guest of another long enough, and must connect."""


class LaneLedger(Protocol):
    """What a lane asks of the ledger; raises LedgerLost and LedgerRefused."""

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]: ...

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]: ...

    def terminate(self) -> None: ...


class Doorstep:
    """What the lanes of one process have in common while they connect."""

    def __init__(self, clock: Clock) -> None:
        self.turn = anyio.Semaphore(1)
        """Whoever has it may call `enter`; it may be kept between two tries."""
        self._clock = clock
        self._first: _Shared | None = None

    async def enter(self, open_ledger: Callable[[], Awaitable[LaneLedger]]) -> LaneLedger:
        """The ledger for one lane. Raises LedgerLost and LedgerRefused."""
        if self._first is not None and self._first.young:
            return _Guest(self._first)
        self._first = _Shared(await open_ledger(), self._clock)
        return self._first


class _Shared:
    """A connection that is its lane's own, and at first that of the others too."""

    def __init__(self, ledger: LaneLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._opened_ns = clock.monotonic_ns()
        self.gone = False
        self._call = anyio.Lock(fast_acquire=True)

    @property
    def young(self) -> bool:
        """Whether lanes without a connection may use it."""
        return not self.gone and self._clock.monotonic_ns() - self._opened_ns < SHARED_NS

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]:
        async with self._call:
            self._assert_here()
            try:
                return await self._ledger.load(shard, business_date, now_us, batch)
            except LedgerLost:
                self.gone = True
                raise

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]:
        async with self._call:
            self._assert_here()
            try:
                return await self._ledger.post(
                    shard, slot, business_date, versions, postings, remaining_us, ruleset
                )
            except LedgerLost:
                self.gone = True
                raise

    def _assert_here(self) -> None:
        if self.gone:
            raise LedgerLost("the shared connection is gone")

    def terminate(self) -> None:
        """Drop the connection; a call of a guest on it is lost, and settled as any other."""
        self.gone = True
        self._ledger.terminate()


class _Guest:
    """The ledger of a lane that has no connection yet and uses that of another.

    Asked to load when it is time to move, it raises TimeToMove: nothing of the batch is sent.
    """

    def __init__(self, host: _Shared) -> None:
        self._host = host

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]:
        if not self._host.young:
            raise TimeToMove("another lane's connection was used long enough")
        return await self._host.load(shard, business_date, now_us, batch)

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]:
        return await self._host.post(
            shard, slot, business_date, versions, postings, remaining_us, ruleset
        )

    def terminate(self) -> None:
        """Nothing of its own to drop; the host finds out by itself whether it is lost."""
