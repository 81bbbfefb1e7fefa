"""What must hold in the end, judged from the wire alone.

The oracle knows what acquirers sent and what they were told, and adds it up as a child
would. Then it looks at the ledger's rows and balances, and they must say the same.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from protocols.message import Kind
from tests.simulation.acquirer import Result, Step
from tests.simulation.customers import FOREIGNER
from tests.simulation.model_ledger import ModelRow, check_books
from tests.simulation.spelling import Key
from tests.simulation.workers import terms

if TYPE_CHECKING:
    from tests.simulation.town import Town

OWN_KINDS = frozenset({Kind.REPEAT, Kind.REVERSAL, Kind.TOMBSTONE, Kind.HOLD_EXPIRY})
"""Rows that carry the key of a message without being what it asked for."""

MINUTE_US = 60_000_000
BURST_MAX = 10


def judge(town: Town) -> None:
    """Raise AssertionError with what is wrong, and with whom."""
    steps = [step for acquirer in town.acquirers for step in acquirer.steps]
    _everyone_is_answered(town, steps)
    _each_stands_as_told(town, steps)
    _balances_are_what_stands(town, steps)
    _nobody_gets_more_than_was_paid(steps)
    _the_host_agrees(town, steps)
    _counters_are_exact(town)
    _no_hold_is_left(town)
    _nothing_is_pending(town)
    check_books(town.ledger, town.opening_minor)


def _everyone_is_answered(town: Town, steps: list[Step]) -> None:
    for acquirer in town.acquirers:
        assert not acquirer.unexpected, "; ".join(acquirer.unexpected)
    assert not town.unsettled(), town.unsettled()
    for step in steps:
        assert step.result is not Result.OPEN, f"nobody knows what became of {_name(step)}"
        assert len(step.heard) <= step.copies, f"{_name(step)} was answered too often"


def _each_stands_as_told(town: Town, steps: list[Step]) -> None:
    rows_of = _approvals(town)
    taken_back: dict[int, int] = defaultdict(int)
    expired: set[int] = set()
    for row in town.ledger.rows:
        posting = row.posting
        if posting.outcome.approved and posting.kind is Kind.REVERSAL:
            taken_back[posting.original_id] += posting.approved_minor
        if posting.outcome.approved and posting.kind is Kind.HOLD_EXPIRY:
            expired.add(posting.original_id)
    for step in steps:
        if step.kind in (Kind.REVERSAL, Kind.INQUIRY):
            continue
        standing = []
        for row in rows_of[step.key]:
            left_minor = row.posting.approved_minor - taken_back[row.authorization_id]
            # A reversal that comes after the hold's time finds nothing left to take back.
            over = step.result is Result.UNDONE and row.authorization_id in expired
            if left_minor and not over:
                standing.append(left_minor)
        told = [step.standing_minor] if step.standing_minor else []
        assert standing == told, (
            f"{_name(step)}: {step.result.value} with {told} as told, {standing} in the ledger"
        )


def _balances_are_what_stands(town: Town, steps: list[Step]) -> None:
    expected_minor = dict(town.opening_minor)
    rows_of = _approvals(town)
    for step in steps:
        account_id = 1_000_000 + step.card_number
        # What stand-in approved and the purse could not pay is not the card's, but suspense.
        suspense = any(not row.posting.purse for row in rows_of[step.key])
        if account_id in expected_minor and not suspense:
            expected_minor[account_id] += step.effect_minor
    for account_id, minor in expected_minor.items():
        purses = town.ledger.accounts[account_id].purses.values()
        stands_minor = sum(purse.balance_minor for purse in purses)
        assert stands_minor == minor, (
            f"account {account_id} has {stands_minor}, by what was told it has {minor}"
        )


def _nobody_gets_more_than_was_paid(steps: list[Step]) -> None:
    """Of a sale all is given back at most, of a hold all is taken at most."""
    left_minor: dict[Key, int] = {}
    for step in steps:
        if step.about is None:
            left_minor[step.key] = step.standing_minor
    for step in steps:
        first = step.about
        if first is None or first.about is not None or not step.standing_minor:
            continue
        if first.kind is Kind.PURCHASE:
            left_minor[first.key] -= step.effect_minor
        elif first.kind is Kind.PREAUTHORIZATION and step.kind is Kind.COMPLETION:
            left_minor[first.key] -= step.standing_minor
        assert left_minor[first.key] >= 0, f"{_name(step)} took more than {_name(first)} gave"


def _approvals(town: Town) -> dict[Key, list[ModelRow]]:
    """The approved rows of each message, but those that only follow from it."""
    rows_of: dict[Key, list[ModelRow]] = defaultdict(list)
    for row in town.ledger.rows:
        request, posting = row.request, row.posting
        if posting.outcome.approved and posting.kind not in OWN_KINDS:
            rows_of[Key(request.terminal, request.stan, request.message_class)].append(row)
    return rows_of


def _nothing_is_pending(town: Town) -> None:
    """Each pending load was confirmed, cancelled or given back to its agent."""
    accounts = terms().settlement_accounts
    pending = {number for (code, _), number in accounts.items() if code == "PENDING"}
    waiting_minor = 0
    for row in town.ledger.rows:
        for transfer in row.posting.transfers:
            waiting_minor += transfer.amount_minor * (transfer.credit_account_id in pending)
            waiting_minor -= transfer.amount_minor * (transfer.debit_account_id in pending)
    assert not waiting_minor, f"{waiting_minor} waits in PENDING for nobody"


def _the_host_agrees(town: Town, steps: list[Step]) -> None:
    """What the other city's host holds as approved is what its cards' acquirers were told."""
    told_minor = sum(step.standing_minor for step in steps if step.card_number == FOREIGNER
                     and step.kind is Kind.PURCHASE)  # fmt: skip
    stands_minor = town.host.standing_minor
    assert told_minor == stands_minor, (
        f"{stands_minor} stands at the host, acquirers were told {told_minor}"
    )


def _counters_are_exact(town: Town) -> None:
    """No approval is the eleventh attempt of a card within a minute (the rule card_burst)."""
    for rows in town.ledger.rows_of.values():
        attempts = [row for row in rows if row.posting.kind is Kind.PURCHASE and row.account_id]
        for index, row in enumerate(attempts):
            if not row.posting.outcome.approved or row.request.standin_at_us:
                continue
            at_us = row.posting.at_us
            since = [
                other
                for other in attempts[:index]
                if at_us - MINUTE_US < other.posting.at_us <= at_us
            ]
            assert len(since) < BURST_MAX, "more attempts in a minute than the rule allows"


def _no_hold_is_left(town: Town) -> None:
    for account in town.ledger.accounts.values():
        for purse in account.purses.values():
            assert not getattr(purse, "held_minor", 0), "money is held, and no hold is open"


def _name(step: Step) -> str:
    return f"{step.kind.value} {step.key.terminal}/{step.key.stan}/{step.key.message_class}"
