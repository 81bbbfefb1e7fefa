"""Bills over real HTTP, with real billers behind: paid, refused, lost, cancelled, taken back."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from loadtest.biller import Plan
from protocols.bills.biller import PaymentOrder
from tests.switch.net.http.conftest import BANK, LOADED_MINOR, WATER, Counter, Staged


async def test_a_bill_is_asked_for_held_confirmed_and_given_back(counter: Counter) -> None:
    async with counter.client() as client:
        billers = (await client.get("/v1/billers")).json()["billers"]
        assert [one["biller"] for one in billers] == ["water", "power"]
        held = await counter.held(client, "FEE-7-8120")
        assert held["amount_minor"] == 8_320
        assert await counter.purse() == (LOADED_MINOR, 8_320)
        path = f"/v1/bills/payments/{held['payment_id']}"
        confirmed = await client.post(f"{path}/confirm")
        assert confirmed.status_code == 200, confirmed.text
        payment = confirmed.json()["payment"]
        assert (payment["state"], payment["receipt"] != "") == ("paid", True)
        assert await counter.purse() == (LOADED_MINOR - 8_320, 0)
        assert counter.posted_minor() == 8_320
        # said again, it is the same payment
        assert (await client.post(f"{path}/confirm")).json()["payment"] == payment
        assert (await client.post(f"{path}/cancel")).status_code == 409
        reversed_ = await client.post(f"{path}/reverse")
        assert (reversed_.status_code, reversed_.json()["state"]) == (200, "reversed")
        assert (await client.post(f"{path}/reverse")).json()["state"] == "reversed"
    assert await counter.purse() == (LOADED_MINOR, 0)
    assert counter.posted_minor() == 0
    kinds = await counter.fetch(
        "select kind, venue, acquirer, link from ledger.authorization"
        " where link = 'bills-1' order by authorization_id"
    )
    assert [row["kind"] for row in kinds] == [
        "bill_inquiry", "preauthorization", "completion", "refund",
    ]  # fmt: skip
    assert {(row["venue"], row["acquirer"]) for row in kinds} == {("water", WATER)}
    told = await counter.fetch("select state from ledger.bill_event order by event_id")
    assert [row["state"] for row in told] == [
        "opened", "held", "confirming", "paid", "reversing", "reversed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("venue", "mcc"),
    [("water", "4900"), ("community", "6513"), ("parking", "7523"), ("", "8299")],
    ids=["water", "property fee", "parking statement", "school canteen"],
)
async def test_billers_differ_by_configuration_only(staged: Staged, venue: str, mcc: str) -> None:
    async with (
        staged({"house": Plan()}, venue=venue, mcc=mcc) as counter,
        counter.client() as client,
    ):
        held = await counter.held(client, "BILL-9-1250", "house")
        confirmed = await client.post(f"/v1/bills/payments/{held['payment_id']}/confirm")
        assert confirmed.json()["payment"]["state"] == "paid"
        assert counter.posted_minor("house") == 1_250
        (paid,) = await counter.fetch(
            "select venue, mcc, approved_minor from ledger.authorization where kind = 'completion'"
        )
        assert tuple(paid) == (venue, mcc, 1_250)


async def test_one_bill_through_two_channels_is_paid_once(counter: Counter) -> None:
    async with counter.client(BANK) as bank, counter.client(WATER) as hall:
        inquiries = [await counter.inquiry(each, "WATER-1-700") for each in (bank, hall)]
        answers: list[Any] = []

        async def pay(client: Any, inquired: Any, headers: dict[str, str]) -> None:
            asked = {
                "inquiry_id": inquired["inquiry_id"], "amount_minor": 700, "card": counter.card,
            }  # fmt: skip
            answers.append(await client.post("/v1/bills/payments", json=asked, headers=headers))

        named = counter.unheard()
        async with anyio.create_task_group() as tasks:
            for client, inquired in zip((bank, hall), inquiries, strict=True):
                tasks.start_soon(pay, client, inquired, named)
                tasks.start_soon(pay, client, inquired, named)  # repeated while under way
        held = [one.json() for one in answers if one.status_code == 201]
        busy = [one.json() for one in answers if one.status_code == 409]
        assert len(held) == len(busy) == 2
        assert held[0] == held[1], "the same key is the same payment"
        assert {one["outcome"] for one in busy} == {"bill_busy"}
        assert (await counter.purse())[1] == 700
        path = f"/v1/bills/payments/{held[0]['payment_id']}"
        # a payment is nobody else's to see
        banks = (await bank.get(path)).status_code == 200
        winner, loser = (bank, hall) if banks else (hall, bank)
        assert (await loser.post(f"{path}/confirm")).status_code == 404
        assert (await winner.post(f"{path}/confirm")).json()["payment"]["state"] == "paid"
        answers.clear()
        await pay(loser, inquiries[banks], counter.unheard())
        assert (answers[0].status_code, answers[0].json()["outcome"]) == (409, "bill_paid")
        assert (await counter.inquiry(loser, "WATER-1-700"))["payable"] is False
    assert await counter.purse() == (LOADED_MINOR - 700, 0)
    assert counter.posted_minor() == 700


async def test_whatever_goes_wrong_at_the_biller_nothing_is_half_posted(counter: Counter) -> None:
    """Each bill is named after its fault; the answer, the state in the end, and the sum."""
    faults = {
        "LOST-1-100": (200, "paid"),
        "WRONG-1-200": (200, "paid"),
        "MIXED-1-300": (200, "paid"),
        "TWICE-1-400": (200, "paid"),
        "F500-1-500": (202, "in_doubt"),
        "CLOSED-1-600": (409, "released"),
    }
    async with counter.client() as client:

        async def pay(bill_no: str, status: int, state: str) -> None:
            held = await counter.held(client, bill_no)
            path = f"/v1/bills/payments/{held['payment_id']}"
            confirmed = await client.post(f"{path}/confirm")
            assert confirmed.status_code == status, (bill_no, confirmed.text)
            assert (await counter.state(client, held["payment_id"]))["state"] == state, bill_no
            if state == "in_doubt":
                assert (await client.post(f"{path}/cancel")).status_code == 409
                assert (await client.post(f"{path}/confirm")).status_code == 202

        async with anyio.create_task_group() as tasks:
            for bill_no, (status, state) in faults.items():
                tasks.start_soon(pay, bill_no, status, state)
        # the amount grew after the inquiry: the biller says so, and the money is free again
        held = await counter.held(client, "GROWS-1-900")
        await counter.inquiry(client, "GROWS-1-900")
        path = f"/v1/bills/payments/{held['payment_id']}"
        grown = await client.post(f"{path}/confirm")
        assert (grown.status_code, grown.json()["type"]) == (
            409, "urn:citycard:problem:amount-changed",
        ), grown.text  # fmt: skip
        # cancelled before it is confirmed, the bill can be paid anew
        held = await counter.held(client, "WATER-2-800")
        path = f"/v1/bills/payments/{held['payment_id']}"
        assert (await client.post(f"{path}/cancel")).json()["state"] == "released"
        assert (await client.post(f"{path}/confirm")).status_code == 409
        await counter.held(client, "WATER-2-800")
    assert counter.posted_minor() == 1_000
    assert await counter.purse() == (LOADED_MINOR - 1_000, 500 + 800)


async def test_a_prepaid_token_is_told_and_told_again_and_never_taken_back(
    counter: Counter,
) -> None:
    async with counter.client() as client:
        held = await counter.held(client, "METER-7", "power", 5_000)
        path = f"/v1/bills/payments/{held['payment_id']}"
        assert (await client.get(f"{path}/token")).status_code == 409
        paid = (await client.post(f"{path}/confirm")).json()
        assert paid["payment"]["state"] == "paid"
        assert len(paid["token"]) == 20
        again = await client.get(f"{path}/token")
        assert again.json()["token"] == paid["token"]
        assert (await client.post(f"{path}/reverse")).status_code == 409
        # a meter is no bill: it is filled as often as anybody likes
        await counter.held(client, "METER-7", "power", 1_000)
        # more than the card has: declined, and the meter is free for the next
        inquired = await counter.inquiry(client, "METER-8", "power")
        asked = {"inquiry_id": inquired["inquiry_id"], "amount_minor": 99_000, "card": counter.card}
        named = counter.unheard()
        for _ in range(2):
            poor = await client.post("/v1/bills/payments", json=asked, headers=named)
            assert (poor.status_code, poor.json()["response_code"]) == (402, "51")
        await counter.held(client, "METER-8", "power", 100)
    stored = await counter.fetch("select p::text as row from ledger.bill_payment p")
    assert not any(paid["token"] in row["row"] for row in stored)


async def test_the_keeper_goes_on_with_what_was_left(counter: Counter) -> None:
    """Rows as a crash leaves them at each arrow, due at once; and a biller silent past its cut."""
    async with counter.client() as client:
        rows = {
            name: (await counter.held(client, f"{name}-3-{minor}"))["payment_id"]
            for name, minor in (
                ("OPENED", 100), ("HELD", 200), ("UNSENT", 300), ("SENT", 400),
                ("RELEASING", 500), ("QUIET", 600), ("NEVER", 700),
            )
        }  # fmt: skip
        sent = bytes.fromhex(rows["SENT"])
        (row,) = await counter.fetch("select * from ledger.bill_payment where serial = $1", sent)
        answer = await counter.worker.http._billers.pay(  # type: ignore[union-attr]
            "water", rows["SENT"], row["bill_no"], 400, counter.worker.clock.monotonic_ns() + 10**10
        )
        assert answer.state == "paid"  # type: ignore[union-attr]
        quiet = PaymentOrder(rows["QUIET"], "MUTE-3-600", 600)
        counter.hosts["water"].book.pay(quiet)  # and from now on it says no word of it
        turned = {
            "OPENED": "opened", "HELD": "held", "UNSENT": "confirming", "SENT": "confirming",
            "RELEASING": "releasing", "QUIET": "in_doubt", "NEVER": "in_doubt",
        }  # fmt: skip
        for name, state in turned.items():
            await counter.fetch(
                "update ledger.bill_payment set state = $2, next_at = now(),"
                " hold_id = case when $2 = 'opened' then 0 else hold_id end,"
                " bill_no = case when $3 then 'MUTE-3-600' else bill_no end,"
                " cut_at = case when $4 then now() else cut_at end where serial = $1",
                bytes.fromhex(rows[name]), state, name == "QUIET", name in ("QUIET", "NEVER"),
            )  # fmt: skip
        wanted = {
            "OPENED": "released", "HELD": "released", "UNSENT": "paid", "SENT": "paid",
            "RELEASING": "released", "QUIET": "suspense", "NEVER": "released",
        }  # fmt: skip
        for name, state in wanted.items():
            await counter.until_state(client, rows[name], state)
        assert (await counter.state(client, rows["HELD"]))["reason"] == "not_confirmed"
        assert (await counter.state(client, rows["QUIET"]))["reason"] == "biller_silent"
    assert counter.posted_minor() == 700 + 600
    assert await counter.purse() == (LOADED_MINOR - 700, 600)
    metric = counter.worker.metrics.registry.get_sample_value
    with anyio.fail_after(20):
        while metric("citycard_bill_payments", {"bill": "suspense"}) != 1:  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def test_an_inquiry_ends_and_so_does_the_day_of_a_biller(staged: Staged) -> None:
    async with staged() as counter, counter.client() as client:
        inquired = await counter.inquiry(client, "WATER-4-100")
        held = await counter.held(client, "WATER-5-100")
        await client.post(f"/v1/bills/payments/{held['payment_id']}/confirm")
        await counter.fetch("update ledger.bill_inquiry set payable_until = now()")
        await counter.fetch("update ledger.bill_payment set cut_at = now()")
        asked = {"inquiry_id": inquired["inquiry_id"], "amount_minor": 100, "card": counter.card}
        old = await client.post("/v1/bills/payments", json=asked, headers=counter.unheard())
        assert (old.status_code, old.json()["pointer"]) == (410, "/inquiry_id")
        late = await client.post(f"/v1/bills/payments/{held['payment_id']}/reverse")
        assert late.status_code == 409
        assert "cut-off" in late.json()["detail"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_biller_that_gives_nothing_back_is_believed(counter: Counter) -> None:
    async with counter.client() as client:
        held = await counter.held(client, "CUTOFF-1-100")
        path = f"/v1/bills/payments/{held['payment_id']}"
        await client.post(f"{path}/confirm")
        refused = await client.post(f"{path}/reverse")
        assert (refused.status_code, refused.json()["type"]) == (
            409, "urn:citycard:problem:bill-refused",
        )  # fmt: skip
        assert (await counter.state(client, held["payment_id"]))["state"] == "paid"
    assert await counter.purse() == (LOADED_MINOR - 100, 0)
