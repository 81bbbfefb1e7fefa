"""Batches of offline records on one connection: words in, words and records to post out.

Nothing of a batch is posted before all of it is proven: its count, its total and the SHA-256
of its bytes. Then each record is posted by itself, in whatever order, and acknowledged one by
one. A batch is named by its device and number, and moves so:

    state      | open          | records         | close                       | results
    -----------|---------------|-----------------|-----------------------------|---------
    (none)     | -> gathering  | UNKNOWN_BATCH   | UNKNOWN_BATCH               | refused
    gathering  | -> gathering  | held, in place  | proven -> posting, else     | refused
               | (from 0)      |                 | a problem -> (none)         |
    posting    | BEING_POSTED  | BEING_POSTED    | NONE (it is proven)         | a page
    done       | -> gathering  | UNKNOWN_BATCH   | NONE                        | a page

A batch is done once no record of it waits; its results stay until their room is needed and
somebody has read the last page. What a connection held is forgotten with it: a record may be
sent again at any time, in whatever batch, and has the same answer.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from enum import Enum

import msgspec

from protocols.tap.record import RECORD_BYTES, read_record
from protocols.tap.words import (
    BatchClose,
    BatchOpen,
    BatchProblem,
    BatchRecords,
    BatchResults,
    BatchResultsAnswer,
    BatchTaken,
    OfflineRecord,
    RecordResult,
    RecordStatus,
)

RESULTS_PER_PAGE = 500
BATCH_NAME_BYTES = 8
WAITING = RecordResult(RecordStatus.WAITING, "09")
"""What is told of a record that has no answer yet; 09 is "in progress"."""

BatchKey = tuple[str, int]


class BatchState(Enum):
    GATHERING = "gathering"
    POSTING = "posting"
    DONE = "done"


class Room:
    """How many records all connections of a process may hold in memory (56 bytes each)."""

    def __init__(self, records_max: int) -> None:
        self._left = records_max

    def take(self, records: int) -> bool:
        """Set room aside; False where there is not so much."""
        if records > self._left:
            return False
        self._left -= records
        return True

    def give_back(self, records: int) -> None:
        self._left += records


class Batch:
    """One batch of a device; `name` (8 bytes) is the same when it is sent once more."""

    def __init__(self, device: str, opened: BatchOpen, name: bytes) -> None:
        self.device = device
        self.opened = opened
        self.name = name
        self.state = BatchState.GATHERING
        self.total_minor = 0
        self.octets = bytearray()
        self.sha256 = hashlib.sha256()
        self.results: list[RecordResult] = []
        self.waiting: deque[int] = deque()
        self.unanswered = 0
        self.taken_through = 0
        """Places below it were taken at least once."""
        self.taken: set[int] = set()
        """Hashes of the records at those places."""
        self.again: set[int] = set()
        """Places whose record stands earlier in the batch as well."""
        self.told = False
        """Whether its last page was read after it was done."""

    @property
    def held(self) -> int:
        return len(self.results) or len(self.octets) // RECORD_BYTES


class Taken(msgspec.Struct, frozen=True):
    """One record that is to be posted now, and its place in its batch."""

    batch: Batch
    place: int
    record: OfflineRecord

    @property
    def again(self) -> bool:
        """Whether the same record stands earlier in the batch: it is posted once."""
        return self.place in self.batch.again


class Uploads:
    """The batches of one connection."""

    def __init__(
        self, acquirer: str, *, records_per_batch_max: int, open_batches_max: int, room: Room
    ) -> None:
        self._acquirer = acquirer
        self._records_per_batch_max = records_per_batch_max
        self._open_batches_max = open_batches_max
        self._room = room
        self._batches: dict[BatchKey, Batch] = {}
        self._posting: deque[Batch] = deque()

    # ---- what a concentrator says

    def open(self, device: str, said: BatchOpen) -> BatchTaken:
        """Begin a batch, or begin it again from its first record."""
        known = self._batches.get((device, said.batch))
        if known is not None and known.state is BatchState.POSTING:
            return BatchTaken(said.batch, known.held, BatchProblem.BEING_POSTED)
        if said.count > self._records_per_batch_max:
            return BatchTaken(said.batch, 0, BatchProblem.TOO_MANY_RECORDS)
        if known is not None:
            self._drop(known)
        if len(self._batches) >= self._open_batches_max:
            self._make_room()
        full = len(self._batches) >= self._open_batches_max
        if full or not self._room.take(said.count):
            return BatchTaken(said.batch, 0, BatchProblem.TOO_MANY_OPEN)
        self._batches[device, said.batch] = Batch(device, said, _name(self._acquirer, device, said))
        return BatchTaken(said.batch, 0, BatchProblem.NONE)

    def records(self, device: str, said: BatchRecords, octets: bytes) -> BatchTaken:
        """Hold the next records; `octets` are theirs as they came, 56 each."""
        batch = self._batches.get((device, said.batch))
        if batch is None or batch.state is BatchState.DONE:
            return BatchTaken(said.batch, 0, BatchProblem.UNKNOWN_BATCH)
        held = batch.held
        if batch.state is BatchState.POSTING:
            return BatchTaken(said.batch, held, BatchProblem.BEING_POSTED)
        if said.first != held:
            return BatchTaken(said.batch, held, BatchProblem.OUT_OF_PLACE)
        if held + len(said.records) > batch.opened.count:
            return BatchTaken(said.batch, held, BatchProblem.TOO_MANY_RECORDS)
        batch.octets += octets
        batch.sha256.update(octets)
        batch.total_minor += sum(record.amount_minor for record in said.records)
        return BatchTaken(said.batch, batch.held, BatchProblem.NONE)

    def close(self, device: str, said: BatchClose) -> BatchTaken:
        """Prove a batch; its records may be taken then. What is not proven is forgotten."""
        batch = self._batches.get((device, said.batch))
        if batch is None:
            return BatchTaken(said.batch, 0, BatchProblem.UNKNOWN_BATCH)
        if batch.state is not BatchState.GATHERING:
            return BatchTaken(said.batch, batch.held, BatchProblem.NONE)
        problem = _proof(batch)
        held = batch.held
        if problem is not BatchProblem.NONE:
            self._drop(batch)
            return BatchTaken(said.batch, held, problem)
        batch.state = BatchState.POSTING
        batch.results = [WAITING] * held
        batch.waiting = deque(range(held))
        batch.unanswered = held
        self._posting.append(batch)
        self._end_if_done(batch)
        return BatchTaken(said.batch, held, BatchProblem.NONE)

    def results(self, device: str, said: BatchResults) -> BatchResultsAnswer | None:
        """The page from `first` on, as far as it is known; None for a batch that is not proven."""
        batch = self._proven(device, said)
        if batch is None:
            return None
        page = batch.results[said.first : said.first + RESULTS_PER_PAGE]
        done = batch.state is BatchState.DONE
        if done and said.first + len(page) >= len(batch.results):
            batch.told = True
        return BatchResultsAnswer(said.batch, said.first, done, tuple(page))

    def page_is_whole(self, device: str, said: BatchResults) -> bool:
        """Whether nothing of a page waits, so that asking later would tell no more."""
        batch = self._proven(device, said)
        if batch is None or batch.state is BatchState.DONE:
            return True
        page = batch.results[said.first : said.first + RESULTS_PER_PAGE]
        return bool(page) and WAITING not in page

    # ---- what is posted

    def take(self) -> Taken | None:
        """The next record to post; batches take turns. None where none waits for it."""
        for _ in range(len(self._posting)):
            batch = self._posting[0]
            self._posting.rotate(-1)
            if batch.waiting:
                place = batch.waiting.popleft()
                start = place * RECORD_BYTES
                octets = bytes(batch.octets[start : start + RECORD_BYTES])
                _note_taken(batch, place, octets)
                return Taken(batch, place, read_record(octets))
        return None

    def put_back(self, taken: Taken) -> None:
        """A record could not be posted now: it waits behind the others of its batch."""
        taken.batch.waiting.append(taken.place)

    def settled(self, taken: Taken, result: RecordResult) -> None:
        """A record has its answer."""
        batch = taken.batch
        batch.results[taken.place] = result
        batch.unanswered -= 1
        self._end_if_done(batch)

    def forget(self) -> None:
        """The connection is gone, and so is what it held."""
        for batch in list(self._batches.values()):
            self._drop(batch)

    @property
    def posting(self) -> bool:
        """Whether records of a proven batch have no answer yet."""
        return bool(self._posting)

    def _proven(self, device: str, said: BatchResults) -> Batch | None:
        batch = self._batches.get((device, said.batch))
        return None if batch is None or batch.state is BatchState.GATHERING else batch

    def _end_if_done(self, batch: Batch) -> None:
        if batch.unanswered or batch.state is not BatchState.POSTING:
            return
        batch.state = BatchState.DONE
        self._release(batch)

    def _make_room(self) -> None:
        """Forget the oldest batch that is done and whose results were read."""
        for batch in self._batches.values():
            if batch.told:
                self._drop(batch)
                return

    def _drop(self, batch: Batch) -> None:
        if batch.state is not BatchState.DONE:
            self._release(batch)
        batch.state = BatchState.DONE
        del self._batches[batch.device, batch.opened.batch]

    def _release(self, batch: Batch) -> None:
        """Its records are needed no more."""
        self._room.give_back(batch.opened.count)
        batch.octets = bytearray()
        batch.waiting.clear()
        batch.taken.clear()
        if batch in self._posting:
            self._posting.remove(batch)


def _note_taken(batch: Batch, place: int, octets: bytes) -> None:
    """Places are taken in order the first time; one that was put back says nothing new."""
    if place < batch.taken_through:
        return
    batch.taken_through = place + 1
    named = hash(octets)
    if named in batch.taken:
        batch.again.add(place)
    batch.taken.add(named)


def _proof(batch: Batch) -> BatchProblem:
    opened = batch.opened
    if batch.held != opened.count:
        return BatchProblem.COUNT_DIFFERS
    if batch.total_minor != opened.total_minor:
        return BatchProblem.TOTAL_DIFFERS
    if batch.sha256.digest() != opened.digest:
        return BatchProblem.DIGEST_DIFFERS
    return BatchProblem.NONE


def _name(acquirer: str, device: str, said: BatchOpen) -> bytes:
    parts: Sequence[bytes] = (acquirer.encode(), device.encode(), str(said.batch).encode())
    named = hashlib.blake2b(b"\x1f".join(parts), digest_size=BATCH_NAME_BYTES)
    named.update(said.digest)
    return named.digest()
