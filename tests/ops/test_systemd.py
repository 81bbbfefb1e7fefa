"""The service unit is valid, closed as far as the switch allows, and patient enough."""

import re
import subprocess

import pytest

from switch.config import parse

EXPOSURE_MAX_TENTHS = 15
"""systemd-analyze's score in tenths; 12 when written. Higher means something was opened."""


@pytest.fixture
def unit(ops):
    return (ops / "systemd/citycard.service").read_text()


@pytest.fixture
def installed_unit(unit, tmp_path):
    """The unit with a program that exists here, since verify looks for it."""
    path = tmp_path / "citycard.service"
    path.write_text(re.sub(r"(?m)^(Exec\w+)=\S+", r"\1=/bin/true", unit))
    return path


def setting(unit, name):
    return re.findall(rf"(?m)^{name}=(.*)$", unit)


def test_systemd_finds_nothing_wrong(tool, installed_unit):
    command = [tool("systemd-analyze", "systemd"), "verify", "--man=no", str(installed_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_little_is_left_open(tool, installed_unit):
    command = [tool("systemd-analyze", "systemd"), "security", "--offline=true", "--no-pager"]
    command += [f"--threshold={EXPOSURE_MAX_TENTHS}", str(installed_unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
        ("KillSignal", "SIGTERM"),
        ("LimitCORE", "0"),
    ],
)
def test_what_must_be_closed_is_closed(unit, name, value):
    assert setting(unit, name) == [value]


def test_it_has_the_files_and_the_time_that_the_configuration_asks_for(unit):
    config = parse("", "defaults")
    assert int(setting(unit, "LimitNOFILE")[0]) >= max(16_384, config.limits.connections_max + 1024)
    assert int(setting(unit, "TimeoutStopSec")[0]) > 2 * config.server.drain_seconds
