"""Batches against their table: any words in any order, and what is posted only when proven."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Mode
from protocols.tap.record import write_record
from protocols.tap.words import (
    BatchClose,
    BatchOpen,
    BatchProblem,
    BatchRecords,
    BatchResults,
    OfflineRecord,
    RecordResult,
    RecordStatus,
)
from switch.net.tap.uploads import Room, Uploads

POSTED = RecordResult(RecordStatus.POSTED, "00")
RECORDS_MAX, OPEN_MAX, ROOM = 6, 2, 10


def record(counter: int) -> OfflineRecord:
    return OfflineRecord(
        bytes(16), counter, 0, 100 + counter, 6, "00000000B0A1", "20251120081500", 1, bytes(4), 1,
        "S7",
    )  # fmt: skip


def octets_of(records) -> bytes:
    return b"".join(map(write_record, records))


def opened(batch: int, records, **changes) -> BatchOpen:
    said = {
        "count": len(records), "total_minor": sum(one.amount_minor for one in records),
        "digest": hashlib.sha256(octets_of(records)).digest(),
    } | changes  # fmt: skip
    return BatchOpen(batch, Mode.BUS, "L1", "V2", **said)


def say(uploads: Uploads, batch: int, first: int, records) -> BatchProblem:
    said = BatchRecords(batch, first, tuple(records))
    return uploads.records("DEPOT", said, octets_of(records)).problem


def made() -> tuple[Uploads, Room]:
    room = Room(ROOM)
    return uploads_in(room), room


def uploads_in(room: Room) -> Uploads:
    return Uploads("48", records_per_batch_max=RECORDS_MAX, open_batches_max=OPEN_MAX, room=room)


def room_left(room: Room) -> int:
    left = 0
    while room.take(1):
        left += 1
    room.give_back(left)
    return left


steps = st.lists(
    st.tuples(
        st.sampled_from(["open", "records", "close", "results", "take", "settle", "put_back"]),
        st.integers(0, 2),
        st.integers(0, 7),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_whatever_is_said_only_proven_batches_are_posted_each_record_once_and_room_comes_back(
    steps,
):
    uploads, room = made()
    proven: dict[int, int] = {}
    taken_of: dict[int, list[int]] = {}
    under_way = []
    for what, batch, number in steps:
        whole = [record(10 * batch + place) for place in range(min(number, RECORDS_MAX + 1))]
        match what:
            case "open":
                problem = uploads.open("DEPOT", opened(batch, whole)).problem
                if len(whole) > RECORDS_MAX:
                    assert problem in (BatchProblem.TOO_MANY_RECORDS, BatchProblem.BEING_POSTED)
                if problem is BatchProblem.NONE:
                    proven.pop(batch, None)
                    taken_of[batch] = []
            case "records":
                # in place where it continues, out of it where it does not
                say(uploads, batch, number, [record(10 * batch + number)])
            case "close":
                answer = uploads.close("DEPOT", BatchClose(batch))
                if answer.problem is BatchProblem.NONE:
                    proven.setdefault(batch, answer.held)
            case "results":
                page = uploads.results("DEPOT", BatchResults(batch, number))
                if page is not None:
                    assert len(page.results) == max(0, proven[batch] - number)
                    waits = any(one.status is RecordStatus.WAITING for one in page.results)
                    assert not (page.done and waits)
            case "take":
                taken = uploads.take()
                if taken is not None:
                    named = taken.batch.opened.batch
                    assert named in proven
                    assert taken.record == record(10 * named + taken.place)
                    assert taken.place not in taken_of[named]
                    taken_of[named].append(taken.place)
                    under_way.append(taken)
            case "settle" if under_way:
                uploads.settled(under_way.pop(), POSTED)
            case "put_back" if under_way:
                taken = under_way.pop()
                taken_of[taken.batch.opened.batch].remove(taken.place)
                uploads.put_back(taken)
    assert room_left(room) >= 0
    uploads.forget()
    assert room_left(room) == ROOM
    assert uploads.take() is None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, RECORDS_MAX), st.lists(st.integers(1, 3), min_size=6, max_size=6))
def test_a_whole_batch_in_any_pieces_is_proven_and_done_when_all_is_answered(count, sizes):
    uploads, _room = made()
    records = [record(place) for place in range(count)]
    assert uploads.open("DEPOT", opened(1, records)).problem is BatchProblem.NONE
    first = 0
    for size in sizes:
        piece = records[first : first + size]
        assert say(uploads, 1, first, piece) is BatchProblem.NONE
        first += len(piece)
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.NONE
    for _ in range(count):
        assert not uploads.page_is_whole("DEPOT", BatchResults(1, 0))
        taken = uploads.take()
        assert taken is not None
        uploads.settled(taken, POSTED)
    page = uploads.results("DEPOT", BatchResults(1, 0))
    assert page is not None
    assert (page.done, page.results) == (True, (POSTED,) * count)


def test_each_row_of_the_table_has_its_problem():
    uploads, _room = made()
    records = [record(0), record(1)]
    assert say(uploads, 1, 0, records) is BatchProblem.UNKNOWN_BATCH
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.UNKNOWN_BATCH
    assert uploads.results("DEPOT", BatchResults(1, 0)) is None
    assert uploads.open("DEPOT", opened(1, records)).problem is BatchProblem.NONE
    assert uploads.results("DEPOT", BatchResults(1, 0)) is None
    assert say(uploads, 1, 1, records[1:]) is BatchProblem.OUT_OF_PLACE
    assert say(uploads, 1, 0, records) is BatchProblem.NONE
    assert say(uploads, 1, 2, records) is BatchProblem.TOO_MANY_RECORDS
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.NONE
    again = uploads.open("DEPOT", opened(1, records))
    assert again.problem is BatchProblem.BEING_POSTED
    assert say(uploads, 1, 0, records) is BatchProblem.BEING_POSTED
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.NONE


def test_a_batch_begun_again_begins_at_its_first_record_and_another_device_has_its_own():
    uploads, _room = made()
    records = [record(0), record(1)]
    for _ in range(2):
        assert uploads.open("DEPOT", opened(1, records)).held == 0
        assert say(uploads, 1, 0, records[:1]) is BatchProblem.NONE
    other = uploads.open("BUS2", opened(1, records))
    assert (other.held, other.problem) == (0, BatchProblem.NONE)
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.COUNT_DIFFERS
    assert uploads.close("DEPOT", BatchClose(1)).problem is BatchProblem.UNKNOWN_BATCH


def test_a_batch_whose_last_page_was_read_makes_room_and_others_do_not():
    uploads, _room = made()
    for batch in (1, 2):
        assert uploads.open("DEPOT", opened(batch, [])).problem is BatchProblem.NONE
        uploads.close("DEPOT", BatchClose(batch))
    assert uploads.open("DEPOT", opened(3, [])).problem is BatchProblem.TOO_MANY_OPEN
    uploads.results("DEPOT", BatchResults(1, 0))
    assert uploads.open("DEPOT", opened(3, [])).problem is BatchProblem.NONE
    assert uploads.results("DEPOT", BatchResults(1, 0)) is None


def test_what_a_process_may_hold_is_shared_by_its_connections():
    uploads, room = made()
    other = uploads_in(room)
    records = [record(place) for place in range(6)]
    assert uploads.open("DEPOT", opened(1, records)).problem is BatchProblem.NONE
    assert other.open("DEPOT", opened(1, records)).problem is BatchProblem.TOO_MANY_OPEN
    uploads.forget()
    assert other.open("DEPOT", opened(1, records)).problem is BatchProblem.NONE
