"""Network management: who is understood as what, and what goes back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest
from hypothesis.strategies import SearchStrategy

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import Message, Spec, decode, encode
from protocols.iso8583.client import Dialect, Sale, network_message, sale_message
from protocols.iso8583.dialect import (
    NetworkAnswer,
    NetworkFunction,
    NetworkRequest,
    network_reply,
    read,
    response_mti,
)
from protocols.iso8583.link import LinkTerms
from protocols.message import Outcome, Refusal, Reply, Request, Segment

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
CARD = numbered_card("620000", 12_345)
NOW = datetime(2026, 11, 22, 18, 5, 9)
APPROVED = Reply(Outcome.APPROVED, 1_840, 7, "A1B2C3", "632618000417")
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii", **changes: object) -> LinkTerms:
    agreed = LinkTerms(
        "shops", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",), default_mcc="5999"
    )
    return msgspec.structs.replace(agreed, **changes)


def sale(dialect: Dialect = "iso87_ascii", mti: str = "0200", /, **changes: str | None) -> Message:
    """A sale with fields changed (`de4="…"`) or taken out (`de4=None`)."""
    message = sale_message(
        dialect,
        Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000", mti=mti),
    )
    for name, value in changes.items():
        number = int(name.removeprefix("de"))
        message.fields.pop(number, None)
        if value is not None:
            message.fields[number] = value
    return message


def understood(message: Message, agreed: LinkTerms | None = None, **more: bytes) -> Request:
    request = read(agreed or terms(), message, 5_000, **more)
    assert isinstance(request, Request)
    return request


# ---- network management --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "mti", "code", "function"),
    [
        ("iso87_ascii", "0800", {70: "301"}, NetworkFunction.ECHO),
        ("iso87_ascii", "0800", {70: "001"}, NetworkFunction.SIGN_ON),
        ("iso87_ascii", "0801", {70: "002"}, NetworkFunction.SIGN_OFF),
        ("iso87_ascii", "0800", {}, NetworkFunction.ECHO),
        ("unionpay_pos", "0800", {}, NetworkFunction.ECHO),
        ("unionpay_pos", "0800", {60: "00000001003"}, NetworkFunction.SIGN_ON),
        ("unionpay_pos", "0820", {60: "00000001002"}, NetworkFunction.SIGN_OFF),
    ],
)
def test_network_messages_are_understood_and_answered(
    dialect: Dialect, mti: str, code: dict[int, str | bytes], function: NetworkFunction
) -> None:
    message = Message(mti, {11: "000001", **code})
    wants_keys = dialect == "unionpay_pos" and function is NetworkFunction.SIGN_ON
    assert read(terms(dialect), message, 1) == NetworkRequest(function, "000001", wants_keys)
    answer = network_reply(terms(dialect), message, NOW)
    assert answer.mti == response_mti(message.mti)
    assert answer.text(39) == "00"
    assert all(answer.fields[n] == value for n, value in message.fields.items())
    assert (answer.text(12) == "180509") is (dialect == "unionpay_pos")
    assert decode(dialect, encode(dialect, answer)).fields == answer.fields


@pytest.mark.parametrize(
    ("dialect", "fields", "path"),
    [("iso87_ascii", {70: "161"}, "DE70"), ("unionpay_pos", {60: "00000001360"}, "DE60")],
)
def test_another_network_function_is_refused(
    dialect: Dialect, fields: dict[int, str | bytes], path: str
) -> None:
    refusal = read(terms(dialect), Message("0800", {11: "000001"} | fields), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.UNSUPPORTED, path)


@both
@pytest.mark.parametrize("function", list(NetworkFunction))
def test_what_one_side_asks_the_other_understands(
    dialect: Dialect, function: NetworkFunction
) -> None:
    message = network_message(
        dialect, function, stan=7, local_at=NOW, settlement_mmdd="1123", terminal="T1"
    )
    heard = decode(dialect, encode(dialect, message))
    asked = read(terms(dialect), heard, 1)
    assert isinstance(asked, NetworkRequest)
    assert (asked.function, asked.stan) == (function, "000007")
    assert asked.wants_keys is (
        function is NetworkFunction.KEY_EXCHANGE
        or (function is NetworkFunction.SIGN_ON and dialect == "unionpay_pos")
    )
    answer = network_reply(terms(dialect), heard, NOW)
    assert answer.text(15) == "1123"
    heard_back = decode(dialect, encode(dialect, answer))
    assert read(terms(dialect), heard_back, 1) == NetworkAnswer(function, "000007", True)


@both
def test_a_key_block_leaves_with_an_approval_only(dialect: Dialect) -> None:
    number = 62 if dialect == "unionpay_pos" else 48
    message = network_message(dialect, NetworkFunction.KEY_EXCHANGE, stan=7, local_at=NOW)
    answer = network_reply(terms(dialect), message, NOW, key_block="D0112P0AE00E0000" * 10)
    assert decode(dialect, encode(dialect, answer)).text(number) == "D0112P0AE00E0000" * 10
    refused = network_reply(terms(dialect), message, NOW, Outcome.FAULT, "D0112P0AE00E0000")
    assert number not in refused.fields
    assert refused.text(39) == "96"
    asked = read(terms(dialect), Message("0810", refused.fields), 1)
    assert asked == NetworkAnswer(NetworkFunction.KEY_EXCHANGE, "000007", False)


@both
def test_an_answer_that_says_nothing_is_a_no(dialect: Dialect) -> None:
    assert read(terms(dialect), Message("0830", {}), 1) == NetworkAnswer(None, "", False)
