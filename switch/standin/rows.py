"""What goes into the spool and comes out of it: offers, answers, rows, counts."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from switch.config_trouble import StandinPolicy
from switch.standin.policy import Refusal


class State(StrEnum):
    """What became of a row; only an open one is still to be posted."""

    OPEN = "open"
    POSTED = "posted"
    SUSPENSE = "suspense"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Offer(msgspec.Struct, frozen=True, gc=False):
    """A sale or a reversal that asks to be taken.

    `policy` and `refusal` are a sale's: what it may add up to, and why it is not covered
    already. `original_key` is a reversal's, as far as its message tells. `request` and
    `card` are sealed (see `advice`).
    """

    key: bytes
    payload_hash: bytes
    kind: Literal["purchase", "reversal"]
    segment: str
    medium: bytes
    amount_minor: int
    request: bytes
    card: bytes
    auth_code: str
    rrn: str
    at_us: int
    original_key: bytes = b""
    policy: StandinPolicy = StandinPolicy()
    refusal: Refusal | None = None


class Withdrawal(msgspec.Struct, frozen=True, gc=False):
    """The answer that gave out this row's approval came too late, or never."""

    key: bytes
    at_us: int


class Verdict(StrEnum):
    """What the spool says to an offer that it does not refuse."""

    TAKEN = "taken"
    STORED = "stored"
    """The message was taken before: the same answer again."""
    KEY_REUSED = "key_reused"
    WITHDRAWN = "withdrawn"
    """It was taken before, and its approval taken back."""
    REVERSED_BEFORE = "reversed_before"


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The spool's word on one offer: a refusal, or a verdict with what to answer."""

    verdict: Verdict | Refusal
    amount_minor: int = 0
    auth_code: str = ""
    rrn: str = ""


class Row(msgspec.Struct, frozen=True, gc=False):
    """An open row as it is posted. `original_*` are what the spool knows of a reversal's sale."""

    id: int
    key: bytes
    kind: Literal["purchase", "reversal", "late_reversal"]
    segment: str
    medium: bytes
    amount_minor: int
    request: bytes
    card: bytes
    auth_code: str
    rrn: str
    at_us: int
    original_key: bytes
    original_id: int
    original_state: str


class Settled(msgspec.Struct, frozen=True, gc=False):
    """What became of an open row when it was posted."""

    id: int
    state: State
    result: str
    authorization_id: int


class View(msgspec.Struct, frozen=True, gc=False):
    """A look at the spool. `mediums` owe postings: all that do, or those added since last time."""

    switched_on: bool
    open_rows: int
    oldest_at_us: int
    mediums: frozenset[bytes]
    complete: bool


class Count(msgspec.Struct, frozen=True):
    """Rows of one segment and state."""

    segment: str
    state: str
    rows: int
    amount_minor: int
    oldest_at_us: int


class Total(msgspec.Struct, frozen=True):
    """What a segment has approved since the outage began."""

    segment: str
    count: int
    amount_minor: int


class RefusedRow(msgspec.Struct, frozen=True):
    """A row that the ledger would not post, for the operator to settle."""

    id: int
    segment: str
    kind: str
    amount_minor: int
    at_us: int
    result: str


class Summary(msgspec.Struct, frozen=True):
    """Everything an operator asks of a spool."""

    switched_on: bool
    open_rows: int
    oldest_at_us: int
    counts: tuple[Count, ...]
    totals: tuple[Total, ...]
    refused: tuple[RefusedRow, ...]
