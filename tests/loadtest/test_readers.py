"""Readers against a responder: every answer matched and proven, every fault of it admitted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random

import anyio
import msgspec
import pytest
from anyio.abc import ByteStream, SocketAttribute

from loadtest.chip import Chip, TacTerms
from loadtest.depot import BatchRefused, batch_of, load_chip, ridden, upload, upload_batch
from loadtest.gates import GatePlan, Riders, tap
from loadtest.list_reader import download
from loadtest.readers import DepotPlan, batches_of, bring_in
from loadtest.tap_link import LinkLost, NoAnswer, NotTaken, TapTerms, connected
from protocols.message import Mode
from protocols.tap import hotlist
from protocols.tap.frame import (
    Frame,
    TapFramer,
    open_frame,
    read_said,
    sealed,
    write_answer,
    write_said,
)
from protocols.tap.mac import FrameMac, device_key
from protocols.tap.record import BatchProof
from protocols.tap.tac import tac_proves
from protocols.tap.words import (
    Answered,
    BatchClose,
    BatchOpen,
    BatchProblem,
    BatchRecords,
    BatchResults,
    BatchResultsAnswer,
    BatchTaken,
    ChipLoad,
    ChipLoadAnswer,
    ChipLoadConfirm,
    Echo,
    Hello,
    HelloAnswer,
    ListAcknowledge,
    ListAcknowledged,
    ListAnswer,
    ListAsk,
    ListChunk,
    OfflineRecord,
    RecordResult,
    RecordStatus,
    Refused,
    RefusedReason,
    Said,
    TapAnswer,
    TapKind,
    TapSaid,
)

READER_KEY = bytes(range(16))
TAC = TacTerms(bytes(range(16, 32)))
POSTED = RecordResult(RecordStatus.POSTED, "00")
WAITING = RecordResult(RecordStatus.WAITING, "09")


def mediums(count: int) -> tuple[bytes, ...]:
    dice = Random(count)
    return tuple(dice.randbytes(16) for _ in range(count))


@dataclass
class Switch:
    """The smallest peer of readers. What it does wrong is asked for by the test."""

    hear_at: Callable[[int], str] = lambda n: ""
    """What becomes of tap n: "" an answer, "silent", "drop", "forged", "refused"."""
    lists: dict[int, bytes] = field(default_factory=dict)
    changes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    problems: list[BatchProblem] = field(default_factory=list)
    """Answers to the next batches that are told of."""
    damaged_chunks: int = 0
    key: bytes = READER_KEY
    port: int = 0
    taps: list[tuple[str, TapSaid]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    loads: list[ChipLoad | ChipLoadConfirm] = field(default_factory=list)
    asked: Counter[type] = field(default_factory=Counter)
    batches: dict[tuple[str, int], tuple[BatchOpen, list[OfflineRecord]]] = field(
        default_factory=dict
    )
    pages: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Switch]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self.port)
        self.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._serve)
            yield self
            tasks.cancel_scope.cancel()

    @property
    def terms(self) -> TapTerms:
        return TapTerms(
            port=self.port, acquirer="48031000", reader_key=READER_KEY, timeout_seconds=20.0
        )

    async def _serve(self, stream: ByteStream) -> None:
        framer = TapFramer()
        async with stream:
            try:
                while True:
                    for payload in framer.feed(await stream.receive()):
                        frame = open_frame(payload)
                        mac = FrameMac(device_key(self.key, frame.head.device))
                        answered = self._answer(frame, read_said(frame))
                        if answered == "drop":
                            return
                        if isinstance(answered, str) and answered != "forged":
                            continue
                        forged = answered == "forged"
                        signed = write_answer(
                            frame.head, frame.type, TapAnswer("00") if forged else answered
                        )
                        await stream.send(sealed(signed, bytes(8) if forged else mac.of(signed)))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    def _answer(self, frame: Frame, said: Said) -> Answered | str:
        self.asked[type(said)] += 1
        match said:
            case Hello():
                return HelloAnswer(said.acquirer == "48031000", 0, 0, 2_000)
            case Echo():
                return Echo()
            case TapSaid():
                self.taps.append((frame.head.device, said))
                what = self.hear_at(len(self.taps) - 1)
                if what == "refused":
                    return Refused(RefusedReason.OVERLOADED)
                return what or TapAnswer("00", 200 if said.kind is not TapKind.ON else 0)
            case ChipLoad() | ChipLoadConfirm():
                self.loads.append(said)
                return ChipLoadAnswer("00")
            case ListAsk() | ListChunk() | ListAcknowledge():
                return self._list(said)
            case _:
                return self._batch(frame.head.device, said)

    def _list(self, said: ListAsk | ListChunk | ListAcknowledge) -> Answered:
        newest = max(self.lists, default=0)
        match said:
            case ListAsk():
                octets = self.lists.get(newest, b"")
                changed = self.changes.get((newest, said.have_version), b"")
                digest = hotlist.digest_of(octets)
                return ListAnswer(newest, len(octets), len(changed), digest)
            case ListChunk():
                octets = (
                    self.changes[said.version, said.from_version]
                    if said.from_version
                    else self.lists[said.version]
                )
                chunk = hotlist.chunk_of(
                    octets, said.version, said.from_version, said.offset, said.length
                )
                if self.damaged_chunks:
                    self.damaged_chunks -= 1
                    return msgspec.structs.replace(chunk, crc32=chunk.crc32 ^ 1)
                return chunk
            case ListAcknowledge():
                self.acknowledged.append(said.version)
                return ListAcknowledged(True)

    def _batch(self, device: str, said: Said) -> Answered:
        match said:
            case BatchOpen():
                problem = self.problems.pop(0) if self.problems else BatchProblem.NONE
                self.batches[device, said.batch] = said, []
                return BatchTaken(said.batch, 0, problem)
            case BatchRecords():
                records = self.batches[device, said.batch][1]
                assert said.first == len(records)
                records += said.records
                return BatchTaken(said.batch, len(records), BatchProblem.NONE)
            case BatchClose():
                opened, records = self.batches[device, said.batch]
                proof = BatchProof()
                proof.add(records)
                told = (opened.count, opened.total_minor, opened.digest)
                same = told == (proof.count, proof.total_minor, proof.digest)
                problem = BatchProblem.NONE if same else BatchProblem.DIGEST_DIFFERS
                return BatchTaken(said.batch, len(records), problem)
            case BatchResults():
                count = len(self.batches[device, said.batch][1])
                self.pages += 1
                # every other page has nothing yet, and none has more than 300
                ready = 300 if self.pages % 2 else 0
                left = count - said.first
                results = (POSTED,) * min(left, ready) + (WAITING,) * max(0, left - ready)
                return BatchResultsAnswer(said.batch, said.first, left <= ready, results[:400])
            case _:
                raise AssertionError(said)


def gate_plan(**changes: object) -> GatePlan:
    chosen = {"mediums": mediums(50), "rate": 400.0, "seconds": 0.4, "devices": 8}
    return GatePlan(**{**chosen, **changes})


async def test_every_tap_is_answered_once():
    async with Switch().listening() as switch:
        summary = await tap(switch.terms, gate_plan())
    assert summary.sound
    assert summary.sent == summary.answered == len(switch.taps) > 50
    assert summary.outcomes == {"00": summary.sent}
    assert summary.approved_minor == 200 * summary.sent
    assert summary.latency.count == summary.sent
    assert {device for device, _ in switch.taps} == {f"GATE{n:04}" for n in range(8)}
    assert (summary.unmatched, summary.undecodable, summary.drops) == (0, 0, 0)


def test_journeys_go_in_and_out_and_cards_take_turns():
    stops = ("S01", "S02", "S03")
    riders = Riders(gate_plan(kind="journey", mode=Mode.METRO, stops=stops), Random(1))
    said = [riders.next(0)[1] for _ in range(150)]
    first, second, third = said[:50], said[50:100], said[100:]
    assert {each.medium for each in first} == set(mediums(50))
    assert [each.kind for each in first + second + third] == (
        [TapKind.ON] * 50 + [TapKind.OFF] * 50 + [TapKind.ON] * 50
    )
    for came, went in zip(first, second, strict=True):
        assert came.medium == went.medium
        assert came.stop != went.stop


async def test_silence_forgery_refusal_and_a_lost_connection_are_told_apart():
    what = {3: "silent", 7: "forged", 11: "refused", 60: "drop"}
    async with Switch(hear_at=lambda n: what.get(n, "")).listening() as switch:
        summary = await tap(switch.terms, gate_plan(spacing="fixed"))
    assert not summary.sound
    assert summary.unanswered >= 3
    assert summary.undecodable == 1
    assert summary.outcomes["91"] == 1
    assert (summary.connects, summary.drops) == (2, 1)
    assert summary.sent == summary.answered + summary.unanswered


async def test_nobody_waits_for_ever():
    async with Switch(hear_at=lambda n: "silent").listening() as switch:
        terms = msgspec.structs.replace(switch.terms, timeout_seconds=0.1)
        summary = await tap(terms, gate_plan(spacing="fixed", rate=100.0, seconds=0.1))
    assert summary.unanswered == summary.sent > 5
    assert summary.outcomes == {}


async def test_who_is_not_wanted_is_told_so():
    async with Switch().listening() as switch:
        with pytest.raises(NotTaken):
            async with connected(msgspec.structs.replace(switch.terms, acquirer="1")):
                pass
        stranger = msgspec.structs.replace(switch.terms, reader_key=bytes(16), timeout_seconds=0.2)
        with pytest.raises(NoAnswer):
            async with connected(stranger):
                pass
    with pytest.raises(LinkLost):
        async with connected(switch.terms):
            pass


async def test_a_frame_that_is_written_already_can_be_sent_again():
    async with Switch().listening() as switch, connected(switch.terms) as link:
        head = link.next_head("GATE0001")
        signed = write_said(head, Echo())
        octets = sealed(signed, FrameMac(device_key(READER_KEY, "GATE0001")).of(signed))
        heard: list[Answered | None] = []
        for _ in range(2):
            over = anyio.Event()
            link.send_sealed(head, octets, lambda a, over=over: (heard.append(a), over.set()))
            with anyio.fail_after(20):
                await over.wait()
        assert heard == [Echo(), Echo()]
        assert link.next_head("GATE0001").sequence == head.sequence + 1


async def test_a_connection_has_so_much_under_way_and_no_more():
    async with Switch(hear_at=lambda n: "silent").listening() as switch:
        terms = msgspec.structs.replace(switch.terms, waiting_max=2)
        async with connected(terms) as link:
            said = TapSaid(TapKind.SINGLE, bytes(16), 0, Mode.BUS, "", "", "", 1, 0)
            for _ in range(2):
                link.send(link.next_head("G1"), said, lambda answered: None)
            with pytest.raises(NoAnswer, match="too much"):
                link.send(link.next_head("G1"), said, lambda answered: None)


async def test_a_depot_has_an_answer_for_every_record():
    plan = DepotPlan(
        mediums=mediums(7), tac=TAC, records=2_500, until=datetime(2026, 11, 22, 20, 0),
        per_batch=700, buses=3, load_minor=5_000,
    )  # fmt: skip
    async with Switch(problems=[BatchProblem.LEDGER_DOWN]).listening() as switch:
        uploaded = await bring_in(switch.terms, plan)
    assert uploaded.sound
    assert (uploaded.records, uploaded.batches, uploaded.buses) == (2_500, 4, 3)
    assert uploaded.codes == {"00": 2_500}
    records = [record for _, taken in switch.batches.values() for record in taken]
    assert len({(record.medium, record.counter) for record in records}) == 2_500
    assert max(record.counter for record in records) == 2_500 // 7
    assert all(tac_proves(TAC.method, TAC.master, record) for record in records[::100])
    assert all("20261122120000" <= record.local_at <= "20261122200000" for record in records)
    confirmed = [load for load in switch.loads if isinstance(load, ChipLoadConfirm)]
    assert len(confirmed) == 7
    assert all(load.written and load.amount_minor == 5_000 for load in confirmed)


async def test_what_the_switch_finds_at_fault_is_told():
    chip = Chip(bytes(16), TAC, balance_minor=1_000)
    records = ridden([chip], 3, amount_minor=200, began_at=datetime(2026, 11, 22))
    assert (chip.counter, chip.balance_minor) == (3, 400)
    batch = batch_of(1, records, vehicle="V1")
    forged = msgspec.structs.replace(
        batch, opened=msgspec.structs.replace(batch.opened, digest=bytes(32))
    )
    async with Switch().listening() as switch, connected(switch.terms) as link:
        with pytest.raises(BatchRefused) as refused:
            await upload_batch(link, "BUS1", forged)
        assert refused.value.problem is BatchProblem.DIGEST_DIFFERS
        with pytest.raises(BatchRefused):
            await upload(link, [("BUS1", [forged])])
        assert await upload_batch(link, "BUS1", batch) == (POSTED,) * 3
        await load_chip(link, "LOAD1", chip, 500, written=False)
        assert chip.balance_minor == 400
        assert switch.loads[-1].written is False


def test_batches_are_made_before_the_first_is_sent():
    plan = DepotPlan(
        mediums=mediums(3), tac=TAC, records=10, until=datetime(2026, 11, 22, 20, 0), per_batch=4,
        buses=2,
    )  # fmt: skip
    chips = [Chip(medium, TAC) for medium in plan.mediums]
    buses = batches_of(plan, chips)
    assert [(device, [b.opened.count for b in batches]) for device, batches in buses] == [
        ("BUS0000", [4, 2]),
        ("BUS0001", [4]),
    ]
    assert [chip.counter for chip in chips] == [4, 3, 3]


async def test_readers_get_the_change_or_else_all_of_the_list():
    one, two, three = mediums(3)
    switch = Switch(lists={1: hotlist.whole(1, [one]), 2: hotlist.whole(2, [two, three])})
    switch.changes[2, 1] = hotlist.change(2, 1, [two, three], [one])
    async with switch.listening(), connected(switch.terms) as link:
        newest = hotlist.read_list(switch.lists[2])
        assert await download(link, "CONC0001", chunk_bytes=20) == newest
        chunks = switch.asked[ListChunk]
        assert chunks == -(-len(switch.lists[2]) // 20)
        old = hotlist.read_list(switch.lists[1])
        assert await download(link, "CONC0001", old) == newest
        assert switch.asked[ListChunk] == chunks + 1
        assert await download(link, "CONC0001", newest) is newest
        # a change that leads elsewhere is dropped, and all of the list fetched
        switch.changes[2, 1] = hotlist.change(2, 1, [two], [one])
        switch.damaged_chunks = 1
        assert await download(link, "CONC0001", old) == newest
        assert switch.acknowledged == [2, 2, 2, 2]
        switch.lists[3] = switch.lists[2][:-1]
        with pytest.raises(NotTaken, match="cannot be read"):
            await download(link, "CONC0001")
        switch.damaged_chunks = 2
        with pytest.raises(NotTaken, match="damaged"):
            await download(link, "CONC0001")
        switch.lists.clear()
        assert await download(link, "CONC0001") is None


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_command_prints_its_figures(tmp_path):
    (tmp_path / "reader.key").write_text(READER_KEY.hex())
    (tmp_path / "mediums").write_text("\n".join(medium.hex() for medium in mediums(20)))
    listed = hotlist.whole(1, mediums(5))
    async with Switch(lists={1: listed}).listening() as switch:

        async def run(*words: str) -> subprocess.CompletedProcess[bytes]:
            common = (
                "--port", str(switch.port), "--acquirer", "48031000",
                "--reader-key-file", str(tmp_path / "reader.key"),
            )  # fmt: skip
            command = [sys.executable, "-m", "loadtest.readers", words[0], *common, *words[1:]]
            with anyio.fail_after(60):
                return await anyio.run_process(command, check=False)

        cards = ("--mediums", str(tmp_path / "mediums"))
        gates = await run("gates", *cards, "--rate", "100", "--seconds", "0.3", "--backend", "trio")
        depot = await run(
            "depot", *cards, "--tac-key-file", str(tmp_path / "reader.key"), "--records", "50"
        )
        fetched = await run("hotlist", "--out", str(tmp_path / "list"))
        wrong = await run("gates", "--mediums", str(tmp_path / "reader.key"), "--rate", "0")
    assert (gates.returncode, depot.returncode, fetched.returncode) == (0, 0, 0)
    assert json.loads(gates.stdout)["outcomes"].keys() == {"00"}
    assert json.loads(depot.stdout)["posted"] == 50
    assert json.loads(fetched.stdout)["entries"] == 5
    assert (tmp_path / "list").read_bytes() == listed
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(b"readers: rate and devices")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_gates_close_when_they_are_told_to(tmp_path):
    (tmp_path / "reader.key").write_text(READER_KEY.hex())
    (tmp_path / "mediums").write_text(mediums(1)[0].hex())
    async with Switch().listening() as switch:
        command = [
            sys.executable, "-m", "loadtest.readers", "gates", "--port", str(switch.port),
            "--acquirer", "48031000", "--reader-key-file", str(tmp_path / "reader.key"),
            "--mediums", str(tmp_path / "mediums"), "--seconds", "600", "--progress",
        ]  # fmt: skip
        with anyio.fail_after(60):
            async with await anyio.open_process(command) as process:
                assert process.stdout is not None
                text = await process.stdout.receive()
                process.terminate()
                async for more in process.stdout:
                    text += more
        assert process.returncode == 0
    progress, *_, summary = text.splitlines()
    assert json.loads(progress)["second"] == 1
    assert json.loads(summary)["sent"] == len(switch.taps) > 0


def test_nothing_shows_a_key_or_a_card():
    terms = TapTerms(port=1, acquirer="1", reader_key=b"SECRETSECRETSECR")
    chip = Chip(b"CARDCARDCARDCARD", TacTerms(b"SECRETSECRETSECR"))
    batch = batch_of(1, ridden([chip], 1, amount_minor=1, began_at=datetime(2026, 1, 1)))
    plan = gate_plan(mediums=(b"CARDCARDCARDCARD",))
    shown = "".join(map(repr, (terms, TacTerms(b"SECRETSECRETSECR"), batch, plan)))
    assert "SECRET" not in shown
    assert "CARD" not in shown
