"""Every trace in tests/golden/tap: a frame in, what it says, what is answered, the frame out.

The traces document the readers' protocol. Each goes through all of it: framing, the key of
the device, the MAC, the body, and back. A trace with `refused` is a frame that is not taken.
After a change of the words, `GOLDEN_REWRITE=1` works out anew what follows from `received`
and `answer`; read the difference before keeping it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.tap.frame import (
    TapError,
    TapFramer,
    open_frame,
    read_answer,
    sealed,
    write_answer,
)
from protocols.tap.mac import FrameMac, device_key
from protocols.tap.shown import ShownFrame, shown, unshown
from protocols.tap.words import FrameType, Refused, RefusedReason

TRACES = sorted((Path(__file__).parents[2] / "golden" / "tap").glob("*.json"))


def replayed(trace: dict[str, Any]) -> dict[str, Any]:
    """The trace with everything that follows from `received` and `answer` worked out anew."""
    given = {key: trace[key] for key in ("about", "reader_key", "received", "answer")}
    [payload] = TapFramer().feed(bytes.fromhex(trace["received"]))
    try:
        frame = open_frame(payload)
        mac = FrameMac(device_key(bytes.fromhex(trace["reader_key"]), frame.head.device))
        if not mac.proves(frame.signed, frame.mac):
            return given | answered(trace, frame.head, frame.type, RefusedReason.MAC_WRONG)
        said = msgspec.to_builtins(shown(payload))
        assert unshown(msgspec.convert(said, ShownFrame)) == payload
    except TapError as error:
        fault = {"field_path": error.field_path, "offset": error.offset, "reason": error.reason}
        refused = answered(trace, error.head, 0, error.refused, error.offset)
        return given | {"fault": fault} | refused
    return given | {"said": said} | answered(trace, frame.head, frame.type)


def answered(
    trace: dict[str, Any],
    head: Any,
    asked: int,
    reason: RefusedReason | None = None,
    offset: int = 0,
) -> dict[str, Any]:
    """The frame that goes back, sealed with the same device's key, and what it says."""
    if reason is not None:
        words: Any = Refused(reason, offset)
    else:
        type_name = "refused" if "reason" in trace["answer"] else FrameType(asked).name.lower()
        given = ShownFrame(type_name, head.device, head.sequence, trace["answer"], answer=True)
        words = read_answer(open_frame(unshown(given)))
    signed = write_answer(head, asked, words)
    mac = FrameMac(device_key(bytes.fromhex(trace["reader_key"]), head.device))
    sent = sealed(signed, mac.of(signed))
    return {"answered": msgspec.to_builtins(shown(sent[2:])), "sent": sent.hex()}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    trace = json.loads(path.read_text("utf-8"))
    if os.environ.get("GOLDEN_REWRITE"):
        path.write_text(json.dumps(replayed(trace), ensure_ascii=False, indent=1) + "\n", "utf-8")
        trace = json.loads(path.read_text("utf-8"))
    assert replayed(trace) == trace


DOCUMENTED = """
    hello hello_refused tap_single tap_on tap_off tap_inspect tap_declined tap_late tap_overloaded
    batch_open batch_records batch_close batch_total_differs batch_results
    list_ask list_chunk list_acknowledge chip_load chip_load_confirm echo
    wrong_mac wrong_version wrong_format
"""


@pytest.mark.parametrize("case", DOCUMENTED.split())
def test_every_exchange_is_documented(case: str) -> None:
    assert case in {path.stem for path in TRACES}


def test_every_frame_is_documented() -> None:
    traces = [json.loads(path.read_text("utf-8")) for path in TRACES]
    said = {trace["said"]["type"] for trace in traces if "said" in trace}
    assert said | {"refused"} == {each.name.lower() for each in FrameType}
