"""A day of rides and the purse of a chip, decided and posted on a real ledger, and audited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from protocols.message import ChipVerdict, Kind, Mode, OriginalReference, Outcome, Reply, Request
from switch.admission import Ticket
from switch.config import parse
from switch.decide import Terms, decide, moment_at
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.cards import IssuedCard
from switch.ledger.expiry import HoldExpiry
from switch.ledger.lanes import Lane
from switch.ledger.store import Store
from switch.metrics import Metrics
from switch.posting import Directed, Posting
from switch.terms import load_terms
from tests.simulation.model_ledger import CALENDAR, NOON_US, FakeClock, purchase
from tests.switch.decide.rides import chip_load, record, ride

MINUTE_US = 60_000_000
TICKET_US = 60_000_000


class Rides:
    """One card at its readers: each message is loaded, decided and posted, one after the other."""

    def __init__(self, store: Store, books: Any, card: IssuedCard) -> None:
        self.store, self.books, self.card = store, books, card
        self.clock = FakeClock(NOON_US)
        self.numbers = iter(range(1_000, 9_999))
        self.terms = _terms(books)
        self.due: list[Directed] = []

    async def send(self, request: Request) -> Reply:
        return await self.decided(
            Directed(request, self.card.shard, self.card.account_id, self.card.card_id, b"m" * 16)
        )

    async def decided(self, directed: Directed) -> Reply:
        self.clock.us += 1_000
        moment = moment_at(self.clock.now_us(), CALENDAR, self.terms)
        day = moment.business_date
        (known,) = await self.store.load(directed.shard, day, moment.now_us, [directed])
        decision = decide(directed, known, self.terms, moment)
        if isinstance(decision, Reply):
            return decision
        assert isinstance(decision, Posting)
        assert known.account is not None
        versions = {known.account.account_id: known.account.version}
        (posted,) = await self.store.post(
            directed.shard, 0, day, versions, [decision], [TICKET_US], "3fa9"
        )
        reply = decision.reply or Reply(decision.outcome, decision.approved_minor)
        return msgspec.structs.replace(reply, authorization_id=posted.authorization_id)

    async def tap(
        self, kind: Kind, minute: int, mode: Mode, stop: str = "", **changed: Any
    ) -> Reply:
        """A tap `minute` minutes after noon, which comes at that time unless it is late."""
        event_at_us = NOON_US + minute * MINUTE_US
        self.clock.us = max(self.clock.us, event_at_us)
        request = ride(
            kind,
            next(self.numbers),
            mode=mode,
            stop=stop,
            event_at_us=event_at_us,
            acquirer="metro",
            **changed,
        )
        return await self.send(request)

    async def expire(self) -> list[Reply]:
        """Resolve the holds that are due, as a worker does."""

        async def never() -> bridge.Connection:
            raise AssertionError("the test brings the connection")

        due: list[Directed] = []
        looks = HoldExpiry(
            never,
            lambda _ticket, directed: not due.append(directed),  # type: ignore[func-returns-value]
            calendar=CALENDAR,
            clock=self.clock,
            metrics=Metrics(),
        )
        await looks.look(self.books.connection)
        return [await self.decided(directed) for directed in due]

    async def explanation(self) -> str:
        """Of the last message."""
        text: str = await self.books.connection.fetchval(
            "select explanation from ledger.authorization where account_id = $1 "
            "order by at_us desc limit 1",
            self.card.account_id,
        )
        return text

    async def balance_minor(self, purse: int) -> tuple[int, int]:
        row = await self.books.connection.fetchrow(
            "select balance_minor, held_minor from ledger.purse "
            "where account_id = $1 and purse = $2",
            self.card.account_id,
            purse,
        )
        return row["balance_minor"], row["held_minor"]


def _terms(books: Any) -> Terms:
    accounts = {
        ("BANK", "trust"): books.trust,
        ("ACQ", "metro"): books.acquirer,
        ("AGENT", "metro"): books.agent,
        ("PENDING", "metro"): books.pending,
        ("SUSPENSE", "operator"): books.suspense,
    }
    owner = '[standin.transit]\nsuspense_owner = "operator"\n[rules]\nfile = ""\n'
    return load_terms(parse(owner, "test"), accounts)


@pytest.fixture
async def rides(books: Any, database: str) -> AsyncIterator[Rides]:
    (card,) = await books.issue(chip=True)
    store = await Store.open(database, 10)
    one = Rides(store, books, card)
    load = purchase(99, 5_000, kind=Kind.LOAD, purse="TRN", acquirer="metro")
    assert (await one.send(load)).outcome is Outcome.APPROVED
    yield one
    store.terminate()


async def test_a_day_of_rides_costs_the_same_in_money_as_in_the_tables(rides: Rides) -> None:
    bus = await rides.tap(Kind.FARE, 0, Mode.BUS, key=b"k" * 16)
    assert (bus.outcome, bus.approved_minor) == (Outcome.APPROVED, 200)
    await rides.tap(Kind.TAP_ON, 10, Mode.METRO, "S01")
    assert await rides.balance_minor(1) == (4_800, 700)
    off = await rides.tap(Kind.TAP_OFF, 30, Mode.METRO, "S03")
    assert off.fare is not None
    assert (off.fare.transfer_minor, off.approved_minor) == (-100, 200)
    # An entry without an exit, until the exit comes late from a gate that was offline.
    await rides.tap(Kind.TAP_ON, 100, Mode.METRO, "S01")
    rides.clock.us += 241 * MINUTE_US
    (lost,) = await rides.expire()
    assert lost.approved_minor == 700
    assert await rides.balance_minor(1) == (3_900, 0)
    late = await rides.tap(Kind.TAP_OFF, 130, Mode.METRO, "S05")
    assert late.approved_minor == -300
    # The first gate did not open: its fare goes back, and with it the discount that it gave.
    reversal = purchase(
        7,
        200,
        kind=Kind.REVERSAL,
        acquirer="metro",
        original=OriginalReference(key=b"k" * 16),
    )
    assert (await rides.send(reversal)).approved_minor == 200
    ferry = await rides.tap(Kind.FARE, 300, Mode.FERRY)
    assert ferry.fare is not None
    assert (ferry.fare.nominal_minor, ferry.fare.recomputed_minor) == (300, 100)
    # 300 and 400 by metro, 300 by ferry: what is left is what the tables say.
    assert await rides.balance_minor(1) == (4_000, 0)
    report = await audit(rides.books.connection)
    assert report.clean, [check for check in report.checks if check.findings]


async def test_taps_that_wait_together_are_priced_one_after_the_other(rides: Rides) -> None:
    """A batch is loaded at once, and yet each tap of a card sees the ones before it."""
    taps = (
        ride(Kind.FARE, 1, acquirer="metro"),
        ride(Kind.TAP_ON, 2, mode=Mode.METRO, stop="S01", acquirer="metro"),
        ride(Kind.TAP_OFF, 3, mode=Mode.METRO, stop="S03", acquirer="metro",
             event_at_us=NOON_US + 10 * MINUTE_US),
        ride(Kind.FARE, 4, line="K1", acquirer="metro", event_at_us=NOON_US + 20 * MINUTE_US),
    )  # fmt: skip
    rides.clock.us = NOON_US + 30 * MINUTE_US

    async def opened() -> Store:
        return rides.store

    lane = Lane(
        rides.card.shard, slot=0, batch_max=16, open_ledger=opened, terms=rides.terms,
        calendar=CALENDAR, clock=rides.clock, metrics=Metrics(),
    )  # fmt: skip
    charged: list[int] = []
    told = anyio.Event()

    def heard(reply: Reply) -> None:
        charged.append(reply.approved_minor)
        if len(charged) == len(taps):
            told.set()

    for tap in taps:
        now_ns = rides.clock.monotonic_ns()
        request = msgspec.structs.replace(tap, deadline_ns=now_ns + 60_000_000_000)
        ticket = Ticket(request, heard, lambda _ticket: None)
        card = rides.card
        ticket.directed = Directed(request, card.shard, card.account_id, card.card_id, b"m" * 16)
        lane.put(ticket)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lane.run)
        with anyio.fail_after(20):
            await told.wait()
        tasks.cancel_scope.cancel()
    # By bus 200, on by metro 0, off 300 less the transfer, and another bus less its own.
    assert charged == [200, 0, 200, 200]
    assert await rides.balance_minor(1) == (4_400, 0)


async def test_who_parks_too_long_pays_the_maximum_once(rides: Rides) -> None:
    away_minutes = 26 * 60
    await rides.tap(Kind.TAP_ON, 0, Mode.PARKING, line="P1")
    rides.clock.us += 1_441 * MINUTE_US
    (lost,) = await rides.expire()
    assert lost.approved_minor == 5_000
    # The exit is of a later fare day, and that day has what was charged before.
    out = await rides.tap(Kind.TAP_OFF, away_minutes, Mode.PARKING, line="P1")
    assert out.fare is not None
    assert (out.approved_minor, out.fare.nominal_minor, out.fare.recomputed_minor) == (
        0, 5_000, -5_000,
    )  # fmt: skip
    bus = await rides.tap(Kind.FARE, away_minutes + 1, Mode.BUS)
    assert bus.outcome is Outcome.INSUFFICIENT_FUNDS, "200 is all it asks, and nothing is left"
    assert "2.00 asked" in await rides.explanation()
    # One entry, one exit: another has none, on this day and on the next.
    for minute in (away_minutes + 2, away_minutes + 18 * 60):
        stray = await rides.tap(Kind.TAP_OFF, minute, Mode.PARKING, line="P1")
        assert stray.outcome is Outcome.INSUFFICIENT_FUNDS
    venues = await rides.books.connection.fetch(
        "select distinct venue from ledger.authorization "
        "where account_id = $1 and kind = 'incomplete_fare'",
        rides.card.account_id,
    )
    assert [row["venue"] for row in venues] == ["parking"]
    report = await audit(rides.books.connection)
    assert report.clean, [check for check in report.checks if check.findings]


async def test_an_exit_after_the_turn_of_the_day_takes_the_incomplete_fare_back(
    rides: Rides,
) -> None:
    # On at 02:00, off at 05:00 by a gate that tells it at 08:00: the fare day turned at 04:30.
    await rides.tap(Kind.TAP_ON, 14 * 60, Mode.METRO, "S01")
    rides.clock.us += 360 * MINUTE_US
    (lost,) = await rides.expire()
    assert lost.approved_minor == 700
    late = await rides.tap(Kind.TAP_OFF, 17 * 60, Mode.METRO, "S05")
    assert late.approved_minor == -300
    assert await rides.balance_minor(1) == (4_600, 0)
    bus = await rides.tap(Kind.FARE, 30 * 60, Mode.BUS)
    assert bus.approved_minor == 200, "nothing is corrected twice"
    report = await audit(rides.books.connection)
    assert report.clean, [check for check in report.checks if check.findings]


async def test_the_purse_of_a_chip_is_loaded_spent_and_proven(rides: Rides) -> None:
    async def loaded(number: int, counter: int, balance_minor: int) -> Reply:
        asked = chip_load(counter, balance_minor, acquirer="metro", key=bytes([number]) * 16)
        return await rides.send(asked)

    def sent(counter: int, **changed: Any) -> Request:
        return msgspec.structs.replace(record(counter, **changed), acquirer="metro")

    assert (await loaded(1, 0, 0)).outcome is Outcome.APPROVED
    confirmed = purchase(
        98,
        1_000,
        kind=Kind.LOAD,
        purse="CHIP",
        acquirer="metro",
        original=OriginalReference(key=b"\x01" * 16),
    )
    assert (await rides.send(confirmed)).outcome is Outcome.APPROVED
    for _ in range(2):
        forged = await rides.send(sent(1, digest=b"w" * 8, verdict=ChipVerdict.WRONG))
        assert forged.outcome is Outcome.TAC_WRONG
    assert (await rides.send(sent(1))).approved_minor == 200
    assert (await rides.send(sent(3))).approved_minor == 200
    again = await rides.send(sent(3))
    assert (again.replayed, again.duplicate) == (True, False)
    assert (await rides.send(sent(3, batch=b"x" * 8))).duplicate
    for _ in range(2):
        clone = await rides.send(sent(3, amount_minor=150, digest=b"c" * 8))
        assert (clone.outcome, clone.suspense) == (Outcome.APPROVED, True)
    assert await rides.balance_minor(3) == (600, 0)
    # Record 2 has not come: the chip spent 250 that the ledger does not know of yet.
    assert (await loaded(3, 3, 900)).outcome is Outcome.SUSPECTED_FRAUD
    proven = await loaded(4, 3, 350)
    assert proven.outcome is Outcome.APPROVED
    assert (await rides.send(sent(2, amount_minor=250))).approved_minor == 250
    assert await rides.balance_minor(3) == (350, 0)
    report = await audit(rides.books.connection)
    assert report.clean, [check for check in report.checks if check.findings]
