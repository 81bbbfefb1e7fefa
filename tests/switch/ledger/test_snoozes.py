"""Cards spared from a rule: by whom, why, from when until when, and never from a red one."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.card_number import numbered_card
from risk.check import load_ruleset
from risk.rules import TTL_SECONDS_MAX
from switch.ledger import bridge, list_acts, rules_trail, rulesets, snoozes
from switch.ledger.cards import NewCard, issue
from switch.ledger.list_acts import ActRejected, takes_effect_us

NOW_US = 1_774_929_600_000_000
HOUR_US = 3_600_000_000
KEY = b"a key of thirty-two bytes, tests"
RULES = """
settings = { time_zone = "Asia/Shanghai", service_day_start = "04:00", currency = "156" }

[[rules]]
id = "big"
version = 1
name = "Big payments"
stage = "amber"
when = { fact = "amount", op = "gt", value = 10000 }
then = { decline = "amount_limit", reason = "big" }

[[rules]]
id = "law"
version = 1
name = "The law"
stage = "red"
when = { fact = "card_status", op = "eq", value = "stolen" }
then = { decline = "card_stolen", reason = "law" }
"""


@pytest.fixture
async def card_id(connection: bridge.Connection, monkeypatch: pytest.MonkeyPatch) -> int:
    """A card of a ledger whose live ruleset has an amber and a red rule."""
    monkeypatch.setattr(list_acts, "WRITTEN_WITHIN_PERCENT", 10**6)
    await rulesets.bootstrap(connection, load_ruleset(RULES), RULES, NOW_US)
    new = [NewCard(numbered_card("621299", 7))]
    (issued,) = await issue(connection, new, shards=2, key=KEY, overdraft_minor=0)
    return issued.card_id


async def add(connection: bridge.Connection, card_id: int, **changed: Any) -> int:
    usual: dict[str, Any] = {
        "rule_id": "big", "until_us": NOW_US + HOUR_US, "reason": "buys a piano", "author": "ann",
        "now_us": NOW_US,
    }  # fmt: skip
    return await snoozes.add(connection, card_id=card_id, **(usual | changed))


async def test_a_snooze_begins_soon_and_is_lifted_soon(
    connection: bridge.Connection, card_id: int
) -> None:
    first = await add(connection, card_id)
    await add(connection, card_id, until_us=NOW_US + 2 * HOUR_US)
    newest, oldest = await snoozes.standing(connection, NOW_US)
    assert (oldest.snooze_id, oldest.card_id, oldest.last4) == (
        first, card_id, numbered_card("621299", 7).last4,
    )  # fmt: skip
    assert (oldest.from_us, oldest.until_us) == (takes_effect_us(NOW_US), NOW_US + HOUR_US)
    assert await snoozes.standing(connection, NOW_US, card_id=card_id + 1) == []

    lifted_us = NOW_US + HOUR_US
    lift: dict[str, Any] = {
        "rule_id": "big", "card_id": card_id, "reason": "bought", "author": "bob",
        "now_us": lifted_us,
    }  # fmt: skip
    assert await snoozes.lift(connection, **lift) == 1
    assert await snoozes.lift(connection, **lift) == 0
    assert await snoozes.standing(connection, takes_effect_us(lifted_us)) == []
    kept = {each.snooze_id: each for each in await snoozes.standing(connection, NOW_US)}
    assert kept[newest.snooze_id].until_us == takes_effect_us(lifted_us)
    assert kept[newest.snooze_id].lifted_by == "bob"
    assert kept[first] == oldest
    trail = await rules_trail.trail(connection, subject="rule big")
    assert [(event.act, event.actor) for event in trail] == [
        ("snooze_lift", "bob"), ("snooze_add", "ann"), ("snooze_add", "ann"),
    ]  # fmt: skip


async def test_nobody_is_spared_from_law_nor_without_an_end(
    connection: bridge.Connection, card_id: int
) -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"rule_id": "law"}, "red rule"),
        ({"rule_id": "bog"}, "no such rule"),
        ({"until_us": NOW_US}, "within a year"),
        ({"until_us": NOW_US + (TTL_SECONDS_MAX + 60) * 1_000_000}, "within a year"),
        ({"reason": "6212990000000007"}, "long number"),
        ({"reason": ""}, "1 to 120"),
    ]
    for changed, says in refused:
        with pytest.raises(ActRejected, match=says):
            await add(connection, card_id, **changed)
    with pytest.raises(ActRejected, match="no card"):
        await add(connection, card_id + 1)
    assert await snoozes.standing(connection, 0) == []


async def test_snoozes_are_bounded(
    connection: bridge.Connection, card_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snoozes, "SNOOZES_MAX", 1)
    await add(connection, card_id)
    with pytest.raises(ActRejected, match="change the rule"):
        await add(connection, card_id)
    assert len(await snoozes.standing(connection, NOW_US)) == 1
