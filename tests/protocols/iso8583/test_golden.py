"""Every trace in tests/golden: a frame in, what it means, the frame out.

The traces document the dialects. Each goes through all of protocols: framing, codec,
dialect, and back. A trace without `meaning` is one that the codec already refuses. After a
change of the words, `GOLDEN_REWRITE=1` works out anew what follows from each `received`;
read the difference before keeping it.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.card_number import CardNumber
from protocols.errors import DecodeError
from protocols.framing import Frame, Framer, answer_tpdu, frame
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.dialect import (
    NetworkAnswer,
    NetworkRequest,
    ReconciliationRequest,
    Totals,
    network_reply,
    read,
    reconciliation_reply,
    write,
    write_malformed,
)
from protocols.iso8583.link import LinkTerms
from protocols.message import Refusal, Reply

TRACES = sorted((Path(__file__).parents[2] / "golden").glob("*.json"))
RECEIVED_NS = 1_000_000_000
CARD_FIELDS = (2, 35)
CARD_PREFIX = "6200000000012"


def replayed(trace: dict[str, Any]) -> dict[str, Any]:
    """The trace with everything that follows from `received` worked out anew."""
    terms = msgspec.convert(trace["terms"], LinkTerms)
    now = datetime.fromisoformat(trace["now_local"])
    [received] = Framer(terms.framing).feed(bytes.fromhex(trace["received"]))
    given = {
        key: trace[key]
        for key in ("about", "terms", "now_local", "received", "reply", "key_block", "ours")
        if key in trace
    }
    outer = {"tpdu": received.tpdu.hex(), "header": received.header.hex()}
    try:
        message = decode(terms.dialect, received.payload)
    except DecodeError as error:
        answer = write_malformed(terms, error.partial)
        fault = {"field_path": error.field_path, "offset": error.offset, "reason": error.reason}
        return given | outer | {"fault": fault} | _answered(terms, received, answer)
    understood = read(terms, message, RECEIVED_NS)
    answer: Message | None
    match understood:
        case NetworkRequest():
            answer = network_reply(terms, message, now, key_block=trace.get("key_block", ""))
        case NetworkAnswer():
            answer = None
        case ReconciliationRequest():
            ours = msgspec.convert(trace["ours"], Totals)
            answer = reconciliation_reply(terms, message, ours, now)
        case Refusal():
            answer = write(terms, message, Reply(understood.outcome), now)
        case _:
            answer = write(terms, message, msgspec.convert(trace["reply"], Reply), now)
    words = msgspec.to_builtins(understood, builtin_types=(bytes,), enc_hook=_shown)
    meaning = {"understood": type(understood).__name__} | _in_hex(words)
    return (
        given
        | outer
        | _shown_message(message)
        | {"meaning": meaning}
        | _answered(terms, received, answer)
    )


def _answered(terms: LinkTerms, received: Frame, answer: Message | None) -> dict[str, Any]:
    if answer is None:
        return {"sent": None}
    octets = encode(terms.dialect, answer)
    wire = frame(terms.framing, octets, answer_tpdu(received.tpdu), received.header)
    shown = _shown_message(decode(terms.dialect, octets))
    return {"sent": wire.hex(), "sent_mti": shown["mti"], "sent_fields": shown["fields"]}


def _shown_message(message: Message) -> dict[str, Any]:
    fields = {
        str(number): _shown_value(number, value) for number, value in sorted(message.fields.items())
    }
    return {"mti": message.mti, "fields": fields}


def _shown_value(number: int, value: str | bytes) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if number in CARD_FIELDS:
        return repr(CardNumber(value.replace("=", "D").partition("D")[0]))
    return value


def _in_hex(words: dict[str, Any]) -> dict[str, Any]:
    """Words with bytes in hex, however deep they stand."""

    def plain(word: object) -> object:
        if isinstance(word, dict):
            return _in_hex(word)
        return word.hex() if isinstance(word, bytes) else word

    return {key: plain(word) for key, word in words.items()}


def _shown(value: object) -> object:
    if isinstance(value, CardNumber):
        return repr(value)
    raise NotImplementedError


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_trace(path: Path) -> None:
    trace = json.loads(path.read_text("utf-8"))
    if os.environ.get("GOLDEN_REWRITE"):
        path.write_text(json.dumps(replayed(trace), ensure_ascii=False, indent=1) + "\n", "utf-8")
        trace = json.loads(path.read_text("utf-8"))
    assert replayed(trace) == trace


DOCUMENTED = """
    sale_approved sale_declined sale_repeated sale_partially_approved authorization
    void void_of_completion refund preauthorization preauthorization_cancel
    completion completion_advice offline_sale adjustment inquiry load_pending load_confirmed
    reversal reversal_repeated reversal_of_void
    sign_on sign_off key_exchange cut_over echo echo_answered
    reconciliation reconciliation_out_of_balance malformed broken_off
"""


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@pytest.mark.parametrize("case", DOCUMENTED.split())
def test_every_transaction_is_documented_in_both_dialects(dialect: str, case: str) -> None:
    assert f"{dialect}_{case}" in {path.stem for path in TRACES}


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_trace_shows_card_numbers_as_bytes_only(path: Path) -> None:
    trace = json.loads(path.read_text("utf-8"))
    for key in ("received", "sent"):
        trace.pop(key)
    assert CARD_PREFIX not in json.dumps(trace)
