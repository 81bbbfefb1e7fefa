"""Two workers hammer the same fifty cards at their limits, and not one too many gets through."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

import anyio

from loadtest.crowd import Attempt, Behaviour
from loadtest.wire import Asked, Wire
from protocols.iso8583.dialect import NetworkFunction
from switch.demo import stage

CARDS, POOR, SALES = 50, 25, 20
CONNECTIONS = 24
"""The kernel deals them out by their ports: so many never all go to one worker."""
AMOUNT_MINOR = 100
ATTEMPTS_A_MINUTE = 10
"""The shipped ruleset's card_burst; a poor card holds stage.POOR_PURSE_MINOR."""


def model(index: int) -> Counter[str]:
    """What a switch that never errs answers to SALES sales of one card, in whatever order."""
    affordable = stage.POOR_PURSE_MINOR // AMOUNT_MINOR if index < POOR else SALES
    approved = min(affordable, ATTEMPTS_A_MINUTE)
    return Counter(
        {"00": approved, "51": ATTEMPTS_A_MINUTE - approved, "65": SALES - ATTEMPTS_A_MINUTE}
    )


async def hammer(port: int) -> dict[int, Counter[str]]:
    """Every card on every connection at once; the codes by card."""
    wire = Wire(dialect="unionpay_pos", acquirer="48021000", time_zone="Asia/Shanghai")
    told: dict[int, Counter[str]] = defaultdict(Counter)
    at_seconds = int(time.time())

    async def one_link(number: int) -> None:
        framer = wire.framer()
        mine = [
            (index, f"{index * 100 + sale:06}")
            for sale in range(SALES)
            for index in range(CARDS)
            if (index + sale) % CONNECTIONS == number
        ]
        frames = [
            wire.sale(
                Attempt(Behaviour.BURST, index, f"T{index:07}", "SHOP", "5411", AMOUNT_MINOR, stan),
                at_seconds,
            )
            for index, stan in mine
        ]
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(wire.management(NetworkFunction.SIGN_ON, 1, at_seconds))
            assert framer.feed(await stream.receive()), "the sign-on is answered"
            await stream.send(b"".join(frames))
            left = len(frames)
            while left:
                for received in framer.feed(await stream.receive()):
                    heard = wire.read(received)
                    assert isinstance(heard, tuple)
                    assert not isinstance(heard, Asked)
                    key, answer = heard
                    told[int(key.stan) // 100][answer.code] += 1
                    left -= 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(CONNECTIONS):
                tasks.start_soon(one_link, number)
    return told


def test_two_workers_never_let_one_too_many_through(setting, database):
    staged = setting(database, stage.Crowd(CARDS, 0, POOR), budget_ms=30_000)
    with staged.serving(workers=2) as ready:
        told = anyio.run(hammer, ready.links["retail-1"])
    taken = staged.rows(
        "select slot, sum(credit_minor) as minor from ledger.position "
        "where credit_minor > 0 group by slot"
    )
    print(f"taken by worker: { {row['slot']: int(row['minor']) for row in taken} }")
    assert len(taken) == 2, "both workers took part"
    assert {index: told[index] for index in range(CARDS)} == {
        index: +model(index) for index in range(CARDS)
    }
    report = staged.audit()
    assert report.clean, report
