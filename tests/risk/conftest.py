"""Facts and rulesets for the tests, as values: each test names only what it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocols.message import Kind, Outcome, Segment
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.facts import Facts, History, Totals, empty_history
from risk.ruleset import Ruleset

NOW_US = 1_780_000_000_000_000
SETTINGS = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"
"""


def history_of(*events: dict[str, Any]) -> History:
    """Events given as what differs from an approved purchase; `ago_s` is seconds before now."""
    history = empty_history()
    for event in events:
        whole = {
            "card_id": 1,
            "kind": Kind.PURCHASE,
            "amount_minor": 1000,
            "outcome": Outcome.APPROVED,
            "segment": Segment.RETAIL,
            "mcc": "5411",
            "merchant": "M1",
            "terminal": "T1",
            **event,
        }
        at_us = NOW_US - int(whole.pop("ago_s") * 1_000_000)
        given_back = whole.pop("given_back", False)
        history.append(at_us=at_us, **whole)
        history.given_back[-1] = given_back
    return history


def facts_of(*events: dict[str, Any], **changed: Any) -> Facts:
    """A named holder's purchase of 10.00 in a shop, with these past events."""
    usual: dict[str, Any] = {
        "now_us": NOW_US,
        "day_start_us": NOW_US - 40_000 * 1_000_000,
        "local_second_of_day": 40_000,
        "weekday": 3,
        "kind": Kind.PURCHASE,
        "segment": Segment.RETAIL,
        "amount_minor": 1000,
        "mcc": "5411",
        "merchant": "M1",
        "terminal": "T1",
        "acquirer": "shops",
        "entry_mode": "07",
        "medium": "ab" * 16,
        "card_id": 1,
        "card_status": "active",
        "tier": "named",
        "product": "citizen",
        "balance_minor": 50_000,
        "history": history_of(*events),
        "totals": Totals(),
    }
    return Facts(**{**usual, **changed})


def assess(body: str, facts: Facts) -> Any:
    return compile_ruleset(load_ruleset(SETTINGS + body)).assess(facts)


@pytest.fixture(scope="session")
def make_facts() -> Callable[..., Facts]:
    return facts_of


@pytest.fixture(scope="session")
def assess_with() -> Callable[[str, Facts], Any]:
    """(features, rules and lists in TOML, facts) → the assessment."""
    return assess


@pytest.fixture(scope="session")
def load() -> Callable[[str], Ruleset]:
    """Features, rules and lists in TOML → the typed ruleset."""
    return lambda body: load_ruleset(SETTINGS + body)


@pytest.fixture(scope="session")
def settings_toml() -> str:
    return SETTINGS
