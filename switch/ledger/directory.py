"""Which account a card leads to: an immutable mapping, so it is cached and never invalidated.

Misses gather while a look-up is under way and are asked for together. A card that is not
there is not remembered: it may be issued the next second.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
import msgspec

from switch.clock import Clock
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.metrics import Metrics

LOOK_UP_MAX = 500
"""Mediums asked for in one call."""
PENDING_MAX = 8_192
"""Look-ups that may wait; the in-flight limit of admission is reached first."""
RECONNECT_SECONDS = 0.2
WARM_UP_PAGE = 1_000
"""Mediums read ahead in one call: a few milliseconds of the process, between two look-ups."""

_log = get_log("directory")


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a medium's account lives."""

    shard: int
    account_id: int
    card_id: int


class DirectoryLedger(Protocol):
    """What the directory asks of the ledger; raises LedgerLost and LedgerRefused."""

    async def find(self, mediums: list[bytes]) -> dict[bytes, Place]: ...

    async def newest(self, below_card_id: int, count_max: int) -> list[tuple[bytes, Place]]: ...

    def terminate(self) -> None: ...


Found = Callable[[Place | None], None]
Unreachable = Callable[[], None]


class Directory:
    """A bounded cache before the ledger's table of mediums."""

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[DirectoryLedger]],
        cache_max: int,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._open_ledger = open_ledger
        self._cache: OrderedDict[bytes, Place] = OrderedDict()
        self._cache_max = cache_max
        self._clock = clock
        self._metrics = metrics
        self._warm_below = 1 << 62
        self._pending: list[tuple[bytes, Found, Unreachable]] = []
        self._asked = anyio.Event()

    def cached(self, medium: bytes) -> Place | None:
        """The place of a medium seen before."""
        place = self._cache.get(medium)
        if place is not None:
            self._cache.move_to_end(medium)
        return place

    def ask(self, medium: bytes, found: Found, unreachable: Unreachable) -> None:
        """Look a medium up; exactly one of the two is called, with None for an unknown card."""
        if len(self._pending) >= PENDING_MAX:
            unreachable()
            return
        self._pending.append((medium, found, unreachable))
        self._asked.set()

    async def run(self) -> None:
        """Answer look-ups until cancelled, reconnecting where needed; in between, warm up."""
        ledger: DirectoryLedger | None = None
        try:
            while True:
                if not self._pending and not self._warm_below:
                    self._asked = anyio.Event()
                    await self._asked.wait()
                asked, self._pending = self._pending[:LOOK_UP_MAX], self._pending[LOOK_UP_MAX:]
                try:
                    if ledger is None:
                        ledger = await self._open_ledger()
                    if asked:
                        ledger = await self._answer(ledger, asked)
                    else:
                        await self._warm_up(ledger)
                except (LedgerLost, LedgerRefused) as error:
                    _log.warning("directory look-up failed", reason=str(error))
                    if ledger is not None:
                        ledger.terminate()
                        ledger = None
                    for _, _, unreachable in asked:
                        unreachable()
                    await anyio.sleep(RECONNECT_SECONDS)
        finally:
            if ledger is not None:
                ledger.terminate()

    async def _warm_up(self, ledger: DirectoryLedger) -> None:
        """Read one page ahead, newest cards first, so that a start is no wave of misses."""
        page = await ledger.newest(self._warm_below, WARM_UP_PAGE)
        room = self._cache_max - len(self._cache)
        for medium, place in page[:room]:
            if medium not in self._cache:
                # Behind what was asked for: the first to go when room is needed.
                self._cache[medium] = place
                self._cache.move_to_end(medium, last=False)
        self._warm_below = page[-1][1].card_id if len(page) == WARM_UP_PAGE <= room else 0

    async def _answer(
        self, ledger: DirectoryLedger, asked: list[tuple[bytes, Found, Unreachable]]
    ) -> DirectoryLedger:
        started_ns = self._clock.monotonic_ns()
        mediums = list({medium for medium, _, _ in asked})
        try:
            places = await ledger.find(mediums)
        except LedgerLost:
            # A connection that idled through a restart of the server is only found out now.
            ledger.terminate()
            ledger = await self._open_ledger()
            try:
                places = await ledger.find(mediums)
            except (LedgerLost, LedgerRefused):
                ledger.terminate()
                raise
        self._metrics.round_trip("directory", (self._clock.monotonic_ns() - started_ns) / 1e9)
        for medium, place in places.items():
            self._cache[medium] = place
        while len(self._cache) > self._cache_max:
            self._cache.popitem(last=False)
        for medium, found, _ in asked:
            found(places.get(medium))
        return ledger
