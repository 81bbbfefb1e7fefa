"""Rows of load_batch as what a decision is made on."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from protocols.message import TAP_KINDS, Kind, Outcome, Segment
from risk.facts import HISTORY_EVENTS_MAX, History, empty_history
from risk.past_events import EVENT_KINDS, given_back_minor, is_given_back
from switch.posting import (
    Account,
    ChipFacts,
    FareFacts,
    Followers,
    Hold,
    Loaded,
    Original,
    PurseState,
    Stored,
)

HISTORY_ROWS_MAX = 2 * HISTORY_EVENTS_MAX
"""An event is rarely given back twice, so this many rows hold the events a rule may ask for."""

DAY_US = 86_400_000_000

_KINDS = {kind.value: kind for kind in Kind}
_EVENTS = frozenset(kind.value for kind in EVENT_KINDS)
_TAPS = frozenset(kind.value for kind in TAP_KINDS)
_APPROVED = Outcome.APPROVED.value
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SEGMENTS = {segment.value: segment for segment in Segment}
_NO_FOLLOWERS = Followers()
_ORIGINAL = msgspec.json.Decoder(Original)
_FOLLOWERS = msgspec.json.Decoder(Followers)
_HOLDS = msgspec.json.Decoder(tuple[Hold, ...])
_FARES = msgspec.json.Decoder(FareFacts)
_CHIP = msgspec.json.Decoder(ChipFacts)


def loaded(account_id: int, row: Any, accounts: dict[int, Account], now_us: int) -> Loaded:
    """The facts of one row; `accounts` keeps those of the batch, which its requests share."""
    account = accounts.get(account_id)
    if account is None and row["account_version"] is not None:
        account = accounts[account_id] = _account(account_id, row)
    original, holds = row["original"], row["holds"]
    fares, chip = row["fares"], row["chip"]
    return Loaded(
        account=account,
        # Interned: the default of stored facts is left out of them by identity.
        card_status=sys.intern(row["card_status"] or ""),
        expires_yymm=row["expires_yymm"] or "",
        last4=row["last4"] or "",
        stored=_stored(row),
        original=None if original is None else _ORIGINAL.decode(original),
        holds=() if holds is None else _HOLDS.decode(holds),
        pin_reference=row["pin_reference"] or b"",
        pin_tries=row["pin_tries"] or 0,
        hotlisted=bool(row["hotlisted"]),
        fares=None if fares is None else _FARES.decode(fares),
        chip=None if chip is None else _CHIP.decode(chip),
        card_age_days=_age_days(row["issued_us"], now_us),
    )


def _age_days(issued_us: int | None, now_us: int) -> int | None:
    """Whole days since the card was issued; None for a card that is not known."""
    return None if issued_us is None else max(0, now_us - issued_us) // DAY_US


def _account(account_id: int, row: Any) -> Account:
    history, event_ids = _history(row)
    purses = zip(
        row["purse"] or (),
        row["balance_minor"] or (),
        row["held_minor"] or (),
        row["floor_minor"] or (),
        row["month_count"] or (),
        row["month_minor"] or (),
        row["week_count"] or (),
        row["week_minor"] or (),
        row["lifetime_count"] or (),
        row["lifetime_minor"] or (),
        strict=True,
    )
    return Account(
        account_id=account_id,
        version=row["account_version"],
        status=row["account_status"],
        tier=row["tier"],
        product=row["product"],
        purses={number: PurseState(*state) for number, *state in purses},
        history=history,
        event_ids=event_ids,
    )


def _history(row: Any) -> tuple[History, list[int]]:
    kinds = row["kind"]
    if kinds is None:
        return empty_history(), []
    if len(kinds) <= HISTORY_EVENTS_MAX and _EVENTS.issuperset(kinds):
        return _untouched_history(row, kinds), row["authorization_id"][::-1]
    # The newest events, oldest first, without the messages that gave some of them back.
    kept = [index for index, kind in enumerate(kinds) if kind in _EVENTS]
    kept = kept[:HISTORY_EVENTS_MAX][::-1]
    given_back = _given_back(row, kinds) if len(kept) != len(kinds) else frozenset[int]()

    def column(name: str) -> list[Any]:
        values = row[name]
        return [values[index] for index in kept]

    event_ids = column("authorization_id")
    amounts = _amounts(row, kinds)
    history = History(
        at_us=column("at_us"),
        card_id=column("card_id"),
        kind=[_KINDS[kinds[index]] for index in kept],
        amount_minor=[amounts[index] for index in kept],
        outcome=[_OUTCOMES[outcome] for outcome in column("outcome")],
        given_back=[event_id in given_back for event_id in event_ids],
        segment=[_SEGMENTS[segment] for segment in column("segment")],
        mcc=column("mcc"),
        merchant=column("merchant"),
        terminal=column("terminal"),
        venue=column("venue"),
        stop=column("stop"),
        vehicle=column("vehicle"),
    )
    return history, event_ids


def _amounts(row: Any, kinds: Sequence[str]) -> list[int]:
    """What each event was for: of an approved tap what was charged, not what its reader knew."""
    asked: list[int] = row["amount_minor"]
    if _TAPS.isdisjoint(kinds):
        return asked
    return [
        approved_minor if kind in _TAPS and outcome == _APPROVED else amount_minor
        for kind, outcome, amount_minor, approved_minor in zip(
            kinds, row["outcome"], asked, row["approved_minor"], strict=True
        )
    ]


def _given_back(row: Any, kinds: Sequence[str]) -> frozenset[int]:
    """Ids of the events that were given back whole, and not taken again since."""
    given_minor = given_back_minor(
        (authorization_id, original_id, approved_minor)
        for kind, authorization_id, original_id, approved_minor in zip(
            kinds, row["authorization_id"], row["original_id"], row["approved_minor"], strict=True
        )
        if kind not in _EVENTS
    )
    return frozenset(
        authorization_id
        for kind, authorization_id, approved_minor in zip(
            kinds, row["authorization_id"], row["approved_minor"], strict=True
        )
        if kind in _EVENTS and is_given_back(given_minor, authorization_id, approved_minor)
    )


def _untouched_history(row: Any, kinds: list[str]) -> History:
    """The same where nothing was given back, which is nearly always: columns as they are."""
    return History(
        at_us=row["at_us"][::-1],
        card_id=row["card_id"][::-1],
        kind=[_KINDS[kind] for kind in kinds[::-1]],
        amount_minor=_amounts(row, kinds)[::-1],
        outcome=[_OUTCOMES[outcome] for outcome in row["outcome"][::-1]],
        given_back=[False] * len(kinds),
        segment=[_SEGMENTS[segment] for segment in row["segment"][::-1]],
        mcc=row["mcc"][::-1],
        merchant=row["merchant"][::-1],
        terminal=row["terminal"][::-1],
        venue=row["venue"][::-1],
        stop=row["stop"][::-1],
        vehicle=row["vehicle"][::-1],
    )


def _stored(row: Any) -> Stored | None:
    if row["stored_id"] is None:
        return None
    followers = row["stored_followers"]
    return Stored(
        authorization_id=row["stored_id"],
        payload_hash=row["stored_payload_hash"],
        outcome=_OUTCOMES[row["stored_outcome"]],
        approved_minor=row["stored_approved_minor"],
        auth_code=row["stored_auth_code"],
        rrn=row["stored_rrn"],
        at_us=row["stored_at_us"],
        followers=_NO_FOLLOWERS if followers is None else _FOLLOWERS.decode(followers),
        kind=_KINDS[row["stored_kind"]],
    )
