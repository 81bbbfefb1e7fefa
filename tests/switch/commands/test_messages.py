"""`decode --mask`: what travels with a link's management is hidden as well."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from protocols.iso8583 import Message, encode
from protocols.iso8583.client import Dialect, network_message
from protocols.iso8583.dialect import NetworkFunction
from switch.commands.messages import decode_message

NOW = datetime(2026, 11, 22, 18, 5, 9)


@pytest.mark.parametrize(("dialect", "number"), [("unionpay_pos", 62), ("iso87_ascii", 48)])
def test_key_blocks_are_hidden_and_the_same_field_of_a_sale_is_not(
    dialect: Dialect, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "D0016P0AE00E0000" if number == 62 else "A0016"
    exchange = network_message(
        dialect, NetworkFunction.KEY_EXCHANGE, stan=1, local_at=NOW, key_block=text
    )
    for message, shown in (
        (exchange, f"[{len(text)} characters masked]"),
        (Message("0200", {3: "000000", number: text}), text),
    ):
        decode_message(encode(dialect, message).hex(), spec=dialect, mask=True)
        assert json.loads(capsys.readouterr().out)["fields"][str(number)] == shown
