"""Reports of backtests as files, made from what the ledger has when somebody looks.

They may be thrown away at any time, and the oldest are.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import anyio

from switch.console.backtest_queue import BacktestQueue
from switch.console.problems import Fault, refusal

REPORTS_KEPT = 20
INDEX = "index.html"


class ReportFailed(Exception):
    """The process that draws has failed; what it said is in the log of the console."""


class Reports:
    """The reports in one directory, by the id of their backtest and what came out: another ledger
    has other backtests of the same ids."""

    def __init__(self, backtests: BacktestQueue, directory: Path, time_zone: str) -> None:
        self._backtests = backtests
        self._directory = directory
        self._zone = time_zone
        self._turn = anyio.Lock()

    async def file(self, backtest_id: int, name: str) -> bytes:
        """A file of a report, which is written if it is not there. Raises Refused."""
        octets = await self._backtests.result(backtest_id)
        place = self._directory / f"{backtest_id}-{hashlib.sha256(octets).hexdigest()[:12]}"
        index = anyio.Path(place / INDEX)
        if not await index.is_file():
            async with self._turn:  # drawing takes seconds of a core; who came second finds it
                if not await index.is_file():
                    await self._write(octets, place)
        try:
            return await anyio.Path(place / name).read_bytes()
        except OSError:
            words = "the report has no such file; its index.html names them"
            raise refusal(Fault.NOT_FOUND, words) from None

    async def _write(self, octets: bytes, place: Path) -> None:
        """Draw a report in a process of its own, which takes seconds of a core, beside its place;
        then put it there, whole, and forget the oldest. Raises ReportFailed."""
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".part-", dir=place.parent))
        try:
            drawn = await anyio.run_process(
                [sys.executable, "-m", "switch.backtest.draw", str(beside), self._zone],
                input=octets,
                stdout=subprocess.DEVNULL,
                stderr=None,
                check=False,
                start_new_session=True,
            )
            if drawn.returncode != 0:
                raise ReportFailed
            _put(beside, place)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _put(beside: Path, place: Path) -> None:
    with suppress(OSError):  # another console has put the same one there meanwhile
        beside.rename(place)
    kept = sorted(place.parent.iterdir(), key=_written)
    for each in kept[:-REPORTS_KEPT]:
        shutil.rmtree(each, ignore_errors=True)


def _written(place: Path) -> float:
    try:
        return place.stat().st_mtime
    except FileNotFoundError:  # another console has forgotten it meanwhile
        return 0.0
