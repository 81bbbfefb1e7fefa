"""Frames of readers: what is written is read, whatever is read is written so, or refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError, FramingError
from protocols.message import Mode
from protocols.tap.formats import ANSWERS, RECORDS_PER_FRAME_MAX, REQUESTS
from protocols.tap.frame import (
    ANSWER_BIT,
    PAYLOAD_BYTES_MAX,
    PAYLOAD_BYTES_MIN,
    TapError,
    TapFramer,
    open_frame,
    read_answer,
    read_said,
    sealed,
    write_answer,
    write_said,
)
from protocols.tap.words import (
    BatchOpen,
    BatchRecords,
    BatchTaken,
    Echo,
    FrameType,
    Head,
    Hello,
    OfflineRecord,
    Refused,
    RefusedReason,
    TapKind,
    TapSaid,
)

MAC = bytes(range(8))
HEAD = Head("GATE0001", 7)
MEDIUM = bytes(range(16))
TAP = TapSaid(TapKind.SINGLE, MEDIUM, 1_795_000_000_000, Mode.BUS, "L12", "S01", "B7", 1, 200)
RECORD = OfflineRecord(
    MEDIUM, 1, 0, 200, 6, "360486600002", "20261122180509", 7, b"tac.", 1, "S01"
)  # fmt: skip


def payload(signed: bytes) -> bytes:
    return sealed(signed, MAC)[2:]


def read(octets: bytes) -> object:
    frame = open_frame(octets)
    return read_answer(frame) if frame.type & ANSWER_BIT else read_said(frame)


def refusal(octets: bytes) -> TapError | None:
    """Why the payload is no frame; one that is must be written again byte by byte."""
    try:
        again = rewritten(octets)
    except TapError as error:
        return error
    assert again == octets
    return None


def rewritten(octets: bytes) -> bytes:
    """The payload again, from the words it was read as."""
    frame = open_frame(octets)
    if frame.type & ANSWER_BIT:
        signed = write_answer(frame.head, frame.type, read_answer(frame))
    else:
        signed = write_said(frame.head, read_said(frame))
    return sealed(signed, frame.mac)[2:]


@given(drawn=st.data())
def test_what_is_said_is_read_again(spoken, drawn):
    head, said = drawn.draw(spoken.heads), drawn.draw(spoken.said)
    signed = write_said(head, said)
    [octets] = TapFramer().feed(sealed(signed, MAC))
    frame = open_frame(octets)
    assert (frame.head, frame.mac, frame.signed) == (head, MAC, signed)
    assert read_said(frame) == said


@given(drawn=st.data())
def test_what_is_answered_is_read_again(spoken, drawn):
    head, (asked, answered) = drawn.draw(spoken.heads), drawn.draw(spoken.answered)
    frame = open_frame(payload(write_answer(head, asked, answered)))
    assert (frame.head, frame.type) == (head, asked | ANSWER_BIT)
    assert read_answer(frame) == answered
    with pytest.raises(TapError, match="no such frame"):
        read_said(frame)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_or_refused(octets):
    refused = refusal(octets)
    assert refused is None or 0 <= refused.offset <= len(octets)


@given(drawn=st.data())
def test_a_damaged_frame_is_refused_or_says_just_what_it_says(spoken, drawn):
    """One spelling for every value: what is accepted is written again byte by byte."""
    words = st.one_of(
        spoken.said.map(lambda said: write_said(HEAD, said)),
        spoken.answered.map(lambda pair: write_answer(HEAD, *pair)),
    )
    octets = bytearray(payload(drawn.draw(words)))
    for _ in range(drawn.draw(st.integers(1, 3))):
        octets[drawn.draw(st.integers(0, len(octets) - 1))] = drawn.draw(st.integers(0, 255))
    cut = drawn.draw(st.sampled_from((0, 0, 1, 9)))
    octets = octets[: len(octets) - cut] + drawn.draw(st.sampled_from((b"", b"", b"\x00")))
    refused = refusal(bytes(octets))
    if refused is not None:
        assert 0 <= refused.offset <= len(octets)
        assert not re.search(r"\d{13}", str(refused))


@given(drawn=st.data())
def test_how_a_stream_is_cut_never_matters(spoken, drawn):
    frames = [
        sealed(write_said(HEAD, said), MAC)
        for said in drawn.draw(st.lists(spoken.said, min_size=1, max_size=4))
    ]
    stream = b"".join(frames)
    cuts = sorted(drawn.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer, got = TapFramer(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += framer.feed(stream[start:end])
        assert framer.buffered_bytes <= PAYLOAD_BYTES_MAX + 2
    assert got == [frame[2:] for frame in frames] == TapFramer().feed(stream)
    assert framer.buffered_bytes == 0


def test_a_wrong_length_ends_the_stream_and_keeps_what_came_before():
    whole = sealed(write_said(HEAD, Echo()), MAC)
    framer = TapFramer()
    with pytest.raises(FramingError) as lost:
        framer.feed(whole + b"\x00\x05")
    assert framer.whole == (whole[2:],)
    assert lost.value.offset == len(whole)
    with pytest.raises(FramingError):
        framer.feed(whole)
    assert framer.whole == ()
    with pytest.raises(FramingError):
        TapFramer(100).feed((101).to_bytes(2, "big"))


def test_a_frame_of_another_version_can_still_be_answered():
    octets = b"\x02" + payload(write_said(HEAD, TAP))[1:]
    with pytest.raises(TapError) as refused:
        open_frame(octets)
    assert (refused.value.refused, refused.value.head) == (RefusedReason.VERSION, HEAD)


def test_a_device_without_a_name_cannot():
    octets = payload(write_said(HEAD, TAP))
    for device in (
        b" GATE001",
        b"GA TE001",
        b"        ",
        b"GATE\xff001",
        b"G\x00\x00\x00\x00\x00\x00\x00",
    ):
        with pytest.raises(TapError) as refused:
            open_frame(octets[:3] + device + octets[11:])
        assert (refused.value.head, refused.value.field_path) == (None, "device")


def test_errors_say_where():
    octets = payload(write_said(HEAD, BatchRecords(1, 0, (RECORD, RECORD))))
    second = 15 + 8 + 2 + 56
    damaged = bytearray(octets)
    damaged[second + 16 + 9] = 7
    with pytest.raises(TapError) as refused:
        read(bytes(damaged))
    assert (refused.value.field_path, refused.value.offset) == ("records[1].type", second + 25)
    assert refused.value.head == HEAD
    tap = payload(write_said(HEAD, TAP))
    with pytest.raises(TapError, match="stop at byte"):
        read(tap[:-40] + MAC)
    with pytest.raises(TapError, match="body at byte 85: 1 bytes follow"):
        read(tap[:-8] + b"\x00" + MAC)
    with pytest.raises(TapError, match="records at byte 23: 2 of 56"):
        read(octets[:-9] + MAC)


def test_there_is_nothing_but_what_the_tables_have():
    for number in range(256):
        frame = open_frame(b"\x01" + bytes([number]) + payload(write_said(HEAD, Echo()))[2:])
        try:
            read_answer(frame) if number & ANSWER_BIT else read_said(frame)
        except TapError:
            continue
        assert number & ~ANSWER_BIT == FrameType.ECHO
    assert set(REQUESTS) == set(FrameType) - {FrameType.REFUSED}
    assert set(ANSWERS) == set(FrameType)


@pytest.mark.parametrize(
    ("said", "path"),
    [
        (Hello("", 0), "acquirer"),
        (Hello("123456789012", 0), "acquirer"),
        (Hello("48021000", 1 << 32), "list_version"),
        (Hello("48021000", -1), "list_version"),
        (BatchOpen(1, Mode.BUS, "L" * 13, "", 0, 0, bytes(32)), "line"),
        (BatchOpen(1, Mode.BUS, "L 1", "", 0, 0, bytes(32)), "line"),
        (BatchOpen(1, Mode.BUS, "一", "", 0, 0, bytes(32)), "line"),
        (BatchOpen(1, Mode.BUS, "", "", 0, 1 << 63, bytes(32)), "total_minor"),
        (BatchOpen(1, Mode.BUS, "", "", 0, 0, bytes(31)), "digest"),
        (BatchRecords(1, 0, (RECORD,) * (RECORDS_PER_FRAME_MAX + 1)), "records"),
    ],
)
def test_what_the_format_cannot_carry_is_our_fault(said, path):
    with pytest.raises(EncodeError) as error:
        write_said(HEAD, said)
    assert error.value.field_path == path


def test_heads_answers_and_seals_are_checked_as_well():
    for head in (Head("", 1), Head("NINELETTE", 1), Head("G-1", 1), Head("G1", 1 << 32)):
        with pytest.raises(EncodeError):
            write_said(head, Echo())
    with pytest.raises(EncodeError, match="does not answer"):
        write_answer(HEAD, FrameType.TAP, Echo())
    with pytest.raises(EncodeError, match="does not answer"):
        write_answer(HEAD, 0x55, BatchTaken(1, 0, 0))
    with pytest.raises(EncodeError):
        sealed(bytes(PAYLOAD_BYTES_MIN), MAC[:7])
    with pytest.raises(EncodeError):
        sealed(bytes(PAYLOAD_BYTES_MAX), MAC)
    full = write_said(HEAD, BatchRecords(1, 0, (RECORD,) * RECORDS_PER_FRAME_MAX))
    assert len(read(payload(full)).records) == RECORDS_PER_FRAME_MAX


def test_a_refusal_answers_anything_and_nothing_shows_a_card():
    frame = open_frame(payload(write_answer(HEAD, 0x55, Refused(RefusedReason.MAC_WRONG))))
    assert frame.type == 0xFF
    assert read_answer(frame) == Refused(RefusedReason.MAC_WRONG)
    assert "body=" in repr(frame)
    assert "000102" not in repr(frame)
    assert issubclass(TapError, DecodeError)
