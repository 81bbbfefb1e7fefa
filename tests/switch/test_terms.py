"""Decision terms are what the configuration says, and the shipped ones are the documented ones."""

from __future__ import annotations

from protocols.message import Segment
from switch.config import parse
from switch.terms import load_terms

CHANGED = """
[purses.GEN]
pin_above_minor = 7
[holds]
expiry_minutes = 8
expiry_minutes_by_mcc = { "7523" = 9 }
load_expiry_minutes = 10
open_max_per_account = 11
[standin.transit]
suspense_owner = "metro"
"""


def test_the_shipped_terms() -> None:
    terms = load_terms(parse("", "defaults"), {})
    assert terms.pin_above_minor == 100_000
    assert (terms.hold_expiry_minutes, terms.load_expiry_minutes) == (43_200, 43_200)
    assert terms.hold_expiry_minutes_by_mcc == {"5541": 120, "5542": 120}
    assert terms.holds_open_max == 8
    assert terms.suspense_owners == {
        Segment.TRANSIT: "transit operations",
        Segment.UTILITY: "risk office",
        Segment.RETAIL: "risk office",
    }


def test_what_is_configured_is_what_is_decided_by() -> None:
    terms = load_terms(parse(CHANGED, "test.toml"), {("BANK", "trust"): 1})
    assert terms.pin_above_minor == 7
    assert (terms.hold_expiry_minutes, terms.hold_expiry_minutes_by_mcc) == (8, {"7523": 9})
    assert (terms.load_expiry_minutes, terms.holds_open_max) == (10, 11)
    assert terms.suspense_owners[Segment.TRANSIT] == "metro"
    assert terms.settlement_accounts == {("BANK", "trust"): 1}
