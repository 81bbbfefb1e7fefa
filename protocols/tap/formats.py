"""What each frame has between its head and its MAC: the format of the readers' protocol, as data.

One table for requests and one for answers, by frame type; layout.py says what the kinds mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocols.message import Mode
from protocols.tap.layout import (
    INSTANT_MS,
    RESPONSE_CODE,
    YES_OR_NO,
    Each,
    Layout,
    Rest,
    code,
    number,
    octets,
    one_of,
    signed,
    text,
)
from protocols.tap.record import RECORD
from protocols.tap.words import (
    CODE_CHARACTERS,
    DIGEST_BYTES,
    MEDIUM_BYTES,
    BatchClose,
    BatchOpen,
    BatchProblem,
    BatchRecords,
    BatchResults,
    BatchResultsAnswer,
    BatchTaken,
    ChipLoad,
    ChipLoadAnswer,
    ChipLoadConfirm,
    Echo,
    FrameType,
    Hello,
    HelloAnswer,
    ListAcknowledge,
    ListAcknowledged,
    ListAnswer,
    ListAsk,
    ListChunk,
    ListChunkAnswer,
    RecordResult,
    RecordStatus,
    Refused,
    RefusedReason,
    TapAnswer,
    TapKind,
    TapSaid,
)

RECORDS_PER_FRAME_MAX = 1_000
"""56,000 bytes: with head and MAC under the 65,535 that a length can say."""
RESULTS_PER_FRAME_MAX = 1_000
CHUNK_BYTES_MAX = 60_000

MODES: Mapping[Mode, int] = {
    Mode.BUS: 1,
    Mode.METRO: 2,
    Mode.FERRY: 3,
    Mode.TAXI: 4,
    Mode.PARKING: 5,
    Mode.PARK: 6,
    Mode.STADIUM: 7,
    Mode.COMMUNITY: 8,
}

_MEDIUM = octets(MEDIUM_BYTES)
_DIGEST = octets(DIGEST_BYTES)
_CODE = code(CODE_CHARACTERS)
_ACQUIRER = text(11, r"[0-9]{1,11}", "the 1 to 11 digits of DE32")
_BATCH = number(4)
_PLACE = number(4)
_VERSION = number(4)
_TAP_KIND = one_of({kind: kind.value for kind in TapKind})
_MODE = one_of(MODES)
_PROBLEM = one_of({problem: problem.value for problem in BatchProblem})
_STATUS = one_of({status: status.value for status in RecordStatus})
_REASON = one_of({reason: reason.value for reason in RefusedReason})

_TAKEN = Layout(BatchTaken, {"batch": _BATCH, "held": _PLACE, "problem": _PROBLEM})
_LOADED = Layout(ChipLoadAnswer, {"response_code": RESPONSE_CODE, "missing_minor": signed(8)})
_RESULT = Layout(RecordResult, {"status": _STATUS, "response_code": RESPONSE_CODE})
_ECHO = Layout(Echo, {})

REQUESTS: Mapping[int, Layout[Any]] = {
    FrameType.HELLO: Layout(Hello, {"acquirer": _ACQUIRER, "list_version": _VERSION}),
    FrameType.TAP: Layout(
        TapSaid,
        {
            "kind": _TAP_KIND,
            "medium": _MEDIUM,
            "event_at_ms": INSTANT_MS,
            "mode": _MODE,
            "line": _CODE,
            "stop": _CODE,
            "vehicle": _CODE,
            "fare_version": _VERSION,
            "nominal_minor": number(4),
        },
    ),
    FrameType.BATCH_OPEN: Layout(
        BatchOpen,
        {
            "batch": _BATCH,
            "mode": _MODE,
            "line": _CODE,
            "vehicle": _CODE,
            "count": number(4),
            "total_minor": number(8),
            "digest": _DIGEST,
        },
    ),
    FrameType.BATCH_RECORDS: Layout(
        BatchRecords,
        {"batch": _BATCH, "first": _PLACE},
        ("records", Each(RECORD, RECORDS_PER_FRAME_MAX)),
    ),
    FrameType.BATCH_CLOSE: Layout(BatchClose, {"batch": _BATCH}),
    FrameType.BATCH_RESULTS: Layout(BatchResults, {"batch": _BATCH, "first": _PLACE}),
    FrameType.LIST_ASK: Layout(ListAsk, {"have_version": _VERSION}),
    FrameType.LIST_CHUNK: Layout(
        ListChunk,
        {"version": _VERSION, "from_version": _VERSION, "offset": number(4), "length": number(4)},
    ),
    FrameType.LIST_ACKNOWLEDGE: Layout(ListAcknowledge, {"version": _VERSION, "digest": _DIGEST}),
    FrameType.CHIP_LOAD: Layout(
        ChipLoad,
        {
            "medium": _MEDIUM,
            "amount_minor": number(4),
            "counter": number(2),
            "balance_minor": signed(4),
            "event_at_ms": INSTANT_MS,
        },
    ),
    FrameType.CHIP_LOAD_CONFIRM: Layout(
        ChipLoadConfirm,
        {
            "medium": _MEDIUM,
            "load_sequence": number(4),
            "amount_minor": number(4),
            "written": YES_OR_NO,
            "event_at_ms": INSTANT_MS,
        },
    ),
    FrameType.ECHO: _ECHO,
}

ANSWERS: Mapping[int, Layout[Any]] = {
    FrameType.HELLO: Layout(
        HelloAnswer,
        {
            "accepted": YES_OR_NO,
            "at_ms": INSTANT_MS,
            "list_version": _VERSION,
            "records_per_batch_max": number(4),
        },
    ),
    FrameType.TAP: Layout(
        TapAnswer,
        {
            "response_code": RESPONSE_CODE,
            "charged_minor": signed(8),
            "available_minor": signed(8),
            "fare_class": number(2),
            "replayed": YES_OR_NO,
            "clock_ahead": YES_OR_NO,
            "fare_differs": YES_OR_NO,
            "list_version": _VERSION,
        },
    ),
    FrameType.BATCH_OPEN: _TAKEN,
    FrameType.BATCH_RECORDS: _TAKEN,
    FrameType.BATCH_CLOSE: _TAKEN,
    FrameType.BATCH_RESULTS: Layout(
        BatchResultsAnswer,
        {"batch": _BATCH, "first": _PLACE, "done": YES_OR_NO},
        ("results", Each(_RESULT, RESULTS_PER_FRAME_MAX)),
    ),
    FrameType.LIST_ASK: Layout(
        ListAnswer,
        {
            "version": _VERSION,
            "whole_bytes": number(4),
            "change_bytes": number(4),
            "digest": _DIGEST,
        },
    ),
    FrameType.LIST_CHUNK: Layout(
        ListChunkAnswer,
        {"version": _VERSION, "from_version": _VERSION, "offset": number(4), "crc32": number(4)},
        ("octets", Rest(CHUNK_BYTES_MAX)),
    ),
    FrameType.LIST_ACKNOWLEDGE: Layout(ListAcknowledged, {"accepted": YES_OR_NO}),
    FrameType.CHIP_LOAD: _LOADED,
    FrameType.CHIP_LOAD_CONFIRM: _LOADED,
    FrameType.ECHO: _ECHO,
    FrameType.REFUSED: Layout(Refused, {"reason": _REASON, "offset": number(4)}),
}
