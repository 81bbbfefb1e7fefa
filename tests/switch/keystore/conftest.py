"""Key stores on disk, a fresh one for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from switch.clock import SystemClock
from switch.keystore.software import SoftwareKeyStore, make_store


@pytest.fixture
def store_file(tmp_path: Path) -> Path:
    path = tmp_path / "key_store.json"
    assert make_store(path, SystemClock())
    return path


@pytest.fixture
def store(store_file: Path) -> SoftwareKeyStore:
    return SoftwareKeyStore(store_file, SystemClock())
