"""Whether a counter can be computed at all, and exactly: what its key and window can hold.

A card's and an account's events are there for a day, an account's totals for longer, and a
place's events only as sums of a minute. What cannot be told from these is refused when it is
written, with what would have been right, for nobody sees later that a counter is too low.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

from protocols.message import Outcome
from risk.buckets import BUCKET_SECONDS
from risk.check_leaf import Names, condition_findings
from risk.conditions import (
    Condition,
    CurrentOperand,
    FactOperand,
    InList,
    leaves,
    operands,
)
from risk.features import (
    TRAVEL,
    Aggregate,
    Basis,
    CalendarDay,
    DistinctField,
    Feature,
    Key,
    TotalWindow,
    Trailing,
)
from risk.findings import Finding, error, holds_digit_run, one_of, warning
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS

_WITH_FIELD = frozenset({Aggregate.DISTINCT, Aggregate.SUM, Aggregate.LAST})
_ADDED_UP = (Aggregate.COUNT, Aggregate.SUM)


def feature_findings(feature: Feature, path: str, names: Names) -> Iterator[Finding]:
    """All that is wrong with one feature; `names` are those of past events."""
    if feature.id in CURRENT_FACTS:
        yield error(f"{path}.id", "expected a name that isn't the name of a fact")
    yield from _field_findings(feature, path)
    if feature.codes and feature.basis is not Basis.DECLINED:
        yield error(f"{path}.codes", 'expected nothing, unless basis = "declined"')
    if Outcome.APPROVED in feature.codes:
        yield error(f"{path}.codes", "expected outcomes of declines")
    for field in ("noun", "noun_zh"):
        if holds_digit_run(getattr(feature, field)):
            yield error(f"{path}.{field}", "expected words, without a long number")
    if isinstance(feature.window, TotalWindow):
        yield from _total_findings(feature, path)
    elif feature.where is None or not _reads_kind(feature.where):
        yield warning(
            f"{path}.where",
            "expected the kinds to be named; without that loads and purchases count alike",
        )
    if feature.bucketed:
        yield from _bucket_findings(feature, path)
    if feature.where is not None:
        yield from condition_findings(feature.where, f"{path}.where", names)


def _field_findings(feature: Feature, path: str) -> Iterator[Finding]:
    match feature.aggregate:
        case Aggregate.DISTINCT if feature.field not in get_args(DistinctField):
            yield error(f"{path}.field", f"expected {one_of(get_args(DistinctField))} to count")
        case Aggregate.SUM if feature.field not in (None, "amount"):
            yield error(f"{path}.field", "expected amount or nothing: only amounts are summed")
        case Aggregate.LAST if feature.field is None:
            yield error(f"{path}.field", f"expected {one_of(PAST_FACTS)} to read")
        case _ if feature.field is not None and feature.aggregate not in _WITH_FIELD:
            yield error(
                f"{path}.field", "expected nothing: only distinct, sum and last have a field"
            )
        case _:
            pass
    if feature.aggregate in TRAVEL and feature.same == "stop":
        yield error(f"{path}.same", "expected nothing: from a stop to itself nobody travels")


def _total_findings(feature: Feature, path: str) -> Iterator[Finding]:
    """Longer than the day of history is only what the ledger keeps as a running total."""
    named = feature.window.__struct_config__.tag
    why = f"{named} is served by the account's running totals"
    if feature.key is not Key.ACCOUNT:
        yield error(f"{path}.key", f"expected account, for {why}")
    if feature.aggregate not in _ADDED_UP:
        yield error(f"{path}.aggregate", f"expected count or sum, for {why}")
    if feature.basis is not Basis.APPROVED:
        yield error(f"{path}.basis", f"expected approved, for {why} of approved purchases")
    for field in ("where", "same"):
        if getattr(feature, field) is not None:
            yield error(
                f"{path}.{field}", f"expected nothing, for {why}, which keep no single events"
            )
    if feature.restores is not (feature.aggregate is Aggregate.SUM):
        yield error(
            f"{path}.on_reversal",
            f"expected restore for a sum and keep for a count, for {why} so kept",
        )


def _bucket_findings(feature: Feature, path: str) -> Iterator[Finding]:
    why = f"a {feature.key} is counted in buckets of a minute"
    if feature.aggregate not in _ADDED_UP:
        yield error(f"{path}.aggregate", f"expected count or sum, for {why}, which only add up")
    match feature.window:
        case Trailing(seconds=seconds) if seconds % BUCKET_SECONDS == 0:
            pass
        case CalendarDay():
            pass
        case _:
            yield error(
                f"{path}.window", f'expected whole minutes up to "24h", or calendar_day, for {why}'
            )
    if feature.same is not None:
        yield error(f"{path}.same", f"expected nothing, for {why}, which keep no single events")
    if feature.where is None:
        return
    for at, leaf in leaves(feature.where, f"{path}.where"):
        if any(isinstance(operand, CurrentOperand) for operand in operands(leaf)):
            yield error(f"{at}.value", f"expected a constant, for {why} before the request in hand")
        if isinstance(leaf, InList):
            yield error(f"{at}.list", f"expected no list, for {why} when the list was another one")


def _reads_kind(condition: Condition) -> bool:
    return any(
        isinstance(operand, FactOperand) and operand.name == "kind"
        for _, leaf in leaves(condition, "")
        for operand in operands(leaf)
    )
