"""Hotlists: read right or refused, never half, whatever their length and whatever befell them."""

from __future__ import annotations

import hashlib
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError
from protocols.tap import hotlist
from protocols.tap.hotlist import (
    HotlistFile,
    apply,
    change,
    chunk_is_intact,
    chunk_of,
    digest_of,
    read_list,
    whole,
    whole_bytes,
)

MEDIUMS = st.binary(min_size=16, max_size=16)
SETS = st.sets(MEDIUMS, max_size=20)


def of_size(count: int) -> set[bytes]:
    dice = Random(count)
    return {dice.randbytes(16) for _ in range(count)}


def each(mediums: bytes) -> set[bytes]:
    return {mediums[at : at + 16] for at in range(0, len(mediums), 16)}


def proven(octets: bytes) -> bytes:
    """These bytes with a digest that proves them: what is wrong in them is for the reader."""
    return octets + hashlib.sha256(octets).digest()


@pytest.mark.parametrize("first", range(0, 301, 50))
def test_lists_of_every_length_are_read_right(first):
    for count in range(first, min(first + 50, 301)):
        listed = of_size(count)
        octets = whole(7, listed)
        file = read_list(octets)
        assert (file.version, file.from_version, file.count) == (7, 0, count)
        assert each(file.added) == listed
        assert all(file.lists(medium) for medium in listed)
        assert not file.lists(bytes(16))
        assert not file.lists(b"\xff" * 16)
        assert whole_bytes(file) == octets
        coming, leaving = set(sorted(listed)[::2]), set(sorted(listed)[1::2])
        changed = read_list(change(8, 7, coming, leaving))
        assert (each(changed.added), each(changed.removed)) == (coming, leaving)


@pytest.mark.parametrize("count", [0, 1, 2, 255, 256, 300])
def test_a_list_that_is_cut_or_longer_is_refused(count):
    for octets in (whole(7, of_size(count)), change(7, 6, of_size(count), ())):
        for end in {0, 1, 17, 18, 49, 50, len(octets) - 33, len(octets) - 16, len(octets) - 1}:
            if 0 <= end < len(octets):
                with pytest.raises(DecodeError):
                    read_list(octets[:end])
        for more in (b"\x00", bytes(16), bytes(17)):
            with pytest.raises(DecodeError):
                read_list(octets + more)


@given(st.integers(0, 300), st.data())
def test_a_damaged_list_is_refused(count, drawn):
    octets = bytearray(whole(7, of_size(count)))
    at = drawn.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= drawn.draw(st.integers(1, 255))
    with pytest.raises(DecodeError):
        read_list(bytes(octets))


@given(st.data())
def test_damage_that_somebody_proved_is_a_right_list_or_refused(drawn):
    """A digest says that bytes arrived, not that they are a list: every other rule holds too."""
    before = drawn.draw(st.sampled_from((whole(7, of_size(9)), change(7, 6, of_size(9), ()))))
    octets = bytearray(before[:-32])
    for _ in range(drawn.draw(st.integers(1, 4))):
        octets[drawn.draw(st.integers(0, len(octets) - 1))] = drawn.draw(st.integers(0, 255))
    octets = octets[: len(octets) - drawn.draw(st.sampled_from((0, 0, 1, 16, 17)))]
    try:
        file = read_list(proven(bytes(octets)))
    except DecodeError:
        return
    if file.from_version:
        again = change(file.version, file.from_version, each(file.added), each(file.removed))
    else:
        again = whole(file.version, each(file.added))
    assert again == proven(bytes(octets))


@given(st.binary(max_size=120))
def test_any_bytes_are_refused(octets):
    for given_octets in (octets, proven(octets), proven(b"CCHL\x01\x01" + octets)):
        try:
            read_list(given_octets)
        except DecodeError:
            pass


@given(before=SETS, coming=SETS, leaving=st.data())
def test_a_change_makes_of_one_list_the_other(before, coming, leaving):
    gone = leaving.draw(st.sets(st.sampled_from(sorted(before)))) if before else set()
    coming -= before
    after = (before - gone) | coming
    old = read_list(whole(3, before))
    new = apply(old, read_list(change(9, 3, coming, gone)))
    assert new == read_list(whole(9, after))
    assert digest_of(whole_bytes(new)) == digest_of(whole(9, after))


ONE, TWO = bytes(15) + b"\x01", bytes(15) + b"\x02"


@pytest.mark.parametrize(
    ("old", "changed", "says"),
    [
        (HotlistFile(3, 2, ONE), HotlistFile(4, 3, TWO), "keep whole lists"),
        (HotlistFile(3, 0, ONE), HotlistFile(4, 0, TWO), "use it as it is"),
        (HotlistFile(3, 0, ONE), HotlistFile(5, 4, TWO), "another version"),
        (HotlistFile(3, 0, ONE), HotlistFile(4, 3, ONE), "does not fit"),
        (HotlistFile(3, 0, ONE), HotlistFile(4, 3, b"", TWO), "does not fit"),
    ],
)
def test_a_change_that_is_not_for_this_list_is_refused(old, changed, says):
    with pytest.raises(DecodeError, match=says):
        apply(old, changed)


@pytest.mark.parametrize(
    ("octets", "path"),
    [
        (bytes(49), "length"),
        (proven(b"CCHX" + whole(1, ())[4:18]), "magic"),
        (proven(b"CCHL\x02" + whole(1, ())[5:18]), "format"),
        (proven(b"CCHL\x01\x03" + whole(1, ())[6:18]), "form"),
        (proven(b"CCHL\x01\x01" + bytes(12)), "version"),
        (proven(b"CCHL\x01\x01" + bytes.fromhex("00000002 00000001 00000000")), "version"),
        (proven(b"CCHL\x01\x02" + bytes.fromhex("00000002 00000002 00000000")), "version"),
        (proven(b"CCHL\x01\x01" + bytes.fromhex("00000002 00000000 000f4241")), "count"),
        (proven(b"CCHL\x01\x01" + bytes.fromhex("00000002 00000000 00000002") + ONE * 2),
         "entries[1]"),
        (proven(b"CCHL\x01\x02" + bytes.fromhex("00000002 00000001 00000001") + b"\x03" + ONE),
         "entries[0]"),
    ],
)  # fmt: skip
def test_every_rule_has_its_refusal(octets, path):
    with pytest.raises(DecodeError) as error:
        read_list(octets)
    assert error.value.field_path == f"hotlist.{path}"


def test_what_is_no_list_is_not_written(monkeypatch):
    for wrong in (
        lambda: whole(0, ()),
        lambda: whole(1 << 32, ()),
        lambda: whole(1, (b"short",)),
        lambda: change(2, 2, (), ()),
        lambda: change(2, 0, (), ()),
        lambda: change(2, 1, (ONE,), (ONE,)),
        lambda: whole_bytes(HotlistFile(2, 1, ONE)),
    ):
        with pytest.raises(EncodeError):
            wrong()
    monkeypatch.setattr(hotlist, "HOTLIST_ENTRIES_MAX", 1)
    with pytest.raises(EncodeError, match="over 1"):
        whole(1, (ONE, TWO))
    with pytest.raises(DecodeError, match="over 1"):
        apply(HotlistFile(3, 0, ONE), HotlistFile(4, 3, TWO))


def test_a_list_travels_in_pieces():
    octets = whole(7, of_size(30))
    pieces = []
    while True:
        piece = chunk_of(octets, 7, 0, sum(map(len, pieces)), 100)
        assert chunk_is_intact(piece)
        if not piece.octets:
            break
        pieces.append(piece.octets)
    assert b"".join(pieces) == octets
    assert chunk_of(octets, 7, 0, 0, 10).crc32 == zlib.crc32(octets[:10])


def test_lists_do_not_show_their_cards():
    file = read_list(whole(7, (b"CARDCARDCARDCARD",)))
    assert "CARD" not in repr(file)
    assert "CARD" not in str(file.__rich_repr__())
