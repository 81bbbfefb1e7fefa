"""The book of forwards in memory, and the host that it is about: another city's issuer.

The book keeps what forwarding.sql promises: a row a key, changes of state that the table
allows and no other, one connection that leads, times of the server. Its calls meet the same
weather as the ledger's. The host remembers what it approved, and a reversal that came first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import trio  # noqa: TID251 - the simulation owns its clock
from anyio.abc import ByteStream, TaskGroup

from loadtest.host import HostPlan, IssuerHost
from protocols.framing import Frame
from protocols.iso8583 import Message
from protocols.iso8583.elements import original_from
from protocols.message import Kind
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.forwarding import (
    TURNS,
    DueReversal,
    ForwardQueue,
    ForwardState,
    Intent,
    Opening,
    Orphan,
    ReversalIntent,
    Turn,
)
from tests.simulation.model_ledger import Fault, Loss

if TYPE_CHECKING:
    from tests.simulation.town import Town

FINAL = frozenset({ForwardState.APPROVED, ForwardState.DECLINED, ForwardState.REVERSED})
SECOND_US = 1_000_000


class ForwardRow(msgspec.Struct):
    """One row of ledger.forwarded."""

    shard: int
    key: bytes
    upstream: str
    payload_hash: bytes
    stan: str
    transmitted_at: str
    amount_minor: int
    request: bytes
    state: ForwardState
    answer_by_us: int
    since_us: int = 0
    next_try_us: int = 0
    tries: int = 0
    reversal_stan: str = ""
    reversal_transmitted_at: str = ""


class ModelForwards:
    """What all connections share."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.rows: dict[tuple[int, bytes], ForwardRow] = {}
        self.leaders: dict[str, ModelForwardConnection] = {}
        self.stans = itertools.count(1)

    @property
    def now_us(self) -> int:
        return self.town.ledger.clock.now_us()

    @property
    def open_rows(self) -> list[ForwardRow]:
        """Rows that somebody still has to bring to an end."""
        return [row for row in self.rows.values() if row.state not in FINAL]

    def known(self, key: bytes, upstream: str = "") -> ForwardRow | None:
        """The row under a key, in whichever shard."""
        for row in self.rows.values():
            if key and row.key == key and upstream in ("", row.upstream):
                return row
        return None

    def draw_stan(self) -> str:
        return f"{next(self.stans):06}"

    def stands(self, row: ForwardRow) -> bool:
        """Whether an approval under its key is in the ledger and was not given back."""
        rows = self.town.ledger.rows
        back = {
            one.posting.original_id
            for one in rows
            if one.posting.kind is Kind.REVERSAL and one.posting.outcome.approved
        }
        return any(
            one.posting.key == row.key
            and one.shard == row.shard
            and one.posting.outcome.approved
            and one.authorization_id not in back
            for one in rows
        )


class ModelForwardConnection:
    """One connection: `ForwardLedger` over the shared book."""

    def __init__(self, forwards: ModelForwards) -> None:
        self._forwards = forwards

    async def _meet(self) -> Fault:
        town = self._forwards.town
        fault = town.ledger_weather.fault("forward", town.ledger)
        await trio.sleep(fault.seconds_before)
        if fault.refused:
            raise LedgerRefused(fault.refused, "")
        if fault.loss is Loss.BEFORE_COMMIT:
            raise LedgerLost("lost before the commit")
        return fault

    async def _leave(self, fault: Fault) -> None:
        await trio.sleep(fault.seconds_after)
        if fault.loss is not None:
            raise LedgerLost("lost after the commit")

    async def draw_stans(self, count: int) -> list[str]:
        await self._leave(await self._meet())
        return [self._forwards.draw_stan() for _ in range(count)]

    async def open(self, intents: Sequence[Intent]) -> list[Opening]:
        fault = await self._meet()
        openings = [self._open(intent) for intent in intents]
        await self._leave(fault)
        return openings

    def _open(self, intent: Intent) -> Opening:
        forwards = self._forwards
        original = forwards.known(intent.original_key)
        shard = original.shard if original is not None else intent.shard
        place = (shard, intent.key)
        row = forwards.rows.get(place)
        same = row is not None and row.payload_hash == intent.payload_hash
        state = row.state if row is not None else None
        written = False
        answer_by_us = forwards.now_us + intent.remaining_us
        if row is None and intent.sendable:
            written = True
            forwards.rows[place] = ForwardRow(
                shard, intent.key, intent.upstream, intent.payload_hash, intent.stan,
                intent.transmitted_at, intent.amount_minor, intent.request,
                ForwardState.SENT, answer_by_us,
            )  # fmt: skip
        elif same and intent.sendable and intent.again and state is ForwardState.REVERSED:
            assert row is not None
            written = True
            row.state, row.stan, row.tries = ForwardState.SENT, intent.stan, 0
            row.transmitted_at, row.answer_by_us = intent.transmitted_at, answer_by_us
        found = (original.stan, original.transmitted_at) if original is not None else ("", "")
        return Opening(written, state, same, shard, *found)

    async def turn(self, turns: Sequence[Turn]) -> None:
        fault = await self._meet()
        for turn in turns:
            row = self._forwards.rows.get((turn.shard, turn.key))
            if row is not None and row.state in TURNS[turn.state]:
                row.state = turn.state
                if turn.state is ForwardState.REVERSING:
                    row.since_us = row.next_try_us = self._forwards.now_us
        await self._leave(fault)

    async def reverse(self, intents: Sequence[ReversalIntent]) -> list[int]:
        fault = await self._meet()
        shards = [self._reverse(intent) for intent in intents]
        await self._leave(fault)
        return shards

    def _reverse(self, intent: ReversalIntent) -> int:
        forwards = self._forwards
        now_us = forwards.now_us
        original = forwards.known(intent.original_key, intent.upstream)
        shard, due_us, unsettled = intent.shard, now_us, False
        stan, transmitted_at = intent.stan, intent.transmitted_at
        if original is not None:
            shard, stan, transmitted_at = original.shard, original.stan, original.transmitted_at
            unsettled = original.state in (ForwardState.SENT, ForwardState.APPROVED)
            if original.state is ForwardState.SENT:
                due_us = original.answer_by_us
            if unsettled and not intent.partial:
                original.state = ForwardState.REVERSING
                original.since_us, original.next_try_us = now_us, due_us
        if original is None or (intent.partial and unsettled):
            forwards.rows.setdefault(
                (shard, intent.key),
                ForwardRow(
                    shard, intent.key, intent.upstream, intent.payload_hash, stan,
                    transmitted_at, intent.amount_minor, intent.request,
                    ForwardState.REVERSING, now_us, now_us, due_us,
                ),
            )  # fmt: skip
        return shard

    async def lead(self, upstream: str) -> bool:
        await self._leave(await self._meet())
        return self._forwards.leaders.setdefault(upstream, self) is self

    async def stop_leading(self, upstream: str) -> None:
        await self._leave(await self._meet())
        if self._forwards.leaders.get(upstream) is self:
            del self._forwards.leaders[upstream]

    async def due(
        self,
        upstream: str,
        count_max: int,
        retry_seconds: int,
        retry_seconds_max: int,
        transmitted_at: str,
    ) -> list[DueReversal]:
        fault = await self._meet()
        forwards = self._forwards
        now_us = forwards.now_us
        due = [
            row
            for row in forwards.rows.values()
            if row.upstream == upstream
            and row.state is ForwardState.REVERSING
            and row.next_try_us <= now_us
        ]
        due.sort(key=lambda row: (row.since_us, row.key))
        for row in due[:count_max]:
            if not row.tries:
                row.reversal_stan = forwards.draw_stan()
                row.reversal_transmitted_at = transmitted_at
            seconds = min(retry_seconds << min(row.tries, 20), retry_seconds_max)
            row.next_try_us = now_us + seconds * SECOND_US
            row.tries += 1
        taken = [
            DueReversal(
                row.shard, row.key, row.stan, row.transmitted_at, row.amount_minor, row.request,
                row.tries, row.reversal_stan, row.reversal_transmitted_at,
            )
            for row in due[:count_max]
        ]  # fmt: skip
        await self._leave(fault)
        return taken

    async def orphans(
        self, upstreams: Sequence[str], grace_us: int, lease_us: int, count_max: int
    ) -> list[Orphan]:
        fault = await self._meet()
        forwards = self._forwards
        late = [
            row
            for row in forwards.rows.values()
            if row.state is ForwardState.SENT
            and row.answer_by_us < forwards.now_us - grace_us
            and row.upstream in upstreams
        ][:count_max]
        for row in late:
            row.answer_by_us = forwards.now_us + lease_us
        taken = [
            Orphan(row.shard, row.key, row.upstream, row.request, forwards.stands(row))
            for row in late
        ]
        await self._leave(fault)
        return taken

    async def queues(self) -> list[ForwardQueue]:
        await self._leave(await self._meet())
        return []

    async def forget(self, days: int, count_max: int) -> None:
        await self._leave(await self._meet())

    def terminate(self) -> None:
        """What it led, another one may lead."""
        leaders = self._forwards.leaders
        for upstream in [name for name, leader in leaders.items() if leader is self]:
            del leaders[upstream]


class SimulatedHost(IssuerHost):
    """An issuer's host that keeps tombstones, as every host must: networks reorder connections."""

    def __init__(self) -> None:
        super().__init__(HostPlan(late_seconds=2.0))
        self._tombs: set[tuple[str, str]] = set()

    async def _take_request(
        self, stream: ByteStream, received: Frame, message: Message, tasks: TaskGroup
    ) -> None:
        if (message.text(11), message.text(7)) in self._tombs:
            await self._answer(stream, received, message, "68")
            return
        await super()._take_request(stream, received, message, tasks)

    async def _take_reversal(self, stream: ByteStream, received: Frame, message: Message) -> None:
        original = original_from(message.text(90))
        if original is not None:
            self._tombs.add((original.stan, original.local_at))
        await super()._take_reversal(stream, received, message)
