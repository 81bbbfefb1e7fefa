"""Network messages of either side: what is made is encodable and understood."""

from __future__ import annotations

from datetime import datetime

import pytest

from protocols.framing import Framing
from protocols.iso8583 import decode, encode
from protocols.iso8583.client import Dialect, echo_message, network_message
from protocols.iso8583.dialect import NetworkFunction, NetworkRequest, read
from protocols.iso8583.link import LinkTerms
from protocols.message import Segment

both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
LOCAL_AT = datetime(2028, 2, 29, 23, 59, 59)


def terms(dialect: Dialect) -> LinkTerms:
    return LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))


@both
@pytest.mark.parametrize("terminal", ["", "T1"])
def test_an_echo_is_understood(dialect: Dialect, terminal: str) -> None:
    message = echo_message(dialect, stan=3, local_at=LOCAL_AT, terminal=terminal)
    heard = decode(dialect, encode(dialect, message))
    assert read(terms(dialect), heard, 1) == NetworkRequest(NetworkFunction.ECHO, "000003")


@pytest.mark.parametrize(("dialect", "number"), [("unionpay_pos", 62), ("iso87_ascii", 48)])
def test_a_key_block_travels_as_text(dialect: Dialect, number: int) -> None:
    message = network_message(
        dialect, NetworkFunction.KEY_EXCHANGE, stan=3, local_at=LOCAL_AT, key_block="D" * 999
    )
    assert decode(dialect, encode(dialect, message)).text(number) == "D" * 999
