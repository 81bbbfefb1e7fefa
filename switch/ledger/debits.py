"""Mandates and debit files in the ledger: what is kept, and the calls on it.

    ── begins ──▶ arriving ── proven ──▶ accepted ── first rows taken ──▶ running ──▶ done
                      │                      └──────────┬─────────────────────┘
                      │ not proven, or          asked to stop
                      ▼ its sender is gone              ▼
                   dropped ──▶ forgotten            cancelling ──▶ cancelled

Rows are taken in order, and how far is committed before the first of them leaves. So after
a crash only rows that were taken and have no result can be in the ledger without our
knowing; their keys are looked for there, and those not found are asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from switch.ledger import bridge, sql
from switch.ledger.failures import guarded

CALL_SECONDS_MAX = 30.0
UNIQUE_VIOLATION = "23505"
APPLICATION = "citycard debit files"
_SETTINGS = {
    "application_name": APPLICATION,
    "synchronous_commit": "on",
    "jit": "off",
    # A file is there before anything was counted about it: only look-ups by index are right.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
_QUERIES = sql.queries("debits.sql")


class DebitState(StrEnum):
    """Where a file stands."""

    ARRIVING = "arriving"
    DROPPED = "dropped"
    ACCEPTED = "accepted"
    RUNNING = "running"
    CANCELLING = "cancelling"
    DONE = "done"
    CANCELLED = "cancelled"


DEBIT_FILE: Mapping[DebitState, frozenset[DebitState]] = {
    DebitState.ARRIVING: frozenset({DebitState.ACCEPTED, DebitState.DROPPED}),
    DebitState.DROPPED: frozenset(),
    DebitState.ACCEPTED: frozenset({DebitState.RUNNING, DebitState.CANCELLING}),
    DebitState.RUNNING: frozenset({DebitState.CANCELLING, DebitState.DONE}),
    DebitState.CANCELLING: frozenset({DebitState.CANCELLED}),
    DebitState.DONE: frozenset(),
    DebitState.CANCELLED: frozenset(),
}
"""From each state to the next ones; the statements of debits.sql make no other change."""


class DebitRow(NamedTuple):
    """A row of a file: one customer's bill. The order is that of the file."""

    due_on: date
    serial: str
    customer: str
    amount_minor: int
    sub_channel: str
    type: str


class DebitFile(msgspec.Struct, frozen=True):
    """A file as it stands. Minor units; `sha256` is empty before it is accepted."""

    file_number: int
    biller: str
    name: str
    state: DebitState
    local_at: str
    row_count: int
    total_minor: int
    sha256: bytes
    taken_through: int
    answered_count: int
    collected_count: int
    collected_minor: int
    accepted_at: datetime | None
    ended_at: datetime | None


class TakenRow(msgspec.Struct, frozen=True, gc=False):
    """A row that was taken and has no result, with the card that pays for it, if any."""

    row_number: int
    amount_minor: int
    serial: str
    customer: str
    type: str
    medium: bytes | None
    amount_max_minor: int | None
    is_duplicate: bool


class PostedDebit(msgspec.Struct, frozen=True, gc=False):
    """What the ledger holds of a row."""

    outcome: str
    approved_minor: int
    authorization_id: int


class DebitResult(NamedTuple):
    """What became of a row. `result` is an outcome's name, or a word of `DebitCode`."""

    row_number: int
    collected_minor: int
    authorization_id: int
    result: str


class ResultRow(NamedTuple):
    """A row with its result, which is empty while there is none."""

    row: DebitRow
    result: str
    collected_minor: int


class Mandate(msgspec.Struct, frozen=True):
    """Leave to collect a customer's bills from a card. An `amount_max_minor` of 0 is no limit."""

    mandate_id: int
    biller: str
    customer: str
    card_id: int
    last4: str
    amount_max_minor: int
    given_at: datetime
    ended_at: datetime | None


class DebitLedger:
    """One connection's calls. All raise LedgerLost and LedgerRefused."""

    def __init__(self, connection: bridge.Connection) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, url: str, timeout_seconds: float) -> DebitLedger:
        """A connection of its own."""

        async def connect() -> bridge.Connection:
            return await bridge.connect(url, timeout_seconds=timeout_seconds, settings=_SETTINGS)

        return cls(await guarded(connect, seconds=timeout_seconds + 1))

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._connection.terminate()

    async def _fetch(self, name: str, *args: object) -> Sequence[Any]:
        return await guarded(
            self._connection.fetch, _QUERIES[name], *args, seconds=CALL_SECONDS_MAX
        )

    async def _changed(self, name: str, *args: object) -> int:
        """How many rows a statement changed."""
        tag = await guarded(
            self._connection.execute, _QUERIES[name], *args, seconds=CALL_SECONDS_MAX
        )
        return int(tag.rpartition(" ")[2])

    # mandates

    async def card_of(self, medium: bytes) -> int | None:
        """The card that readers and mandates know by this medium."""
        rows = await self._fetch("card_of_medium", medium)
        return rows[0]["card_id"] if rows else None

    async def give_mandate(
        self, biller: str, customer: str, card_id: int, amount_max_minor: int
    ) -> Mandate | None:
        """The new mandate; None where one stands for this customer already."""
        rows = await self._fetch("give_mandate", biller, customer, card_id, amount_max_minor)
        return Mandate(**dict(rows[0])) if rows else None

    async def end_mandate(self, biller: str, customer: str) -> Mandate | None:
        """The mandate that stood and is ended now; None where none did."""
        rows = await self._fetch("end_mandate", biller, customer)
        return Mandate(**dict(rows[0])) if rows else None

    async def mandates(
        self, biller: str, customer: str = "", *, ended_too: bool = False, count_max: int = 1000
    ) -> list[Mandate]:
        """Newest first; of one customer where one is named."""
        rows = await self._fetch("mandates", biller, customer, ended_too, count_max)
        return [Mandate(**dict(row)) for row in rows]

    # files that come in

    async def begin(
        self, biller: str, name: str, local_at: str, row_count: int, total_minor: int
    ) -> int:
        """The number of a file whose rows are about to come."""
        rows = await self._fetch("begin_debit_file", biller, name, local_at, row_count, total_minor)
        number: int = rows[0]["file_number"]
        return number

    async def add(self, file_number: int, first: int, rows: Sequence[DebitRow]) -> bool:
        """Add rows, numbered from `first`; False where the file does not arrive any more."""
        due_on, serials, customers, amounts, sub_channels, types = zip(*rows, strict=True)
        numbers = range(first, first + len(rows))
        added = await self._changed(
            "add_debit_rows", file_number, numbers, amounts, due_on, serials, customers,
            sub_channels, types,
        )  # fmt: skip
        return added == len(rows)

    async def accept(self, file_number: int, sha256: bytes) -> bool:
        """Take a file that is proven; False where it does not arrive any more.

        Raises LedgerRefused with UNIQUE_VIOLATION where its name is taken.
        """
        return bool(await self._changed("accept_debit_file", file_number, sha256))

    async def drop(self, file_number: int) -> None:
        """Refuse a file that arrives; its rows are forgotten soon."""
        await self._changed("drop_debit_file", file_number)

    async def file(self, biller: str, name: str) -> DebitFile | None:
        """An accepted file by its name."""
        rows = await self._fetch("debit_file", biller, name)
        return _file(rows[0]) if rows else None

    async def cancel(self, file_number: int) -> bool:
        """Have no more rows taken; False where it has ended or is being cancelled."""
        return bool(await self._changed("cancel_debit_file", file_number))

    async def results(self, file_number: int, after: int, through: int) -> list[ResultRow]:
        """Rows with their results, in order."""
        return [
            ResultRow(
                DebitRow(
                    row["due_on"], row["serial"], row["customer"], row["amount_minor"],
                    row["sub_channel"], row["type"],
                ),
                row["result"],
                row["collected_minor"],
            )
            for row in await self._fetch("debit_results", file_number, after, through)
        ]  # fmt: skip

    # files that are worked off

    async def lead(self) -> bool:
        """Whether this connection is the one that works files off, for as long as it lasts."""
        return bool((await self._fetch("lead_debits"))[0][0])

    async def next_file(self, billers: Sequence[str]) -> DebitFile | None:
        """The file to work on: of these billers' the first that was accepted."""
        rows = await self._fetch("next_debit_file", billers)
        return _file(rows[0]) if rows else None

    async def take(self, file_number: int, count: int) -> int | None:
        """Take so many rows more; through which row is taken, None where it was cancelled."""
        rows = await self._fetch("take_debit_rows", file_number, count)
        return rows[0]["taken_through"] if rows else None

    async def taken(
        self, file_number: int, after: int, through: int, count_max: int
    ) -> list[TakenRow]:
        """Rows after one and through another without a result, in order."""
        rows = await self._fetch("debit_rows_taken", file_number, after, through, count_max)
        return [TakenRow(**dict(row)) for row in rows]

    async def posted(self, keys: Sequence[bytes]) -> dict[bytes, PostedDebit]:
        """What is in the ledger under these keys, on any attached day."""
        rows = await self._fetch("debits_posted", keys)
        return {
            row["key"]: PostedDebit(row["outcome"], row["approved_minor"], row["authorization_id"])
            for row in rows
        }

    async def write(self, file_number: int, results: Sequence[DebitResult]) -> None:
        """Write results down; one that is there already stays as it is."""
        await self._changed("write_debit_results", file_number, *zip(*results, strict=True))

    async def end(self, file_number: int) -> bool:
        """End a file all of whose rows have a result; False where they do not."""
        return bool(await self._changed("end_debit_file", file_number))

    # what is left behind

    async def abandoned(self, silent_seconds: int) -> tuple[int, int] | None:
        """Number and row count of a file that was dropped, or whose sender fell silent."""
        rows = await self._fetch("abandoned_debit_files", timedelta(seconds=silent_seconds))
        return (rows[0]["file_number"], rows[0]["row_count"]) if rows else None

    async def forget_rows(self, file_number: int, after: int, through: int) -> None:
        """Delete rows of an abandoned file."""
        await self._changed("forget_debit_rows", file_number, after, through)

    async def forget_file(self, file_number: int) -> None:
        """Delete an abandoned file whose rows are gone."""
        await self._changed("forget_debit_file", file_number)


def _file(row: Any) -> DebitFile:
    fields = {name: row[name] for name in DebitFile.__struct_fields__}
    return DebitFile(**(fields | {"state": DebitState(row["state"])}))
