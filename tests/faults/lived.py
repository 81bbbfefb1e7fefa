"""Tills as a process of their own before a switch, and what they lived through."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from loadtest.life_lines import LifeLine, LifeProgress, LifeSummary, read_lines
from tests.faults.life_reckoning import Reckoned, read_ledger, reckon_life
from tests.faults.staged import Staged

PATIENCE_SECONDS = 60.0


def until(condition: Callable[[], Any], patience_seconds: float = PATIENCE_SECONDS) -> Any:
    """Look until the condition holds; what it said then."""
    give_up = time.monotonic() + patience_seconds
    while not (found := condition()):
        assert time.monotonic() < give_up, "waited too long"
        time.sleep(0.02)
    return found


class Life:
    """Tills as a process of their own (loadtest.lifecycle); see `moments` for their progress."""

    def __init__(self, staged: Staged, port: int, *arguments: str) -> None:
        self.staged = staged
        self.journal = staged.home / "life.jsonl"
        self._summary = staged.home / "life.json"
        command = [
            *(sys.executable, "-m", "loadtest.lifecycle", "--port", str(port), "--progress"),
            *("--cards", str(staged.crowd.cards), "--journal", str(self.journal)),
            *("--json", str(self._summary), "--seconds", "3600", *arguments),
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        self._progress: deque[LifeProgress] = deque(maxlen=2_000)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b'"visiting"' in line:
                self._progress.append(msgspec.json.decode(line, type=LifeProgress))

    def approved(self, wanted: int = 1) -> None:
        """Wait until so many approvals were told from now on."""
        begun_ms = time.time_ns() // 1_000_000

        def told() -> bool:
            return self.approved_since(begun_ms) >= wanted

        until(told)

    def approved_since(self, at_ms: int) -> int:
        return sum(told.approved for told in list(self._progress) if told.at_ms > at_ms)

    def lives_for(self, seconds: float) -> None:
        """Let traffic go on; what is tested is what happens in that time."""
        self.process_runs()
        time.sleep(seconds)
        self.process_runs()

    def process_runs(self) -> None:
        assert self.process.poll() is None, "the tills ended by themselves"

    def stop(self) -> LifeSummary:
        """No new customer; what is under way is answered or reversed. The figures.

        What stand-in took while the ledger was away is posted when this returns.
        """
        self.process_runs()
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)
        until(lambda: not self.staged.spooled().open_rows)
        return msgspec.json.decode(self._summary.read_bytes(), type=LifeSummary)

    def lines(self) -> list[LifeLine]:
        return read_lines(self.journal)

    def reckoned(self) -> Reckoned:
        """Told against stored, and the audit. Fails with what was found."""
        staged = self.staged
        found = reckon_life(
            self.lines(), read_ledger(staged.url), staged.key_file, staged.opening_minor()
        )
        refused = staged.spooled().refused
        if refused:
            found.wrong.append(f"the ledger refused what stand-in took: {refused}")
        report = staged.audit()
        if not report.clean:
            found.wrong.append(f"the audit found {report}")
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
