"""Puts the billers of a worker together from its configuration."""

from __future__ import annotations

import stat
from pathlib import Path

from switch.clock import Clock
from switch.config_city import Biller
from switch.config_reading import ConfigError, Problem
from switch.metrics import Metrics
from switch.net.billers.client import Billers

API_KEY_CHARACTERS_MAX = 512


def billers_of(billers: tuple[Biller, ...], clock: Clock, metrics: Metrics) -> Billers:
    """The configured billers. Raises ConfigError for a key file that cannot be used."""
    keys = {
        each.name: _api_key(each.api_key_file, f"billers[{number}].api_key_file")
        for number, each in enumerate(billers)
        if each.api_key_file
    }
    return Billers(billers, keys, clock, metrics)


def _api_key(file: str, key: str) -> str:
    """What we show a biller. It never stands in an error."""
    try:
        with Path(file).open("rb") as opened:
            mode = stat.S_IMODE(Path(file).stat().st_mode)
            octets = opened.read(API_KEY_CHARACTERS_MAX + 1).strip()
    except OSError as error:
        raise _unusable(key, f"it cannot be read ({error.strerror})", "mend that") from None
    if mode & stat.S_IRWXO:
        raise _unusable(key, "everybody may read it", "run chmod 640 on it")
    if not 1 <= len(octets) <= API_KEY_CHARACTERS_MAX or not all(33 <= c <= 126 for c in octets):
        remedy = "write the key into it: printable ASCII without spaces"
        raise _unusable(key, f"it holds no key of 1 to {API_KEY_CHARACTERS_MAX} characters", remedy)
    return octets.decode("ascii")


def _unusable(key: str, problem: str, remedy: str) -> ConfigError:
    return ConfigError("citycard.toml", [Problem(key, problem, remedy)])
