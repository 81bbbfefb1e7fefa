"""Decisions as the arrays of post_batch: one element a row, and short ones for what few have.

A posting that leaves a tombstone is two rows; everything else is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from protocols.message import Kind, Outcome
from switch.ledger.effect_columns import bucket_columns, effect_column, spent_on_column
from switch.posting import ChipChange, Posting, TapEvent, stop_named


def with_tombstones(
    postings: Sequence[Posting], remaining_us: Sequence[int]
) -> tuple[Sequence[Posting], Sequence[int], list[int] | None]:
    """The rows to write, their budgets, and which of them answers for each posting.

    The last is None where no posting leaves a tombstone, which is nearly always.
    """
    if not any(posting.tombstone_key for posting in postings):
        return postings, remaining_us, None
    rows: list[Posting] = []
    budgets: list[int] = []
    own: list[int] = []
    for posting, budget in zip(postings, remaining_us, strict=True):
        own.append(len(rows))
        rows.append(posting)
        budgets.append(budget)
        if posting.tombstone_key:
            rows.append(tombstone(posting))
            budgets.append(budget)
    return rows, budgets, own


def tombstone(posting: Posting) -> Posting:
    """What stands under the key of a message that was reversed before it came."""
    return Posting(
        posting.directed,
        posting.at_us,
        Outcome.REVERSED_BEFORE,
        rrn=posting.rrn,
        explanation="reversed before it came",
        key=posting.tombstone_key,
        kind=Kind.TOMBSTONE,
    )


def columns(
    postings: Sequence[Posting], remaining_us: Sequence[int], ruleset: str
) -> tuple[Any, ...]:
    """The arguments of post_batch from p_account_ids on.

    `ruleset` is the hash of the live one: that of rows which no rule was asked about.
    """
    requests = [posting.directed.request for posting in postings]
    transfers = [
        (row, transfer) for row, posting in enumerate(postings, 1) for transfer in posting.transfers
    ]
    return (
        [posting.directed.account_id for posting in postings],
        [posting.directed.card_id for posting in postings],
        [posting.at_us for posting in postings],
        list(remaining_us),
        [posting.key for posting in postings],
        [request.payload_hash for request in requests],
        [request.message_class for request in requests],
        [posting.kind.value for posting in postings],
        [request.segment.value for request in requests],
        [request.link for request in requests],
        [request.acquirer for request in requests],
        [request.terminal for request in requests],
        [request.merchant for request in requests],
        [request.mcc for request in requests],
        [request.entry_mode for request in requests],
        [request.stan for request in requests],
        [request.local_at for request in requests],
        [posting.rrn for posting in postings],
        [posting.auth_code for posting in postings],
        [request.amount.currency for request in requests],
        [request.amount.amount_minor for request in requests],
        [posting.approved_minor for posting in postings],
        [posting.purse for posting in postings],
        [posting.outcome.value for posting in postings],
        [posting.original_id for posting in postings],
        [posting.ruleset or ruleset for posting in postings],
        [posting.rule_results for posting in postings],
        [posting.explanation for posting in postings],
        [posting.spent_count for posting in postings],
        [posting.spent_minor for posting in postings],
        [row for row, _ in transfers],
        [transfer.debit_account_id for _, transfer in transfers],
        [transfer.credit_account_id for _, transfer in transfers],
        [transfer.amount_minor for _, transfer in transfers],
        [postings[row - 1].kind.value for row, _ in transfers],
        *_hold_columns(postings),
        *_pin_columns(postings),
        [request.venue for request in requests],
        [stop_named(request.tap) for request in requests],
        ["" if request.tap is None else request.tap.vehicle for request in requests],
        _json([_tap_row(n, each.tap) for n, each in enumerate(postings, 1) if each.tap]),
        _json([_chip_row(n, each.chip) for n, each in enumerate(postings, 1) if each.chip]),
        spent_on_column(postings),
        effect_column(postings),
        *bucket_columns(postings),
    )


def _hold_columns(postings: Sequence[Posting]) -> tuple[Any, ...]:
    opened = [
        (row, posting.opens) for row, posting in enumerate(postings, 1) if posting.opens is not None
    ]
    resolved = [
        (row, posting.resolves)
        for row, posting in enumerate(postings, 1)
        if posting.resolves is not None
    ]
    return (
        [row for row, _ in opened],
        [hold.purpose.value for _, hold in opened],
        [int(hold.purse) for _, hold in opened],
        [hold.amount_minor for _, hold in opened],
        [hold.expires_at_us for _, hold in opened],
        [hold.authorization_id for _, hold in opened],
        [row for row, _ in resolved],
        [resolution.hold_id for _, resolution in resolved],
        [resolution.status.value for _, resolution in resolved],
    )


def _pin_columns(postings: Sequence[Posting]) -> tuple[Any, ...]:
    counted = [
        (row, posting.pin_tries)
        for row, posting in enumerate(postings, 1)
        if posting.pin_tries >= 0
    ]
    return [row for row, _ in counted], [tries for _, tries in counted]


def _json(rows: list[dict[str, Any]]) -> str | None:
    """An array for a jsonb parameter; None where there is nothing in it, which is nearly always."""
    return msgspec.json.encode(rows).decode() if rows else None


def _tap_row(row: int, tap: TapEvent) -> dict[str, Any]:
    fare = tap.fare
    return {
        "n": row,
        "fare_date": tap.fare_date,
        "kind": tap.kind,
        "event_at_us": tap.event_at_us,
        "mode": tap.mode,
        "line": tap.line,
        "stop": tap.stop,
        "vehicle": tap.vehicle,
        "acquirer": tap.acquirer,
        "fare_class": fare.fare_class,
        "fare_version": fare.fare_version,
        "nominal_minor": fare.nominal_minor,
        "concession_minor": fare.concession_minor,
        "transfer_minor": fare.transfer_minor,
        "cap_minor": fare.cap_minor,
        "recomputed_minor": fare.recomputed_minor,
        "charged_minor": fare.charged_minor,
        "journey_id": tap.journey_id,
    }


def _chip_row(row: int, chip: ChipChange) -> dict[str, Any]:
    return {
        "n": row,
        "counter": chip.counter,
        # As Postgres reads bytes from text.
        "digest": f"\\x{chip.digest.hex()}",
        "batch": f"\\x{chip.batch.hex()}",
        "suspense": chip.suspense,
        "missing_minor": chip.missing_minor,
    }
