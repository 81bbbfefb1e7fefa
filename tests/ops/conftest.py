"""Tools that check operations files: a missing one skips, and so fails where CI is set."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def ops() -> Path:
    return Path(__file__).parents[2] / "ops"


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    def find(program: str, package: str) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{program} is missing: install the Debian package {package}")
        return path

    return find
