"""Framing: however a stream is cut into chunks, the frames and the faults are the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import EncodeError, FramingError
from protocols.framing import Frame, Framer, Framing, LengthKind, answer_tpdu, frame

FRAMINGS = st.builds(
    Framing,
    kind=st.sampled_from(["binary2", "ascii4"]),
    tpdu=st.booleans(),
    header_bytes=st.sampled_from([0, 6]),
    frame_bytes_max=st.sampled_from([64, 4_096]),
)
UNIONPAY = Framing("binary2", tpdu=True, header_bytes=6)
TPDU = bytes.fromhex("6000060000")
HEADER = bytes.fromhex("603100311003")
Heard = tuple[list[Frame], tuple[str, int] | None, int]


def heard(framing: Framing, chunks: list[bytes]) -> Heard:
    """Frames, the place of the fault if any, and keep-alives."""
    framer = Framer(framing)
    frames: list[Frame] = []
    for chunk in chunks:
        try:
            frames += framer.feed(chunk)
        except FramingError as error:
            return [*frames, *error.frames], (error.field_path, error.offset), framer.keep_alives
        assert framer.buffered_bytes <= 4 + framing.frame_bytes_max
    return frames, None, framer.keep_alives


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[a:b] for a, b in pairwise(borders)]


@given(framing=FRAMINGS, sample=st.data())
def test_what_is_framed_is_cut_out_again(framing: Framing, sample: st.DataObject) -> None:
    frames = sample.draw(st.lists(frames_of(framing), max_size=6))
    stream = b"".join(frame(framing, f.payload, f.tpdu, f.header) for f in frames)
    places = sample.draw(st.lists(st.integers(0, 2_000), max_size=8))
    assert heard(framing, cut(stream, places)) == (frames, None, 0)


@settings(max_examples=300)
@given(framing=FRAMINGS, sample=st.data())
def test_chunks_do_not_matter_even_on_a_broken_stream(
    framing: Framing, sample: st.DataObject
) -> None:
    frames = sample.draw(st.lists(frames_of(framing), max_size=4))
    stream = b"".join(frame(framing, f.payload, f.tpdu, f.header) for f in frames)
    stream += sample.draw(st.binary(max_size=30) | st.just(b"0000") | st.just(b"\0\0\0\0"))
    places = sample.draw(st.lists(st.integers(0, 2_000), max_size=8))
    whole = heard(framing, [stream])
    assert heard(framing, [stream[i : i + 1] for i in range(len(stream))]) == whole
    assert heard(framing, cut(stream, places)) == whole


def frames_of(framing: Framing) -> st.SearchStrategy[Frame]:
    room = min(framing.frame_bytes_max - framing.lead_bytes, 120)
    return st.builds(
        Frame,
        payload=st.binary(min_size=10, max_size=room),
        tpdu=st.binary(min_size=5, max_size=5) if framing.tpdu else st.just(b""),
        header=st.binary(min_size=framing.header_bytes, max_size=framing.header_bytes),
    )


def test_a_pos_frame_is_length_tpdu_header_message() -> None:
    payload = bytes.fromhex("0200 702406C020C19A31")
    wire = bytes.fromhex("0015 6000060000 603100311003 0200702406c020c19a31")
    assert frame(UNIONPAY, payload, TPDU, HEADER) == wire
    assert Framer(UNIONPAY).feed(wire) == [Frame(payload, TPDU, HEADER)]


def test_an_ascii_length_is_four_digits() -> None:
    framing = Framing("ascii4")
    assert frame(framing, b"0800" + b"0" * 16) == b"00200800" + b"0" * 16


@pytest.mark.parametrize("kind", ["binary2", "ascii4"])
def test_empty_frames_keep_the_link_alive_and_are_skipped(kind: LengthKind) -> None:
    framing = Framing(kind)
    empty = b"\0\0" if kind == "binary2" else b"0000"
    payload = b"0800" + b"0" * 16
    framer = Framer(framing)
    assert framer.feed(empty + frame(framing, payload) + empty) == [Frame(payload)]
    assert framer.feed(empty[:1]) == []
    assert framer.feed(empty[1:]) == []
    assert framer.keep_alives == 3


@pytest.mark.parametrize(
    ("framing", "stream"),
    [
        (Framing("ascii4"), b"00x1"),
        (Framing("ascii4"), b"+020"),
        (Framing("ascii4"), "00²0".encode("latin-1")),
        (Framing("ascii4", frame_bytes_max=64), b"0065"),
        (Framing("ascii4"), b"0009"),
        (Framing("binary2", frame_bytes_max=64), b"\x00\x41"),
        (UNIONPAY, b"\x00\x14"),
    ],
)
def test_a_length_that_is_none_loses_the_stream(framing: Framing, stream: bytes) -> None:
    good = frame(framing, b"0" * 20, TPDU[: 5 * framing.tpdu], HEADER[: framing.header_bytes])
    framer = Framer(framing)
    framer.feed(good)
    with pytest.raises(FramingError) as caught:
        framer.feed(good + stream)
    # the frame before the fault is not lost with the stream
    assert [f.payload for f in caught.value.frames] == [b"0" * 20]
    assert (caught.value.field_path, caught.value.offset) == ("frame.length", 2 * len(good))
    with pytest.raises(FramingError) as again:
        framer.feed(good)
    assert again.value.frames == ()


def test_a_fault_is_seen_before_its_frame_is_waited_for() -> None:
    framer = Framer(Framing("binary2", frame_bytes_max=64))
    framer.feed(b"\xff")
    with pytest.raises(FramingError):
        framer.feed(b"\xff")
    assert framer.buffered_bytes <= 2


def test_the_answer_goes_back_where_the_question_came_from() -> None:
    assert answer_tpdu(bytes.fromhex("60 0006 1234")).hex() == "6012340006"
    assert answer_tpdu(b"") == b""
    with pytest.raises(EncodeError):
        answer_tpdu(b"\x60")


@pytest.mark.parametrize(
    ("payload", "tpdu", "header", "path"),
    [
        (b"0" * 20, b"", HEADER, "frame.tpdu"),
        (b"0" * 20, TPDU, b"", "frame.header"),
        (b"0" * 9, TPDU, HEADER, "frame.length"),
        (b"0" * 5_000, TPDU, HEADER, "frame.length"),
    ],
)
def test_a_frame_of_another_shape_is_our_fault(
    payload: bytes, tpdu: bytes, header: bytes, path: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        frame(UNIONPAY, payload, tpdu, header)
    assert caught.value.field_path == path


@pytest.mark.parametrize(
    ("kind", "header_bytes", "frame_bytes_max"),
    [("ascii4", 0, 10_000), ("binary2", 0, 65_536), ("binary2", 6, 15), ("binary2", 65, 4_096)],
)
def test_terms_that_cannot_be_kept_are_refused(
    kind: LengthKind, header_bytes: int, frame_bytes_max: int
) -> None:
    with pytest.raises(ValueError, match="give"):
        Framing(kind, header_bytes=header_bytes, frame_bytes_max=frame_bytes_max)


def test_the_representation_shows_no_payload() -> None:
    shown = Frame(b"6200000000123451", TPDU, HEADER)
    assert repr(shown) == "Frame(payload=16 bytes, tpdu=5 bytes, header=6 bytes)"
    assert "6200" not in repr(shown.__rich_repr__())
