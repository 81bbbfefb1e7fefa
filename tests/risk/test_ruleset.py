"""The hash names the meaning: spelling doesn't change it, a changed limit does."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from risk.check import first_ruleset, load_ruleset
from risk.ruleset import Ruleset, bytes_hash, canonical_bytes, ruleset_from_bytes, ruleset_hash

FEATURE = """
    [[features]]
    id = "attempts"
    key = "card"
    aggregate = "count"
    basis = "attempts"
    window = "5m"
"""
RULE = """
    [[rules]]
    id = "burst"
    version = 1
    name = "Burst"
    stage = "amber"
    when = { feature = "attempts", plus = 1, op = "gt", value = 6 }
    then = { decline = "count_limit", reason = "too many" }
"""
SAME_FEATURE = """
    [[features]]
    window = "300s"          # five minutes
    basis = "attempts"
    on_reversal = "keep"
    id = 'attempts'
    aggregate = "count"
    key = "card"
    codes = []
"""
SAME_RULE = """
    [[rules]]
    then = { reason = "too many", decline = "count_limit" }
    scope = { kinds = [] }
    stage = "amber"
    when = { value = 6, op = "gt", plus = [1], feature = "attempts" }
    name = "Burst"
    version = 1
    id = "burst"
"""


def test_order_of_keys_spelling_and_defaults_do_not_change_the_hash(
    load: Callable[[str], Ruleset],
) -> None:
    assert ruleset_hash(load(FEATURE + RULE)) == ruleset_hash(load(SAME_RULE + SAME_FEATURE))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value = 6", "value = 7"),
        ('op = "gt"', 'op = "ge"'),
        ('window = "5m"', 'window = "6m"'),
        ("version = 1", "version = 2"),
        ('basis = "attempts"', 'basis = "approved"'),
        ('window = "5m"', 'window = "5m"\nsame = "stop"'),
        ('window = "5m"', 'window = "5m"\nnoun_zh = "刷卡"'),
        ('name = "Burst"', 'name = "Burst"\nalso = [{ tag = "odd" }]'),
        ('name = "Burst"', 'name = "Burst"\ncanary_percent = 5'),
        ('name = "Burst"', 'name = "Burst"\nscope = { venues = ["bus"] }'),
        ('reason = "too many" }', 'reason = "too many" }\n[places]\n"M1/S01" = [1, 2]'),
    ],
)
def test_a_change_of_meaning_changes_the_hash(
    load: Callable[[str], Ruleset], old: str, new: str
) -> None:
    body = FEATURE + RULE
    assert old in body
    assert ruleset_hash(load(body)) != ruleset_hash(load(body.replace(old, new)))


def test_the_settings_are_part_of_the_hash(settings_toml: str) -> None:
    later = settings_toml.replace("00:00", "04:00")
    assert ruleset_hash(load_ruleset(settings_toml)) != ruleset_hash(load_ruleset(later))


def test_canonical_bytes_come_back_as_the_same_ruleset() -> None:
    ruleset = first_ruleset()
    again = ruleset_from_bytes(canonical_bytes(ruleset))
    assert again == ruleset
    assert ruleset_hash(again) == ruleset_hash(ruleset)
    assert len(ruleset_hash(ruleset)) == 64


def test_bytes_of_an_earlier_version_are_the_same_ruleset_under_their_own_hash() -> None:
    """Before there were effects beside a decision, canaries, exceptions and Chinese nouns."""
    ruleset = first_ruleset()
    plain = [rule for rule in ruleset.rules if not rule.also and not rule.scope.except_lists]
    features = [msgspec.structs.replace(each, noun_zh="") for each in ruleset.features]
    ruleset = msgspec.structs.replace(ruleset, rules=tuple(plain), features=tuple(features))
    written = msgspec.json.decode(canonical_bytes(ruleset))
    for rule in written["rules"]:
        del rule["also"], rule["canary_percent"], rule["scope"]["except"]
    for feature in written["features"]:
        del feature["noun_zh"]
    earlier = msgspec.json.encode(written, order="deterministic")
    assert ruleset_from_bytes(earlier) == ruleset
    assert bytes_hash(earlier) != ruleset_hash(ruleset)
    assert bytes_hash(canonical_bytes(ruleset)) == ruleset_hash(ruleset)
