"""Every word a rule may use is read from something that exists."""

from __future__ import annotations

from risk.facts import Facts, History
from risk.rules import SCOPE_FACTS, Scope
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS


def test_facts_of_the_request_are_attributes_of_facts() -> None:
    assert {word.attribute for word in CURRENT_FACTS.values()} <= set(Facts.__struct_fields__)


def test_facts_of_the_past_are_columns_of_the_history() -> None:
    assert {word.attribute for word in PAST_FACTS.values()} <= set(History.__struct_fields__)


def test_every_field_of_a_scope_restricts_a_fact() -> None:
    assert tuple(SCOPE_FACTS) == Scope.__struct_fields__
    assert set(SCOPE_FACTS.values()) <= set(CURRENT_FACTS)
