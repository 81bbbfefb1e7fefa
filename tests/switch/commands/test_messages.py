"""`decode` and `encode`: what is secret is hidden by `--mask`, and readers' frames are known."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from protocols.iso8583 import Message, encode
from protocols.iso8583.client import Dialect, network_message
from protocols.iso8583.dialect import NetworkFunction
from protocols.tap.frame import sealed, write_said
from protocols.tap.words import Echo, Head, ListAsk
from switch.commands.exits import CommandFailed
from switch.commands.messages import decode_message, encode_message

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


def test_a_frame_of_a_reader_is_shown_and_written_again(capsys: pytest.CaptureFixture[str]) -> None:
    frame = sealed(write_said(Head("GATE0001", 7), ListAsk(11)), bytes(range(8))).hex()
    decode_message(frame, spec="tap", frame=True)
    text = capsys.readouterr().out
    assert json.loads(text)["body"] == {"have_version": 11}
    encode_message(text, spec="tap")
    assert capsys.readouterr().out.strip() == frame[4:]
    decode_message(frame[4:], spec="tap")
    assert capsys.readouterr().out == text


def test_what_is_not_one_frame_of_a_reader_is_refused() -> None:
    frame = sealed(write_said(Head("GATE0001", 7), Echo()), bytes(8)).hex()
    with pytest.raises(CommandFailed, match="2 whole frames"):
        decode_message(frame * 2, spec="tap", frame=True)
    for text in ("[]", "[" * 5_000, '{"type": "echo"}'):
        with pytest.raises(CommandFailed, match="not of the form"):
            encode_message(text, spec="tap")
