"""Which messages are events that rules count, and which give an event back: one rule for all.

A worker reads history from the ledger and a backtest adds it up row by row; both take from here
what of an account's past stands, so that neither can count what the other does not.
"""

from __future__ import annotations

from collections.abc import Iterable

from protocols.message import TAP_KINDS, Kind

EVENT_KINDS = TAP_KINDS | {
    Kind.PURCHASE,
    Kind.PREAUTHORIZATION,
    Kind.OFFLINE_SALE,
    Kind.LOAD,
    Kind.BILL_INQUIRY,
    Kind.BILL,
}
"""What rules count, approved or not."""

GIVING_BACK_KINDS = frozenset({Kind.REVERSAL, Kind.VOID, Kind.PREAUTHORIZATION_CANCEL})
"""What gives an event back once it is approved; an event itself never does."""

Giver = tuple[int, int, int]
"""An approved message of these kinds: its id, the id of what it is about, what it approved."""


def given_back_minor(newest_first: Iterable[Giver]) -> dict[int, int]:
    """What was given back of each message, minor units, less what was taken again since.

    Newest first, so what undoes a void is known before the void is come to. A message that
    approved 0 is given back whole by one that gives back 0.
    """
    given: dict[int, int] = {}
    for authorization_id, original_id, approved_minor in newest_first:
        worth_minor = approved_minor - given.get(authorization_id, 0)
        if worth_minor > 0 or not approved_minor:
            given[original_id] = given.get(original_id, 0) + worth_minor
    return given


def is_given_back(given: dict[int, int], authorization_id: int, approved_minor: int) -> bool:
    """Whether an event that approved this much was given back whole."""
    return given.get(authorization_id, -1) >= approved_minor
