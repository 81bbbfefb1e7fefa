"""A port of the API by itself: TLS, budgets, slow bodies, and leaving with a request under way."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from litestar import Request, Response, post

from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config_city import Api
from switch.config_trouble import Tls
from switch.ledger.bills import bill_ledger
from switch.net.http.access import Gate
from switch.net.http.edge import Edge
from switch.net.http.routes import application
from switch.net.http.server import HttpPort
from switch.net.tls import server_context
from tests.switch.net.test_tls import Authority

HALL = "48060000"
pytestmark = pytest.mark.usefixtures("ledger_loop")


class Slow:
    """An application that answers who asks when it is told to."""

    def __init__(self) -> None:
        self.go_on = anyio.Event()
        self.entered = anyio.Event()
        self.callers: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await application([], 1_024)(scope, receive, send)
            return
        self.callers.append(scope["state"]["caller"])
        self.entered.set()
        await self.go_on.wait()
        head = {"type": "http.response.start", "status": 200, "headers": []}
        await send(head | {"headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})


@asynccontextmanager
async def served(app: Any, tls: Tls = Tls(), **terms: Any) -> AsyncIterator[tuple[HttpPort, int]]:  # noqa: B008
    api = Api(**({"name": "bills-1", "acquirer": HALL} | terms))
    calendar, clock = BusinessCalendar("Asia/Shanghai", "00:00"), SystemClock()
    gate = Gate(
        api.acquirer, bill_ledger("postgresql://nobody@127.0.0.1:1/none", 1), calendar, clock
    )
    port = HttpPort(api.name, Edge(app, api, gate, clock), server_context(tls, "apis[0].tls"))
    async with anyio.create_task_group() as tasks:
        number = port.open("127.0.0.1", 0)
        tasks.start_soon(port.run)
        with anyio.fail_after(20):
            yield port, number
        tasks.cancel_scope.cancel()


async def until_refused(number: int) -> None:
    while True:
        with anyio.move_on_after(0.2):
            async with httpx.AsyncClient(trust_env=False) as late:
                await late.get(f"http://127.0.0.1:{number}/")


async def test_what_is_under_way_is_answered_before_the_port_closes() -> None:
    app = Slow()
    async with (
        served(app) as (port, number),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{number}", trust_env=False) as client,
    ):
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.get("/v1/billers", headers={"x-budget-ms": "5000"}))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await app.entered.wait()
            tasks.start_soon(port.leave, 10.0)
            with pytest.raises(httpx.ConnectError):
                await until_refused(number)
            assert not answers
            app.go_on.set()
        assert [answer.text for answer in answers] == ["ok"]
        caller = app.callers[0]
        assert (caller.acquirer, caller.api) == (HALL, "bills-1")
        assert caller.deadline_ns - caller.received_ns == 5_000_000_000, "less than its own budget"


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    @post("/v1/slow")
    async def slow(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(await request.body())

    async with served(application([slow], 1_024)) as (_, number):
        stream = await anyio.connect_tcp("127.0.0.1", number)
        async with stream:
            await stream.send(
                b"POST /v1/slow HTTP/1.1\r\nhost: x\r\nx-budget-ms: 50\r\n"
                b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
            )
            answer = await stream.receive()
        assert answer.startswith(b"HTTP/1.1 408")
        # and more of a head than anybody needs is no request at all
        stream = await anyio.connect_tcp("127.0.0.1", number)
        async with stream:
            await stream.send(b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: " + b"b" * 40_000)
            answer = await stream.receive()
        assert answer.startswith(b"HTTP/1.1 431")


async def test_a_port_of_one_acquirer_asks_for_its_certificate(tmp_path: Path) -> None:
    ours, strange = Authority(tmp_path, "ours"), Authority(tmp_path, "strange")
    server, client, stranger = ours.signed("server"), ours.signed("hall"), strange.signed("else")
    tls = Tls(str(server.certificate), str(server.private_key), str(ours.certificate))
    app = Slow()
    app.go_on.set()
    async with served(app, tls) as (_, number):
        for pair, let_in in ((client, True), (stranger, False), (None, False)):
            context = ssl.create_default_context(cafile=str(ours.certificate))
            if pair is not None:
                context.load_cert_chain(pair.certificate, pair.private_key)
            async with httpx.AsyncClient(verify=context, trust_env=False) as asking:
                if let_in:
                    answer = await asking.get(f"https://127.0.0.1:{number}/v1/billers")
                    assert answer.text == "ok"
                else:
                    with pytest.raises(httpx.TransportError):
                        await asking.get(f"https://127.0.0.1:{number}/v1/billers")
    assert [caller.acquirer for caller in app.callers] == [HALL]


async def test_without_a_ledger_nobody_is_let_in_by_a_key_and_told_so() -> None:
    app = Slow()
    async with (
        served(app, acquirer="") as (_, number),
        httpx.AsyncClient(trust_env=False) as asking,
    ):
        key = {"authorization": f"Bearer cck_{'0' * 12}_{'A' * 43}"}
        answer = await asking.get(f"http://127.0.0.1:{number}/v1/billers", headers=key)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "urn:citycard:problem:away"
    assert not app.callers
