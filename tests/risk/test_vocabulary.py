"""Every word a rule may use is read from something that exists."""

from __future__ import annotations

from typing import get_args

from risk.facts import Facts, History
from risk.features import DistinctField, LastField
from risk.lists import ListField
from risk.rules import SCOPE_FACTS, Scope
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS


def test_facts_of_the_request_are_attributes_of_facts() -> None:
    assert {word.attribute for word in CURRENT_FACTS.values()} <= set(Facts.__struct_fields__)


def test_facts_of_the_past_are_columns_of_the_history() -> None:
    assert {word.attribute for word in PAST_FACTS.values()} <= set(History.__struct_fields__)


def test_every_field_of_a_scope_restricts_a_fact() -> None:
    assert (*SCOPE_FACTS, "except_lists") == Scope.__struct_fields__
    assert set(SCOPE_FACTS.values()) <= set(CURRENT_FACTS)


def test_every_list_holds_a_fact_of_the_request() -> None:
    assert set(get_args(ListField)) <= set(CURRENT_FACTS)


def test_what_last_and_distinct_read_is_a_fact_of_the_past() -> None:
    assert {*get_args(DistinctField), *get_args(LastField), "amount"} == set(PAST_FACTS)
