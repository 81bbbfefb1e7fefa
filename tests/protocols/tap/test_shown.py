"""Frames as JSON: back and forth, nothing of a card where it is masked, clear about mistakes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError
from protocols.message import Mode
from protocols.tap.frame import sealed, write_answer, write_said
from protocols.tap.shown import ShownFrame, shown, unshown
from protocols.tap.words import Head, TapKind, TapSaid

MAC = bytes(range(8))
HEAD = Head("GATE0001", 7)
TAP = TapSaid(
    TapKind.SINGLE, b"CARDCARDCARDCARD", 1_795_000_000_000, Mode.BUS, "L12", "S01", "B7", 1, 200
)
SHOWN = ShownFrame(
    "tap",
    "GATE0001",
    7,
    {
        "kind": "single", "medium": "43415244" * 4, "event_at_ms": 1_795_000_000_000, "mode": "bus",
        "line": "L12", "stop": "S01", "vehicle": "B7", "fare_version": 1, "nominal_minor": 200,
    },
    mac=MAC.hex(),
)  # fmt: skip


def test_a_frame_reads_like_its_table():
    octets = sealed(write_said(HEAD, TAP), MAC)[2:]
    assert shown(octets) == SHOWN
    assert unshown(SHOWN) == octets
    masked = shown(octets, mask=True)
    assert masked.body == SHOWN.body | {"medium": "[16 bytes masked]"}


@given(drawn=st.data())
def test_whatever_is_shown_is_read_again(spoken, drawn):
    head = drawn.draw(spoken.heads)
    signed = drawn.draw(
        st.one_of(
            spoken.said.map(lambda said: write_said(head, said)),
            spoken.answered.map(lambda pair: write_answer(head, *pair)),
        )
    )
    octets = sealed(signed, MAC)[2:]
    text = msgspec.json.encode(shown(octets))
    assert unshown(msgspec.json.decode(text, type=ShownFrame)) == octets


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"type": "tapp"}, "type"),
        ({"type": "refused"}, "type"),
        ({"mac": "zz"}, "mac"),
        ({"body": {}}, "body"),
        ({"body": SHOWN.body | {"medium": "zz"}}, "body.medium"),
        ({"body": SHOWN.body | {"kind": "double"}}, "body.kind"),
        ({"body": SHOWN.body | {"kind": [1]}}, "body.kind"),
        ({"body": SHOWN.body | {"nominal_minor": "200"}}, "body.nominal_minor"),
    ],
)
def test_json_that_is_no_frame_is_refused_where_it_is_wrong(change, says):
    with pytest.raises(DecodeError) as error:
        unshown(msgspec.structs.replace(SHOWN, **change))
    assert error.value.field_path == says


def test_a_value_that_does_not_fit_is_refused_by_the_format():
    with pytest.raises(EncodeError, match="nominal_minor"):
        unshown(msgspec.structs.replace(SHOWN, body=SHOWN.body | {"nominal_minor": 1 << 32}))
