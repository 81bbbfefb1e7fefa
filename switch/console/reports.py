"""Reports of backtests as files, made from what the ledger has when somebody looks.

They may be thrown away at any time, and the oldest are.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import msgspec

from risk.backtest_result import BacktestResult
from switch.console.backtest_queue import BacktestQueue
from switch.console.problems import Fault, refusal

REPORTS_KEPT = 20
INDEX = "index.html"


class Reports:
    """The reports in one directory, by the id of their backtest."""

    def __init__(self, backtests: BacktestQueue, directory: Path, time_zone: str) -> None:
        self._backtests = backtests
        self._directory = directory
        self._zone = ZoneInfo(time_zone)
        self._turn = anyio.Lock()

    async def file(self, backtest_id: int, name: str) -> bytes:
        """A file of a report, which is written if it is not there. Raises Refused."""
        place = self._directory / str(backtest_id)
        async with self._turn:
            if not await anyio.Path(place / INDEX).is_file():
                octets = await self._backtests.result(backtest_id)
                await anyio.to_thread.run_sync(self._write, octets, place)
            try:
                return await anyio.Path(place / name).read_bytes()
            except OSError:
                words = "the report has no such file; its index.html names them"
                raise refusal(Fault.NOT_FOUND, words) from None

    def _write(self, octets: bytes, place: Path) -> None:
        """Write a report beside its place and then put it there, whole; forget the oldest."""
        from switch.backtest.report import write_report  # it draws, which takes a second to import

        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = place.with_name(f"{place.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        write_report(msgspec.json.decode(octets, type=BacktestResult), beside, zone=self._zone)
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
        kept = sorted(place.parent.iterdir(), key=lambda each: each.stat().st_mtime)
        for each in kept[:-REPORTS_KEPT]:
            shutil.rmtree(each, ignore_errors=True)
