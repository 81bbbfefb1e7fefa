"""Words of readers and of the switch, any of them: by the name of each attribute."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from protocols.message import Mode
from protocols.tap.formats import ANSWERS, REQUESTS
from protocols.tap.layout import INSTANT_MS_MAX
from protocols.tap.words import (
    BatchProblem,
    ChipLoad,
    Head,
    ListChunkAnswer,
    OfflineRecord,
    RecordResult,
    RecordStatus,
    RefusedReason,
    TapKind,
)

LETTERS = "ABCXYZabcxyz0123456789"


def below(octets: int) -> st.SearchStrategy[int]:
    return st.integers(0, (1 << 8 * octets) - 1)


INSTANTS = st.integers(0, INSTANT_MS_MAX)
CODES = st.text(LETTERS + "-", max_size=12)
WIDE = st.integers(-(1 << 63), (1 << 63) - 1)
BY_NAME: dict[str, st.SearchStrategy[Any]] = {
    "medium": st.binary(min_size=16, max_size=16),
    "digest": st.binary(min_size=32, max_size=32),
    "tac": st.binary(min_size=4, max_size=4),
    "octets": st.binary(max_size=300),
    "acquirer": st.text("0123456789", min_size=1, max_size=11),
    "line": CODES,
    "stop": CODES.filter(lambda code: len(code) <= 8),
    "vehicle": CODES,
    "terminal": st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex().upper()),
    "response_code": st.text("0123456789AZ", min_size=2, max_size=2),
    "local_at": st.datetimes(
        min_value=datetime(2000, 1, 1),
        max_value=datetime(2199, 12, 31, 23, 59, 59),
    ).map(lambda at: at.strftime("%Y%m%d%H%M%S")),
    "event_at_ms": INSTANTS,
    "at_ms": INSTANTS,
    "mode": st.sampled_from(Mode),
    "kind": st.sampled_from(TapKind),
    "problem": st.sampled_from(BatchProblem),
    "status": st.sampled_from(RecordStatus),
    "reason": st.sampled_from(RefusedReason),
    "total_minor": st.integers(0, (1 << 63) - 1),
    "charged_minor": WIDE,
    "available_minor": WIDE,
    "missing_minor": WIDE,
    "overdraft_minor": below(3),
    "counter": below(2),
    "fare_class": below(2),
    "type": st.sampled_from((6, 9)),
    "tac_key_version": below(1),
    **{
        name: st.booleans()
        for name in ("accepted", "done", "written", "replayed", "clock_ahead", "fare_differs")
    },
}


def words_of(words: type[Any]) -> st.SearchStrategy[Any]:
    """Any value of this type that the format can carry."""
    named = {name: BY_NAME.get(name, below(4)) for name in words.__struct_fields__}
    if words is ChipLoad:
        named["balance_minor"] = st.integers(-(1 << 31), (1 << 31) - 1)
    if "records" in named:
        named["records"] = st.lists(words_of(OfflineRecord), max_size=4).map(tuple)
    if "results" in named:
        named["results"] = st.lists(words_of(RecordResult), max_size=4).map(tuple)
    made = st.builds(words, **named)
    if words is ListChunkAnswer:
        made = made.map(
            lambda chunk: msgspec.structs.replace(chunk, crc32=zlib.crc32(chunk.octets))
        )
    return made


class Spoken:
    """Strategies: heads, what readers say, and answers each with the type they belong to."""

    heads = st.builds(
        Head, device=st.text(LETTERS, min_size=1, max_size=8), sequence=below(4),
        key_version=below(1),
    )  # fmt: skip
    records = words_of(OfflineRecord)
    said = st.one_of([words_of(layout.words) for layout in REQUESTS.values()])
    answered = st.one_of(
        [
            st.tuples(st.just(int(number)), words_of(layout.words))
            for number, layout in ANSWERS.items()
        ]
    )


@pytest.fixture(scope="session")
def spoken() -> type[Spoken]:
    return Spoken
