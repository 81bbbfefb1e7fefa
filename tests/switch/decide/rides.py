"""Taps by hand for decisions: what readers send, and what the ledger would load for them."""

from __future__ import annotations

from typing import Any

import msgspec

from protocols.message import (
    ChipRecord,
    ChipState,
    ChipVerdict,
    Fare,
    Kind,
    Mode,
    Request,
    Segment,
    Tap,
)
from switch.decide import decide
from switch.posting import (
    Account,
    Decision,
    Entitlement,
    FareFacts,
    Hold,
    HoldPurpose,
    Loaded,
    Posting,
    PurseState,
    TapEvent,
)
from tests.simulation.model_ledger import ACQUIRER, CALENDAR, NOON_US, purchase
from tests.switch.decide.cases import (
    GEN,
    HOUR_US,
    TRN,
    account,
    directed,
    hold,
    loaded,
    moment,
    terms,
)

CHIP = 3
MCCS = {Mode.BUS: "4131", Mode.METRO: "4111", Mode.PARKING: "7523", Mode.PARK: "7991"}
SEGMENTS = {Mode.PARK: Segment.RETAIL}


def ride(
    kind: Kind = Kind.FARE,
    number: int = 1,
    *,
    mode: Mode = Mode.BUS,
    line: str = "",
    stop: str = "",
    event_at_us: int = NOON_US,
    nominal_minor: int = 0,
    **changed: Any,
) -> Request:
    """A tap of a reader; `number` makes its key."""
    usual: dict[str, Any] = {
        "kind": kind,
        "segment": SEGMENTS.get(mode, Segment.TRANSIT),
        "card": None,
        "medium": b"m" * 16,
        "mcc": MCCS.get(mode, "4111"),
        "venue": mode.value,
        "tap": Tap(mode, line, stop, "", event_at_us),
        "expiry": "",
        "entry_mode": "tap",
    }
    return purchase(number, nominal_minor, **(usual | changed))


def record(
    counter: int = 7,
    amount_minor: int = 200,
    *,
    digest: bytes = b"d" * 8,
    batch: bytes = b"b" * 8,
    verdict: ChipVerdict = ChipVerdict.GENUINE,
) -> Request:
    """A record of a chip, uploaded later."""
    told = ChipRecord(counter, 0, digest, batch, verdict)
    tap = Tap(Mode.BUS, "K1", "", "", NOON_US - HOUR_US, record=told)
    return ride(
        Kind.OFFLINE_FARE,
        counter,
        nominal_minor=amount_minor,
        tap=tap,
        advice=True,
        background=True,
        payload_hash=digest,
    )


def chip_load(
    counter: int, balance_minor: int, amount_minor: int = 1_000, **changed: Any
) -> Request:
    tap = Tap(Mode.BUS, "", "", "", NOON_US, chip=ChipState(counter, balance_minor))
    return purchase(9, amount_minor, kind=Kind.LOAD_PENDING, purse="CHIP", tap=tap, **changed)


def holder_of(transit_minor: int = 3_000, general_minor: int = 10_000, **changed: Any) -> Account:
    return account(transit_minor, general_minor, **changed)


def with_chip(balance_minor: int) -> Account:
    purses = {
        TRN: PurseState(3_000, 0, 0, 0, 0),
        GEN: PurseState(0, 0, 0, 0, 0),
        CHIP: PurseState(balance_minor, 0, 0, 0, 0),
    }
    return account(purses=purses)


def event(
    kind: Kind, event_at_us: int = NOON_US, charged_minor: int = 0, **changed: Any
) -> TapEvent:
    """A tap as stored."""
    usual: dict[str, Any] = {
        "kind": kind,
        "event_at_us": event_at_us,
        "mode": Mode.METRO,
        "line": "",
        "stop": "",
        "vehicle": "",
        "acquirer": ACQUIRER,
        "fare": Fare(charged_minor, fare_version=1),
        "fare_date": CALENDAR.business_date(NOON_US),
        "authorization_id": 55,
    }
    return TapEvent(**(usual | changed))


def journey(amount_minor: int = 700, **changed: Any) -> Hold:
    """The open hold of the tap-on with the id 55."""
    usual = {"purpose": HoldPurpose.JOURNEY, "purse": TRN, "terminal": "", "mcc": "4111"}
    return hold(amount_minor, **(usual | changed))


def facts(
    *taps: TapEvent, holder: Account | None = None, rights: tuple[int, ...] = (), **changed: Any
) -> Loaded:
    """What is loaded for a tap."""
    owned = holder if holder is not None else holder_of()
    entitlements = tuple(Entitlement(number, 0, 1 << 60) for number in rights)
    return loaded(owned, fares=FareFacts(taps, entitlements), **changed)


def decided(request: Request, known: Loaded, *, now_us: int = NOON_US) -> Decision:
    return decide(directed(request), known, terms(), moment(now_us))


def posted(request: Request, known: Loaded, *, now_us: int = NOON_US) -> Posting:
    """A posting; one with a tap moves what the tap is charged, to the fen."""
    posting = decided(request, known, now_us=now_us)
    assert isinstance(posting, Posting)
    if posting.tap is not None:
        moved = sum(
            -one.amount_minor if one.credit_account_id >= 16_000_000 else one.amount_minor
            for one in posting.transfers
        )
        assert posting.tap.fare.charged_minor == moved
        assert posting.approved_minor == abs(moved)
    if not posting.outcome.approved:
        assert not posting.has_effect
    return posting


def facts_after(known: Loaded, posting: Posting, number: int) -> Loaded:
    """The same facts with one more tap stored."""
    assert posting.tap is not None
    assert known.fares is not None
    stored = msgspec.structs.replace(posting.tap, authorization_id=number)
    fares = msgspec.structs.replace(known.fares, taps=(*known.fares.taps, stored))
    return msgspec.structs.replace(known, fares=fares)
