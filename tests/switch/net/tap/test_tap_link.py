"""A tap link over real TCP: what each frame is answered, and what reaches the pipeline."""

from __future__ import annotations

import zlib
from types import SimpleNamespace

import anyio
import msgspec
import pytest

from protocols.message import ChipVerdict, Fare, Kind, Mode, Outcome, Reply
from protocols.tap.words import (
    BatchProblem,
    BatchResults,
    ChipLoad,
    ChipLoadAnswer,
    ChipLoadConfirm,
    Echo,
    Hello,
    ListAcknowledge,
    ListAcknowledged,
    ListAnswer,
    ListAsk,
    ListChunk,
    RecordResult,
    RecordStatus,
    Refused,
    RefusedReason,
    TapAnswer,
    TapKind,
)
from switch.net.draining import take_leave

NOT_SIGNED_ON = Refused(RefusedReason.NOT_SIGNED_ON)
NOT_PERMITTED = Refused(RefusedReason.NOT_PERMITTED)
MAC_WRONG = Refused(RefusedReason.MAC_WRONG)
UNKNOWN_KEY = Refused(RefusedReason.UNKNOWN_KEY)


async def test_hello_comes_first_and_names_the_acquirer_of_the_link(edge, approver, said):
    gate = await edge.concentrator(greeted=False)
    assert await gate.ask(said()) == NOT_SIGNED_ON
    assert await gate.ask(Hello("99", 0), "DEPOT") == NOT_PERMITTED
    assert await gate.ask(said()) == NOT_SIGNED_ON
    welcome = await gate.greet()
    assert (welcome.accepted, welcome.records_per_batch_max) == (True, 100)
    assert edge.metric("citycard_link_state", link="metro-1", state="up") == 1
    assert (await gate.ask(said())).response_code == "00"
    assert await gate.ask(Echo()) == Echo()
    assert len(approver.requests) == 1


async def test_a_tap_is_told_how_it_was_priced_and_what_is_left(edge, approver, said):
    gate = await edge.concentrator()
    approver.reply = Reply(
        Outcome.APPROVED, 150, fare=Fare(200, concession_minor=-100, fare_class=2), replayed=True
    )
    assert await gate.ask(said(nominal_minor=300)) == TapAnswer(
        "00", 100, -1, 2, replayed=True, fare_differs=True
    )
    assert (edge.found("fare_differs"), edge.found("replayed")) == (1, 1)
    approver.reply = Reply(Outcome.KEY_REUSED)
    assert (await gate.ask(said())).response_code == "94"
    assert edge.found("replayed") == 2
    for kind in (TapKind.ON, TapKind.OFF, TapKind.INSPECT):
        await gate.ask(said(kind=kind))
    kinds = [request.kind for request in approver.requests]
    assert kinds == [Kind.FARE, Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT]
    assert edge.metric("citycard_venue_seconds_count", venue="metro") == 5


async def test_many_devices_are_answered_in_any_order(edge, approver, said):
    gate = await edge.concentrator()
    approver.holding = True
    frames = [gate.frame(said(), f"G{number}", 9) for number in range(50)]
    await gate.send(*frames)
    assert await gate.ask(Echo(), "DEPOT") == Echo()
    approver.release()
    heard = await gate.hear(50)
    assert {head.device for head, _ in heard} == {f"G{number}" for number in range(50)}
    assert all(answer.response_code == "00" for _, answer in heard)


async def test_a_device_that_poses_as_another_reaches_nobody(edge, approver, said):
    gate = await edge.concentrator()
    assert await gate.ask(said(), "GATE1", key_of="GATE2") == MAC_WRONG
    assert await gate.ask(said(), master=bytes(range(1, 33))) == MAC_WRONG
    assert await gate.ask(said(), key_version=7) == UNKNOWN_KEY
    assert (edge.found("mac_wrong"), edge.found("unknown_key")) == (2, 1)
    assert approver.requests == []
    assert (await gate.ask(said())).response_code == "00"


async def test_what_cannot_be_read_is_refused_where_its_head_could(edge, approver, said):
    gate = await edge.concentrator()
    good = gate.frame(said(), sequence=77)
    await gate.send(good[:2] + b"\x09" + good[3:])
    ((head, answer),) = await gate.hear()
    assert (head.sequence, answer) == (77, Refused(RefusedReason.VERSION))
    # what names no device is left alone; the frame behind it is answered
    await gate.send(good[:5] + bytes(8) + good[13:], gate.frame(Echo()))
    assert [answer for _, answer in await gate.hear()] == [Echo()]
    assert await gate.ask(said(mode=Mode.FERRY)) == NOT_PERMITTED
    assert approver.requests == []


async def test_lost_framing_closes_after_what_came_before_it(edge, approver, said):
    gate = await edge.concentrator()
    await gate.send(gate.frame(said()) + b"\x00\x01\xff")
    ((_, answer),) = await gate.hear()
    assert answer.response_code == "00"
    with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
        await gate.stream.receive()
    await gate.stream.aclose()
    await edge.until(
        lambda: edge.metric("citycard_link_closed_total", link="metro-1", reason="framing")
    )


async def test_a_clock_that_is_ahead_is_flagged_and_the_tap_is_when_it_came(edge, approver, said):
    gate = await edge.concentrator()
    ahead_ms = edge.clock.now_us() // 1000 + 3_600_000
    answer = await gate.ask(said(event_at_ms=ahead_ms))
    assert (answer.response_code, answer.clock_ahead) == ("00", True)
    (request,) = approver.requests
    assert request.tap.event_at_us <= edge.clock.now_us()
    assert edge.found("clock_ahead") == 1


async def test_a_load_of_a_chip_and_what_became_of_it(edge, approver, said):
    gate = await edge.concentrator()
    at_ms = edge.clock.now_us() // 1000
    medium = bytes(16)
    load = ChipLoad(medium, 5_000, 17, 300, at_ms)
    assert await gate.ask(load, sequence=40) == ChipLoadAnswer("00", 0)
    for sequence, written in ((41, True), (42, False)):
        confirm = ChipLoadConfirm(medium, 40, 5_000, written, at_ms)
        assert (await gate.ask(confirm, sequence=sequence)).response_code == "00"
    pending, confirmed, taken_back = approver.requests
    assert (pending.kind, pending.purse, pending.tap.chip.counter) == (
        Kind.LOAD_PENDING, "CHIP", 16,
    )  # fmt: skip
    assert (confirmed.kind, taken_back.kind) == (Kind.LOAD, Kind.REVERSAL)
    assert confirmed.original.key == taken_back.original.key == pending.key
    assert len({pending.key, confirmed.key, taken_back.key}) == 3
    # What the chip has, it has: its word is written however late, and never taken back as late.
    assert [one.must_post for one in approver.requests] == [False, True, True]


# ---- uploads


async def test_a_batch_is_posted_record_by_record_once_it_is_proven(
    edge, approver, record, old_tac
):
    depot = await edge.concentrator()
    records = (
        *(record(counter) for counter in range(12)),
        record(12, **old_tac),
        record(13, tac_key_version=1),
        record(14, local_at="21001231235959"),
    )
    answers = await depot.upload(records)
    assert {answer.problem for answer in answers} == {BatchProblem.NONE}
    assert await depot.results(15) == [RecordResult(RecordStatus.POSTED, "00")] * 15
    by_counter = {request.tap.record.counter: request for request in approver.requests}
    assert [by_counter[n].tap.record.verdict for n in (0, 12, 13)] == [
        ChipVerdict.GENUINE, ChipVerdict.OLD_KEY, ChipVerdict.WRONG,
    ]  # fmt: skip
    assert all(request.background and request.advice for request in approver.requests)
    assert by_counter[14].tap.clock_ahead
    assert edge.found("clock_ahead") == 1
    posted = edge.metric("citycard_offline_records_total", link="metro-1", record="posted")
    assert posted == 15
    first = [(request.key, request.payload_hash) for request in approver.requests]
    assert {answer.problem for answer in await depot.upload(records, batch=9)} == {
        BatchProblem.NONE
    }
    assert len(await depot.results(15, batch=9)) == 15
    again = [(request.key, request.payload_hash) for request in approver.requests[15:]]
    assert sorted(again) == sorted(first)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"count": 9}, BatchProblem.COUNT_DIFFERS),
        ({"total_minor": 1}, BatchProblem.TOTAL_DIFFERS),
        ({"digest": bytes(32)}, BatchProblem.DIGEST_DIFFERS),
    ],
)
async def test_of_a_batch_that_is_not_proven_nothing_is_posted(
    edge, approver, record, changes, problem
):
    depot = await edge.concentrator()
    answers = await depot.upload(tuple(record(counter) for counter in range(8)), **changes)
    assert answers[-1].problem is problem
    assert await depot.ask(BatchResults(1, 0), "DEPOT") == NOT_PERMITTED
    assert approver.requests == []


async def test_a_record_that_stands_twice_in_a_batch_is_told_as_posted_once(edge, approver, record):
    depot = await edge.concentrator()
    for batch in (1, 2):  # sent once more it is told the same
        records = (record(1), record(2), record(1))
        answers = await depot.upload(records, batch)
        assert {answer.problem for answer in answers} == {BatchProblem.NONE}
        told = [result.status for result in await depot.results(3, batch=batch)]
        assert told == [RecordStatus.POSTED, RecordStatus.POSTED, RecordStatus.DUPLICATE]


async def test_what_becomes_of_a_record_is_told_as_it_is(edge, approver, record):
    depot = await edge.concentrator()
    told = []
    for batch, reply in enumerate(
        (
            Reply(Outcome.APPROVED, duplicate=True),
            Reply(Outcome.APPROVED, suspense=True),
            Reply(Outcome.TAC_WRONG),
            Reply(Outcome.FAULT),
        )
    ):
        approver.reply = reply
        await depot.upload((record(batch),), batch)
        told += await depot.results(1, batch)
    assert told == [
        RecordResult(RecordStatus.DUPLICATE, "00"),
        RecordResult(RecordStatus.SUSPENSE, "00"),
        RecordResult(RecordStatus.REJECTED, "63"),
        RecordResult(RecordStatus.REJECTED, "96"),
    ]


async def test_records_wait_while_the_ledger_is_away_and_pages_tell_so(edge, approver, record):
    depot = await edge.concentrator()
    approver.reply = Reply(Outcome.LEDGER_DOWN)
    await depot.upload((record(1),))
    page = await depot.ask(BatchResults(1, 0), "DEPOT")
    assert (page.done, [one.status for one in page.results]) == (False, [RecordStatus.WAITING])
    approver.reply = Reply(Outcome.APPROVED)
    edge.clock.shift_us += 2_000_000
    assert await depot.results(1) == [RecordResult(RecordStatus.POSTED, "00")]


async def test_no_more_are_under_way_than_may_be_and_no_counter_twice(edge, approver, record):
    depot = await edge.concentrator()
    approver.holding = True
    records = tuple(record(counter // 2, 100 + counter) for counter in range(40))
    await depot.upload(records)
    await edge.until(lambda: len(approver.requests) == 8)
    assert len({request.key for request in approver.requests}) == 8
    approver.release()
    assert len(await depot.results(40)) == 40
    assert len(approver.requests) == 40


# ---- leaving


async def test_who_leaves_takes_nothing_new_and_answers_what_it_has(edge, approver, said, record):
    gate = await edge.concentrator()
    approver.holding = True
    await gate.send(gate.frame(said(), sequence=5))
    await edge.until(lambda: approver.requests)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_leave, [edge.link], edge.link.open_connections, edge.clock, 20)
        await edge.until(lambda: edge.link.leaving)
        assert await gate.ask(said()) == Refused(RefusedReason.LEAVING)
        approver.release()
        ((head, answer),) = await gate.hear()
        assert (head.sequence, answer.response_code) == (5, "00")
        with anyio.fail_after(20), pytest.raises(anyio.EndOfStream):
            await gate.stream.receive()
    assert len(approver.requests) == 1


async def test_idle_and_dawdling_concentrators_are_cut(edge, said):
    idle, slow = await edge.concentrator(), await edge.concentrator()
    await slow.send(slow.frame(said())[:9])
    await edge.until(
        lambda: any(connection.frame_begun_ns for connection in edge.link.open_connections)
    )
    edge.clock.shift_us += 601_000_000
    await edge.until(lambda: not edge.link.open_connections)
    for reason in ("idle", "slow_frame"):
        assert edge.metric("citycard_link_closed_total", link="metro-1", reason=reason) == 1
    assert edge.metric("citycard_link_state", link="metro-1", state="down") == 1
    del idle


# ---- hotlists


class Lists:
    """Two versions of a list, as the ledger's followers hand them out."""

    def __init__(self) -> None:
        self.published = SimpleNamespace(
            version=4, octets=bytes(range(256)) * 4, digest=b"d" * 32, changes={3: b"change"}
        )
        self.acknowledged: list[tuple[str, int, bytes]] = []

    def newest(self):
        return self.published

    def at(self, version):
        return self.published if version == 4 else None

    async def acknowledge(self, acquirer, version, digest):
        self.acknowledged.append((acquirer, version, digest))
        return digest == self.published.digest


async def test_a_hotlist_is_downloaded_piece_by_piece_and_acknowledged(serving, said):
    lists = Lists()
    async with serving(lists=lists) as edge:
        depot = await edge.concentrator()
        assert await depot.ask(ListAsk(3)) == ListAnswer(4, 1024, 6, b"d" * 32)
        assert (await depot.ask(ListAsk(0))).change_bytes == 0
        octets = b""
        while piece := (chunk := await depot.ask(ListChunk(4, 0, len(octets), 500))).octets:
            assert chunk.crc32 == zlib.crc32(piece)
            octets += piece
        assert octets == lists.published.octets
        assert (await depot.ask(ListChunk(4, 3, 0, 500))).octets == b"change"
        assert (await depot.ask(ListChunk(2, 0, 0, 500))).octets == b""
        answers = [await depot.ask(ListAcknowledge(4, digest)) for digest in (b"d" * 32, b"x" * 32)]
        assert answers == [ListAcknowledged(True), ListAcknowledged(False)]
        assert lists.acknowledged[0] == ("48031000", 4, b"d" * 32)
        assert (await depot.ask(said())).list_version == 4


async def test_without_a_hotlist_there_is_none_to_be_had(edge):
    depot = await edge.concentrator()
    assert await depot.ask(ListAsk(0)) == ListAnswer(0, 0, 0, bytes(32))
    assert (await depot.ask(ListChunk(1, 0, 0, 9))).octets == b""
    assert await depot.ask(ListAcknowledge(1, bytes(32))) == ListAcknowledged(False)
    assert msgspec.structs.asdict(await depot.greet())["list_version"] == 0
