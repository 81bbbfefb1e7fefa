"""A depot in the evening: buses come back with the records of the chips that rode with them.

Each bus uploads its batches one after the other, the buses beside each other. A batch is told
of, sent, proven, and then asked about page by page until every record has its answer.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta

import anyio
import msgspec

from loadtest.chip import Chip
from loadtest.tap_link import NoAnswer, TapLink, not_taken
from protocols.message import Mode
from protocols.tap.record import batch_digest, batch_total_minor
from protocols.tap.words import (
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
    OfflineRecord,
    RecordResult,
    RecordStatus,
    Said,
)

RECORDS_PER_FRAME = 500
AGAIN_SECONDS = 0.5
"""How soon a batch is told of again that the switch could not take just then."""
_LATER = (BatchProblem.TOO_MANY_OPEN, BatchProblem.LEDGER_DOWN, BatchProblem.BEING_POSTED)


class BatchRefused(Exception):
    """The switch found a batch at fault; `problem` says how."""

    def __init__(self, problem: BatchProblem) -> None:
        super().__init__(f"the batch was not taken: {problem.name.lower()}")
        self.problem = problem


class Batch(msgspec.Struct, frozen=True):
    """Records of one vehicle, as they will be told of."""

    opened: BatchOpen
    records: tuple[OfflineRecord, ...]

    def __repr__(self) -> str:
        return f"Batch(batch={self.opened.batch}, records={len(self.records)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("batch", self.opened.batch), ("records", len(self.records))]


class Uploaded(msgspec.Struct, frozen=True):
    """What became of all records of a depot, and how long it took."""

    records: int
    batches: int
    buses: int
    posted: int
    duplicate: int
    suspense: int
    rejected: int
    codes: dict[str, int]
    seconds: float
    records_per_second: float
    slowest_batch_seconds: float

    @property
    def sound(self) -> bool:
        """Every record was posted, now or before."""
        return self.posted + self.duplicate == self.records


def batch_of(
    number: int,
    records: Sequence[OfflineRecord],
    *,
    mode: Mode = Mode.BUS,
    line: str = "",
    vehicle: str = "",
) -> Batch:
    """A batch that proves its records."""
    opened = BatchOpen(
        number, mode, line, vehicle, len(records), batch_total_minor(records), batch_digest(records)
    )
    return Batch(opened, tuple(records))


def ridden(
    chips: Sequence[Chip],
    count: int,
    *,
    amount_minor: int,
    began_at: datetime,
    seconds_apart: int = 1,
    terminal: str = "360486600002",
    stop: str = "",
    first_number: int = 1,
) -> list[OfflineRecord]:
    """So many rides, the chips in turn, from this local time on."""
    return [
        chips[place % len(chips)].pay(
            amount_minor,
            terminal=terminal,
            local_at=(began_at + timedelta(seconds=place * seconds_apart)).strftime("%Y%m%d%H%M%S"),
            number=first_number + place,
            stop=stop,
        )
        for place in range(count)
    ]


async def upload_batch(
    link: TapLink, device: str, batch: Batch, *, patience_seconds: float = 120.0
) -> tuple[RecordResult, ...]:
    """Upload one batch and wait for what became of each record.

    Raises BatchRefused, NotTaken, NoAnswer where that takes longer, and LinkLost.
    """
    with anyio.move_on_after(patience_seconds):
        await _hand_over(link, device, batch)
        return await _results(link, device, batch)
    raise NoAnswer("the batch took longer than the patience; upload it again")


async def _hand_over(link: TapLink, device: str, batch: Batch) -> None:
    opened, records = batch.opened, batch.records
    while (problem := await _ask(link, device, opened)) is not BatchProblem.NONE:
        if problem not in _LATER:
            raise BatchRefused(problem)
        await anyio.sleep(AGAIN_SECONDS)
    for first in range(0, len(records), RECORDS_PER_FRAME):
        part = records[first : first + RECORDS_PER_FRAME]
        problem = await _ask(link, device, BatchRecords(opened.batch, first, part))
        if problem is not BatchProblem.NONE:
            raise BatchRefused(problem)
    problem = await _ask(link, device, BatchClose(opened.batch))
    if problem is not BatchProblem.NONE:
        raise BatchRefused(problem)


async def _ask(link: TapLink, device: str, said: Said) -> BatchProblem:
    answered = await link.ask(link.next_head(device), said)
    if not isinstance(answered, BatchTaken):
        raise not_taken(answered)
    return answered.problem


async def _results(link: TapLink, device: str, batch: Batch) -> tuple[RecordResult, ...]:
    known: list[RecordResult] = []
    while len(known) < len(batch.records):
        asked = BatchResults(batch.opened.batch, len(known))
        answered = await link.ask(link.next_head(device), asked)
        if not isinstance(answered, BatchResultsAnswer):
            raise not_taken(answered)
        before = len(known)
        for result in answered.results:
            if result.status is RecordStatus.WAITING:
                break
            known.append(result)
        if len(known) == before:
            # a switch that answers at once with nothing must not be asked in a tight loop
            await anyio.sleep(0.02)
    return tuple(known)


async def upload(
    link: TapLink, buses: Sequence[tuple[str, Sequence[Batch]]], *, patience_seconds: float = 600.0
) -> Uploaded:
    """All batches of these buses (device and batches each); raises as `upload_batch` does."""
    statuses: Counter[RecordStatus] = Counter()
    codes: Counter[str] = Counter()
    slowest = [0.0]
    failed: list[Exception] = []

    async def come_back(device: str, batches: Sequence[Batch]) -> None:
        try:
            for batch in batches:
                begun_ns = time.monotonic_ns()
                results = await upload_batch(link, device, batch, patience_seconds=patience_seconds)
                slowest.append((time.monotonic_ns() - begun_ns) / 1e9)
                statuses.update(result.status for result in results)
                codes.update(result.response_code for result in results)
        except Exception as error:  # noqa: BLE001 - raised again below, out of the task group
            failed.append(error)

    begun_ns = time.monotonic_ns()
    async with anyio.create_task_group() as tasks:
        for device, batches in buses:
            tasks.start_soon(come_back, device, batches)
    if failed:
        raise failed[0]
    seconds = (time.monotonic_ns() - begun_ns) / 1e9
    records = statuses.total()
    return Uploaded(
        records=records,
        batches=len(slowest) - 1,
        buses=len(buses),
        posted=statuses[RecordStatus.POSTED],
        duplicate=statuses[RecordStatus.DUPLICATE],
        suspense=statuses[RecordStatus.SUSPENSE],
        rejected=statuses[RecordStatus.REJECTED],
        codes=dict(sorted(codes.items())),
        seconds=round(seconds, 3),
        records_per_second=round(records / seconds, 1) if seconds else 0.0,
        slowest_batch_seconds=round(max(slowest), 3),
    )


async def load_chip(
    link: TapLink, device: str, chip: Chip, amount_minor: int, *, written: bool = True
) -> ChipLoadAnswer:
    """Load a chip at a reader that is online: ask, write it, confirm.

    The answer of the first step where that was not 00, else of the second. With `written`
    false the chip was pulled away: the switch gives the money back.
    """
    head = link.next_head(device)
    at_ms = time.time_ns() // 1_000_000
    asked = ChipLoad(chip.medium, amount_minor, chip.counter, chip.balance_minor, at_ms)
    answered = await link.ask(head, asked)
    if not isinstance(answered, ChipLoadAnswer):
        raise not_taken(answered)
    if answered.response_code != "00":
        return answered
    if written:
        chip.load(amount_minor)
    confirmed = await link.ask(
        link.next_head(device),
        ChipLoadConfirm(chip.medium, head.sequence, amount_minor, written, at_ms),
    )
    if not isinstance(confirmed, ChipLoadAnswer):
        raise not_taken(confirmed)
    return confirmed
