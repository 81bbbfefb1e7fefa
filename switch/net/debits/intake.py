"""Takes a debit file in: from chunks to rows, accepted whole or refused whole.

Rows are written a thousand at a time, as they come; a file is never in memory. Until its
count, total and hash are proven its rows belong to a file that nobody works off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.lowlevel
import msgspec

from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.ledger.debits import UNIQUE_VIOLATION, DebitFile, DebitLedger, DebitRow
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.net.debits.file_format import DebitFileReader

INTAKES_MAX = 2
"""Files that a process takes in at once; the next sender is asked to come again."""
ROWS_PER_CALL = 1_000
SLICE_BYTES = 16_384
"""Read at a time before others have their turn: about a millisecond of the process."""
CHUNK_SECONDS_MAX = 30.0
FILE_SECONDS_MAX = 3_600.0
LAST_CALL_SECONDS = 5.0


class IntakeBusy(Exception):
    """As many files come in already as may at once."""

    def __init__(self) -> None:
        super().__init__("other debit files are coming in; send this one again in a minute")


class SenderSilent(Exception):
    """The file stopped coming, or took too long."""

    def __init__(self) -> None:
        super().__init__("the file did not come to its end in time; send it again, whole")


class NameTaken(Exception):
    """Another file was accepted under this name."""

    def __init__(self) -> None:
        super().__init__("another file was accepted under this id; give each file an id of its own")


class Received(msgspec.Struct, frozen=True):
    """An accepted file; `is_new` is False where the same one had been accepted before."""

    file: DebitFile
    is_new: bool


class Intake:
    """Takes files in for one process. `open_ledger` makes a connection for one of them."""

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[DebitLedger]],
        *,
        rows_max: int,
        calendar: BusinessCalendar,
        clock: Clock,
    ) -> None:
        self._open_ledger = open_ledger
        self._rows_max = rows_max
        self._calendar = calendar
        self._clock = clock
        self._under_way = 0

    async def receive(self, biller: str, name: str, chunks: AsyncIterator[bytes]) -> Received:
        """Read a file to its end and accept it.

        Raises DebitFileError for what is no debit file, NameTaken, IntakeBusy, SenderSilent,
        LedgerLost and LedgerRefused; nothing of the file is kept then.
        """
        if self._under_way >= INTAKES_MAX:
            raise IntakeBusy
        self._under_way += 1
        try:
            ledger = await self._open_ledger()
            try:
                with anyio.move_on_after(FILE_SECONDS_MAX):
                    return await self._received(ledger, biller, name, _in_time(chunks))
                raise SenderSilent
            finally:
                ledger.terminate()
        finally:
            self._under_way -= 1

    async def _received(
        self, ledger: DebitLedger, biller: str, name: str, chunks: AsyncIterator[bytes]
    ) -> Received:
        known = await ledger.file(biller, name)
        reader = DebitFileReader(self._rows_max)
        if known is not None:
            return _same(known, await _only_read(reader, chunks))
        writer = _Writer(ledger, biller, name, self._local_at())
        try:
            async for chunk in chunks:
                await writer.add(reader, reader.feed(chunk))
            sha256 = reader.finish()
            await writer.flush()
            accepted = await ledger.accept(writer.number, sha256)
        except LedgerRefused as error:
            await writer.drop()
            if error.sqlstate != UNIQUE_VIOLATION:
                raise
            known = await ledger.file(biller, name)
            if known is None:
                raise
            return _same(known, sha256)
        except BaseException:
            await writer.drop()
            raise
        file = await ledger.file(biller, name) if accepted else None
        if file is None:
            raise SenderSilent
        return Received(file, is_new=True)

    def _local_at(self) -> str:
        return f"{self._calendar.local(self._clock.now_us()):%m%d%H%M%S}"


class _Writer:
    """The rows of one file on their way into the ledger."""

    def __init__(self, ledger: DebitLedger, biller: str, name: str, local_at: str) -> None:
        self.number = 0
        self._ledger = ledger
        self._begun = (biller, name, local_at)
        self._waiting: list[DebitRow] = []
        self._written = 0

    async def add(self, reader: DebitFileReader, rows: list[DebitRow]) -> None:
        if not self.number and reader.row_count:
            self.number = await self._ledger.begin(
                *self._begun, reader.row_count, reader.total_minor
            )
        self._waiting += rows
        if len(self._waiting) >= ROWS_PER_CALL:
            await self.flush()

    async def flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if rows and not await self._ledger.add(self.number, self._written + 1, rows):
            raise SenderSilent
        self._written += len(rows)

    async def drop(self) -> None:
        """Refuse it, also where the sender is gone and this task is ending."""
        if not self.number:
            return
        with anyio.move_on_after(LAST_CALL_SECONDS, shield=True):
            try:
                await self._ledger.drop(self.number)
            except (LedgerLost, LedgerRefused):
                pass  # it fell silent, and is forgotten as such


async def _in_time(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same in slices, none of which is waited for longer than CHUNK_SECONDS_MAX."""
    while True:
        chunk: bytes | None = None
        with anyio.move_on_after(CHUNK_SECONDS_MAX) as patience:
            chunk = await anext(chunks, None)
        if patience.cancelled_caught:
            raise SenderSilent
        if chunk is None:
            return
        for start in range(0, len(chunk), SLICE_BYTES):
            yield chunk[start : start + SLICE_BYTES]
            await anyio.lowlevel.checkpoint()


async def _only_read(reader: DebitFileReader, chunks: AsyncIterator[bytes]) -> bytes:
    async for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def _same(known: DebitFile, sha256: bytes) -> Received:
    if known.sha256 != sha256:
        raise NameTaken
    return Received(known, is_new=False)
