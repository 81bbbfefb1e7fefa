"""The ruleset's hotlist by itself: what stand-in asks while no rule can be evaluated.

Rules need the history of an account, which is in the ledger; a list needs nothing.
"""

from __future__ import annotations

from risk.check import load_ruleset
from risk.findings import RulesetError
from risk.lists import Lookup, compile_list
from switch.config import Config, ConfigError
from switch.terms import ruleset_text

HOTLIST = "hotlist"
"""The list of this name, where it is of mediums, is the hotlist of stand-in."""


def hotlist_of(config: Config) -> Lookup:
    """Whether a medium (hex) is on the hotlist of the configured ruleset at an instant.

    Stand-in begins with it, until the ledger's rules are known. A ledger that has rules does
    not need that file, so one that is amiss has nobody on it.
    """
    try:
        ruleset = load_ruleset(ruleset_text(config), config.rules.file)
    except (ConfigError, RulesetError):
        return nobody
    for named in ruleset.lists:
        if named.name == HOTLIST and named.field == "medium":
            return compile_list(named)
    return nobody


def nobody(_medium: int | str, _now_us: int) -> bool:
    """The lookup of a hotlist that there is not."""
    return False
