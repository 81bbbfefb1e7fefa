"""From the tables of endpoints to an ASGI application.

Each route does the same: is the role right, do path, question and body fit, do it, tell it. The
role is looked at first, so who may not do something learns nothing about it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio
import msgspec
from litestar import Litestar, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from protocols.card_number import mask_digit_runs
from switch.console.body import path_of, question, understood
from switch.console.desk import Desk
from switch.console.endpoint import BODY_BYTES_MAX, PATH_NAME, Call, Document, Endpoint
from switch.console.problems import (
    MEDIA_TYPE,
    Fault,
    Problem,
    Refused,
    headers_of,
    problem,
    refusal,
)
from switch.console.refusals import problem_of
from switch.ledger.failures import LedgerLost
from switch.ledger.operators import Operator
from switch.logs import get as get_log
from switch.net.http.edge import BodyTooSlow

_log = get_log("console")

Asking = Request[Any, Any, Any]
Answer = Response[Any]


def routes(desk: Desk, endpoints: Iterable[Endpoint]) -> list[BaseRouteHandler]:
    """A route for each endpoint."""
    return [_route(desk, each) for each in endpoints]


def _route(desk: Desk, endpoint: Endpoint) -> BaseRouteHandler:
    path = PATH_NAME.sub(r"{\1:str}", endpoint.path)

    @route(
        path,
        http_method=[endpoint.method],  # type: ignore[list-item]
        request_max_body_size=endpoint.body_bytes_max,
        status_code=endpoint.status,
        name=f"{endpoint.method} {endpoint.path}",
    )
    async def handler(request: Asking) -> Answer:
        try:
            call = await _call(request, endpoint)
            with anyio.fail_after(endpoint.seconds):
                value = await endpoint.handler(desk, call)
        except TimeoutError:
            words = (
                f"it took more than {endpoint.seconds:g} s; look how it stands before you repeat it"
            )
            return answer(problem(Fault.AWAY, words))
        except (HTTPException, BodyTooSlow):
            raise
        except Exception as error:  # noqa: BLE001 - what is no refusal is raised again below
            refused = problem_of(error)
            if refused is None:
                return _fault(endpoint, error)
            if isinstance(error, LedgerLost):
                _log.warning("a request met no ledger", reason=str(error))
            return answer(refused)
        return answer(value, endpoint.status)

    return handler


async def _call(request: Asking, endpoint: Endpoint) -> Call[Any, Any]:
    operator: Operator = request.scope["state"]["operator"]
    if not endpoint.roles & set(operator.roles):
        raise Refused(_forbidden(endpoint, operator))
    path = path_of(request.path_params)
    asked_for = question(list(request.query_params.multi_items()), endpoint.query)
    if not endpoint.takes_body:
        return Call(operator, path, None, asked_for)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != endpoint.asked_type:
        raise refusal(Fault.HEADER, f"send the body as Content-Type: {endpoint.asked_type}")
    body = await request.body()
    if endpoint.asked is None:
        return Call(operator, path, None, asked_for, body)
    return Call(operator, path, understood(body, endpoint.asked), asked_for)


def _forbidden(endpoint: Endpoint, operator: Operator) -> Problem:
    needed = sorted(endpoint.roles)
    words = f"this takes the role {' or '.join(needed)}, and {operator.name} has "
    words += f"{', '.join(operator.roles)}; ask somebody who has it"
    return problem(Fault.FORBIDDEN, words, roles=needed)


def answer(value: Any, status: int = 200) -> Answer:
    """A value, a document or a problem as a response."""
    if isinstance(value, Problem):
        return Response(
            msgspec.json.encode(value),
            status_code=value.status,
            media_type=MEDIA_TYPE,
            headers=dict(headers_of(value)),
        )
    if isinstance(value, Document):
        return Response(
            value.octets, status_code=status, media_type=value.media_type, headers=value.headers
        )
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def application(handlers: list[BaseRouteHandler]) -> Litestar:
    """The ASGI application of these routes; whatever goes wrong in it becomes a problem."""
    return Litestar(
        handlers,
        request_max_body_size=BODY_BYTES_MAX,
        openapi_config=None,
        logging_config=None,
        exception_handlers={
            HTTPException: _refused_by_framework,
            BodyTooSlow: _too_slow,
            Exception: _fault_of_framework,
        },
        debug=False,
    )


def _refused_by_framework(_request: Asking, error: HTTPException) -> Answer:
    match error.status_code:
        case 404:
            return answer(problem(Fault.NOT_FOUND, "there is no such path; see /docs"))
        case 405:
            refused = answer(problem(Fault.METHOD, "this path takes another method; see /docs"))
            refused.headers.update(error.headers or {})  # which ones (RFC 9110, 15.5.6)
            return refused
        case 413:
            words = "send less; what is larger than the path takes is not read"
            return answer(problem(Fault.TOO_LARGE, words))
        case status if 400 <= status < 500:
            return answer(problem(Fault.BODY, "send what /docs describes"))
        case _:
            return _fault_of_framework(_request, error)


def _too_slow(_request: Asking, _error: BodyTooSlow) -> Answer:
    return answer(problem(Fault.TOO_SLOW, "send the whole body within 30 s"))


def _fault(endpoint: Endpoint, error: Exception) -> Answer:
    # Of the error only its type and place: its text may quote what was sent.
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    _log.error(
        "a request failed",
        path=f"{endpoint.method} {endpoint.path}",
        error=type(error).__name__,
        at=f"{traceback.tb_frame.f_code.co_qualname}:{traceback.tb_lineno}" if traceback else "",
    )
    return answer(problem(Fault.INTERNAL, "tell whoever runs the console, if it stays so"))


def _fault_of_framework(_request: Asking, error: Exception) -> Answer:
    _log.error("a request failed outside of its route", error=mask_digit_runs(type(error).__name__))
    return answer(problem(Fault.INTERNAL, "tell whoever runs the console, if it stays so"))
