"""The one task of a process that writes the book of forwards: what waits is written together.

As in a lane, the next batch gathers while one is being written, so a quiet switch writes at
once and a busy one amortises its commits. Changes of state go first: a repeat that follows
an answer finds what became of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import msgspec

from switch.clock import Clock
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.forwarding import ForwardLedger, Intent, Opening, ReversalIntent, Turn
from switch.logs import get as get_log

BATCH_MAX = 256
"""Rows written in one call."""
WAITING_MAX = 4_096
"""Intents that may wait; the in-flight limits of hosts and admission are reached first."""
RECONNECT_SECONDS = 0.2
STANS_KEPT = 2 * BATCH_MAX
TEND_SECONDS = 0.25
"""How often what is due is looked for when nothing happens in this process."""
NANOSECONDS = 1_000_000_000

_log = get_log("forwards")

Prepare = Callable[[Callable[[], str]], Intent]
Tend = Callable[[ForwardLedger], Awaitable[None]]


class Asked(msgspec.Struct, gc=False):
    """One intent that waits. `prepare` makes it when its batch is taken, from a source of
    STANs; then exactly one of the other two is called."""

    prepare: Prepare
    opened: Callable[[Opening, Intent], None]
    unreachable: Callable[[], None]


class ReversalAsked(msgspec.Struct, gc=False):
    """One acquirer's reversal that waits; exactly one of the two is called, `written` with the
    shard that its original is in."""

    intent: ReversalIntent
    written: Callable[[int], None]
    unreachable: Callable[[], None]


class ForwardBook:
    """The book of forwards of one process. `tend` is called in between, a few times a second."""

    def __init__(self, open_ledger: Callable[[], Awaitable[ForwardLedger]], clock: Clock) -> None:
        self._open_ledger = open_ledger
        self._clock = clock
        self._asked: list[Asked] = []
        self._reversals: list[ReversalAsked] = []
        self._turns: dict[tuple[int, bytes], Turn] = {}
        self._stans: list[str] = []
        self._woken = anyio.Event()
        self._tend_at_ns = 0
        self._told_away = False
        self.tend: Tend = _tend_nothing
        self.connected = False

    @property
    def unwritten(self) -> int:
        """What waits to be written."""
        return len(self._asked) + len(self._reversals) + len(self._turns)

    def ask(self, asked: Asked) -> bool:
        """Have an intent written; False when too many wait."""
        if len(self._asked) >= WAITING_MAX:
            return False
        self._asked.append(asked)
        self._woken.set()
        return True

    def reverse(self, reversal: ReversalAsked) -> bool:
        """Have an acquirer's reversal written; False when too many wait."""
        if len(self._reversals) >= WAITING_MAX:
            return False
        self._reversals.append(reversal)
        self._woken.set()
        return True

    def turn(self, turn: Turn) -> None:
        """Have a change of state written, however long it takes; the last of a key counts."""
        self._turns[turn.shard, turn.key] = turn
        self._woken.set()

    def look_around(self) -> None:
        """Call `tend` soon: something is due that was not before."""
        self._tend_at_ns = 0
        self._woken.set()

    async def run(self) -> None:
        """Write until cancelled, reconnecting for as long as it takes."""
        while True:
            try:
                ledger = await self._open_ledger()
            except (LedgerLost, LedgerRefused) as error:
                self._away(str(error))
                await anyio.sleep(RECONNECT_SECONDS)
                continue
            self.connected = True
            self._told_away = False
            self.look_around()
            try:
                while True:
                    await self._round(ledger)
            except (LedgerLost, LedgerRefused) as error:
                self._away(str(error))
            finally:
                self.connected = False
                ledger.terminate()
            await anyio.sleep(RECONNECT_SECONDS)

    def _away(self, reason: str) -> None:
        if not self._told_away:
            self._told_away = True
            _log.warning("the book of forwards cannot be written", reason=reason)
        asked, self._asked = self._asked, []
        reversals, self._reversals = self._reversals, []
        for one in asked:
            one.unreachable()
        for reversal in reversals:
            reversal.unreachable()

    async def _round(self, ledger: ForwardLedger) -> None:
        await self._wait()
        if len(self._stans) < STANS_KEPT:
            self._stans = (await ledger.draw_stans(STANS_KEPT))[::-1] + self._stans
        if self._turns:
            turns = dict(list(self._turns.items())[:BATCH_MAX])
            await ledger.turn(list(turns.values()))
            for key, turn in turns.items():
                if self._turns.get(key) is turn:
                    del self._turns[key]
        if self._reversals:
            await self._write_reversals(ledger)
        if self._asked:
            await self._write_intents(ledger)
        if self._clock.monotonic_ns() >= self._tend_at_ns:
            self._tend_at_ns = self._clock.monotonic_ns() + int(TEND_SECONDS * NANOSECONDS)
            await self.tend(ledger)

    async def _wait(self) -> None:
        if self._turns or self._reversals or self._asked:
            return
        pause_ns = self._tend_at_ns - self._clock.monotonic_ns()
        if pause_ns <= 0:
            return
        self._woken = anyio.Event()
        with anyio.move_on_after(pause_ns / NANOSECONDS):
            await self._woken.wait()

    async def _write_reversals(self, ledger: ForwardLedger) -> None:
        batch = self._reversals[:BATCH_MAX]
        shards = await ledger.reverse([one.intent for one in batch])
        self._reversals = self._reversals[len(batch) :]
        for one, shard in zip(batch, shards, strict=True):
            one.written(shard)
        self.look_around()

    async def _write_intents(self, ledger: ForwardLedger) -> None:
        batch, self._asked = self._asked[:BATCH_MAX], self._asked[BATCH_MAX:]
        intents = [one.prepare(self._stans.pop) for one in batch]
        try:
            openings = await ledger.open(intents)
        except (LedgerLost, LedgerRefused):
            self._asked = batch + self._asked
            raise
        for one, opening, intent in zip(batch, openings, intents, strict=True):
            one.opened(opening, intent)


async def _tend_nothing(_ledger: ForwardLedger) -> None:
    """Until a desk says what there is to tend."""
