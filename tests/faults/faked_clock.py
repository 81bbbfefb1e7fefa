"""A switch whose wall clock a test can step, by libfaketime; its monotonic clock is real.

Debian: package `faketime`. Without it a test is skipped, which fails where CI is set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

CACHE_SECONDS = 1
"""So long a process may take to notice a step: it does not read the file at each look."""
_LIBRARY = "libfaketimeMT.so.1"
_FOLDERS = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/local/lib/faketime")


def library() -> Path:
    """The library to preload; skips the test where there is none."""
    for folder in _FOLDERS:
        for found in Path("/").glob(f"{folder[1:]}/{_LIBRARY}"):
            return found
    pytest.skip("libfaketime is missing, so no clock can be stepped: apt-get install faketime")


class FakedClock:
    """`environment` starts a process under it; `step` moves it for all of them at once."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.environment = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(CACHE_SECONDS),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.step(timedelta(0))

    def seconds_ahead(self) -> float:
        """By how much a process under it is ahead, as that process says itself."""
        told = subprocess.run(
            [sys.executable, "-c", "import time; print(time.time())"],
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            check=True,
            timeout=10,
        )
        return float(told.stdout) - time.time()

    def step(self, offset: timedelta) -> None:
        """From now on the clock is so far ahead of the machine's (or behind it)."""
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{offset.total_seconds():+.0f}\n", "ascii")
        beside.replace(self._file)
