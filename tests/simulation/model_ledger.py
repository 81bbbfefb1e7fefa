"""A ledger in memory that can be told to fail: what lanes are tested against.

It keeps what post_batch promises and nothing more clever: a version per account, one row
per key and day, the budget that was left, what is available above its floor, holds that
resolve once, all or nothing. What it hands out again is in model_facts.py. Its connections
lose themselves before or after a commit, commit long after they are lost, hang, refuse a batch
or a row, and answer late. The same classes serve the tests of one lane, of the pipeline, and
the simulation of many workers.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from enum import Enum
from functools import cache
from typing import Any

import anyio
import msgspec

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Kind, Request, Segment
from protocols.money import Money
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import parse
from switch.decide import Terms
from switch.ledger.columns import with_tombstones
from switch.ledger.directory import Place
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.posting import (
    PURSE_BOOKS_FROM,
    Directed,
    Hold,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Loaded,
    Posted,
    Posting,
    Verdict,
    purse_book,
)
from switch.terms import load_terms
from tests.simulation.model_facts import (
    ModelAccount,
    ModelFacts,
    ModelHold,
    ModelPurse,
    ModelRow,
)
from tests.simulation.model_taps import ModelChip

NOON_US = 1_774_929_600_000_000
"""2026-03-31 12:00 in Shanghai: the last day of a month."""
ACQUIRER = "48021000"
TRUST, PAYABLE = 1, 2
DAYS = (-1, 0, 1)
CALENDAR = BusinessCalendar("Asia/Shanghai", "00:00")


@cache
def shipped_terms() -> Terms:
    """The shipped ruleset and the configuration's defaults."""
    return load_terms(parse("", "defaults"), {("BANK", "trust"): TRUST, ("ACQ", ACQUIRER): PAYABLE})


class FakeClock:
    """Both clocks, moved by hand."""

    def __init__(self, now_us: int = NOON_US) -> None:
        self.us = now_us
        self.ns = 1_000_000_000

    def now_us(self) -> int:
        return self.us

    def monotonic_ns(self) -> int:
        return self.ns

    def advance(self, seconds: float) -> None:
        self.us += int(seconds * 1_000_000)
        self.ns += int(seconds * 1_000_000_000)


def purchase(number: int = 1, amount_minor: int = 500, **changed: Any) -> Request:
    """A purchase; `number` makes its key, so the same number is a repeat of the same message."""
    usual: dict[str, Any] = {
        "kind": Kind.PURCHASE,
        "segment": Segment.RETAIL,
        "acquirer": ACQUIRER,
        "link": "retail-1",
        "message_class": "02",
        "card": numbered_card("621299", 1),
        "amount": Money(amount_minor, "156"),
        "terminal": "T0000001",
        "merchant": "M1",
        "mcc": "5411",
        "stan": f"{number % 1_000_000:06}",
        "local_at": "0331120000",
        "rrn": "",
        "entry_mode": "071",
        "expiry": "",
        "key": number.to_bytes(16, "big"),
        "payload_hash": hashlib.blake2b(b"%d" % amount_minor, digest_size=8).digest(),
        "received_ns": 1_000_000_000,
        "deadline_ns": 1_000_000_000 + 800_000_000,
    }
    return Request(**(usual | changed))


class Loss(Enum):
    """How a connection is lost in a call."""

    BEFORE_COMMIT = "before commit"
    AFTER_COMMIT = "after commit"
    COMMITS_LATER = "commits later"


class Fault(msgspec.Struct, frozen=True):
    """What happens in one call. `during` runs when the call has reached the ledger."""

    loss: Loss | None = None
    refused: str = ""
    seconds_before: float = 0
    seconds_after: float = 0
    conflict: bool = False
    during: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    hang: anyio.Event | None = None


NO_FAULT = Fault()
Faults = Callable[[str, "ModelConnection"], Fault]


def scripted(**calls: Iterable[Fault]) -> Faults:
    """The given faults of load, post and open, one a call; none after that."""
    left = {call: deque(faults) for call, faults in calls.items()}

    def next_fault(call: str, _connection: ModelConnection) -> Fault:
        faults = left.get(call)
        return faults.popleft() if faults else NO_FAULT

    return next_fault


def by_worker(**faults: Faults) -> Faults:
    """Faults of each worker by its name; none for the others."""
    return lambda call, connection: faults.get(connection.worker, scripted())(call, connection)


class ModelLedger(ModelFacts):
    """What all connections share."""

    def __init__(self, clock: Clock, faults: Faults | None = None) -> None:
        self.clock = clock
        self.faults = faults or scripted()
        super().__init__()
        self.places: dict[bytes, Place] = {}
        self.ids: Iterator[int] = itertools.count(1)
        self.batches: list[int] = []
        self.poison: dict[bytes, list[str]] = {}
        """Keys whose posting is refused: the SQLSTATE of each refusal still to come."""
        self.zombies: list[Callable[[], None]] = []
        """Postings of lost connections that the server has not come to yet."""

    def issue(self, number: int, *, shards: int = 1, balance_minor: int = 10_000) -> ModelAccount:
        """A card numbered so, its account and its two purses; the money is in GEN."""
        account_id = 1_000_000 + number
        account = ModelAccount(
            shard=account_id % shards,
            account_id=account_id,
            card_id=2_000_000 + number,
            purses={1: ModelPurse(), 2: ModelPurse(balance_minor=balance_minor)},
        )
        self.accounts[account_id] = account
        medium = medium_of(numbered_card("621299", number))
        self.places[medium] = Place(account.shard, account_id, account.card_id)
        return account

    def directed(self, request: Request, account: ModelAccount | None) -> Directed:
        if account is None:
            return Directed(request, 0, 0, 0, b"?" * 16)
        return Directed(request, account.shard, account.account_id, account.card_id, b"m" * 16)

    async def open(self, worker: str = "a") -> ModelConnection:
        connection = ModelConnection(self, worker)
        await connection.meet("open")
        return connection

    def approvals(self, key: bytes) -> list[ModelRow]:
        """Approved purchases and loads under a key that no reversal gave back."""
        reversed_ids = {
            row.posting.original_id
            for row in self.rows
            if row.posting.kind is Kind.REVERSAL and row.posting.outcome.approved
        }
        return [
            row
            for row in self.rows
            if row.posting.key == key
            and row.posting.outcome.approved
            and row.posting.kind in (Kind.PURCHASE, Kind.LOAD)
            and row.authorization_id not in reversed_ids
        ]

    def run_zombies(self, most: int | None = None) -> None:
        """Let postings of lost connections commit, as the server comes to them."""
        for _ in range(len(self.zombies) if most is None else min(most, len(self.zombies))):
            self.zombies.pop(0)()

    def post(
        self,
        shard: int,
        business_date: date,
        versions: Mapping[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        sent_at_us: int,
    ) -> list[Posted]:
        self._refuse_poison(postings)
        now_us = self.clock.now_us()
        given = list(postings)
        postings, remaining_us, own = with_tombstones(postings, remaining_us)
        expired = [left <= now_us - sent_at_us for left in remaining_us]
        late = {
            posting.directed.account_id
            for posting, gone in zip(postings, expired, strict=True)
            if gone and posting.directed.account_id
        }
        verdicts = []
        for posting, gone in zip(postings, expired, strict=True):
            account_id = posting.directed.account_id
            stale = account_id and (
                account_id in late or versions.get(account_id) != self.accounts[account_id].version
            )
            verdicts.append(
                Verdict.EXPIRED if gone else Verdict.CONFLICT if stale else Verdict.POSTED
            )
        rows = [
            ModelRow(next(self.ids), shard, business_date, now_us, sent_at_us + left, posting)
            for posting, left in zip(postings, remaining_us, strict=True)
        ]
        written = [row for row, verdict in zip(rows, verdicts, strict=True) if not verdict]
        self._check(written)
        for row in written:
            self._write(row)
        for account_id in {row.account_id for row in written if row.account_id}:
            self.accounts[account_id].version += 1
        answers = range(len(given)) if own is None else own
        return [Posted(verdicts[index], rows[index].authorization_id) for index in answers]

    def _refuse_poison(self, postings: Sequence[Posting]) -> None:
        for posting in postings:
            refusals = self.poison.get(posting.key)
            if refusals:
                # A batch is refused for its worst row; the row is used up when it is alone.
                alone = len(postings) == 1
                raise LedgerRefused(refusals.pop(0) if alone else refusals[0], "")

    @staticmethod
    def _stranger_taken_back(row: ModelRow) -> tuple[int, int, date] | None:
        """What no two messages may take back on one day, where there is no account."""
        posting = row.posting
        if row.account_id or posting.kind is not Kind.REVERSAL or not posting.outcome.approved:
            return None
        return posting.original_id, row.shard, row.business_date

    def _check(self, written: Sequence[ModelRow]) -> None:
        """All or nothing: whatever breaks an invariant refuses the whole batch."""
        keys = [(row.shard, row.posting.key, row.business_date) for row in written]
        if len(set(keys)) < len(keys) or any(key in self.by_key for key in keys):
            raise LedgerRefused("23505", "authorization_key")
        taken_back = [self._stranger_taken_back(row) for row in written]
        taken_back = [each for each in taken_back if each is not None]
        before = {self._stranger_taken_back(row) for row in self.rows_of.get(0, []) if taken_back}
        if len(set(taken_back)) < len(taken_back) or not before.isdisjoint(taken_back):
            raise LedgerRefused("23505", "authorization_stranger_reversed")
        moved: dict[int, int] = {}
        for row in written:
            posting = row.posting
            if self._worked_minor(posting) != posting.approved_minor or (
                posting.approved_minor and not posting.outcome.approved
            ):
                raise LedgerRefused("23514", "")
            self._check_ride(posting)
            for transfer in posting.transfers:
                if transfer.amount_minor <= 0:
                    raise LedgerRefused("23514", "transfer_amount_minor_check")
                for book, delta in (
                    (transfer.debit_account_id, -transfer.amount_minor),
                    (transfer.credit_account_id, transfer.amount_minor),
                ):
                    moved[book] = moved.get(book, 0) + delta
            for book, delta in self._held(row):
                moved[book] = moved.get(book, 0) - delta
        resolved = [row.posting.resolves.hold_id for row in written if row.posting.resolves]
        if len(set(resolved)) < len(resolved):
            raise LedgerRefused("23503", "")
        for book, delta in moved.items():
            if book >= PURSE_BOOKS_FROM:
                purse = self.accounts[book // 16].purses[book % 16]
                if purse.balance_minor - purse.held_minor + delta < purse.floor_minor:
                    raise LedgerRefused("23514", "purse_check")

    def _worked_minor(self, posting: Posting) -> int:
        """What a posting moves; without transfers what it holds, without that what it frees."""
        if posting.resolves is not None:
            amount_minor = self._resolved(posting, posting.resolves).hold.amount_minor
            resolved = self._resolved(posting, posting.resolves).hold
            if resolved.purpose is HoldPurpose.JOURNEY:
                amount_minor = 0
            elif (
                posting.resolves.status is HoldStatus.COMPLETED
                and posting.approved_minor > amount_minor
            ):
                raise LedgerRefused("23514", "")
        if posting.transfers:
            return sum(transfer.amount_minor for transfer in posting.transfers)
        if posting.opens is not None:
            # A journey's hold is nobody's approval.
            journey = posting.opens.purpose is HoldPurpose.JOURNEY
            return 0 if journey else posting.opens.amount_minor
        return amount_minor if posting.resolves is not None else 0

    def _check_ride(self, posting: Posting) -> None:
        tap, chip = posting.tap, posting.chip
        if tap is not None:
            moved_minor = sum(
                -transfer.amount_minor
                if transfer.credit_account_id >= PURSE_BOOKS_FROM
                else transfer.amount_minor
                for transfer in posting.transfers
            )
            if moved_minor != tap.fare.charged_minor or not posting.outcome.approved:
                raise LedgerRefused("23514", "")
        known = self.accounts[posting.directed.account_id].chip if chip is not None else None
        if chip is not None and known is not None and not known.takes(chip):
            raise LedgerRefused("23505", "chip_record_pkey")

    def _resolved(self, posting: Posting, resolution: HoldResolution) -> ModelHold:
        held = self.holds.get(resolution.hold_id)
        if (
            held is None
            or held.account_id != posting.directed.account_id
            or held.status is not HoldStatus.OPEN
        ):
            raise LedgerRefused("23503", "")
        return held

    def _held(self, row: ModelRow) -> Iterator[tuple[int, int]]:
        """What a row adds to the held money of purses."""
        posting = row.posting
        if posting.opens is not None and posting.opens.purpose is not HoldPurpose.LOAD:
            yield purse_book(row.account_id, posting.opens.purse), posting.opens.amount_minor
        if posting.resolves is not None:
            hold = self._resolved(posting, posting.resolves).hold
            if hold.purpose is not HoldPurpose.LOAD:
                yield purse_book(row.account_id, hold.purse), -hold.amount_minor

    def _write(self, row: ModelRow) -> None:
        posting = row.posting
        for book, delta in self._held(row):
            self.accounts[book // 16].purses[book % 16].held_minor += delta
        self.rows.append(row)
        self.rows_of.setdefault(row.account_id, []).append(row)
        self.by_id[row.authorization_id] = row
        self.by_key[row.shard, posting.key, row.business_date] = row
        for transfer in posting.transfers:
            for book, delta in (
                (transfer.debit_account_id, -transfer.amount_minor),
                (transfer.credit_account_id, transfer.amount_minor),
            ):
                if book >= PURSE_BOOKS_FROM:
                    self.accounts[book // 16].purses[book % 16].balance_minor += delta
        if posting.spent_count or posting.spent_minor:
            purse = self.accounts[row.account_id].purses[posting.purse]
            day = posting.spent_on or row.business_date
            purse.spend(row.business_date, day, posting.spent_count, posting.spent_minor)
        if posting.pin_tries >= 0:
            self.accounts[row.account_id].pin_tries = posting.pin_tries
        if posting.resolves is not None:
            held = self.holds[posting.resolves.hold_id]
            held.status = posting.resolves.status
            held.resolutions.append(row.authorization_id)
        if posting.opens is not None:
            self._open(row)
        if posting.chip is not None:
            account = self.accounts[row.account_id]
            account.chip = account.chip or ModelChip()
            account.chip.write(posting.chip)

    def _open(self, row: ModelRow) -> None:
        posting, opening = row.posting, row.posting.opens
        assert opening is not None
        first = self.holds.get(opening.authorization_id)
        self.holds[row.authorization_id] = ModelHold(
            Hold(
                row.authorization_id,
                opening.authorization_id or row.authorization_id,
                opening.purpose,
                opening.purse,
                opening.amount_minor,
                opening.expires_at_us,
                first.hold.acquirer if first else row.request.acquirer,
                first.hold.rrn if first else posting.rrn,
                first.hold.auth_code if first else posting.auth_code,
                first.hold.terminal if first else row.request.terminal,
                first.hold.mcc if first else row.request.mcc,
            ),
            row.account_id,
        )


class ModelConnection:
    """One connection: LaneLedger and DirectoryLedger over the shared ledger."""

    def __init__(self, ledger: ModelLedger, worker: str) -> None:
        self.ledger = ledger
        self.worker = worker
        self.closed = False

    async def meet(self, call: str) -> Fault:
        """Go through what this call meets before the ledger is reached."""
        fault = self.ledger.faults(call, self)
        if fault.seconds_before:
            await anyio.sleep(fault.seconds_before)
        else:
            await anyio.lowlevel.checkpoint()
        if fault.hang is not None:
            await fault.hang.wait()
        if call != "post" and fault.loss is not None:
            raise LedgerLost("lost")
        if fault.refused:
            raise LedgerRefused(fault.refused, "")
        if fault.during is not None:
            fault.during()
        return fault

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]:
        assert not self.closed
        fault = await self.meet("load")
        loaded = self.ledger.load(shard, business_date, now_us, batch)
        await self._leave(fault)
        return loaded

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]:
        assert not self.closed
        assert ruleset
        ledger = self.ledger
        sent_at_us = ledger.clock.now_us()
        fault = await self.meet("post")
        ledger.batches.append(len(postings))
        if fault.conflict:
            for account_id in versions:
                ledger.accounts[account_id].version += 1

        def commit() -> list[Posted]:
            return ledger.post(shard, business_date, versions, postings, remaining_us, sent_at_us)

        if fault.loss is Loss.BEFORE_COMMIT:
            raise LedgerLost("lost before the commit")
        if fault.loss is Loss.COMMITS_LATER:
            ledger.zombies.append(_whatever_comes(commit))
            raise LedgerLost("lost, and still on its way")
        posted = commit()
        await self._leave(fault)
        if fault.loss is Loss.AFTER_COMMIT:
            raise LedgerLost("lost after the commit")
        return posted

    async def find(self, mediums: list[bytes]) -> dict[bytes, Place]:
        assert not self.closed
        await self._leave(await self.meet("find"))
        places = self.ledger.places
        return {medium: places[medium] for medium in mediums if medium in places}

    async def newest(self, below_card_id: int, count_max: int) -> list[tuple[bytes, Place]]:
        assert not self.closed
        await self._leave(await self.meet("newest"))
        below = [one for one in self.ledger.places.items() if one[1].card_id < below_card_id]
        return sorted(below, key=lambda one: -one[1].card_id)[:count_max]

    async def _leave(self, fault: Fault) -> None:
        if fault.seconds_after:
            await anyio.sleep(fault.seconds_after)
        if fault.after is not None:
            fault.after()

    def terminate(self) -> None:
        self.closed = True


def _whatever_comes(commit: Callable[[], Any]) -> Callable[[], None]:
    """A posting that nobody waits for: refused or not, only the ledger knows."""

    def run() -> None:
        try:
            commit()
        except LedgerRefused:
            pass

    return run


def medium_of(card: CardNumber) -> bytes:
    return hashlib.blake2b(card.reveal().encode(), digest_size=16).digest()


def check_books(ledger: ModelLedger, opening_minor: Mapping[int, int]) -> None:
    """What must hold of any ledger at any time: the balances are what the rows moved."""
    for account in ledger.accounts.values():
        for number, purse in account.purses.items():
            book = purse_book(account.account_id, number)
            moved = sum(
                transfer.amount_minor * ((transfer.credit_account_id == book) * 2 - 1)
                for row in ledger.rows_of.get(account.account_id, [])
                for transfer in row.posting.transfers
                if book in (transfer.credit_account_id, transfer.debit_account_id)
            )
            opening = opening_minor.get(account.account_id, 0) if number == 2 else 0
            assert purse.balance_minor == opening + moved
            assert purse.balance_minor - purse.held_minor >= purse.floor_minor
            assert purse.held_minor == sum(
                held.hold.amount_minor
                for held in ledger.holds.values()
                if held.account_id == account.account_id
                and held.hold.purse == number
                and held.status is HoldStatus.OPEN
                and held.hold.purpose is not HoldPurpose.LOAD
            )
    for held in ledger.holds.values():
        assert len(held.resolutions) == (held.status is not HoldStatus.OPEN), "resolved twice"
    for row in ledger.rows:
        posting = row.posting
        total = sum(transfer.amount_minor for transfer in posting.transfers)
        assert total == posting.approved_minor or not posting.transfers
        assert posting.outcome.approved or not posting.has_effect, "a decline has done something"
    _check_given_back(ledger)


def _check_given_back(ledger: ModelLedger) -> None:
    """No message is given back twice, and none that was reversed before it came stands."""
    given: dict[int, int] = {}
    for row in ledger.rows:
        posting = row.posting
        if posting.kind is Kind.REVERSAL and posting.outcome.approved:
            given[posting.original_id] = given.get(posting.original_id, 0) + posting.approved_minor
    for original_id, given_minor in given.items():
        original = ledger.by_id[original_id]
        added_minor = sum(
            row.posting.approved_minor
            for row in ledger.rows_of.get(original.account_id, [])
            if row.posting.original_id == original_id and row.posting.kind is Kind.ADJUSTMENT
        )
        allowed_minor = original.posting.approved_minor + added_minor
        assert given_minor <= allowed_minor, "an approval was given back twice"
    tombs = [row for row in ledger.rows if row.posting.kind is Kind.TOMBSTONE]
    # A key is one message's on its day and the next: its terminal's clock has no year.
    stones = {(row.posting.key, row.business_date + timedelta(d)) for row in tombs for d in DAYS}
    for row in ledger.rows:
        named = row.posting.key, row.business_date
        assert not row.posting.outcome.approved or named not in stones


async def until(true: Callable[[], bool], *, turns: int = 5_000) -> None:
    """Let the other tasks run until something holds; fails when it never does."""
    for _ in range(turns):
        if true():
            return
        await anyio.lowlevel.checkpoint()
    raise AssertionError("what was waited for did not come")
