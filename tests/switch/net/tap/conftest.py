"""A tap link served on loopback, concentrators that may misbehave, and keys that both know."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute, SocketStream

from protocols.message import Mode, Outcome, Reply, Request
from protocols.tap.frame import (
    TapFramer,
    open_frame,
    read_answer,
    sealed,
    write_said,
)
from protocols.tap.mac import FrameMac, device_key
from protocols.tap.record import batch_digest, write_record
from protocols.tap.tac import tac_of
from protocols.tap.words import (
    Answered,
    BatchClose,
    BatchOpen,
    BatchRecords,
    BatchResults,
    Head,
    Hello,
    OfflineRecord,
    Said,
    TapKind,
    TapSaid,
)
from switch.clock import SystemClock
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore, check_value, make_store
from switch.metrics import Metrics
from switch.net.conversation import Conversation
from switch.net.limits import LinkLimits
from switch.net.sweep import sweep
from switch.net.tap.device_keys import ChipKeys, DeviceKeys
from switch.net.tap.dialect import TapTerms
from switch.net.tap.link import TapLink, UploadTerms
from switch.net.tap.upload_desk import UploadDesk
from switch.net.tap.uploads import Room
from switch.venues import load_venues

NAME, ACQUIRER = "metro-1", "48031000"
PATIENCE_SECONDS = 20.0
READER_MASTER = bytes(range(32))
TAC_MASTER = bytes(range(100, 132))
OLD_TAC_MASTER = bytes(range(50, 66))
MEDIUM = bytes(range(16))
ZONE = ZoneInfo("Asia/Shanghai")


class ShiftedClock(SystemClock):
    """The machine's clock, which a test may put forward instead of waiting."""

    def __init__(self) -> None:
        self.shift_us = 0

    def now_us(self) -> int:
        return super().now_us() + self.shift_us

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.shift_us * 1000


class Approver:
    """A submit that gives `reply` at once, or holds what comes until it is told to go on."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.reply = Reply(Outcome.APPROVED, 200, 7, "ABC234", "")
        self.holding = False
        self._held: list[Callable[[Reply], None]] = []

    def submit(self, request: Request, respond: Callable[[Reply], None]) -> None:
        self.requests.append(request)
        if self.holding:
            self._held.append(respond)
        else:
            respond(self.reply)

    def release(self) -> None:
        self.holding, held, self._held = False, self._held, []
        for respond in held:
            respond(self.reply)


class Concentrator:
    """One connection that says whatever the test wants, for any device."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._framer = TapFramer()
        self._heard: list[tuple[Head, Answered]] = []
        self._sequences = itertools.count(1)

    def frame(
        self,
        said: Said,
        device: str = "GATE1",
        sequence: int = 0,
        *,
        master: bytes = READER_MASTER,
        key_of: str = "",
        key_version: int = 1,
    ) -> bytes:
        """A sealed frame; `key_of` seals it as another device would."""
        head = Head(device, sequence or next(self._sequences), key_version)
        signed = write_said(head, said)
        return sealed(signed, FrameMac(device_key(master, key_of or device)).of(signed))

    async def send(self, *frames: bytes) -> None:
        await self.stream.send(b"".join(frames))

    async def hear(self, count: int = 1) -> list[tuple[Head, Answered]]:
        """So many answers, in the order in which they came; their MACs are checked."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self._heard) < count:
                for payload in self._framer.feed(await self.stream.receive()):
                    frame = open_frame(payload)
                    mac = FrameMac(device_key(READER_MASTER, frame.head.device))
                    known = frame.head.key_version == 1
                    assert mac.proves(frame.signed, frame.mac) == known
                    self._heard.append((frame.head, read_answer(frame)))
        heard, self._heard = self._heard[:count], self._heard[count:]
        return heard

    async def ask(self, said: Said, device: str = "GATE1", sequence: int = 0, **more: Any) -> Any:
        await self.send(self.frame(said, device, sequence, **more))
        ((_, answered),) = await self.hear()
        return answered

    async def greet(self) -> Any:
        return await self.ask(Hello(ACQUIRER, 0), "DEPOT")

    async def upload(
        self, records: tuple[OfflineRecord, ...], batch: int = 1, **changes: Any
    ) -> list[Any]:
        """Open, records and close; what was answered to each."""
        opened = msgspec.structs.replace(opened_for(records, batch), **changes)
        said: list[Said] = [opened]
        said += [BatchRecords(batch, first, records[first : first + 5])
                 for first in range(0, len(records), 5)]  # fmt: skip
        return [await self.ask(one, "DEPOT") for one in (*said, BatchClose(batch))]

    async def results(self, count: int, batch: int = 1) -> list[Any]:
        """All acknowledgements of a batch, once it is done."""
        found: list[Any] = []
        while True:
            page = await self.ask(BatchResults(batch, len(found)), "DEPOT")
            if page.done:
                found += page.results
            if len(found) >= count:
                return found


def tap_said(**changes: Any) -> TapSaid:
    said: dict[str, Any] = {
        "kind": TapKind.SINGLE, "medium": MEDIUM, "event_at_ms": SystemClock().now_us() // 1000,
        "mode": Mode.METRO, "line": "L1", "stop": "S7", "vehicle": "", "fare_version": 3,
        "nominal_minor": 200,
    }  # fmt: skip
    return TapSaid(**(said | changes))


def record_of(counter: int, amount_minor: int = 200, **changes: Any) -> OfflineRecord:
    """A record as a chip of ours makes it; `master`, `method` and `changes` spoil it."""
    method = changes.pop("method", "aes_cmac")
    master = changes.pop("master", TAC_MASTER)
    said: dict[str, Any] = {
        "medium": MEDIUM, "counter": counter, "overdraft_minor": 0, "amount_minor": amount_minor,
        "type": 6, "terminal": "00000000B0A1", "local_at": "20251120081500",
        "transaction_number": counter + 1, "tac": bytes(4), "tac_key_version": 2, "stop": "S7",
    }  # fmt: skip
    made = OfflineRecord(**(said | changes))
    return msgspec.structs.replace(made, tac=tac_of(method, master, made))


def opened_for(records: tuple[OfflineRecord, ...], batch: int = 1) -> BatchOpen:
    total_minor = sum(record.amount_minor for record in records)
    digest = batch_digest(records)
    assert digest == hashlib.sha256(b"".join(map(write_record, records))).digest()
    return BatchOpen(batch, Mode.METRO, "L1", "", len(records), total_minor, digest)


def terms_of(**changes: Any) -> TapTerms:
    by_mode = load_venues("").by_mode()
    modes = (Mode.METRO, Mode.BUS)
    made = TapTerms(
        name=NAME, acquirer=ACQUIRER, budget_ms=150, currency="156", modes=modes,
        venues={mode: by_mode[mode] for mode in modes}, clock_tolerance_us=300_000_000,
        hash_key=b"a key of the tests", zone=ZONE,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def stored_keys(path: Path) -> SoftwareKeyStore:
    """A store with the reader master key and two versions of the TAC master key."""
    clock = SystemClock()
    make_store(path, clock)
    store = SoftwareKeyStore(path, clock)
    for label, usage, algorithm, key in (
        (f"reader/{ACQUIRER}/1", Usage.READER, Algorithm.AES, READER_MASTER),
        ("tac/1", Usage.TAC, Algorithm.TDES, OLD_TAC_MASTER),
        ("tac/2", Usage.TAC, Algorithm.AES, TAC_MASTER),
    ):
        store.install(label, usage, algorithm, [key], check_value(key, algorithm))
    return store


class Edge:
    """A served tap link with everything a test may look at."""

    def __init__(self, link: TapLink, port: int, clock: ShiftedClock) -> None:
        self.link, self.port, self.clock = link, port, clock
        self._streams: list[SocketStream] = []

    async def concentrator(self, *, greeted: bool = True) -> Concentrator:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        self._streams.append(stream)
        made = Concentrator(stream)
        if greeted:
            await made.greet()
        return made

    def metric(self, name: str, **labels: str) -> float:
        return self.link.metrics.registry.get_sample_value(name, labels) or 0.0

    def found(self, finding: str) -> float:
        return self.metric("citycard_device_findings_total", link=NAME, device=finding)

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - many conditions, none of them an event
                await anyio.sleep(0.005)

    async def close(self) -> None:
        for stream in self._streams:
            await anyio.aclose_forcefully(stream)


@pytest.fixture(scope="module")
def key_store(tmp_path_factory: pytest.TempPathFactory) -> SoftwareKeyStore:
    return stored_keys(tmp_path_factory.mktemp("keys") / "key_store.json")


@pytest.fixture
def approver() -> Approver:
    return Approver()


@asynccontextmanager
async def _serving(
    store: SoftwareKeyStore, approver: Approver, *, sweep_seconds: float = 0.02, **more: Any
) -> AsyncIterator[Edge]:
    clock, metrics = ShiftedClock(), Metrics([NAME], venues=["metro", "bus"])
    limits = LinkLimits(
        connections_max=100,
        idle_seconds=600,
        first_frame_seconds=15,
        unanswered_bytes_max=1_048_576,
    )
    desk = UploadDesk(
        approver.submit, ChipKeys(store, 60, clock), in_flight_max=more.pop("in_flight_max", 8),
        clock=clock, metrics=metrics,
    )  # fmt: skip
    connections: set[Conversation] = set()
    link = TapLink(
        terms_of(), limits, approver.submit, clock, metrics, connections,
        keys=DeviceKeys(ACQUIRER, store, 60, clock), desk=desk, uploads=UploadTerms(100, 2),
        room=Room(1_000), **more,
    )  # fmt: skip
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, link.handle, tasks)
        tasks.start_soon(sweep, connections, limits, clock, sweep_seconds)
        tasks.start_soon(desk.run)
        edge = Edge(link, listener.extra(SocketAttribute.local_port), clock)
        try:
            yield edge
        finally:
            await edge.close()
            tasks.cancel_scope.cancel()


@pytest.fixture
def serving(key_store: SoftwareKeyStore, approver: Approver, log: Any) -> Callable[..., Any]:
    """`async with serving(**more) as edge`."""

    def serve(**more: Any) -> Any:
        return _serving(key_store, approver, **more)

    return serve


@pytest.fixture
async def edge(ledger_loop: None, serving: Callable[..., Any]) -> AsyncIterator[Edge]:
    """A tap link before an approver."""
    async with serving() as served:
        yield served


@pytest.fixture
def said() -> Callable[..., TapSaid]:
    return tap_said


@pytest.fixture
def record() -> Callable[..., OfflineRecord]:
    return record_of


@pytest.fixture
def opened() -> Callable[..., BatchOpen]:
    return opened_for


@pytest.fixture
def terms() -> Callable[..., TapTerms]:
    return terms_of


@pytest.fixture
def old_tac() -> dict[str, Any]:
    """What makes a record one under the key before the newest."""
    return {"master": OLD_TAC_MASTER, "method": "pboc_des", "tac_key_version": 1}
