"""Debit files and mandates over HTTP: routes that the API mounts beside those of bills.

A file goes in as the body of a PUT, streamed to its end and accepted whole or refused whole;
sending an accepted one again changes nothing. Everything here is of one biller, named in the
query, whose money is the asking acquirer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import anyio
import msgspec
from litestar import get, post, put
from litestar.handlers import BaseRouteHandler
from litestar.response import Stream
from litestar.response.streaming import ASGIStreamingResponse
from msgspec import Meta

from protocols.bills.api import Asked, BillerName, Card, Problem
from protocols.card_number import CardNumber
from protocols.money import AMOUNT_MINOR_MAX
from switch.ledger.debits import DebitFile, Mandate
from switch.net.debits.desk import DebitDesk
from switch.net.debits.file_format import DebitFileError
from switch.net.debits.intake import IntakeBusy, NameTaken, SenderSilent
from switch.net.http.body import said
from switch.net.http.endpoints import Endpoint
from switch.net.http.postings import medium_said
from switch.net.http.problems import Fault, problem
from switch.net.http.routes import Answer, Asking, answer, caller_of

FILE_ID = re.compile(r"(?!.*[0-9]{13})[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
"""It stands in addresses, which others log: so no long number may."""
PART_SECONDS_MAX = 30.0
"""How long a reader of a result may take for a part of it."""
OF_ITS_OWN = "name one of your billers"

Customer = Annotated[
    str,
    Meta(pattern=r"\A[0-9A-Za-z-]{1,32}\Z", description="1 to 32 letters, digits or hyphens"),
]
LimitMinor = Annotated[
    int, Meta(ge=0, le=AMOUNT_MINOR_MAX, description="whole minor units; 0 bounds nothing")
]


class DebitFileView(msgspec.Struct, frozen=True):
    """A debit file as its sender sees it. Minor units; `sha256` in hex."""

    file_id: str
    biller: str
    state: str
    row_count: int
    total_minor: int
    answered_count: int
    collected_count: int
    collected_minor: int
    accepted_at: datetime | None
    ended_at: datetime | None
    sha256: str


class MandateAsked(Asked, frozen=True):
    """Let a biller collect a customer's bills from a card, up to an amount each."""

    biller: BillerName
    customer: Customer
    card: Card
    amount_max_minor: LimitMinor = 0


class MandateEnding(Asked, frozen=True):
    """End the mandate that stands for a customer."""

    biller: BillerName
    customer: Customer


class MandateView(msgspec.Struct, frozen=True):
    """A mandate; of the card only the last four digits are told."""

    mandate_id: int
    biller: str
    customer: str
    last4: str
    amount_max_minor: int
    given_at: datetime
    ended_at: datetime | None


class MandatesView(msgspec.Struct, frozen=True):
    """Mandates that stand, the newest first."""

    mandates: list[MandateView]


_FILE = "/v1/debit-files/{file_id}"
_OF_BILLER = ("biller",)
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "PUT", _FILE, "Send a debit file, whole; sending it again changes nothing", DebitFileView,
        status=201, query=_OF_BILLER,
        faults=(Fault.FIELD, Fault.NOT_FOUND, Fault.STATE, Fault.TOO_SLOW, Fault.AWAY),
    ),
    Endpoint(
        "GET", _FILE, "How far a debit file is", DebitFileView, query=_OF_BILLER,
        faults=(Fault.FIELD, Fault.NOT_FOUND),
    ),
    Endpoint(
        "GET", f"{_FILE}/result", "Each row with its code; P0 where there is none yet", None,
        query=_OF_BILLER, faults=(Fault.FIELD, Fault.NOT_FOUND),
    ),
    Endpoint(
        "POST", f"{_FILE}/cancel", "Collect no more of a debit file", DebitFileView, status=202,
        query=_OF_BILLER, faults=(Fault.FIELD, Fault.NOT_FOUND),
    ),
    Endpoint(
        "GET", "/v1/mandates", "The mandates that stand", MandatesView,
        query=("biller", "customer"), faults=(Fault.NOT_FOUND,),
    ),
    Endpoint(
        "POST", "/v1/mandates", "Let a biller collect from a card", MandateView, MandateAsked,
        status=201, faults=(Fault.FIELD, Fault.NOT_FOUND, Fault.STATE),
    ),
    Endpoint(
        "POST", "/v1/mandates/end", "End a mandate", MandateView, MandateEnding,
        faults=(Fault.FIELD, Fault.NOT_FOUND),
    ),
)  # fmt: skip


def debit_routes(
    desk: DebitDesk, medium_of: Callable[[CardNumber], bytes]
) -> list[BaseRouteHandler]:
    """The handlers. The PUT's body has no bound but the rows that a file may have."""

    def named(request: Asking) -> tuple[str, str, Problem | None]:
        """Biller and id of a file, and what is wrong with them."""
        file_id, biller = request.path_params["file_id"], _asked_of(request, "biller")
        if FILE_ID.fullmatch(file_id) is None:
            words = "a file's id is 1 to 64 letters, digits, . _ or -, without a long number"
            return biller, file_id, problem(Fault.FIELD, words)
        if not of_caller(request, biller):
            return biller, file_id, problem(Fault.NOT_FOUND, f"{OF_ITS_OWN} in ?biller=")
        return biller, file_id, None

    def of_caller(request: Asking, biller: str) -> bool:
        return desk.is_of(biller, caller_of(request).acquirer)

    @put("/v1/debit-files/{file_id:str}", request_max_body_size=None)
    async def put_file(request: Asking) -> Answer:
        biller, file_id, fault = named(request)
        return answer(fault) if fault else await _received(desk, request, file_id, biller)

    @get("/v1/debit-files/{file_id:str}")
    async def get_file(request: Asking) -> Answer:
        biller, file_id, fault = named(request)
        return answer(fault or _shown(await desk.file(biller, file_id)))

    @get("/v1/debit-files/{file_id:str}/result")
    async def get_result(request: Asking) -> Any:
        biller, file_id, fault = named(request)
        file = None if fault else await desk.file(biller, file_id)
        if file is None:
            return answer(fault or _shown(None))
        return PatientStream(desk.result(file), media_type="text/plain; charset=us-ascii")

    @post("/v1/debit-files/{file_id:str}/cancel")
    async def cancel_file(request: Asking) -> Answer:
        biller, file_id, fault = named(request)
        return answer(fault or _shown(await desk.cancel(biller, file_id)), 202)

    @post("/v1/mandates")
    async def give_mandate(request: Asking) -> Answer:
        asked = await said(request, MandateAsked)
        if isinstance(asked, Problem):
            return answer(asked)
        if not of_caller(request, asked.biller):
            return answer(problem(Fault.NOT_FOUND, OF_ITS_OWN, "/biller"))
        card_id = await desk.card_of(medium_said(asked.card, medium_of))
        if card_id is None:
            return answer(problem(Fault.NOT_FOUND, "no card has it; check the number", "/card"))
        given = await desk.give_mandate(
            asked.biller, asked.customer, card_id, asked.amount_max_minor
        )
        if given is None:
            words = "a mandate of this customer stands; end it first"
            return answer(problem(Fault.STATE, words, "/customer"))
        return answer(_mandate_view(given), 201)

    @post("/v1/mandates/end")
    async def end_mandate(request: Asking) -> Answer:
        asked = await said(request, MandateEnding)
        if isinstance(asked, Problem):
            return answer(asked)
        if not of_caller(request, asked.biller):
            return answer(problem(Fault.NOT_FOUND, OF_ITS_OWN, "/biller"))
        ended = await desk.end_mandate(asked.biller, asked.customer)
        if ended is None:
            words = "no mandate of this customer stands; list them by GET /v1/mandates"
            return answer(problem(Fault.NOT_FOUND, words, "/customer"))
        return answer(_mandate_view(ended))

    @get("/v1/mandates")
    async def list_mandates(request: Asking) -> Answer:
        biller = _asked_of(request, "biller")
        if not of_caller(request, biller):
            return answer(problem(Fault.NOT_FOUND, f"{OF_ITS_OWN} in ?biller="))
        found = await desk.mandates(biller, _asked_of(request, "customer"))
        return answer(MandatesView([_mandate_view(each) for each in found]))

    return [put_file, get_file, get_result, cancel_file, give_mandate, end_mandate, list_mandates]


def _asked_of(request: Asking, name: str) -> str:
    """A parameter of the query, empty where it is missing."""
    value: str = request.query_params.get(name, "")
    return value


async def _received(desk: DebitDesk, request: Asking, file_id: str, biller: str) -> Answer:
    """Take a file in. Where that stops in the middle, the rest is not read, so we hang up."""
    try:
        received = await desk.intake.receive(biller, file_id, aiter(request.stream()))
    except DebitFileError as error:
        refused = problem(Fault.FIELD, f"{error}; nothing of the file was kept")
    except NameTaken as error:
        refused = problem(Fault.STATE, str(error))
    except SenderSilent as error:
        refused = problem(Fault.TOO_SLOW, str(error))
    except IntakeBusy as error:
        refused = problem(Fault.AWAY, str(error))
    else:
        return answer(view_of(received.file), 201 if received.is_new else 200)
    told = answer(refused)
    told.headers["connection"] = "close"
    return told


class PatientBody(ASGIStreamingResponse):
    """A body that may take longer than the request's budget, as long as its reader reads."""

    async def send_body(self, send: Any, receive: Any) -> None:
        async for part in self.iterator:
            with anyio.fail_after(PART_SECONDS_MAX):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class PatientStream(Stream):
    """The response with such a body."""

    def to_asgi_response(self, app: Any, request: Any, **given: Any) -> ASGIStreamingResponse:
        iterator: Any = self.iterator
        return PatientBody(
            iterator=iterator,
            headers=given.get("headers"),
            encoded_headers=given.get("encoded_headers"),
            media_type=self.media_type,
            status_code=200,
        )


def view_of(file: DebitFile) -> DebitFileView:
    """A file as its sender sees it."""
    return DebitFileView(
        file_id=file.name,
        biller=file.biller,
        state=file.state.value,
        row_count=file.row_count,
        total_minor=file.total_minor,
        answered_count=file.answered_count,
        collected_count=file.collected_count,
        collected_minor=file.collected_minor,
        accepted_at=file.accepted_at,
        ended_at=file.ended_at,
        sha256=file.sha256.hex(),
    )


def _shown(file: DebitFile | None) -> DebitFileView | Problem:
    if file is None:
        return problem(Fault.NOT_FOUND, "no file was accepted under this id; send it")
    return view_of(file)


def _mandate_view(mandate: Mandate) -> MandateView:
    return MandateView(
        mandate.mandate_id,
        mandate.biller,
        mandate.customer,
        mandate.last4,
        mandate.amount_max_minor,
        mandate.given_at,
        mandate.ended_at,
    )
