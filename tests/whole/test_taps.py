"""Gates and a depot as they meet a served switch: real processes, real bytes, a real ledger."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from protocols.card_number import numbered_card
from protocols.message import Mode
from protocols.tap.frame import TapFramer, open_frame, read_answer, sealed, write_said
from protocols.tap.mac import FrameMac, device_key
from protocols.tap.record import batch_digest
from protocols.tap.tac import tac_of
from protocols.tap.words import (
    Answered,
    BatchClose,
    BatchOpen,
    BatchProblem,
    BatchRecords,
    BatchResults,
    ChipLoad,
    ChipLoadConfirm,
    Head,
    Hello,
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
from switch import config as configuration
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.demo.stage import CITY_CARD_BIN
from switch.keys import read_key
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore, check_value, make_store
from switch.ledger import bridge
from switch.ledger.cards import NewCard, issue, medium_of
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.migrate import settlement_accounts
from switch.ledger.store import Store
from switch.terms import load_terms

ACQUIRER = "48031000"
READERS = f"""
[[taps]]
name = "city-1"
port = 0
acquirer = "{ACQUIRER}"
modes = ["bus", "metro"]
"""
READER_MASTER, TAC_MASTER, OLD_TAC_MASTER = bytes(range(32)), bytes(range(9, 41)), bytes(range(16))
BLOCKED = 0
CHIP_CARDS = range(100, 140)
TRANSIT_MINOR = 9_000
WAITING_SECONDS_MAX = 30.0


class Reader:
    """A concentrator on a blocking socket; `says` seals for whichever device it is told."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=WAITING_SECONDS_MAX)
        self._framer = TapFramer()
        self._heard: list[tuple[Head, Answered]] = []
        self._sequences = itertools.count(1_000)
        assert self.ask(Hello(ACQUIRER, 0), "DEPOT1").accepted

    def frame(self, said: Said, device: str, sequence: int = 0, key_of: str = "") -> bytes:
        head = Head(device, sequence or next(self._sequences))
        signed = write_said(head, said)
        return sealed(signed, FrameMac(device_key(READER_MASTER, key_of or device)).of(signed))

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def hear(self) -> tuple[Head, Answered]:
        """The next answer, its MAC proven. Raises EOFError when the link closes."""
        while not self._heard:
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise EOFError
            for payload in self._framer.feed(chunk):
                frame = open_frame(payload)
                key = device_key(READER_MASTER, frame.head.device)
                assert FrameMac(key).proves(frame.signed, frame.mac)
                self._heard.append((frame.head, read_answer(frame)))
        return self._heard.pop(0)

    def ask(self, said: Said, device: str, sequence: int = 0, key_of: str = "") -> Any:
        self.send(self.frame(said, device, sequence, key_of))
        return self.hear()[1]

    def upload(
        self, records: list[OfflineRecord], batch: int, *, kept: int = -1, **changes: Any
    ) -> BatchProblem:
        """The problem of the close; only the first `kept` records are sent."""
        opened = BatchOpen(
            batch, Mode.BUS, "K9", "V17", len(records),
            sum(record.amount_minor for record in records), batch_digest(records),
        )  # fmt: skip
        sent = tuple(records if kept < 0 else records[:kept])
        for said in (msgspec.structs.replace(opened, **changes), BatchRecords(batch, 0, sent)):
            assert self.ask(said, "DEPOT1").problem is BatchProblem.NONE
        problem: BatchProblem = self.ask(BatchClose(batch), "DEPOT1").problem
        return problem

    def results(self, batch: int) -> list[RecordResult]:
        for _ in range(60):  # a page is answered after a second at the latest
            page = self.ask(BatchResults(batch, 0), "DEPOT1")
            if page.done:
                return list(page.results)
        raise AssertionError("the batch is not done")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def readers(staged: Any) -> Any:
    """The staged home with a tap link, its keys, and cards with chips and transit money."""
    with staged.config_file.open("a", encoding="utf-8") as file:
        file.write(READERS)
    store_file: Path = staged.path / "key_store.json"
    make_store(store_file, SystemClock())
    store = SoftwareKeyStore(store_file, SystemClock())
    for label, usage, algorithm, key in (
        (f"reader/{ACQUIRER}/1", Usage.READER, Algorithm.AES, READER_MASTER),
        ("tac/1", Usage.TAC, Algorithm.TDES, OLD_TAC_MASTER),
        ("tac/2", Usage.TAC, Algorithm.AES, TAC_MASTER),
    ):
        store.install(label, usage, algorithm, [key], check_value(key, algorithm))
    bridge.run("asyncio", _issue_chips, staged)
    return staged


async def _issue_chips(home: Any) -> None:
    config = configuration.load(home.config_file)
    connection = await bridge.connect(home.url)
    cards = [NewCard(numbered_card(CITY_CARD_BIN, index), chip=True) for index in CHIP_CARDS]
    issued = await issue(
        connection, cards, shards=config.ledger.shards,
        key=read_key(home.path / "card_number.key"), overdraft_minor=0,
    )  # fmt: skip
    terms = load_terms(config, await settlement_accounts(connection))
    await connection.close()
    store = await Store.open(home.url, 5.0)
    orders = [
        LoadOrder(card.shard, card.account_id, card.card_id, "TRN", TRANSIT_MINOR)
        for card in issued
    ]
    replies = await load_purses(
        store, orders, terms=terms, currency="156",
        calendar=BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off),
        clock=SystemClock(), entropy=os.urandom,
    )  # fmt: skip
    store.terminate()
    assert all(reply.outcome.approved for reply in replies)


@pytest.fixture
def medium(readers: Any) -> Callable[[int], bytes]:
    key = read_key(readers.path / "card_number.key")
    return lambda index: medium_of(numbered_card(CITY_CARD_BIN, index), key)


@pytest.fixture
def reader() -> Iterator[Callable[[int], Reader]]:
    opened: list[Reader] = []

    def connect(port: int) -> Reader:
        opened.append(Reader(port))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def tap(medium: bytes, kind: TapKind = TapKind.SINGLE, **changes: Any) -> TapSaid:
    mode = Mode.BUS if kind is TapKind.SINGLE else Mode.METRO
    said: dict[str, Any] = {
        "event_at_ms": now_ms(), "mode": mode, "line": "K9", "stop": "S01", "vehicle": "",
        "fare_version": 1, "nominal_minor": 200,
    }  # fmt: skip
    return TapSaid(kind, medium, **(said | changes))


def record(medium: bytes, counter: int, amount_minor: int = 200, *, old: bool = False) -> Any:
    """A record as the chip made it yesterday; `old`: under the key before the newest."""
    yesterday = time.strftime("%Y%m%d", time.gmtime(time.time() - 86_400))
    made = OfflineRecord(
        medium, counter, 0, amount_minor, 6, "0000000000B1", f"{yesterday}0815{counter % 60:02}",
        counter + 1, bytes(4), 1 if old else 2, "S01",
    )  # fmt: skip
    method, master = ("pboc_des", OLD_TAC_MASTER) if old else ("aes_cmac", TAC_MASTER)
    return msgspec.structs.replace(made, tac=tac_of(method, master, made))


def code(answered: Any) -> str:
    told: str = answered.response_code
    return told


def check_taps(gate: Reader, medium: Callable[[int], bytes]) -> None:
    """Single, on and off, inspect; repeats and reuses; who is refused and why."""
    single = tap(medium(100))
    octets = gate.frame(single, "BUS00001", 7)
    gate.send(octets)
    _, first = gate.hear()
    assert isinstance(first, TapAnswer)
    assert (code(first), first.charged_minor) == ("00", 200)
    assert first.available_minor == TRANSIT_MINOR - 200
    gate.send(octets)
    _, again = gate.hear()
    assert isinstance(again, TapAnswer)
    assert (code(again), again.charged_minor, again.replayed) == ("00", 200, True)
    other = msgspec.structs.replace(single, line="K1")
    assert code(gate.ask(other, "BUS00001", 7)) == "94"

    began_ms = now_ms() - 1_200_000
    journey = {"line": "M1", "event_at_ms": began_ms}
    on = gate.ask(tap(medium(101), TapKind.ON, stop="S01", **journey), "GATE0001")
    assert (code(on), on.charged_minor) == ("00", 0)
    off = gate.ask(tap(medium(101), TapKind.OFF, stop="S05", line="M1"), "GATE0002")
    assert (code(off), off.charged_minor) == ("00", 400)
    inspected = gate.ask(tap(medium(102), TapKind.INSPECT), "HAND0001")
    assert (code(inspected), inspected.charged_minor) == ("00", 0)

    ahead = gate.ask(tap(medium(103), event_at_ms=now_ms() + 3_600_000), "BUS00002")
    assert (code(ahead), ahead.clock_ahead) == ("00", True)
    assert code(gate.ask(tap(medium(BLOCKED)), "BUS00001")) == "62"
    assert code(gate.ask(tap(medium(900_000)), "BUS00001")) == "14"
    posing = gate.ask(tap(medium(104)), "BUS00001", key_of="BUS00002")
    assert posing == Refused(RefusedReason.MAC_WRONG)
    ferry = gate.ask(tap(medium(104), mode=Mode.FERRY), "BUS00001")
    assert ferry == Refused(RefusedReason.NOT_PERMITTED)


def check_chips(gate: Reader, medium: Callable[[int], bytes]) -> None:
    """A chip is loaded, rides offline, and its records come in: once, whatever is sent."""
    chip = medium(110)
    at_ms = now_ms()
    assert code(gate.ask(ChipLoad(chip, 3_000, 0, 0, at_ms), "LOAD0001", 1)) == "00"
    assert code(gate.ask(ChipLoadConfirm(chip, 1, 3_000, True, at_ms), "LOAD0001", 2)) == "00"
    pulled = medium(111)
    assert code(gate.ask(ChipLoad(pulled, 3_000, 0, 0, at_ms), "LOAD0001", 3)) == "00"
    assert code(gate.ask(ChipLoadConfirm(pulled, 3, 3_000, False, at_ms), "LOAD0001", 4)) == "00"

    records = [record(chip, counter) for counter in range(6)] + [record(chip, 6, old=True)]
    assert gate.upload(records, 1, kept=5) is BatchProblem.COUNT_DIFFERS
    assert gate.upload(records, 1, total_minor=1) is BatchProblem.TOTAL_DIFFERS
    assert gate.upload(records, 1, digest=bytes(32)) is BatchProblem.DIGEST_DIFFERS
    posted = [RecordResult(RecordStatus.POSTED, "00")] * 7
    for _ in range(2):  # the whole batch again has the same answers
        assert gate.upload(records, 1) is BatchProblem.NONE
        assert gate.results(1) == posted
    forged = msgspec.structs.replace(record(chip, 7), tac=b"\0\0\0\0")
    clone, second = record(chip, 2, 250), records[3]
    assert gate.upload([forged, clone, second, record(medium(111), 0)], 2) is BatchProblem.NONE
    assert gate.results(2) == [
        RecordResult(RecordStatus.REJECTED, "63"),
        RecordResult(RecordStatus.SUSPENSE, "00"),
        RecordResult(RecordStatus.DUPLICATE, "00"),
        RecordResult(RecordStatus.SUSPENSE, "00"),
    ]
    # the chip says what it has: what was given, less its records and one that has not come
    again = ChipLoad(chip, 1_000, 8, 3_000 - 8 * 200, now_ms())
    answered = gate.ask(again, "LOAD0001", 5)
    assert (code(answered), answered.missing_minor) == ("00", 200)
    too_much = ChipLoad(medium(111), 1_000, 0, 100, now_ms())
    assert code(gate.ask(too_much, "LOAD0001", 6)) == "34"


def check_drain(switch: Any, gate: Reader, medium: Callable[[int], bytes]) -> Counter[str]:
    """SIGTERM amid 400 taps under way: each is answered, or refused because we leave."""
    frames = [
        gate.frame(tap(medium(100 + number % 40), TapKind.INSPECT), f"HAND{number:04}")
        for number in range(400)
    ]
    gate.send(b"".join(frames[:200]))
    gate.hear()
    switch.process.send_signal(signal.SIGTERM)
    gate.send(b"".join(frames[200:]))
    heard: Counter[str] = Counter()
    try:
        while True:
            _, answered = gate.hear()
            if isinstance(answered, Refused):
                assert answered.reason is RefusedReason.LEAVING
                heard["leaving"] += 1
            else:
                heard[code(answered)] += 1
    except EOFError:
        return heard


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_day_of_readers(readers, serve, reader, medium, rows, backend):
    switch = serve(readers, "--backend", backend)
    ready = switch.ready()
    gate = reader(ready.links["city-1"])
    check_taps(gate, medium)
    check_chips(gate, medium)
    moved = rows(
        readers.url,
        "select kind, count(*) as n, sum(amount_minor)::int8 as minor from ledger.transfer "
        "where kind in ('fare', 'tap_off', 'offline_fare') group by kind",
    )
    assert {row["kind"]: (row["n"], row["minor"]) for row in moved} == {
        "fare": (2, 400),
        "tap_off": (1, 400),
        "offline_fare": (9, 7 * 200 + 250 + 200),
    }
    heard = check_drain(switch, gate, medium)
    # the first was heard before; what was too much at once is refused (91), never left alone
    assert heard.total() == 399, heard
    assert heard["00"] > 0
    assert switch.end() == 0
