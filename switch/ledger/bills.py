"""Payments of bills: the table of their states, and the calls on the rows that remember them.

    ─ open ─▶ opened ── money set aside ──▶ held ── client confirms ──▶ confirming
                 │ ── declined ──▶ refused   │ ▲                            │
                 │                           │ └── nothing was sent ────────┤
                 │      client cancels, or   │         the biller took it   ├──▶ paid
                 │      never confirms       ▼         the biller says no   │
                 └── left behind ──▶ releasing ◀────────────────────────────┤
                                         │   ◀── asked again: no ──┐        │ nobody knows
                                money is │                         │        ▼
                                    free ▼    paid ◀── yes ── suspense ◀─ in_doubt ──▶ paid
                                     released                  (cut-off passed)

    paid ── client reverses ──▶ reversing ── the biller gives back ──▶ reversed
      ▲ ◀── the biller says no ─────┘

Theory. A row is committed before what it announces is done, so whoever finds the row after a
crash knows what may have been done and does it again: each posting has its key from the
serial, and each call to the biller the serial itself, so that doing it twice is doing it once.

- `opened`: a hold may be posted under this payment's key. Left behind, it is announced as
  `releasing` before it is reversed, so that nobody can take the hold for theirs meanwhile; the
  reversal leaves a tombstone where there is no hold: none can come later.
- `confirming` and `in_doubt`: the biller may have been paid. Only the biller's own word ends
  them: yes is completed, a no releases the money, "there is no such transaction" lets the same
  serial be sent again. Silence is asked again, ever more slowly; at the biller's cut-off it
  becomes `suspense`: the money stays set aside, and nobody guesses.
- A bill is locked while a payment of it has not ended; a paid one for good, where a bill is
  paid once (a prepaid meter is not a bill).
- A prepaid payment is never reversed: its token may have been keyed in already.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum

import anyio
import asyncpg
import msgspec

from switch.ledger import bridge, sql
from switch.ledger.failures import LedgerLost, guarded

CALL_SECONDS_MAX = 5.0
"""When a silent server counts as lost."""
DUE_AT_ONCE = 32
RETRY_MS, RETRY_MS_MAX = 1_000, 900_000
"""A payment that is left is taken up again after a second, then two, ... then 15 minutes."""
FORGOTTEN_AT_ONCE = 10_000

SETTINGS = {"application_name": "citycard bills", "synchronous_commit": "on", "jit": "off"}
_QUERIES = sql.queries("bills.sql")


class BillState(StrEnum):
    """Where a payment of a bill stands."""

    OPENED = "opened"
    HELD = "held"
    CONFIRMING = "confirming"
    IN_DOUBT = "in_doubt"
    PAID = "paid"
    RELEASING = "releasing"
    RELEASED = "released"
    REFUSED = "refused"
    REVERSING = "reversing"
    REVERSED = "reversed"
    SUSPENSE = "suspense"


_S = BillState

TURNS: Mapping[BillState, frozenset[BillState]] = {
    _S.HELD: frozenset({_S.OPENED, _S.CONFIRMING}),
    _S.REFUSED: frozenset({_S.OPENED}),
    _S.CONFIRMING: frozenset({_S.HELD}),
    _S.IN_DOUBT: frozenset({_S.CONFIRMING, _S.IN_DOUBT}),
    _S.PAID: frozenset({_S.CONFIRMING, _S.IN_DOUBT, _S.SUSPENSE, _S.REVERSING}),
    _S.RELEASING: frozenset({_S.OPENED, _S.HELD, _S.CONFIRMING, _S.IN_DOUBT, _S.SUSPENSE}),
    _S.RELEASED: frozenset({_S.RELEASING}),
    _S.REVERSING: frozenset({_S.PAID}),
    _S.REVERSED: frozenset({_S.REVERSING}),
    _S.SUSPENSE: frozenset({_S.CONFIRMING, _S.IN_DOUBT}),
}
"""From which states each state is reached; `opened` is the beginning."""

ENDED = frozenset({_S.PAID, _S.RELEASED, _S.REFUSED, _S.REVERSED})
OPEN = frozenset(BillState) - ENDED


class Inquired(msgspec.Struct, frozen=True):
    """What a biller answered to an inquiry. `holds_good`: it may still be paid so."""

    biller: str
    bill_no: str
    amount_minor: int
    payable: bool
    holds_good: bool


class NewBill(msgspec.Struct, frozen=True):
    """A payment to open. Serial, hashes and medium are 16 bytes each.

    `once`: a bill that is paid is never paid again. It is taken up by the keeper `patience_ms`
    later at the earliest; `cut_at_us` is the biller's next cut-off.
    """

    serial: bytes
    acquirer: str
    api: str
    idempotency_hash: bytes
    content_hash: bytes
    biller: str
    bill_no: str
    once: bool
    medium: bytes
    amount_minor: int
    currency: str
    patience_ms: int
    cut_at_us: int

    def __repr__(self) -> str:
        return f"NewBill(biller={self.biller!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("biller", self.biller)]


class BillRow(msgspec.Struct, frozen=True):
    """A payment as it stands. `hold_id` and `completion_id` are authorizations, 0 for none."""

    serial: bytes
    acquirer: str
    api: str
    content_hash: bytes
    biller: str
    bill_no: str
    once: bool
    medium: bytes
    amount_minor: int
    currency: str
    state: BillState
    reason: str
    hold_id: int
    auth_code: str
    rrn: str
    completion_id: int
    receipt: str
    tries: int
    cut_passed: bool

    def __repr__(self) -> str:
        return f"BillRow(biller={self.biller!r}, state={self.state.value!r})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("biller", self.biller), ("state", self.state.value)]


class Change(msgspec.Struct, frozen=True):
    """What a turn writes beside the state; what is empty stays as it was."""

    reason: str | None = None
    hold_id: int = 0
    auth_code: str = ""
    rrn: str = ""
    completion_id: int = 0
    receipt: str = ""
    patience_ms: int = RETRY_MS
    cut_at_us: int = 0


class OpenBills(msgspec.Struct, frozen=True):
    """Payments in one state that have not ended."""

    state: BillState
    count: int
    oldest_seconds: float


NO_CHANGE = Change()
_COLUMNS = BillRow.__struct_fields__


class BillLedger:
    """The rows over one connection, opened when it is needed and again after it was lost.

    Each method raises LedgerLost and LedgerRefused. A call that has begun is never cut off
    half-way: a caller whose time is over waits for its end.
    """

    def __init__(self, connect: Callable[[], Awaitable[bridge.Connection]]) -> None:
        self._connect = connect
        self._connection: bridge.Connection | None = None
        self._turn = anyio.Lock()
        self._leads = False

    async def note_inquiry(
        self, inquiry_id: bytes, acquirer: str, bill: Inquired, seconds: int
    ) -> None:
        """Remember what a biller answered, for so long."""
        said = (bill.biller, bill.bill_no, bill.amount_minor, bill.payable)
        await self.fetch(_QUERIES["note_inquiry"], inquiry_id, acquirer, *said, seconds)

    async def inquiry(self, inquiry_id: bytes, acquirer: str) -> Inquired | None:
        """An inquiry of this acquirer."""
        rows = await self.fetch(_QUERIES["inquiry"], inquiry_id, acquirer)
        return Inquired(**dict(rows[0])) if rows else None

    async def open(self, new: NewBill) -> BillRow | BillState:
        """Open and lock; the row that has this idempotency key already; or, where another
        payment has the bill, the state of that one."""
        rows = await self.fetch(_QUERIES["open_bill"], *msgspec.structs.astuple(new))
        if rows:
            return _row(rows[0])
        same = await self.same(new.acquirer, new.idempotency_hash)
        if same is not None:
            return same
        holders = await self.fetch(_QUERIES["lock_holder"], new.biller, new.bill_no)
        # Who had it may have let go between the two calls: busy is what it was.
        return BillState(holders[0]["state"]) if holders else BillState.OPENED

    async def same(self, acquirer: str, idempotency_hash: bytes) -> BillRow | None:
        """The payment that an acquirer opened under this key."""
        rows = await self.fetch(_QUERIES["same_bill"], acquirer, idempotency_hash)
        return _row(rows[0]) if rows else None

    async def bill(self, serial: bytes) -> BillRow | None:
        rows = await self.fetch(_QUERIES["bill"], serial)
        return _row(rows[0]) if rows else None

    async def turn(
        self, serial: bytes, state: BillState, change: Change = NO_CHANGE
    ) -> BillRow | None:
        """Change the state as TURNS allows; None where it does not, for another was first."""
        before = sorted(TURNS[state])
        rows = await self.fetch(
            _QUERIES["turn_bill"], serial, state.value, before, *msgspec.structs.astuple(change)
        )
        return _row(rows[0]) if rows else None

    async def due(self) -> list[BillRow]:
        """Payments that nobody looks after; they are due again later, should this end here."""
        rows = await self.fetch(_QUERIES["take_due_bills"], DUE_AT_ONCE, RETRY_MS, RETRY_MS_MAX)
        return [_row(row) for row in rows]

    async def open_bills(self) -> list[OpenBills]:
        rows = await self.fetch(_QUERIES["open_bills"])
        return [msgspec.convert(dict(row), OpenBills) for row in rows]

    async def forget_inquiries(self) -> None:
        await self.fetch(_QUERIES["forget_inquiries"], FORGOTTEN_AT_ONCE)

    async def leads(self) -> bool:
        """Whether this process looks after what is due; until its connection is lost."""
        if not self._leads:
            self._leads = bool((await self.fetch(_QUERIES["lead_bills"]))[0]["leads"])
        return self._leads

    async def fetch(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        """One call. Raises LedgerLost and LedgerRefused."""
        async with self._turn:
            return await self._fetched(query, *args)

    async def _fetched(self, query: str, *args: object) -> Sequence[asyncpg.Record]:
        with anyio.CancelScope(shield=True):
            if self._connection is None:
                self._connection = await self._opened()
            try:
                return await guarded(self._connection.fetch, query, *args, seconds=CALL_SECONDS_MAX)
            except LedgerLost:
                self.close()
                raise
        raise AssertionError("a shielded scope is not cancelled from within")

    def close(self) -> None:
        """Drop the connection; the next call opens another."""
        self._leads = False
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _opened(self) -> bridge.Connection:
        try:
            return await guarded(self._connect, seconds=CALL_SECONDS_MAX)
        except bridge.CONNECTION_REFUSED as error:
            raise LedgerLost(type(error).__name__) from None


def bill_ledger(url: str, timeout_seconds: float) -> BillLedger:
    """The rows of the ledger at `url`, by a connection whose commits are durable."""

    async def connect() -> bridge.Connection:
        return await bridge.connect(url, timeout_seconds=timeout_seconds, settings=SETTINGS)

    return BillLedger(connect)


def _row(row: asyncpg.Record) -> BillRow:
    return msgspec.convert({name: row[name] for name in _COLUMNS}, BillRow)
