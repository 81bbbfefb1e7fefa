"""The book of requests that went to hosts of other issuers: what is in it, and the calls on it.

A request is written here before it leaves. From then on somebody else's money may be in
doubt, and the row says so until it is not:

    ─ open ─▶ sent ── answered approved, and told so ──▶ approved ── acquirer reverses ─┐
               ├───── the host declined, or it never left ──▶ declined                  │
               └───── no answer, or an answer nobody was told ──▶ reversing ◀───────────┘
                                                            answered ├──▶ reversed
                                                    answered, but no ├──▶ given_up

A row in `sent` whose process is gone is an orphan: its time is over, so whoever finds it looks
whether its approval stands in the ledger, and otherwise writes the decline that keeps it from
ever being posted, and reverses it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

import msgspec

from switch.ledger import bridge, sql
from switch.ledger.failures import LedgerLost, fetched, guarded
from switch.ledger.migrate import LedgerUnfit, assert_durable

CALL_SECONDS_MAX = 10.0
"""When a silent server counts as lost: a request waits for this call, though not so long."""
_QUERIES = sql.queries("forwarding.sql")
_SETTINGS = {
    "application_name": "citycard forwarding",
    "synchronous_commit": "on",
    "lock_timeout": "1000ms",
    "jit": "off",
}
_PREPARED = (
    "draw_stans",
    "open_forwards",
    "turn_forwards",
    "reverse_forwards",
    "take_due_reversals",
    "take_orphans",
    "forward_queues",
    "lead",
    "stop_leading",
    "forget_forwards",
)


class ForwardState(StrEnum):
    """Where a forwarded request stands."""

    SENT = "sent"
    APPROVED = "approved"
    DECLINED = "declined"
    REVERSING = "reversing"
    REVERSED = "reversed"
    GIVEN_UP = "given_up"
    """The host answered its reversal with a refusal: a person must reconcile it."""


TURNS: Mapping[ForwardState, frozenset[ForwardState]] = {
    ForwardState.APPROVED: frozenset({ForwardState.SENT}),
    ForwardState.DECLINED: frozenset({ForwardState.SENT}),
    ForwardState.REVERSING: frozenset({ForwardState.SENT, ForwardState.APPROVED}),
    ForwardState.REVERSED: frozenset({ForwardState.REVERSING}),
    ForwardState.GIVEN_UP: frozenset({ForwardState.REVERSING}),
}
"""The states that a row may be in to be turned into each; a turn from another does nothing.

So what an acquirer reversed stays reversing, whatever its original's process learns later.
"""


class Intent(msgspec.Struct, frozen=True, gc=False):
    """A request about to leave. Without `sendable` the book is only asked, not written.

    `remaining_us` is what the request has left until its answer is due. `stan` and
    `transmitted_at` (MMDDhhmmss, UTC) are DE11 and DE7 as the host will see them. `again`
    sends anew what was reversed under this key. `original_key` is empty where there is none;
    a request about one that the book knows belongs to its shard instead of `shard`.
    """

    shard: int
    key: bytes
    upstream: str
    payload_hash: bytes
    stan: str
    transmitted_at: str
    amount_minor: int
    request: bytes
    remaining_us: int
    sendable: bool
    again: bool
    original_key: bytes


class Opening(msgspec.Struct, frozen=True, gc=False):
    """What the book said to an intent.

    `written`: it is there now, and may leave. Otherwise `state` is that of the row under the
    key, None where there is none (or another process writes it at this moment), and `same`
    tells whether that row is of the same content. `shard` is where it belongs. `original_…`
    are DE11 and DE7 under which the original went to the host, empty where that is not known.
    """

    written: bool
    state: ForwardState | None
    same: bool
    shard: int
    original_stan: str = ""
    original_transmitted_at: str = ""


class Turn(msgspec.Struct, frozen=True, gc=False):
    """A change of state, which is made only from the states that TURNS allows."""

    shard: int
    key: bytes
    state: ForwardState


class ReversalIntent(msgspec.Struct, frozen=True, gc=False):
    """A reversal that an acquirer asked for. `original_key` is empty where it is not known.

    `stan` and `transmitted_at` stand for the original's where the book does not know it.
    """

    shard: int
    key: bytes
    upstream: str
    payload_hash: bytes
    stan: str
    transmitted_at: str
    amount_minor: int
    request: bytes
    original_key: bytes
    partial: bool


class DueReversal(msgspec.Struct, frozen=True, gc=False):
    """A reversal to send now, for the `tries`-th time. `stan` and `transmitted_at` are the
    original's, `reversal_…` its own, the same at each try."""

    shard: int
    key: bytes
    stan: str
    transmitted_at: str
    amount_minor: int
    request: bytes
    tries: int
    reversal_stan: str
    reversal_transmitted_at: str


class Orphan(msgspec.Struct, frozen=True, gc=False):
    """A request whose time is over and whose end nobody wrote down.

    `stands`: its approval is in the ledger and was not given back.
    """

    shard: int
    key: bytes
    upstream: str
    request: bytes
    stands: bool


class ForwardQueue(msgspec.Struct, frozen=True, gc=False):
    """How many reversals a destination has not answered, and the age of the oldest."""

    upstream: str
    depth: int
    oldest_seconds: float


class ForwardLedger(Protocol):
    """What the desk asks of the book; each raises LedgerLost and LedgerRefused."""

    async def draw_stans(self, count: int) -> list[str]: ...

    async def open(self, intents: Sequence[Intent]) -> list[Opening]: ...

    async def turn(self, turns: Sequence[Turn]) -> None: ...

    async def reverse(self, intents: Sequence[ReversalIntent]) -> list[int]: ...

    async def lead(self, upstream: str) -> bool: ...

    async def stop_leading(self, upstream: str) -> None: ...

    async def due(
        self,
        upstream: str,
        count_max: int,
        retry_seconds: int,
        retry_seconds_max: int,
        transmitted_at: str,
    ) -> list[DueReversal]: ...

    async def orphans(
        self, upstreams: Sequence[str], grace_us: int, lease_us: int, count_max: int
    ) -> list[Orphan]: ...

    async def queues(self) -> list[ForwardQueue]: ...

    async def forget(self, days: int, count_max: int) -> None: ...

    def terminate(self) -> None: ...


class ForwardStore:
    """The book over one connection with its statements prepared."""

    def __init__(
        self, connection: bridge.Connection, prepared: Mapping[str, bridge.Prepared]
    ) -> None:
        self._connection = connection
        self._prepared = prepared

    @classmethod
    async def open_book(cls, url: str, timeout_seconds: float) -> ForwardStore:
        """Connect, make sure that a commit is durable, and prepare. Raises LedgerLost."""
        try:
            connection = await guarded(
                lambda: bridge.connect(url, timeout_seconds=timeout_seconds, settings=_SETTINGS),
                seconds=timeout_seconds,
            )
        except bridge.CONNECTION_REFUSED as error:
            raise LedgerLost(type(error).__name__) from None
        try:
            await guarded(assert_durable, connection, seconds=timeout_seconds)
            prepared = {
                name: await guarded(connection.prepare, _QUERIES[name], seconds=timeout_seconds)
                for name in _PREPARED
            }
        except LedgerUnfit as error:
            connection.terminate()
            raise LedgerLost(str(error)) from None
        except BaseException:
            connection.terminate()
            raise
        return cls(connection, prepared)

    async def draw_stans(self, count: int) -> list[str]:
        """System trace audit numbers that no other process draws before all are used up."""
        return [row["stan"] for row in await self._call("draw_stans", count)]

    async def open(self, intents: Sequence[Intent]) -> list[Opening]:
        """Write what may leave, unless its key is there; an answer each, in order."""
        rows = await self._call("open_forwards", *_columns(intents, Intent))
        return [
            Opening(
                row["written"],
                None if row["state"] is None else ForwardState(row["state"]),
                bool(row["same"]),
                row["shard"],
                row["original_stan"],
                row["original_transmitted_at"],
            )
            for row in rows
        ]

    async def turn(self, turns: Sequence[Turn]) -> None:
        """Write changes of state; one that TURNS does not allow changes nothing."""
        before = [" ".join(sorted(TURNS[turn.state])) for turn in turns]
        await self._call("turn_forwards", *_columns(turns, Turn), before)

    async def reverse(self, intents: Sequence[ReversalIntent]) -> list[int]:
        """Write down that originals are to be reversed at their hosts; the shards they are in.

        May be repeated.
        """
        rows = await self._call("reverse_forwards", *_columns(intents, ReversalIntent))
        return [row["shard"] for row in rows]

    async def lead(self, upstream: str) -> bool:
        """Whether this connection sends a destination's reversals from now on."""
        return bool((await self._call("lead", upstream))[0]["leads"])

    async def stop_leading(self, upstream: str) -> None:
        """Let another connection send them."""
        await self._call("stop_leading", upstream)

    async def due(
        self,
        upstream: str,
        count_max: int,
        retry_seconds: int,
        retry_seconds_max: int,
        transmitted_at: str,
    ) -> list[DueReversal]:
        """Reversals to send now, oldest first; `transmitted_at` is DE7 of a first try.

        Each is due again after `retry_seconds`, doubled with each try up to the maximum. That
        is written before it leaves, so a restart neither forgets a try nor sends it twice.
        """
        rows = await self._call(
            "take_due_reversals",
            upstream,
            count_max,
            retry_seconds,
            retry_seconds_max,
            transmitted_at,
        )
        names = DueReversal.__struct_fields__
        return [
            DueReversal(**{name: row[name] for name in names})
            for row in sorted(rows, key=lambda row: row["place"])
        ]

    async def orphans(
        self, upstreams: Sequence[str], grace_us: int, lease_us: int, count_max: int
    ) -> list[Orphan]:
        """Requests that were due `grace_us` ago and are still `sent`, leased."""
        rows = await self._call("take_orphans", list(upstreams), grace_us, lease_us, count_max)
        return [Orphan(**dict(row)) for row in rows]

    async def queues(self) -> list[ForwardQueue]:
        """The destinations that have reversals to answer."""
        return [ForwardQueue(**dict(row)) for row in await self._call("forward_queues")]

    async def forget(self, days: int, count_max: int) -> None:
        """Delete rows that ended so long ago that nobody refers to them any more."""
        await self._call("forget_forwards", days, count_max)

    def terminate(self) -> None:
        """Drop the connection at once, and with it what it leads."""
        self._connection.terminate()

    async def _call(self, name: str, *args: object) -> Sequence[Any]:
        return await fetched(self._prepared[name], *args, seconds=CALL_SECONDS_MAX)


def _columns(rows: Sequence[msgspec.Struct], of: type[msgspec.Struct]) -> list[list[object]]:
    """Structs as one array for each field, in the order of the struct."""
    return [[getattr(row, name) for row in rows] for name in of.__struct_fields__]
