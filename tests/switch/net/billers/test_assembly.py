"""The key that we show a biller comes from a file that not everybody reads, and is never told."""

from __future__ import annotations

import pytest

from switch.clock import SystemClock
from switch.config_city import Biller
from switch.config_reading import ConfigError
from switch.metrics import Metrics
from switch.net.billers.assembly import billers_of


def biller(file: str) -> Biller:
    return Biller(
        name="water", url="http://127.0.0.1:9", venue="water", acquirer="48041000",
        api_key_file=file,
    )  # fmt: skip


def test_a_key_is_shown_as_a_bearer(tmp_path):
    (tmp_path / "key").write_text("open-sesame\n")
    (tmp_path / "key").chmod(0o640)
    made = billers_of((biller(str(tmp_path / "key")),), SystemClock(), Metrics())
    assert made._hosts["water"].client.headers["authorization"] == "Bearer open-sesame"


@pytest.mark.parametrize(
    ("octets", "mode", "problem"),
    [
        (None, 0o600, "it cannot be read"),
        (b"open-sesame", 0o644, "everybody may read it"),
        (b"", 0o600, "it holds no key"),
        (b"open sesame", 0o600, "it holds no key"),
        ("öffne".encode(), 0o600, "it holds no key"),
        (b"x" * 600, 0o600, "it holds no key"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_a_problem_of_the_configuration(
    tmp_path, octets, mode, problem
):
    path = tmp_path / "key"
    if octets is not None:
        path.write_bytes(octets)
        path.chmod(mode)
    with pytest.raises(ConfigError, match=problem) as refused:
        billers_of((biller(str(path)),), SystemClock(), Metrics())
    assert "billers[0].api_key_file" in str(refused.value)
    assert "sesame" not in str(refused.value)
