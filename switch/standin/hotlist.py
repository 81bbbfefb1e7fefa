"""The ruleset's hotlist by itself: what stand-in asks while no rule can be evaluated.

Rules need the history of an account, which is in the ledger; a list needs nothing.
"""

from __future__ import annotations

from risk.check import load_ruleset
from risk.lists import Lookup, compile_list
from switch.config import Config
from switch.terms import ruleset_text

HOTLIST = "hotlist"
"""The list of this name, where it is of mediums, is the hotlist of stand-in."""


def hotlist_of(config: Config) -> Lookup:
    """Whether a medium (hex) is on the hotlist at an instant. Raises as `load_terms` does."""
    ruleset = load_ruleset(ruleset_text(config), config.rules.file)
    for named in ruleset.lists:
        if named.name == HOTLIST and named.field == "medium":
            return compile_list(named)
    return lambda _value, _now_us: False
