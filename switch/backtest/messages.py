"""What a backtest's processes tell each other: a request in, progress and a tally out."""

from __future__ import annotations

from datetime import date

import msgspec

from risk.backtest_tally import Tally

LINE_BYTES_MAX = 256 * 1024 * 1024
"""A tally is some megabytes where every counter has thousands of values."""


class ShardRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What one process does: which shards, which days, up to which instant of posting.

    `canonical` and `live` are rulesets as canonical bytes; `live` is empty where there is none.
    """

    url: str
    canonical: bytes
    live: bytes = b""
    shards: tuple[int, ...]
    warm_up_from: date
    from_date: date
    to_date: date
    until_us: int
    closed_loop: bool = False
    timeout_seconds: float = 600.0


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """Rows that this process has read so far, those of the warm-up too."""

    rows: int


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The end; a cancelled one has what it came to."""

    tally: Tally


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The end, with one sentence that says why."""

    sentence: str


Told = Progress | Done | Failed

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(ShardRequest).decode
decode_told = msgspec.json.Decoder(Told).decode
