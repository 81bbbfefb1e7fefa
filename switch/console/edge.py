"""What every request of the console passes before any route: a bound, time, and who asks.

A body that does not come in time is not waited for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from switch.clock import Clock
from switch.console.access import Gate
from switch.console.problems import MEDIA_TYPE, Fault, Problem, Refused, headers_of, problem
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.net.http.edge import SECURITY_HEADERS, AsgiApp, Body, BodyTooSlow, Scope

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

AT_ONCE_MAX = 64
"""Requests under way; what comes beside them is told so at once."""
BODY_SECONDS = 30.0
OPEN_PATHS = frozenset({"/openapi.json", "/docs"})

_log = get_log("console")


class Edge:
    """The ASGI application of the console: `app` behind access, time and headers."""

    def __init__(self, app: AsgiApp, gate: Gate, clock: Clock) -> None:
        self._app = app
        self._gate = gate
        self._clock = clock
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Body(scope, receive)
        send = _with_headers(body.before_the_end(send))
        if self._under_way >= AT_ONCE_MAX:
            await told(send, problem(Fault.AWAY, "too much is under way; try again"))
            return
        self._under_way += 1
        try:
            refused = await self._let_in(scope)
            if refused is None:
                await self._app(scope, self._in_time(body), send)
                return
        finally:
            self._under_way -= 1
        await told(send, refused)  # hears the peer out: a stranger holds nobody's place by that

    async def _let_in(self, scope: Scope) -> Problem | None:
        """Note who asks, or say why they may not."""
        if scope["path"] in OPEN_PATHS:
            return None
        client = scope.get("client")
        try:
            address = client[0] if client else ""
            scope["state"]["operator"] = await self._gate.who(scope["headers"], address)
        except Refused as refused:
            return refused.problem
        except (LedgerLost, LedgerRefused) as error:
            _log.warning("a token cannot be looked up", reason=str(error))
            return problem(Fault.AWAY, "tokens cannot be looked up now; try again")
        return None

    def _in_time(self, body: Body) -> Receive:
        deadline_ns = self._clock.monotonic_ns() + int(BODY_SECONDS * 1e9)

        async def received() -> Message:
            if not body.unread:
                return await body.receive()  # whether the peer is still there: no matter of time
            left_seconds = (deadline_ns - self._clock.monotonic_ns()) / 1e9
            try:
                with anyio.fail_after(max(0.0, left_seconds)):
                    message = await body.receive()
            except TimeoutError:
                raise BodyTooSlow from None
            if message["type"] == "http.disconnect":
                raise BodyTooSlow
            return message

        return received


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message["headers"])
            names = {name.lower() for name, _ in given}
            message["headers"] = given + [p for p in SECURITY_HEADERS if p[0] not in names]
        await send(message)

    return sent


async def told(send: Send, refused: Problem) -> None:
    """Answer with a problem, outside of any route."""
    body = msgspec.json.encode(refused)
    headers = [
        (b"content-type", MEDIA_TYPE.encode("ascii")),
        (b"content-length", str(len(body)).encode("ascii")),
        *((n.encode("ascii"), v.encode("ascii")) for n, v in headers_of(refused).items()),
    ]
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
