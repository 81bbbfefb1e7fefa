"""The task that goes on with payments nobody looks after, of whichever process they were.

One process does it at a time, the one whose connection holds the advisory lock; a payment that
is taken up is due again later, ever more slowly, for as long as it has not ended.
"""

from __future__ import annotations

import anyio

from switch.ledger.bills import BillLedger, BillRow, BillState
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.http.steps import BillSteps

LOOK_SECONDS = 0.5
FORGET_LOOKS = 1_200

SHOWN_AS = {
    BillState.OPENED: "held",
    BillState.HELD: "held",
    BillState.RELEASING: "held",
    BillState.CONFIRMING: "confirming",
    BillState.IN_DOUBT: "in_doubt",
    BillState.REVERSING: "in_doubt",
    BillState.SUSPENSE: "suspense",
}
"""What the metrics call the states of payments that have not ended."""

_log = get_log("bills")


class BillKeeper:
    """Looks a few times a second at what is due. Has a connection of its own, which leads."""

    def __init__(self, ledger: BillLedger, steps: BillSteps, metrics: Metrics) -> None:
        self._ledger = ledger
        self._steps = steps
        self._metrics = metrics
        self._looks = 0

    async def run(self) -> None:
        """Keep until cancelled."""
        try:
            while True:
                try:
                    await self.look()
                except (LedgerLost, LedgerRefused) as error:
                    _log.warning("bill payments cannot be looked after", reason=str(error))
                await anyio.sleep(LOOK_SECONDS)
        finally:
            self._ledger.close()

    async def look(self) -> None:
        """Take up what is due, if this process leads."""
        if not await self._ledger.leads():
            return
        async with anyio.create_task_group() as tasks:
            for bill in await self._ledger.due():
                tasks.start_soon(self._take_up, bill)
        await self._tell()
        self._looks += 1
        if self._looks % FORGET_LOOKS == 0:
            await self._ledger.forget_inquiries()

    async def _take_up(self, bill: BillRow) -> None:
        try:
            await self._steps.take_up(bill)
        except (LedgerLost, LedgerRefused) as error:
            _log.warning("a payment waits for the ledger", biller=bill.biller, reason=str(error))

    async def _tell(self) -> None:
        counts: dict[str, int] = {}
        oldest: dict[str, float] = {}
        for one in await self._ledger.open_bills():
            shown = SHOWN_AS[one.state]
            counts[shown] = counts.get(shown, 0) + one.count
            oldest[shown] = max(oldest.get(shown, 0.0), one.oldest_seconds)
        self._metrics.bills_open(counts, oldest)
