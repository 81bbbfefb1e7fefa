"""Decision terms are what the configuration says, and the shipped ones are the documented ones."""

from __future__ import annotations

import pytest

from protocols.message import Outcome, Segment
from risk.deployment import Deployment
from risk.record import Effect
from switch.config import Config, parse
from switch.ledger import bridge, rulesets
from switch.terms import live_terms, load_terms
from tests.risk.conftest import NOW_US, facts_of
from tests.switch.ledger.rulesets_staged import approved, begin, people

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


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_ledgers_rules_as_they_are_now(connection: bridge.Connection) -> None:
    shipped = await live_terms(Config(), {}, connection, NOW_US)
    assert shipped.rules.hash == load_terms(Config(), {}).rules.hash, "there is none in the ledger"
    first, by = await begin(connection), await people(connection)
    canary = await approved(connection, by, 5_000, version=2)
    percent = {"percent": 99}
    await rulesets.act(connection, canary.hash, "canary", actor=by["cyd"], reason="", **percent)
    terms = await live_terms(Config(), {}, connection, NOW_US)
    assert isinstance(terms.rules, Deployment)
    assert (terms.rules.hash, terms.rules.canary_percent) == (first, 99)
    assert terms.rule_settings.time_zone == "Asia/Shanghai"
    large = facts_of(amount_minor=20_000)
    assert terms.rules.assess(large).decision is Outcome.AMOUNT_LIMIT
    await rulesets.pause_rule(connection, "amount_limit", actor="dan", reason="too many")
    paused = (await live_terms(Config(), {}, connection, NOW_US)).rules.assess(large)
    assert paused.decision is Outcome.APPROVED
    assert [each.effect for each in paused.results] == [Effect.PAUSED]
