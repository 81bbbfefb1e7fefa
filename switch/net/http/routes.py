"""The routes of bills and sales: from a request to a desk, and from its value to an answer.

What each takes and answers is told in endpoints.py, which a test compares with what is here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from protocols.bills.api import (
    IDEMPOTENCY_KEY_PATTERN,
    BillAsked,
    BillersView,
    BillerView,
    PaidView,
    PaymentAsked,
    PaymentView,
    Problem,
    RefundAsked,
    SaleAsked,
)
from switch.ledger.bills import ENDED, BillState
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.logs import get as get_log
from switch.net.http.body import said
from switch.net.http.caller import Caller
from switch.net.http.edge import BodyTooSlow, headers_of
from switch.net.http.endpoints import Endpoint as Endpoint
from switch.net.http.problems import MEDIA_TYPE, Fault, problem
from switch.net.http.saga import BillDesk
from switch.net.http.sales import SaleDesk

_ID = re.compile(r"[0-9a-f]{32}\Z")
_IDEMPOTENCY_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN)
_ENDED = frozenset(state.value for state in ENDED | {BillState.HELD, BillState.OPENED})

_log = get_log("api")

Asking = Request[Any, Any, Any]
Answer = Response[Any]


def bill_routes(desk: BillDesk) -> list[BaseRouteHandler]:
    """Bills."""

    @get("/v1/billers")
    async def billers(request: Asking) -> Answer:
        listed = [
            BillerView(each.name, each.venue, each.kind, each.cut_off)
            for each in desk.billers.values()
        ]
        return answer(BillersView(listed))

    @post("/v1/bills/inquiries")
    async def inquire(request: Asking) -> Answer:
        asked = await said(request, BillAsked)
        if isinstance(asked, Problem):
            return answer(asked)
        return answer(await desk.inquire(caller_of(request), asked))

    @post("/v1/bills/payments")
    async def pay(request: Asking) -> Answer:
        key = idempotency_key_of(request)
        asked = await said(request, PaymentAsked) if isinstance(key, str) else key
        if isinstance(key, Problem) or isinstance(asked, Problem):
            return answer(asked)
        return answer(await desk.pay(caller_of(request), asked, key), 201)

    async def about(
        request: Asking, step: Callable[[Caller, bytes], Awaitable[msgspec.Struct]]
    ) -> Answer:
        id = request.path_params["id"]
        if _ID.match(id) is None:
            return answer(problem(Fault.NOT_FOUND, "a payment's id is 32 hex digits; check it"))
        return answer(await step(caller_of(request), bytes.fromhex(id)))

    @post("/v1/bills/payments/{id:str}/confirm")
    async def confirm(request: Asking) -> Answer:
        return await about(request, desk.confirm)

    @post("/v1/bills/payments/{id:str}/cancel")
    async def cancel(request: Asking) -> Answer:
        return await about(request, desk.cancel)

    @post("/v1/bills/payments/{id:str}/reverse")
    async def reverse(request: Asking) -> Answer:
        return await about(request, desk.reverse)

    @get("/v1/bills/payments/{id:str}")
    async def look(request: Asking) -> Answer:
        return await about(request, desk.look)

    @get("/v1/bills/payments/{id:str}/token")
    async def token(request: Asking) -> Answer:
        return await about(request, desk.token)

    return [billers, inquire, pay, confirm, cancel, reverse, look, token]


def sale_routes(desk: SaleDesk) -> list[BaseRouteHandler]:
    """Counters and e-tickets."""

    @post("/v1/sales")
    async def sell(request: Asking) -> Answer:
        key = idempotency_key_of(request)
        asked = await said(request, SaleAsked) if isinstance(key, str) else key
        if isinstance(key, Problem) or isinstance(asked, Problem):
            return answer(asked)
        return answer(await desk.sell(caller_of(request), asked, key), 201)

    @post("/v1/sales/{id:str}/refunds")
    async def refund(request: Asking) -> Answer:
        id = request.path_params["id"]
        if _ID.match(id) is None:
            return answer(problem(Fault.NOT_FOUND, "a sale's id is 32 hex digits; check it"))
        key = idempotency_key_of(request)
        asked = await said(request, RefundAsked) if isinstance(key, str) else key
        if isinstance(key, Problem) or isinstance(asked, Problem):
            return answer(asked)
        return answer(await desk.refund(caller_of(request), id, asked, key), 201)

    return [sell, refund]


def caller_of(request: Asking) -> Caller:
    """Who asks; the edge put it there."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def idempotency_key_of(request: Asking) -> str | Problem:
    """What the caller names this request by, so that a repeat of it is one."""
    key = request.headers.get("idempotency-key", "")
    if _IDEMPOTENCY_KEY.match(key):
        return key
    words = "give an Idempotency-Key of 1 to 64 printable ASCII characters without spaces"
    return problem(Fault.HEADER, words)


def answer(value: msgspec.Struct, status: int = 200) -> Answer:
    """A value or a problem as a response; 202 for a payment that the biller is asked about."""
    if isinstance(value, Problem):
        return Response(
            msgspec.json.encode(value),
            status_code=value.status,
            media_type=MEDIA_TYPE,
            headers=dict(headers_of(value)),
        )
    payment = value.payment if isinstance(value, PaidView) else value
    if isinstance(payment, PaymentView) and payment.state not in _ENDED:
        status = 202
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def application(routes: list[Any], body_bytes_max: int) -> Litestar:
    """The ASGI application of these routes; whatever goes wrong in it becomes a problem."""
    return Litestar(
        routes,
        request_max_body_size=body_bytes_max,
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            HTTPException: _refused_by_framework,
            BodyTooSlow: _too_slow,
            LedgerLost: _ledger_away,
            LedgerRefused: _fault,
            Exception: _fault,
        },
        debug=False,
    )


def _refused_by_framework(_request: Asking, error: HTTPException) -> Answer:
    match error.status_code:
        case 404:
            return answer(problem(Fault.NOT_FOUND, "there is no such path; see /docs"))
        case 405:
            return answer(problem(Fault.METHOD, "this path takes another method; see /docs"))
        case 413:
            words = "send less; what is larger than the API takes is not read"
            return answer(problem(Fault.TOO_LARGE, words))
        case status if 400 <= status < 500:
            return answer(problem(Fault.BODY, "send what /docs describes"))
        case _:
            return _fault(_request, error)


def _too_slow(_request: Asking, _error: BodyTooSlow) -> Answer:
    return answer(problem(Fault.TOO_SLOW, "send the whole body within the budget"))


def _ledger_away(_request: Asking, error: LedgerLost) -> Answer:
    _log.warning("a request met no ledger", reason=str(error))
    words = "the ledger is away; send the same request again, with the same idempotency key"
    return answer(problem(Fault.AWAY, words))


def _fault(request: Asking, error: Exception) -> Answer:
    # Of the error only its type: its text may quote what was sent.
    _log.error(
        "a request failed",
        path=request.scope["route_handler"].handler_name
        if "route_handler" in request.scope
        else "",
        error=type(error).__name__,
    )
    return answer(problem(Fault.INTERNAL, "the switch has a fault; tell the operator if it stays"))
