"""What a request asks the ledger for beside its own account: original, holds, fares, chip.

Most requests ask for nothing; what the others ask is a row of its own in load_batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec

from protocols.message import Kind, Request
from switch.posting import WANTS_HOLDS, Directed

HOLDS_LOADED_MAX = 192
"""Open holds of one account that are loaded: the most that can be configured, of each purpose."""
TAPS_LOADED_MAX = 200
"""Taps of one account and fare day that are loaded, oldest first: nobody rides more in a day."""
GAPS_LOADED_MAX = 64
"""Gaps of a chip that are loaded, lowest first; what stands under a counter is asked by itself."""
REFUND_DAYS_MAX = 180
"""How old a sale may be to be given back, unless configured otherwise."""
OWN_DAYS_MAX = 367
"""How far back the switch looks for what it has an open hold of: past any configured expiry."""

_SALES = (Kind.PURCHASE, Kind.COMPLETION, Kind.OFFLINE_SALE)
_WITH_EFFECT = (
    *_SALES,
    Kind.PREAUTHORIZATION,
    Kind.PREAUTHORIZATION_CANCEL,
    Kind.VOID,
    Kind.REFUND,
    Kind.LOAD,
    Kind.LOAD_PENDING,
    Kind.ADJUSTMENT,
    Kind.CREDIT_ADJUSTMENT,
    Kind.INQUIRY,
    Kind.FARE,
    Kind.TAP_ON,
    Kind.TAP_OFF,
    Kind.FARE_CREDIT,
    Kind.BILL,
)
ORIGINAL_KINDS: Mapping[Kind, tuple[Kind, ...]] = {
    Kind.VOID: _SALES,
    Kind.REFUND: _SALES,
    Kind.ADJUSTMENT: _SALES,
    Kind.COMPLETION: (Kind.PREAUTHORIZATION,),
    Kind.PREAUTHORIZATION_CANCEL: (Kind.PREAUTHORIZATION,),
    Kind.LOAD: (Kind.LOAD_PENDING,),
    Kind.REVERSAL: _WITH_EFFECT,
}
"""What a kind can be about, where only an RRN or an approval code says which message it is."""


_OF_THE_TERMINAL = frozenset({Kind.VOID, Kind.REVERSAL})
"""Kinds that the terminal of the original sends; the others may come from another one."""


_PRICED = frozenset({Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT})
"""Kinds that ask for the taps of their fare day, and for the account's rights."""


class Related(msgspec.Struct, frozen=True):
    """What one request asks for; its original may be on the days `since` to `until`.

    They are None for a request that is about no other. By an RRN or an approval code only the
    acquirer's own messages are looked for, and those of `terminal` where it is not empty.
    `fare_date` None asks for the fare day of the original. `chip_counter` is what is asked
    about the card's chip, None where nothing is.
    """

    wants_holds: bool
    original_id: int
    key: bytes
    rrn: str
    auth_code: str
    kinds: tuple[Kind, ...]
    acquirer: str
    terminal: str
    since: date | None
    until: date | None
    wants_fares: bool = False
    fare_date: date | None = None
    chip_counter: int | None = None


def related(
    request: Request, today: date, refund_days_max: int, fare_date_of: Callable[[int], date]
) -> Related | None:
    """What a request asks for beside its account; None for one that stands for itself.

    `fare_date_of` is the fare day of an instant.
    """
    wants_holds = request.kind in WANTS_HOLDS
    tap = request.tap
    if not (wants_holds or request.linked or tap is not None):
        return None
    original = request.original
    since, until = (
        original_days(request, today, refund_days_max) if request.linked else (None, None)
    )
    priced = tap is not None and request.kind in _PRICED
    return Related(
        wants_holds=wants_holds,
        original_id=request.original_id,
        key=original.key if original is not None else b"",
        rrn=original.rrn if original is not None else "",
        auth_code=original.auth_code if original is not None else "",
        kinds=ORIGINAL_KINDS.get(request.kind, ()),
        acquirer=request.acquirer,
        terminal=request.terminal if request.kind in _OF_THE_TERMINAL else "",
        since=since,
        until=until,
        # The switch's own expiry of a journey has no tap: it is priced on the day that it began.
        wants_fares=priced or request.kind is Kind.HOLD_EXPIRY,
        fare_date=fare_date_of(tap.event_at_us) if tap is not None and priced else None,
        chip_counter=_chip_counter(request),
    )


def _chip_counter(request: Request) -> int | None:
    tap = request.tap
    if tap is None:
        return None
    if tap.record is not None:
        return tap.record.counter
    return tap.chip.counter if tap.chip is not None else None


def original_days(request: Request, today: date, refund_days_max: int) -> tuple[date, date]:
    """The first and last business day on which the original of a request may be.

    A terminal's date and the business date differ by a day at most (cut-off, clocks).
    """
    tomorrow = today + timedelta(days=1)
    if request.original_id:
        far = request.kind is Kind.HOLD_EXPIRY
        return today - timedelta(days=OWN_DAYS_MAX if far else 1), tomorrow
    named = day_named(request.original.mmdd, today) if request.original is not None else None
    if named is not None:
        return named - timedelta(days=1), named + timedelta(days=1)
    if request.kind is Kind.REFUND:
        return today - timedelta(days=refund_days_max), tomorrow
    return today - timedelta(days=1), tomorrow


def day_named(mmdd: str, today: date) -> date | None:
    """The newest day of that month and day that is not after tomorrow; None where none is."""
    if len(mmdd) != 4 or not (mmdd.isascii() and mmdd.isdigit()):
        return None
    # Nine years, for 0229: a leap day may be eight years away.
    for year in range(today.year + 1, today.year - 9, -1):
        try:
            day = date(year, int(mmdd[:2]), int(mmdd[2:]))
        except ValueError:
            continue
        if day <= today + timedelta(days=1):
            return day
    return None


def related_columns(
    batch: Sequence[Directed],
    today: date,
    refund_days_max: int,
    fare_date_of: Callable[[int], date],
) -> tuple[Any, ...]:
    """The arguments of load_batch from p_related on: each request's place, then the rows."""
    places: list[int] = []
    rows: list[Related] = []
    for directed in batch:
        row = related(directed.request, today, refund_days_max, fare_date_of)
        if row is not None:
            rows.append(row)
        places.append(0 if row is None else len(rows))
    return (
        places,
        [row.wants_holds for row in rows],
        [row.original_id for row in rows],
        [row.key for row in rows],
        [row.rrn for row in rows],
        [row.auth_code for row in rows],
        [" ".join(row.kinds) for row in rows],
        [row.acquirer for row in rows],
        [row.terminal for row in rows],
        [row.since for row in rows],
        [row.until for row in rows],
        [row.wants_fares for row in rows],
        [row.fare_date for row in rows],
        TAPS_LOADED_MAX,
        [row.chip_counter for row in rows],
        GAPS_LOADED_MAX,
    )
