"""What readers say as requests of the pipeline, and its replies as what a gate does. Pure.

The idempotency key of a tap is the reader's own: acquirer, device, sequence and what kind of
frame it is, after the device's local time, so that a repeat is the same sixteen bytes as in
ISO 8583 (design §3). Whatever else a frame says is in the payload hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from zoneinfo import ZoneInfo

import msgspec

from protocols.message import (
    ChipRecord,
    ChipState,
    ChipVerdict,
    Kind,
    Mode,
    OriginalReference,
    Outcome,
    Reply,
    Request,
    Tap,
    response_code,
)
from protocols.money import Money
from protocols.tap.words import (
    BatchOpen,
    ChipLoad,
    ChipLoadAnswer,
    ChipLoadConfirm,
    Head,
    OfflineRecord,
    TapAnswer,
    TapKind,
    TapSaid,
)
from switch.calendar import epoch_us
from switch.posting import Purse
from switch.venues import Venue

KEY_BYTES = 16
PAYLOAD_HASH_BYTES = 8
STAN_MODULUS = 1_000_000
TAP_CLASS, LOAD_CLASS, CONFIRM_CLASS, RECORD_CLASS = "tap", "load", "confirm", "record"
LOAD_BUDGET_MS = 3_000
"""Who loads a chip stands at a counter and not in a gate: the budget of a paid bill (design §4)."""
BACKGROUND_BUDGET_NS = 3_600_000_000_000
"""An hour: nobody waits for background work, it must only end some day."""
ENTRY_MODE = "tap"

KINDS: Mapping[TapKind, Kind] = {
    TapKind.SINGLE: Kind.FARE,
    TapKind.ON: Kind.TAP_ON,
    TapKind.OFF: Kind.TAP_OFF,
    TapKind.INSPECT: Kind.INSPECT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TapTerms(msgspec.Struct, frozen=True):
    """What a tap link agreed on. `venues` are those of its modes; `zone` is the ledger's.

    A device's clock may be ahead by `clock_tolerance_us`. `hash_key` keys payload hashes.
    """

    name: str
    acquirer: str
    budget_ms: int
    currency: str
    modes: tuple[Mode, ...]
    venues: Mapping[Mode, Venue]
    clock_tolerance_us: int
    hash_key: bytes
    zone: ZoneInfo


class When(msgspec.Struct, frozen=True, gc=False):
    """When a frame came: `received_ns` is monotonic, of its first byte; `now_us` wall time."""

    received_ns: int
    now_us: int


def read_tap(terms: TapTerms, head: Head, said: TapSaid, body: bytes, when: When) -> Request | None:
    """The request of a tap; None where readers of its mode are none of this link's."""
    venue = terms.venues.get(said.mode)
    if venue is None:
        return None
    event_at_us, clock_ahead = instant_of(terms, said.event_at_ms * 1000, when.now_us)
    tap = Tap(
        said.mode,
        said.line,
        said.stop,
        said.vehicle,
        event_at_us,
        fare_version=said.fare_version,
        clock_ahead=clock_ahead,
    )
    return _request(
        terms,
        head,
        when,
        kind=KINDS[said.kind],
        message_class=TAP_CLASS,
        medium=said.medium,
        amount_minor=said.nominal_minor,
        said_at_ms=said.event_at_ms,
        body=body,
        venue=venue,
        tap=tap,
    )


def read_load(
    terms: TapTerms, head: Head, said: ChipLoad, body: bytes, when: When
) -> Request | None:
    """The pending load of a chip's purse: it waits until the chip is known to have it."""
    mode = terms.modes[0] if terms.modes else None
    venue = None if mode is None else terms.venues.get(mode)
    if mode is None or venue is None:
        return None
    event_at_us, clock_ahead = instant_of(terms, said.event_at_ms * 1000, when.now_us)
    # The chip tells the number of its next record, the ledger counts up to its last one.
    chip = ChipState(said.counter - 1, said.balance_minor)
    tap = Tap(mode, "", "", "", event_at_us, clock_ahead=clock_ahead, chip=chip)
    return _request(
        terms,
        head,
        when,
        kind=Kind.LOAD_PENDING,
        message_class=LOAD_CLASS,
        medium=said.medium,
        amount_minor=said.amount_minor,
        said_at_ms=said.event_at_ms,
        body=body,
        venue=venue,
        tap=tap,
        purse=Purse.CHIP.name,
        budget_ms=max(terms.budget_ms, LOAD_BUDGET_MS),
    )


def read_confirm(
    terms: TapTerms, head: Head, said: ChipLoadConfirm, body: bytes, when: When
) -> Request | None:
    """What became of a load: its confirmation, or its reversal where the chip did not take it.

    The load is found by its key, made of its own sequence and instant, which are said again.
    Either is an advice, for the chip has the money or has it not: it is written however late.
    """
    mode = terms.modes[0] if terms.modes else None
    venue = None if mode is None else terms.venues.get(mode)
    if mode is None or venue is None:
        return None
    event_at_us, clock_ahead = instant_of(terms, said.event_at_ms * 1000, when.now_us)
    load_head = Head(head.device, said.load_sequence)
    return _request(
        terms,
        head,
        when,
        kind=Kind.LOAD if said.written else Kind.REVERSAL,
        message_class=CONFIRM_CLASS,
        medium=said.medium,
        amount_minor=said.amount_minor,
        said_at_ms=said.event_at_ms,
        body=body,
        venue=venue,
        tap=Tap(mode, "", "", "", event_at_us, clock_ahead=clock_ahead),
        purse=Purse.CHIP.name,
        budget_ms=max(terms.budget_ms, LOAD_BUDGET_MS),
        original=OriginalReference(key=key_of(terms, load_head, LOAD_CLASS, said.event_at_ms)),
        advice=True,
    )


def instant_of(terms: TapTerms, event_at_us: int, now_us: int) -> tuple[int, bool]:
    """When it happened, never after it was received, and whether the clock is too far ahead."""
    return min(event_at_us, now_us), event_at_us > now_us + terms.clock_tolerance_us


def local_at_of(terms: TapTerms, at_us: int) -> str:
    """MMDDhhmmss of an instant in the ledger's zone."""
    return _local_at(at_us // 1_000_000, terms.zone)


@lru_cache(maxsize=4_096)
def _local_at(second: int, zone: ZoneInfo) -> str:
    # taps come by the hundred in one second, and a zone costs more than the rest of a tap
    local = (_EPOCH + timedelta(seconds=second)).astimezone(zone)
    return f"{local:%m%d%H%M%S}"


def key_of(terms: TapTerms, head: Head, message_class: str, said_at_ms: int) -> bytes:
    """The idempotency key: 4 bytes of MMDDhhmmss, then 12 bytes of hash.

    The instant is the device's as it says it, so that a repeat has the same key.
    """
    local_at = local_at_of(terms, said_at_ms * 1000)
    # the unit separator cannot be in a part, so no two lists of parts look alike
    parts = f"{terms.acquirer}\x1f{head.device}\x1f{head.sequence}\x1f{message_class}"
    hashed = blake2b(parts.encode("ascii"), digest_size=KEY_BYTES - 4).digest()
    return int(local_at).to_bytes(4, "big") + hashed


def _request(
    terms: TapTerms,
    head: Head,
    when: When,
    *,
    kind: Kind,
    message_class: str,
    medium: bytes,
    amount_minor: int,
    said_at_ms: int,
    body: bytes,
    venue: Venue,
    tap: Tap,
    purse: str = "",
    budget_ms: int = 0,
    original: OriginalReference | None = None,
    advice: bool = False,
) -> Request:
    return Request(
        kind=kind,
        segment=venue.segment,
        acquirer=terms.acquirer,
        link=terms.name,
        message_class=message_class,
        card=None,
        amount=Money(amount_minor, terms.currency),
        terminal=head.device,
        merchant=tap.line,
        mcc=venue.mccs[0],
        stan=f"{head.sequence % STAN_MODULUS:06}",
        local_at=local_at_of(terms, tap.event_at_us),
        rrn="",
        entry_mode=ENTRY_MODE,
        expiry="",
        key=key_of(terms, head, message_class, said_at_ms),
        payload_hash=blake2b(body, digest_size=PAYLOAD_HASH_BYTES, key=terms.hash_key).digest(),
        received_ns=when.received_ns,
        deadline_ns=when.received_ns + (budget_ms or terms.budget_ms) * 1_000_000,
        purse=purse,
        original=original,
        advice=advice,
        venue=venue.code,
        medium=medium,
        tap=tap,
    )


def read_record_request(
    terms: TapTerms,
    opened: BatchOpen,
    record: OfflineRecord,
    *,
    venue: Venue,
    digest: bytes,
    batch: bytes,
    verdict: ChipVerdict,
    when: When,
) -> Request:
    """The advice of a chip's record: background work, the same message from whatever batch.

    `digest` (8 bytes) is of all that the record says, `batch` (8 bytes) names its upload.
    """
    said_at_us = _instant_us(record.local_at, terms.zone)
    event_at_us, clock_ahead = instant_of(terms, said_at_us, when.now_us)
    return Request(
        kind=Kind.OFFLINE_FARE,
        segment=venue.segment,
        acquirer=terms.acquirer,
        link=terms.name,
        message_class=RECORD_CLASS,
        card=None,
        amount=Money(record.amount_minor, terms.currency),
        terminal=record.terminal,
        merchant=opened.line,
        mcc=venue.mccs[0],
        stan=f"{record.transaction_number % STAN_MODULUS:06}",
        local_at=record.local_at[4:],
        rrn="",
        entry_mode=ENTRY_MODE,
        expiry="",
        key=record_key(record.medium, record.counter),
        payload_hash=digest,
        received_ns=when.received_ns,
        deadline_ns=when.received_ns + BACKGROUND_BUDGET_NS,
        purse=Purse.CHIP.name,
        advice=True,
        venue=venue.code,
        medium=record.medium,
        tap=Tap(
            opened.mode,
            opened.line,
            record.stop,
            opened.vehicle,
            event_at_us,
            clock_ahead=clock_ahead,
            record=ChipRecord(record.counter, record.overdraft_minor, digest, batch, verdict),
        ),
        background=True,
    )


def _instant_us(local_at: str, zone: ZoneInfo) -> int:
    """Epoch microseconds of YYYYMMDDhhmmss in a zone."""
    year, month, day = int(local_at[:4]), int(local_at[4:6]), int(local_at[6:8])
    hour, minute, second = int(local_at[8:10]), int(local_at[10:12]), int(local_at[12:])
    return epoch_us(datetime(year, month, day, hour, minute, second, tzinfo=zone))


def record_key(medium: bytes, counter: int) -> bytes:
    """The idempotency key of a chip's record: of chip and counter, whoever brings it."""
    named = blake2b(medium, digest_size=KEY_BYTES, person=b"citycard-chip")
    named.update(counter.to_bytes(2, "big"))
    return named.digest()


def tap_answer(said: TapSaid, tap: Tap, reply: Reply, list_version: int) -> TapAnswer:
    """What the gate hears. A stored answer may know only what was charged, not how."""
    fare = reply.fare
    return TapAnswer(
        response_code(reply.outcome),
        charged_minor=reply.approved_minor if fare is None else fare.charged_minor,
        available_minor=reply.balances[0].available_minor if reply.balances else -1,
        fare_class=0 if fare is None else fare.fare_class,
        replayed=reply.replayed,
        clock_ahead=tap.clock_ahead,
        fare_differs=differs(said, reply),
        list_version=list_version,
    )


def differs(said: TapSaid, reply: Reply) -> bool:
    """Whether the device's fare is another than the table's, which is what was charged."""
    fare = reply.fare
    told = said.kind in (TapKind.SINGLE, TapKind.OFF) and said.nominal_minor != 0
    return told and fare is not None and fare.nominal_minor != said.nominal_minor


def load_answer(said: ChipLoad | ChipLoadConfirm, reply: Reply) -> ChipLoadAnswer:
    """What the loading terminal hears: the ledger's shadow less the chip's own is missing."""
    missing_minor = 0
    if isinstance(said, ChipLoad):
        for balance in reply.balances:
            if balance.purse == Purse.CHIP.name:
                missing_minor = balance.balance_minor - said.balance_minor
    return ChipLoadAnswer(response_code(reply.outcome), missing_minor)


BUDGET_NOT_KEPT = (Outcome.NO_BUDGET, Outcome.OUTCOME_UNKNOWN, Outcome.ANSWERED_LATE)
"""Outcomes that are counted as late: the budget ended first."""
