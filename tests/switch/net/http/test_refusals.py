"""Whatever is sent that cannot be taken: a clear answer each, and nothing half posted."""

from __future__ import annotations

import json
from typing import Any

import anyio
import pytest

from switch.cli import main
from switch.net.http import edge
from switch.net.http.access import FAILURES_AT_ONCE
from tests.switch.net.http.conftest import BANK, LOADED_MINOR, WATER, Counter

PAYMENTS = "/v1/bills/payments"
INQUIRIES = "/v1/bills/inquiries"
PROBLEM = "urn:citycard:problem:"


def told(answer: Any) -> tuple[int, str, str]:
    """Status, kind and pointer of a problem, which says what to do and has all its headers."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    assert (body["status"], bool(body["title"])) == (answer.status_code, True)
    assert len(body["detail"].split()) > 3
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["x-time-used-ms"]) >= 0
    return answer.status_code, body["type"].removeprefix(PROBLEM), body.get("pointer", "")


async def test_each_bad_request_has_its_own_answer(counter: Counter) -> None:
    card = counter.card
    async with counter.client() as client:

        async def post(path: str, body: Any, **headers: str) -> Any:
            octets = body if isinstance(body, bytes) else json.dumps(body).encode()
            named = {"content-type": "application/json", "idempotency-key": "k-1"} | headers
            return await client.post(path, content=octets, headers=named)

        inquiry = {"biller": "water", "bill_no": "WATER-1-500", "card": card}
        inquired = (await post(INQUIRIES, inquiry)).json()
        good = {"inquiry_id": inquired["inquiry_id"], "amount_minor": 500, "card": card}
        paid_elsewhere = (await post(INQUIRIES, inquiry | {"bill_no": "PAID-1-500"})).json()
        assert paid_elsewhere["payable"] is False
        cases: list[tuple[Any, tuple[int, str, str]]] = [
            (await post(INQUIRIES, inquiry | {"biller": "gas"}), (422, "field", "/biller")),
            (
                await post(INQUIRIES, inquiry | {"bill_no": "NOBILL-1"}),
                (404, "not-found", "/bill_no"),
            ),
            (await post(INQUIRIES, inquiry | {"bill_no": "ü"}), (422, "field", "/bill_no")),
            (await post(INQUIRIES, inquiry | {"card": card[:-1]}), (402, "declined", "")),
            (await post(INQUIRIES, inquiry | {"card": "12"}), (422, "field", "/card")),
            (await post(INQUIRIES, {"biller": "water", "card": card}), (422, "field", "/bill_no")),
            (await post(INQUIRIES, inquiry | {card: 1}), (422, "field", "")),
            (await post(INQUIRIES, b'{"biller": "wat'), (400, "body", "")),
            (await post(INQUIRIES, b'{"biller": "\xff\xfe"}'), (400, "body", "")),
            (await post(INQUIRIES, b"[" * 5_000), (400, "body", "")),
            (await post(INQUIRIES, b""), (400, "body", "")),
            (await post(INQUIRIES, [inquiry]), (400, "body", "")),
            (await post(INQUIRIES, b"x" * 10_000_000), (413, "too-large", "")),
            (await post(INQUIRIES, inquiry, **{"content-type": "text/plain"}), (400, "header", "")),
            (await post(INQUIRIES, inquiry, **{"x-budget-ms": "soon"}), (400, "header", "")),
            (await post(PAYMENTS, good, **{"idempotency-key": ""}), (400, "header", "")),
            (await post(PAYMENTS, good | {"amount_minor": "500"}), (422, "field", "/amount_minor")),
            (await post(PAYMENTS, good | {"amount_minor": 0}), (422, "field", "/amount_minor")),
            (
                await post(PAYMENTS, good | {"amount_minor": 501}),
                (409, "amount-changed", "/amount_minor"),
            ),
            (
                await post(PAYMENTS, good | {"inquiry_id": "0" * 32}),
                (404, "not-found", "/inquiry_id"),
            ),
            (
                await post(PAYMENTS, good | {"inquiry_id": paid_elsewhere["inquiry_id"]}),
                (409, "bill-paid", ""),
            ),
            (await client.get(f"{PAYMENTS}/{'0' * 32}"), (404, "not-found", "")),
            (await client.get(f"{PAYMENTS}/me"), (404, "not-found", "")),
            (await client.get("/v2"), (404, "not-found", "")),
            (await client.delete(PAYMENTS), (405, "method", "")),
        ]
        for number, (answer, expected) in enumerate(cases):
            assert told(answer) == expected, (number, answer.text)
            assert card not in answer.text
        assert (await post(PAYMENTS, good)).status_code == 201
        reused = await post(PAYMENTS, good | {"card": "0" * 32})
        assert told(reused) == (422, "key-reused", "")
        assert (await post(PAYMENTS, good)).status_code == 201, "and the first stands"
    assert await counter.purse() == (LOADED_MINOR, 500)
    (rows,) = await counter.fetch("select count(*) as n from ledger.bill_payment")
    assert rows["n"] == 1


async def test_who_is_not_known_gets_in_nowhere(counter: Counter) -> None:
    async with counter.client(WATER) as hall:
        assert (await hall.get("/v1/billers")).status_code == 200
        (row,) = await counter.fetch(
            "select last_used_on is not null as used from ledger.api_key where acquirer = $1", WATER
        )
        assert row["used"]
        # revoked, it is refused once it is no longer believed
        assert await _command("revoke", counter.keys[WATER][4:16], database=counter.database) == 0
        counter.believe_nobody()
        refused = await hall.get("/v1/billers")
        assert told(refused) == (401, "unauthorized", "")
    async with counter.client("") as nobody, counter.client(BANK) as bank:
        assert (await nobody.get("/docs")).status_code == 200
        assert (await bank.get("/v1/billers")).status_code == 200
        wrong = {"authorization": f"Bearer cck_{'0' * 12}_{'A' * 43}"}
        refused = await nobody.get("/v1/billers", headers=wrong)
        assert told(refused) == (401, "unauthorized", "")
        assert refused.headers["www-authenticate"] == "Bearer"
        almost = counter.keys[BANK][:-1] + ("A" if counter.keys[BANK][-1] != "A" else "B")
        seen = {
            told(await nobody.get("/v1/billers", headers={"authorization": f"Bearer {key}"}))[0]
            for key in [almost] * (FAILURES_AT_ONCE + 2)
        }
        assert seen == {401, 429}, "guessing is slowed down"
        assert (await bank.get("/v1/billers")).status_code == 200, "and harms nobody else"


async def _command(*words: str, database: str) -> int:
    return await anyio.to_thread.run_sync(lambda: main(["api-key", *words, "--database", database]))


async def test_a_sale_in_one_step_and_its_refund(counter: Counter) -> None:
    async with counter.client(BANK) as client:
        sale = {
            "venue": "cinema", "merchant": "CINEMA1", "terminal": "WEB1", "amount_minor": 8_000,
            "card": counter.card, "reference": "SEAT12",
        }  # fmt: skip
        named = counter.unheard()
        sold = await client.post("/v1/sales", json=sale, headers=named)
        assert sold.status_code == 201, sold.text
        again = await client.post("/v1/sales", json=sale, headers=named)
        assert again.json() == sold.json() | {"replayed": True}
        other = await client.post("/v1/sales", json=sale | {"amount_minor": 1}, headers=named)
        assert told(other) == (422, "key-reused", "")
        refunds = f"/v1/sales/{sold.json()['sale_id']}/refunds"
        part = {"amount_minor": 3_000, "card": counter.card}
        refund = await client.post(refunds, json=part, headers=counter.unheard())
        assert refund.status_code == 201, refund.text
        more = part | {"amount_minor": 6_000}
        assert told(await client.post(refunds, json=more, headers=counter.unheard()))[0] == 402
        bus = await client.post("/v1/sales", json=sale | {"venue": "bus"}, headers=named)
        assert told(bus) == (422, "field", "/venue")
    assert await counter.purse() == (LOADED_MINOR - 5_000, 0)
    rows = await counter.fetch(
        "select venue, mcc from ledger.authorization where kind = 'purchase'"
    )
    assert [(row["venue"], row["mcc"]) for row in rows] == [("cinema", "7832")]


async def test_strangers_who_send_no_body_take_nobodys_place(
    counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge, "AT_ONCE_MAX", 2)
    head = f"POST {INQUIRIES} HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n".encode()
    strangers = [await anyio.connect_tcp("127.0.0.1", counter.port) for _ in range(3)]
    for stranger in strangers:
        await stranger.send(head)
        assert b" 401 " in await stranger.receive()
    async with counter.client() as client:
        assert (await client.get("/v1/bills/payments/none")).status_code != 503
    for stranger in strangers:
        await stranger.aclose()
