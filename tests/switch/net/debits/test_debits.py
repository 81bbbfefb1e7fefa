"""A debit file from its first byte to its result: over real HTTP, posted in a real ledger."""

from __future__ import annotations

import anyio

from switch.ledger.debits import DEBIT_FILE, DebitState
from switch.net.debits import collecting, desk
from switch.net.debits.assembly import debit_desk
from switch.net.debits.requests import key_of
from tests.switch.net.debits.conftest import CONFIG


async def test_each_row_gets_its_code_and_its_money_moves_once(house, debit_file):
    for customer, card in (("C0", 0), ("C1", 1), ("C2", 2), ("C3", 3)):
        assert (await house.mandate(customer, card)).status_code == 201
    assert (await house.mandate("C4", 4, amount_max_minor=900)).status_code == 201
    asked = [("C2", 1_000), ("C3", 2_000), ("C0", 500), ("C1", 30_000), ("NOBODY", 5)]
    octets = debit_file([*asked, ("C4", 901), ("C2", 7)])
    sent = await house.send("2026-11", octets)
    assert (sent.status_code, sent.json()["row_count"]) == (201, 7)
    assert set(await house.codes("2026-11")) == {"P0"}
    async with house.working():
        shown = await house.ended("2026-11")
        assert await house.codes("2026-11") == ["00", "00", "62", "51", "N1", "N2", "00"]
        assert (shown["state"], shown["answered_count"]) == ("done", 7)
        assert (shown["collected_count"], shown["collected_minor"]) == (3, 3_007)
        # the same file again is the same file
        again = await house.send("2026-11", octets)
        assert (again.status_code, again.json()["collected_count"]) == (200, 3)
        # its serials in another file are not collected again, refused ones are asked for again
        await house.send("copy", octets)
        await house.ended("copy")
        assert await house.codes("copy") == ["D1", "D1", "62", "51", "N1", "N2", "D1"]
    bills = await house.bills()
    assert len(bills) == 5 + 2
    assert {(bill["venue"], bill["acquirer"]) for bill in bills} == {("water", "48041000")}


async def test_what_cannot_be_proven_is_refused_whole_and_leaves_nothing(house, debit_file, debits):
    good = debit_file([(f"C{number}", number + 1) for number in range(3_000)])
    lines = good.splitlines(keepends=True)
    refused = {
        "truncated": (good[: len(good) // 2], r"the file ends without it"),
        "count": (good.replace(b"3000|", b"3001|", 1), r"header.count: it says 3001 rows"),
        "total": (good.replace(b"3000|4501500", b"3000|4501501", 1), r"header.total"),
        "hash": (good.replace(b"|C7|", b"|C8|", 1), r"trailer: it is not the SHA-256"),
        "field": (b"".join([*lines[:2_500], b"x|y\n"]), r"line 2501, line: it has 2 fields"),
        "rows": (b"20001|5\n", r"a file may have 20000 rows; send it in parts"),
        "empty": (b"", r"line 1, header: the file is empty"),
    }  # fmt: skip
    for name, (octets, words) in refused.items():
        answer = await house.send(name, octets)
        assert answer.status_code == 422, name
        assert answer.headers["content-type"] == "application/problem+json"
        assert words in answer.json()["detail"]
        gone = await house.http.get(f"/v1/debit-files/{name}?biller=water")
        assert gone.status_code == 404
    async with house.working():
        with anyio.fail_after(30):
            while await house.rows("select 1 from ledger.debit_row limit 1"):  # noqa: ASYNC110
                await anyio.sleep(0.02)
            while await house.rows("select 1 from ledger.debit_file"):  # noqa: ASYNC110
                await anyio.sleep(0.02)
    assert await house.bills() == []


async def test_who_asks_and_for_what_is_checked_first(house, debit_file):
    octets = debit_file([("C1", 5)])
    for name, biller, status in (
        ("ok", "power", 404), ("ok", "nobody", 404), ("a" * 65, "water", 422),
        ("1" * 13, "water", 422), (".x", "water", 422),
    ):  # fmt: skip
        assert (await house.send(name, octets, biller)).status_code == status
    assert (await house.send("ok", octets)).status_code == 201
    other = await house.send("ok", debit_file([("C1", 6)]))
    assert (other.status_code, "id of its own" in other.json()["detail"]) == (409, True)
    card = house.card(2).reveal()
    for asked, status, pointer in (
        ({"biller": "power", "customer": "C", "card": card}, 404, "/biller"),
        ({"biller": "water", "customer": "C", "card": "9" * 16}, 404, "/card"),
        ({"biller": "water", "customer": "C", "card": "12"}, 422, "/card"),
        ({"biller": "water", "customer": "C d", "card": card}, 422, "/customer"),
        ({"biller": "water", "customer": "C"}, 422, "/card"),
    ):
        answer = await house.http.post("/v1/mandates", json=asked)
        assert (answer.status_code, answer.json()["pointer"]) == (status, pointer)
        assert "9999" not in answer.text
    given = await house.mandate("C", 2)
    assert given.json()["last4"] == card[-4:]
    assert (await house.mandate("C", 3)).status_code == 409
    ended = await house.http.post("/v1/mandates/end", json={"biller": "water", "customer": "C"})
    assert (ended.status_code, ended.json()["ended_at"] is None) == (200, False)
    gone = await house.http.post("/v1/mandates/end", json={"biller": "water", "customer": "C"})
    assert gone.status_code == 404
    assert (await house.mandate("C", 3)).status_code == 201
    listed = await house.http.get("/v1/mandates?biller=water")
    assert [each["last4"] for each in listed.json()["mandates"]] == [house.card(3).last4]


async def test_a_process_that_dies_leaves_a_file_that_the_next_goes_on_with(
    house, debit_file, debits
):
    """The worst moments at once: rows taken and posted, and no result of them written."""
    for card in (2, 3, 4):
        await house.mandate(f"C{card}", card)
    count = 90
    await house.send("f", debit_file([(f"C{2 + n % 3}", 1 + n) for n in range(count)]))

    async def never_writes(*_: object) -> None:
        await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        first = house.collecting()
        opened = first._open_ledger

        async def open_deaf():
            ledger = await opened()
            ledger.write = never_writes
            return ledger

        first._open_ledger = open_deaf
        tasks.start_soon(first.run)
        with anyio.fail_after(30):
            while len(await house.bills()) < 24:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    file = await debits.file("water", "f")
    assert (file.answered_count, file.taken_through) == (0, count)
    async with house.working():
        shown = await house.ended("f")
    assert (shown["collected_count"], shown["collected_minor"]) == (count, sum(range(count + 1)))
    assert len(await house.bills()) == count
    assert len({key_of(file, row) for row in range(1, count + 1)}) == count


async def test_a_cancelled_file_stops_and_keeps_what_it_collected(house, debit_file, monkeypatch):
    monkeypatch.setattr(collecting, "ROWS_PER_TAKE", 16)
    await house.mandate("C2", 2)
    await house.send("f", debit_file([("C2", 1)] * 1_500))
    async with house.working():
        await house.until("f", lambda shown: shown["collected_count"] > 0)
        asked = await house.http.post("/v1/debit-files/f/cancel?biller=water")
        assert asked.status_code == 202
        shown = await house.ended("f")
    codes = await house.codes("f")
    assert shown["state"] == "cancelled"
    collected = shown["collected_count"]
    assert 0 < collected < 1_500
    assert codes == ["00"] * collected + ["C1"] * (1_500 - collected)


async def test_while_the_ledger_is_down_rows_wait_and_none_is_lost(house, debit_file, monkeypatch):
    monkeypatch.setattr(collecting, "AGAIN_SECONDS", 0.05)
    await house.mandate("C2", 2)
    await house.send("f", debit_file([("C2", 1)] * 40))
    for lane in house.worker.lanes:
        lane.down = True
    async with house.working():
        with anyio.fail_after(30):
            while "citycard_shed_total{" not in house.worker.metrics.text():  # noqa: ASYNC110
                await anyio.sleep(0.02)
        assert (await house.status("f"))["answered_count"] == 0
        for lane in house.worker.lanes:
            lane.down = False
        assert (await house.ended("f"))["collected_count"] == 40


async def test_two_senders_of_one_file_and_two_workers_of_it_are_one(house, debit_file):
    for card in (2, 3, 4, 5):
        await house.mandate(f"C{card}", card)
    octets = debit_file([(f"C{2 + n % 4}", 1) for n in range(700)])
    statuses: list[int] = []

    async def send() -> None:
        statuses.append((await house.send("f", octets)).status_code)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        tasks.start_soon(send)
    assert sorted(statuses) == [200, 201]
    async with house.working(), house.working():
        assert (await house.ended("f"))["collected_count"] == 700


async def test_who_reads_a_result_slowly_keeps_nobody_waiting(house, debit_file, monkeypatch):
    monkeypatch.setattr(desk, "ROWS_PER_PAGE", 1)
    await house.send("f", debit_file([("NOBODY", 1)] * 3))
    of_house = debit_desk(CONFIG, house.database, house.worker.calendar, house.worker.clock)
    with anyio.fail_after(20):
        file = await of_house.file("water", "f")
        slow = [of_house.result(file) for _ in range(desk.CALLS_AT_ONCE)]
        for reader in slow:
            assert (await anext(reader)).startswith(b"3|")
            assert b"|P0" in await anext(reader)
        assert (await of_house.file("water", "f")) == file
        for reader in slow:
            assert len([part async for part in reader]) == 3, "two rows and the trailer"


def test_every_state_is_reached_and_ends():
    reached = {DebitState.ARRIVING, *(to for after in DEBIT_FILE.values() for to in after)}
    assert reached == set(DebitState) == set(DEBIT_FILE)
    ends = {state for state, after in DEBIT_FILE.items() if not after}
    assert ends == {DebitState.DONE, DebitState.CANCELLED, DebitState.DROPPED}
