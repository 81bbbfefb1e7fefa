"""Works accepted debit files off, one after the other, in the background of the lanes.

One process does it at a time: the one whose connection holds the advisory lock. Rows are
taken in order, a few hundred are under way at once, and their results are written as they
come. What was under way when a process died is looked for by its keys before anything else,
so a file is gone on with at the very row, and nothing is posted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping

import anyio

from protocols.message import Outcome, Reply, Request
from switch.admission import Respond
from switch.clock import Clock
from switch.config_city import Biller
from switch.ledger.debits import DebitFile, DebitLedger, DebitResult, DebitState, TakenRow
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.debits.file_format import DebitCode
from switch.net.debits.requests import (
    Refused,
    is_for_now,
    key_of,
    request_of,
    result_found,
    result_of,
    result_refused,
)

LOOK_SECONDS = 1.0
ROWS_PER_TAKE = 512
RESULTS_PER_CALL = 256
ROWS_PER_CLEANING = 5_000
AGAIN_SECONDS = 1.0
"""How long a row waits that the switch could not take just now."""
FAULTS_MAX = 5
"""A row that is a fault so often in a row stays one: it must not stop the file."""
SILENT_SECONDS = 600
"""A file of which nothing came for so long is no longer coming."""
BACK_OFF_SECONDS_MAX = 30.0

_log = get_log("debits")


class Collecting:
    """The task of one process. `submit` is the pipeline's."""

    def __init__(
        self,
        open_ledger: Callable[[], Awaitable[DebitLedger]],
        submit: Callable[[Request, Respond], None],
        billers: Mapping[str, Biller],
        *,
        currency: str,
        in_flight_max: int,
        clock: Clock,
        metrics: Metrics,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._open_ledger = open_ledger
        self._submit = submit
        self._billers = billers
        self._currency = currency
        self._in_flight_max = in_flight_max
        self._clock = clock
        self._metrics = metrics
        self._look_seconds = look_seconds

    async def run(self) -> None:
        """Work until cancelled, reconnecting where needed."""
        back_off_seconds = self._look_seconds
        while True:
            ledger: DebitLedger | None = None
            try:
                ledger = await self._open_ledger()
                while not await ledger.lead():  # noqa: ASYNC110 - another process tells nobody
                    await anyio.sleep(self._look_seconds)
                back_off_seconds = self._look_seconds
                while True:
                    if not await self.look(ledger):
                        await anyio.sleep(self._look_seconds)
            except (LedgerLost, LedgerRefused) as error:
                _log.warning("debit files cannot be worked off", reason=str(error))
                await anyio.sleep(back_off_seconds)
                back_off_seconds = min(2 * back_off_seconds, BACK_OFF_SECONDS_MAX)
            finally:
                if ledger is not None:
                    ledger.terminate()

    async def look(self, ledger: DebitLedger) -> bool:
        """Do what there is to do; False where there was nothing.

        Raises LedgerLost and LedgerRefused.
        """
        cleaned = await self._clean(ledger)
        file = await ledger.next_file(list(self._billers))
        if file is None:
            return cleaned
        _log.info("a debit file is worked off", biller=file.biller, rows=file.row_count)
        await _Round(self, ledger, file).run()
        return True

    async def _clean(self, ledger: DebitLedger) -> bool:
        """Forget one file that was refused, or never came to its end, a part at a time."""
        found = await ledger.abandoned(SILENT_SECONDS)
        if found is None:
            return False
        number, row_count = found
        for after in range(0, row_count, ROWS_PER_CLEANING):
            await ledger.forget_rows(number, after, after + ROWS_PER_CLEANING)
        await ledger.forget_file(number)
        return True

    def ask(self, file: DebitFile, row: TakenRow, respond: Respond) -> Refused | None:
        """Ask for a row, or say why it is not asked for."""
        biller = self._billers[file.biller]
        request = request_of(file, row, biller, self._currency, self._clock.monotonic_ns())
        if isinstance(request, Refused):
            return request
        self._metrics.background(1)

        def answered(reply: Reply) -> None:
            self._metrics.background(-1)
            respond(reply)

        self._submit(request, answered)
        return None

    @property
    def in_flight_max(self) -> int:
        return self._in_flight_max


class _Round:
    """One file, worked off from where it stands."""

    def __init__(self, collecting: Collecting, ledger: DebitLedger, file: DebitFile) -> None:
        self._collecting = collecting
        self._ledger = ledger
        self._file = file
        self._taken_through = file.taken_through
        self._stopped = file.state is DebitState.CANCELLING
        self._waiting: deque[TakenRow] = deque()
        self._again: list[TakenRow] = []
        self._faults: dict[int, int] = {}
        self._under_way = 0
        self._answered: list[DebitResult] = []
        self._heard = anyio.Event()

    async def run(self) -> None:
        """Until every row has its result, and the file has ended."""
        await self._find_what_was_under_way()
        while True:
            await self._take()
            while self._waiting and self._under_way < self._collecting.in_flight_max:
                self._ask(self._waiting.popleft())
            if len(self._answered) >= RESULTS_PER_CALL or not self._under_way:
                await self._write()
            if self._under_way or self._again:
                await self._wait()
            elif not (self._waiting or self._answered) and self._all_taken:
                break
        if self._stopped:
            await self._cancel_the_rest()
        await self._ledger.end(self._file.file_number)

    @property
    def _all_taken(self) -> bool:
        return self._stopped or self._taken_through == self._file.row_count

    async def _find_what_was_under_way(self) -> None:
        """Rows that an earlier process took and left without a result."""
        after = 0
        while rows := await self._ledger.taken(
            self._file.file_number, after, self._taken_through, ROWS_PER_TAKE
        ):
            after = rows[-1].row_number
            keys = {row.row_number: key_of(self._file, row.row_number) for row in rows}
            posted = await self._ledger.posted(list(keys.values()))
            for row in rows:
                found = posted.get(keys[row.row_number])
                if found is None:
                    self._waiting.append(row)
                else:
                    self._answered.append(result_found(row.row_number, found))

    async def _take(self) -> None:
        """Have the next rows at hand before the last ones are asked for."""
        if self._all_taken or len(self._waiting) >= self._collecting.in_flight_max:
            return
        number = self._file.file_number
        through = await self._ledger.take(number, ROWS_PER_TAKE)
        if through is None:
            self._stopped = True
            return
        self._waiting += await self._ledger.taken(
            number, self._taken_through, through, ROWS_PER_TAKE
        )
        self._taken_through = through

    def _ask(self, row: TakenRow) -> None:
        def respond(reply: Reply) -> None:
            self._under_way -= 1
            self._heard.set()
            if not is_for_now(reply):
                self._answered.append(result_of(row.row_number, reply))
                return
            if reply.outcome is Outcome.FAULT:
                faults = self._faults[row.row_number] = self._faults.get(row.row_number, 0) + 1
                if faults >= FAULTS_MAX:
                    self._answered.append(result_of(row.row_number, reply))
                    return
            self._again.append(row)

        self._under_way += 1
        refused = self._collecting.ask(self._file, row, respond)
        if refused is not None:
            self._under_way -= 1
            self._answered.append(result_refused(row.row_number, refused.code))

    async def _wait(self) -> None:
        """Until an answer comes; what could not be taken before is due again after a while."""
        self._heard = anyio.Event()
        if not self._again:
            await self._heard.wait()
            return
        await anyio.sleep(AGAIN_SECONDS)
        self._waiting.extendleft(reversed(self._again))
        self._again.clear()

    async def _write(self) -> None:
        results, self._answered = self._answered, []
        for start in range(0, len(results), RESULTS_PER_CALL):
            chunk = results[start : start + RESULTS_PER_CALL]
            await self._ledger.write(self._file.file_number, chunk)

    async def _cancel_the_rest(self) -> None:
        """Give the rows that were never taken their result."""
        first, end = self._taken_through + 1, self._file.row_count + 1
        for start in range(first, end, ROWS_PER_CLEANING):
            rows = range(start, min(start + ROWS_PER_CLEANING, end))
            results = [result_refused(row, DebitCode.CANCELLED) for row in rows]
            await self._ledger.write(self._file.file_number, results)
