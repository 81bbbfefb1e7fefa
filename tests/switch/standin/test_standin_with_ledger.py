"""Stand-in from the first tap to the last posting, over a real ledger that goes and comes."""

from __future__ import annotations

import itertools

import anyio
import msgspec
import pytest

from protocols.message import Kind, Mode, OriginalReference, Outcome, Segment, Tap
from switch.admission import Ticket
from switch.demo import stage
from switch.ledger import cards, lanes
from switch.ledger.cards import CardStatus, medium_of
from switch.standin.spool import switched
from switch.standin.spool_file import SpoolUnusable
from tests.switch.standin.conftest import until

APPROVED, DOWN = Outcome.APPROVED, Outcome.LEDGER_DOWN
POOR, RICH, OTHER, UNSEEN = 1, 2, 3, 7
FIRST_IDLE, IDLE = 8, 16


def reversal_of(process, number, sale):
    """The client's reversal of an earlier sale."""
    return msgspec.structs.replace(
        sale,
        kind=Kind.REVERSAL,
        key=number.to_bytes(16, "big"),
        message_class="04",
        stan=f"{number:06}",
        original=OriginalReference(key=sale.key),
        deadline_ns=process.clock.monotonic_ns() + 20_000_000_000,
    )


def with_policy(config, **changed):
    """A configuration with another policy of transit."""
    transit = msgspec.structs.replace(config.standin.transit, **changed)
    standin = msgspec.structs.replace(config.standin, transit=transit)
    return msgspec.structs.replace(config, standin=standin)


async def shut(process):
    """Shut the gate, and have every lane find out, as it does by the next message."""
    process.gate.shut()
    with anyio.fail_after(20):
        for number in itertools.count(9_000):
            if all(lane.down for lane in process.lanes):
                return
            # More cards than one shard has, whatever the order in which they were issued.
            await process.tap(number, FIRST_IDLE + number % IDLE)


async def test_what_stand_in_approves_is_posted_in_order_when_the_ledger_is_back(bench):
    async with bench.process() as process:
        assert await process.tap(1, RICH) is APPROVED
        process.gate.shut()
        replies = await process.ask(*(process.request(n, RICH, 100 * n) for n in (2, 3, 4)))
        assert [reply.outcome for reply in replies] == [APPROVED] * 3
        assert [reply.approved_minor for reply in replies] == [200, 300, 400]
        assert bench.states() == {"open": 3}
        assert process.metric("standin_total", segment="transit", standin="approved") == 3
        process.gate.open()
        await bench.posted()
        assert process.metric("standin_posted_total", segment="transit") == 3
        medium = medium_of(stage.new_card(RICH).card, key=bench.key)
        await until(lambda: not process.desk.owes(medium))
        assert await process.tap(5, RICH) is APPROVED
    rows = await bench.rows()
    assert [row["stan"] for row in rows] == [f"{n:06}" for n in (1, 2, 3, 4, 5)]
    assert [row["auth_code"] for row in rows[1:4]] == [reply.auth_code for reply in replies]
    assert [row["rrn"] for row in rows[1:4]] == [reply.rrn for reply in replies]
    assert bench.states() == {"posted": 3}


async def test_a_single_tap_is_approved_by_its_reader_and_posted_by_the_tables(bench):
    async with bench.process() as process:
        assert await process.tap(1, RICH) is APPROVED
        process.gate.shut()
        tapped = process.request(2, RICH, 300)
        words = Tap(Mode.BUS, "", "", "", process.clock.now_us())
        (reply,) = await process.ask(msgspec.structs.replace(tapped, kind=Kind.FARE, tap=words))
        assert (reply.outcome, reply.approved_minor) == (APPROVED, 300)
        on = msgspec.structs.replace(process.request(3, RICH, 300), kind=Kind.TAP_ON, tap=words)
        (reply,) = await process.ask(on)
        assert reply.outcome is DOWN
        process.gate.open()
        await bench.posted()
    _, row = await bench.rows()
    assert (row["kind"], row["approved_minor"]) == ("fare", 200)
    assert bench.states() == {"posted": 1}


async def test_what_the_policy_does_not_cover_is_declined(bench):
    async with bench.process() as process:
        for number, card in ((1, RICH), (2, OTHER)):
            assert await process.tap(number, card) is APPROVED
        assert await process.tap(3, 0) is Outcome.CARD_BLOCKED
        process.gate.shut()
        requests = {
            "another segment": process.request(10, RICH, segment=Segment.RETAIL),
            "above the ceiling": process.request(11, RICH, 1_001),
            "not seen": process.request(12, UNSEEN),
            "blocked": process.request(13, 0),
            "another currency": process.request(14, RICH, amount=msgspec.structs.replace(
                process.request(1, RICH).amount, currency="840")),
            "a PIN": process.request(15, RICH, pin=b"p" * 16),
            "a preauthorization": process.request(16, RICH, kind=Kind.PREAUTHORIZATION),
            "an inquiry": process.request(17, RICH, kind=Kind.INQUIRY),
        }  # fmt: skip
        replies = await process.ask(*requests.values())
        said = dict(zip(requests, (reply.outcome for reply in replies), strict=True))
        assert said == dict.fromkeys(requests, DOWN)
        limit = bench.config.standin.transit.card_count_max
        taps = [await process.tap(20 + n, OTHER, 100) for n in range(limit + 1)]
        assert taps == [APPROVED] * limit + [DOWN]
        process.gate.open()
        await bench.posted()


async def test_what_no_purse_can_pay_stands_in_suspense(bench):
    async with bench.process() as process:
        assert await process.tap(1, POOR, 100) is APPROVED
        process.gate.shut()
        assert [await process.tap(n, POOR) for n in (2, 3)] == [APPROVED] * 2
        process.gate.open()
        await bench.posted()
        assert bench.states() == {"posted": 1, "suspense": 1}
        assert process.metric("standin_suspense_total", segment="transit") == 1
    rows = await bench.rows()
    assert [(row["outcome"], row["purse"]) for row in rows] == [
        ("approved", 2), ("approved", 2), ("approved", 0),
    ]  # fmt: skip
    assert "suspense" in rows[2]["explanation"]


@pytest.mark.parametrize("poor", [False, True], ids=["paid", "in suspense"])
async def test_a_reversal_passes_and_takes_its_sale_back_after_it(bench, poor):
    card = POOR if poor else RICH
    async with bench.process() as process:
        assert await process.tap(1, card, 200) is APPROVED
        process.gate.shut()
        sale = process.request(2, card)
        reversal = reversal_of(process, 3, sale)
        assert [reply.outcome for reply in await process.ask(sale)] == [APPROVED]
        assert [reply.outcome for reply in await process.ask(reversal)] == [APPROVED]
        (again,) = await process.ask(reversal_of(process, 3, sale))
        assert (again.outcome, again.replayed) == (APPROVED, True)
        assert await process.tap(2, card) is Outcome.ANSWERED_LATE
        process.gate.open()
        await bench.posted()
        assert process.metric("standin_total", segment="transit", standin="accepted") == 1
    rows = await bench.rows()
    assert [(row["kind"], row["outcome"], row["approved_minor"]) for row in rows] == [
        ("purchase", "approved", 200), ("purchase", "approved", 200),
        ("reversal", "approved", 200),
    ]  # fmt: skip
    assert bench.states().get("refused") is None


async def test_a_reversal_of_what_the_ledger_approved_is_taken_and_posted(bench):
    async with bench.process() as process:
        sale = process.request(1, RICH)
        await process.ask(sale)
        await shut(process)
        assert (await process.ask(reversal_of(process, 2, sale)))[0].outcome is APPROVED
        process.gate.open()
        await bench.posted()
    assert [(row["kind"], row["outcome"]) for row in await bench.rows()] == [
        ("purchase", "approved"), ("reversal", "approved"),
    ]  # fmt: skip


async def test_a_reversal_of_what_never_came_leaves_a_tombstone(bench):
    async with bench.process() as process:
        sale = process.request(1, RICH)
        await shut(process)
        assert (await process.ask(reversal_of(process, 2, sale)))[0].outcome is APPROVED
        assert (await process.ask(sale))[0].outcome is Outcome.REVERSED_BEFORE
        process.gate.open()
        await bench.posted()
        assert bench.states() == {"posted": 1}
        medium = medium_of(sale.card, key=bench.key)
        await until(lambda: not process.desk.owes(medium))
        again = msgspec.structs.replace(
            sale, deadline_ns=process.clock.monotonic_ns() + 20_000_000_000
        )
        assert (await process.ask(again))[0].outcome is Outcome.REVERSED_BEFORE


async def test_a_card_that_owes_stays_with_the_desk_and_others_do_not(bench, monkeypatch):
    # A lane that was idle finds out only now, and may take its time on a busy machine.
    monkeypatch.setattr(lanes, "RECONNECT_PATIENCE_SECONDS", 20)
    async with bench.process(draining=False) as process:
        for number, card in ((1, RICH), (2, OTHER)):
            await process.tap(number, card)
        process.gate.shut()
        assert await process.tap(3, RICH) is APPROVED
        process.gate.open()
        await until(lambda: process.pipeline.ledger_is_up)
        replies = await process.ask(process.request(4, RICH), process.request(5, OTHER))
        assert [reply.outcome for reply in replies] == [APPROVED] * 2
        assert [bool(reply.authorization_id) for reply in replies] == [False, True]
        assert bench.states() == {"open": 2}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(process.drain.run)
            await bench.posted()
            tasks.cancel_scope.cancel()
    assert [row["stan"] for row in await bench.rows()] == [f"{n:06}" for n in (1, 2, 5, 3, 4)]


async def test_another_process_learns_who_owes_and_a_later_one_posts(bench):
    medium = medium_of(stage.new_card(RICH).card, key=bench.key)
    async with bench.process(1, draining=False) as second:
        async with bench.process(0, draining=False) as first:
            await first.tap(1, RICH)
            first.gate.shut()
            assert await first.tap(2, RICH) is APPROVED
        await until(lambda: second.desk.owes(medium))
        async with bench.process(0) as successor:
            assert successor.desk.owes(medium), "it looked before its first request"
            await bench.posted()
        await until(lambda: not second.desk.owes(medium))
        assert await second.tap(3, RICH) is APPROVED
    assert [row["stan"] for row in await bench.rows()] == ["000001", "000002", "000003"]


async def test_an_approval_that_came_too_late_is_withdrawn_and_never_posted(bench):
    async with bench.process() as process:
        await process.tap(1, RICH)
        process.gate.shut()
        request = process.request(2, RICH, deadline_ns=process.clock.monotonic_ns())
        heard = []
        ticket = Ticket(request, heard.append, lambda _ticket: None)
        process.desk.offer(ticket, medium_of(request.card, key=bench.key))
        await until(lambda: bench.states().get("withdrawn") == 1)
        assert [reply.outcome for reply in heard] == [Outcome.ANSWERED_LATE]
        process.gate.open()
        await bench.posted()
    assert [row["stan"] for row in await bench.rows()] == ["000001"]


async def test_posting_again_after_a_crash_posts_nothing_twice(bench):
    """A sale, one whose key holds a decline, and a reversal: posted twice, marked once."""
    async with bench.process(draining=False) as process:
        await process.tap(1, POOR, 100)
        assert await process.tap(2, POOR, 500) is Outcome.INSUFFICIENT_FUNDS
        await process.tap(3, RICH)
        process.gate.shut()
        sale = process.request(4, RICH)
        assert (await process.ask(sale))[0].outcome is APPROVED
        assert (await process.ask(reversal_of(process, 5, sale)))[0].outcome is APPROVED
        assert await process.tap(2, POOR, 500) is APPROVED, "nobody knows of the decline"
        process.gate.open()
        await until(lambda: process.pipeline.ledger_is_up)
        rows = await process.desk.ask(lambda spool: spool.page(9))
        for _ in rows:
            await process.drain._cards.acquire()
        for medium in {row.medium for row in rows}:
            mine = [row for row in rows if row.medium == medium]
            unmarked = []
            await process.drain._post_card(mine, unmarked)
            assert len(unmarked) == len(mine)
        written = await bench.rows()
        assert await process.drain._post_page()
        assert await bench.rows() == written
        assert bench.states().get("open") is None
    assert [(row["stan"], row["kind"], row["outcome"]) for row in written] == [
        ("000001", "purchase", "approved"),
        ("000002", "purchase", "insufficient_funds"),
        ("000003", "purchase", "approved"),
        *sorted([
            ("000002", "purchase", "approved"),
            ("000004", "purchase", "approved"),
            ("000005", "reversal", "approved"),
        ], key=lambda row: [(r["stan"], r["kind"], r["outcome"]) for r in written].index(row)),
    ]  # fmt: skip


async def test_a_repeat_of_what_the_ledger_approved_is_no_second_sale(bench):
    async with bench.process() as process:
        sale = process.request(1, RICH)
        (first,) = await process.ask(sale)
        process.gate.shut()
        (again,) = await process.ask(process.request(1, RICH))
        assert (again.outcome, again.auth_code, again.rrn) == (
            APPROVED, first.auth_code, first.rrn,
        )  # fmt: skip
        process.gate.open()
        await bench.posted()
    sold, claimed = await bench.rows()
    assert (sold["kind"], claimed["kind"]) == ("purchase", "repeat"), "given out again, paid once"
    assert bench.states() == {"posted": 1}


async def test_off_declines_at_once_and_the_spool_is_posted_all_the_same(bench):
    async with bench.process() as process:
        await process.tap(1, RICH)
        process.gate.shut()
        assert await process.tap(2, RICH) is APPROVED
        switched(bench.spool_path, on=False)
        assert await process.tap(3, RICH) is DOWN
        process.gate.open()
        await bench.posted()
    assert [row["stan"] for row in await bench.rows()] == ["000001", "000002"]


async def test_a_spool_that_cannot_be_written_approves_nothing(bench):
    bench.spool_path.write_bytes(b"this is not a database at all. " * 500)
    bench.spool_path.chmod(0o600)
    async with bench.process() as process:
        assert await process.tap(1, RICH) is APPROVED
        process.gate.shut()
        assert await process.tap(2, RICH) is DOWN
        assert process.metric("standin_total", segment="transit", standin="declined") == 1
        bench.spool_path.unlink()
        assert await process.tap(3, RICH) is APPROVED, "it is made anew where it is gone"
        process.gate.open()
        await bench.posted()


async def test_a_card_that_the_ledger_found_bad_is_forgotten(bench, connection):
    async with bench.process() as process:
        assert await process.tap(1, RICH) is APPROVED
        found = await cards.find(connection, stage.new_card(RICH).card.reveal(), bench.key)
        await cards.set_status(connection, found.card_id, CardStatus.STOLEN, "reported")
        assert await process.tap(2, RICH) is Outcome.CARD_STOLEN
        await shut(process)
        assert await process.tap(3, RICH) is DOWN
        process.gate.open()


async def test_a_card_that_must_be_asked_online_is_stood_in_for_only_after_that(bench):
    async with bench.process() as process:
        assert await process.tap(1, RICH) is APPROVED
        process.desk.forget(medium_of(stage.new_card(RICH).card, key=bench.key))
        await shut(process)
        assert await process.tap(2, RICH) is DOWN
        process.gate.open()
        await bench.posted()


async def test_a_commit_that_failed_and_is_there_nevertheless_is_withdrawn(bench):
    async with bench.process() as process:
        await process.tap(1, RICH)
        await shut(process)
        take = process.desk._spool.take

        def committed_but_failed(entries):
            take(entries)
            process.desk._spool.take = take
            raise SpoolUnusable("the disk went away", in_doubt=True)

        process.desk._spool.take = committed_but_failed
        assert await process.tap(2, RICH) is DOWN
        await until(lambda: bench.states() == {"withdrawn": 1})
        assert await process.tap(3, RICH) is APPROVED
        process.gate.open()
        await bench.posted()
    assert [row["stan"] for row in await bench.rows() if row["outcome"] == "approved"] == [
        "000001", "000003",
    ]  # fmt: skip


async def test_a_burst_is_answered_in_few_transactions(bench):
    bench.config = with_policy(bench.config, card_count_max=10_000, card_amount_max_minor=10**9)
    async with bench.process() as process:
        await process.tap(1, RICH)
        await shut(process)
        turns = []
        take = process.desk._spool.take

        def counted(entries):
            turns.append(len(entries))
            return take(entries)

        process.desk._spool.take = counted
        replies = await process.ask(*(process.request(10 + n, RICH, 10) for n in range(400)))
        assert {reply.outcome for reply in replies} == {APPROVED}
        assert sum(turns) == 400
        assert len(turns) < 20
        process.gate.open()
        await bench.posted()
    assert [row["stan"] for row in (await bench.rows()) if row["approved_minor"] == 10] == [
        f"{10 + n:06}" for n in range(400)
    ]
