"""The simulation says nothing of a thousand lost connections; a failing seed can run alone."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable

import pytest

SPEAKING = (
    "switch.ledger.directory",
    "switch.ledger.lanes",
    "switch.ledger.settling",
    "switch.net.connection",
    "switch.net.iso",
    "switch.ledger.forward_book",
    "switch.net.management",
    "switch.net.upstream.desk",
    "switch.net.upstream.exchange",
    "switch.net.upstream.host_link",
    "switch.net.upstream.reversals",
    "switch.standin.desk",
    "switch.standin.drain",
)
LEVELS = ("info", "warning", "error", "critical")


@pytest.fixture(autouse=True)
def _no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    if "SIMULATION_SEED" in os.environ:
        return
    silent: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    for name in SPEAKING:
        log = getattr(importlib.import_module(name), "_log", None)
        for level in LEVELS if log is not None else ():
            monkeypatch.setattr(log, level, silent, raising=False)
