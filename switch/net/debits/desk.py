"""What the API and the counter may do with debit files and mandates, apart from HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio

from switch.config_city import Biller
from switch.ledger.debits import DebitFile, DebitLedger, Mandate
from switch.net.debits.file_format import Seal, result_header, result_line
from switch.net.debits.intake import Intake

CALLS_AT_ONCE = 4
"""Connections that a process opens for questions; whoever comes then waits for one."""
ROWS_PER_PAGE = 4_000
MANDATES_SHOWN_MAX = 1_000


class DebitDesk:
    """The files and mandates of one process's API. Raises LedgerLost and LedgerRefused."""

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[DebitLedger]],
        intake: Intake,
        billers: Mapping[str, Biller],
    ) -> None:
        self.intake = intake
        self._billers = billers
        self._open_ledger = open_ledger
        self._calls = anyio.Semaphore(CALLS_AT_ONCE)

    def is_of(self, biller: str, acquirer: str) -> bool:
        """Whether this biller is configured and its money this acquirer's."""
        known = self._billers.get(biller)
        return known is not None and known.acquirer == acquirer

    async def file(self, biller: str, name: str) -> DebitFile | None:
        """An accepted file as it stands."""
        async with self._ledger() as ledger:
            return await ledger.file(biller, name)

    async def cancel(self, biller: str, name: str) -> DebitFile | None:
        """Have no more rows of a file collected; the file as it stands then."""
        async with self._ledger() as ledger:
            file = await ledger.file(biller, name)
            if file is None or not await ledger.cancel(file.file_number):
                return file
            return await ledger.file(biller, name)

    async def result(self, file: DebitFile) -> AsyncIterator[bytes]:
        """The result file, a page at a time; rows that have no result yet say so.

        Its trailer comes last: without it a reader knows that it has not got everything.
        """
        header = result_header(file.row_count, file.collected_count, file.collected_minor)
        seal = Seal()
        yield seal.line(header)
        for after in range(0, file.row_count, ROWS_PER_PAGE):
            # One for each page: a reader that takes its time must not keep the others waiting.
            async with self._ledger() as ledger:
                page = await ledger.results(file.file_number, after, after + ROWS_PER_PAGE)
            yield b"".join([seal.line(result_line(row)) for row in page])
        yield seal.trailer()

    async def card_of(self, medium: bytes) -> int | None:
        """The card id of a medium; None for an unknown one."""
        async with self._ledger() as ledger:
            return await ledger.card_of(medium)

    async def give_mandate(
        self, biller: str, customer: str, card_id: int, amount_max_minor: int
    ) -> Mandate | None:
        """The new mandate; None where one stands already."""
        async with self._ledger() as ledger:
            return await ledger.give_mandate(biller, customer, card_id, amount_max_minor)

    async def end_mandate(self, biller: str, customer: str) -> Mandate | None:
        """The one that stood and is ended now, if any."""
        async with self._ledger() as ledger:
            return await ledger.end_mandate(biller, customer)

    async def mandates(self, biller: str, customer: str) -> list[Mandate]:
        """Those that stand, newest first."""
        async with self._ledger() as ledger:
            return await ledger.mandates(biller, customer, count_max=MANDATES_SHOWN_MAX)

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[DebitLedger]:
        async with self._calls:
            ledger = await self._open_ledger()
            try:
                yield ledger
            finally:
                ledger.terminate()
