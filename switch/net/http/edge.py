"""What every request of the API passes before any route: time, who asks, and what is sent back.

The deadline is set when the head of the request is there: the API's own budget, or what the
caller gives in X-Budget-Ms, whichever is less. A body that does not come in time is not waited
for.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import msgspec

from protocols.bills.api import Problem
from switch.clock import Clock
from switch.config_city import Api
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.net.http.access import Gate
from switch.net.http.caller import Caller
from switch.net.http.problems import MEDIA_TYPE, RETRY_SECONDS, Fault, problem

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]
"""ASGI 3.0, as the server calls it."""

AT_ONCE_MAX = 256
"""Requests under way in one API of one process; what comes beside them is told so at once."""
CHUNK_SECONDS_MAX = 30.0
LINGER_SECONDS = 2.0
LINGER_BYTES = 32 * 1_048_576
"""A body that is refused unread is thrown away for so long after the answer: to close at once
would reset the connection, and the answer with it."""
OPEN_PATHS = frozenset({"/openapi.json", "/docs"})
_BUDGET = re.compile(rb"[0-9]{1,6}\Z")
BUDGET_MS_MIN = 10

SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)

_log = get_log("api")


class BodyTooSlow(Exception):
    """The rest of a body did not come in time: its sender is slow, or gone."""


class Body:
    """The body of a request, and whether all of it was read."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self.unread = any(
            name.lower() == b"transfer-encoding"
            or (name.lower() == b"content-length" and value.strip() != b"0")
            for name, value in scope["headers"]
        )

    async def receive(self) -> Message:
        message = await self._receive()
        self.unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    def before_the_end(self, send: Send) -> Send:
        """`send` that hears the peer out before it ends an answer."""

        async def sent(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if last and self.unread:
                await send(message | {"more_body": True})
                await self._throw_away()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        return sent

    async def _throw_away(self) -> None:
        left = LINGER_BYTES
        with anyio.move_on_after(LINGER_SECONDS):
            while self.unread and left > 0:
                left -= len((await self.receive()).get("body", b""))


class Edge:
    """The ASGI application of one API: `app` behind time, access and headers."""

    def __init__(self, app: AsgiApp, api: Api, gate: Gate, clock: Clock) -> None:
        self._app = app
        self._api = api
        self._gate = gate
        self._clock = clock
        self._under_way = 0

    @property
    def under_way(self) -> int:
        return self._under_way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received_ns = self._clock.monotonic_ns()
        body = Body(scope, receive)
        send = self._with_headers(body.before_the_end(send), received_ns)
        if self._under_way >= AT_ONCE_MAX:
            await told(send, problem(Fault.AWAY, "too much is under way; try again"))
            return
        self._under_way += 1
        try:
            caller = await self._caller(scope, received_ns)
            if not isinstance(caller, Problem):
                scope["state"]["caller"] = caller
                await self._app(scope, self._in_time(body, caller, scope["method"]), send)
                return
        finally:
            self._under_way -= 1
        await told(send, caller)  # hears the peer out: a stranger holds nobody's place by that

    async def _caller(self, scope: Scope, received_ns: int) -> Caller | Problem:
        budget_ms = self._api.budget_ms
        for name, value in scope["headers"]:
            if name.lower() == b"x-budget-ms":
                if _BUDGET.match(value) is None or int(value) < BUDGET_MS_MIN:
                    words = f"give X-Budget-Ms whole milliseconds from {BUDGET_MS_MIN}, or leave it"
                    return problem(Fault.HEADER, words)
                budget_ms = min(budget_ms, int(value))
        deadline_ns = received_ns + budget_ms * 1_000_000
        if scope["path"] in OPEN_PATHS:
            return Caller("", self._api.name, received_ns, deadline_ns)
        client = scope.get("client")
        try:
            acquirer = await self._gate.who(scope["headers"], client[0] if client else "")
        except (LedgerLost, LedgerRefused) as error:
            _log.warning("a key cannot be looked up", api=self._api.name, reason=str(error))
            return problem(Fault.AWAY, "keys cannot be looked up now; try again")
        if isinstance(acquirer, Problem):
            return acquirer
        return Caller(acquirer, self._api.name, received_ns, deadline_ns)

    def _in_time(self, body: Body, caller: Caller, method: object) -> Receive:
        """The body with an end: an upload (PUT) may go on, as long as it does go on."""

        async def received() -> Message:
            if not body.unread:
                return await body.receive()  # whether the peer is still there: no matter of time
            left = (caller.deadline_ns - self._clock.monotonic_ns()) / 1e9
            seconds = CHUNK_SECONDS_MAX if method == "PUT" else left
            try:
                with anyio.fail_after(max(0.0, seconds)):
                    message = await body.receive()
            except TimeoutError:
                raise BodyTooSlow from None
            if message["type"] == "http.disconnect":
                raise BodyTooSlow
            return message

        return received

    def _with_headers(self, send: Send, received_ns: int) -> Send:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                used_ms = (self._clock.monotonic_ns() - received_ns) // 1_000_000
                given = list(message["headers"])
                names = {name.lower() for name, _ in given}
                given += [pair for pair in SECURITY_HEADERS if pair[0] not in names]
                given.append((b"x-time-used-ms", str(used_ms).encode("ascii")))
                message["headers"] = given
            await send(message)

        return sent


def headers_of(refused: Problem) -> Mapping[str, str]:
    """What a refusal says beside its body."""
    if refused.status == Fault.UNAUTHORIZED.status:
        return {"www-authenticate": "Bearer"}
    if refused.status in (Fault.AWAY.status, Fault.TOO_MANY.status):
        return {"retry-after": str(RETRY_SECONDS)}
    return {}


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
