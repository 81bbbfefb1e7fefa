"""Counters and web shops of the city: bills and tickets over the switch's HTTP API."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TypeVar

import httpx
import msgspec

from loadtest.city_lines import CityLine, CityTally
from loadtest.city_plan import TIMEOUT_SECONDS, ApiDoor, Citizen
from protocols.bills.api import (
    BillAsked,
    InquiryView,
    PaidView,
    PaymentAsked,
    PaymentView,
    Problem,
    RefundAsked,
    SaleAsked,
    SaleView,
    TokenView,
)
from protocols.message import Kind

CONNECTIONS_MAX = 16

View = TypeVar("View", bound=msgspec.Struct)


class Desk:
    """One caller of the API. What is not answered, or refused, is None to whoever asked."""

    def __init__(self, tally: CityTally, door: ApiDoor, host: str, run: str) -> None:
        self._tally = tally
        self._run = run
        self._number = 0
        self._client = httpx.AsyncClient(
            base_url=f"http://{host}:{door.port}",
            headers={"authorization": f"Bearer {door.api_key}"},
            trust_env=False,
            timeout=TIMEOUT_SECONDS,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def __aenter__(self) -> Desk:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def inquire(
        self, venue: str, biller: str, bill_no: str, citizen: Citizen, due_ns: int = 0
    ) -> InquiryView | None:
        """Ask what there is to pay."""
        asked = BillAsked(biller, bill_no, citizen.medium)
        line = self._line(venue, "bill_inquiry", citizen, 0)
        return await self._post("/v1/bills/inquiries", asked, InquiryView, line, due_ns)

    async def pay(
        self, venue: str, inquiry: InquiryView, citizen: Citizen, amount_minor: int
    ) -> PaymentView | None:
        """Set the money aside."""
        asked = PaymentAsked(inquiry.inquiry_id, amount_minor, citizen.medium)
        line = self._line(venue, "bill_pay", citizen, amount_minor)
        return await self._post("/v1/bills/payments", asked, PaymentView, line)

    async def confirm(self, venue: str, payment: PaymentView, citizen: Citizen) -> PaidView | None:
        """Have the biller post it; what is paid then is counted by biller."""
        line = self._line(venue, "bill_confirm", citizen, payment.amount_minor)
        path = f"/v1/bills/payments/{payment.payment_id}/confirm"
        paid = await self._post(path, None, PaidView, line)
        if paid is not None and paid.payment.state == "paid":
            self._tally.bills_minor[payment.biller] += payment.amount_minor
        return paid

    async def cancel(
        self, venue: str, payment: PaymentView, citizen: Citizen
    ) -> PaymentView | None:
        """Think better of it."""
        line = self._line(venue, "bill_cancel", citizen, payment.amount_minor)
        path = f"/v1/bills/payments/{payment.payment_id}/cancel"
        return await self._post(path, None, PaymentView, line)

    async def token(self, venue: str, payment: PaymentView, citizen: Citizen) -> TokenView | None:
        """The token of a prepaid meter, again."""
        line = self._line(venue, "bill_token", citizen, 0)
        return await self._asked(
            "GET", f"/v1/bills/payments/{payment.payment_id}/token", None, TokenView, line
        )

    async def sell(
        self, venue: str, citizen: Citizen, amount_minor: int, due_ns: int = 0
    ) -> SaleView | None:
        """A ticket."""
        asked = SaleAsked(venue, "TICKETS", "WEB00001", amount_minor, citizen.medium)
        line = self._line(venue, Kind.PURCHASE.value, citizen, amount_minor)
        return await self._post("/v1/sales", asked, SaleView, line, due_ns)

    async def refund(
        self, venue: str, sale: SaleView, citizen: Citizen, amount_minor: int
    ) -> SaleView | None:
        """A ticket given back."""
        asked = RefundAsked(amount_minor, citizen.medium)
        line = self._line(venue, Kind.REFUND.value, citizen, amount_minor)
        return await self._post(f"/v1/sales/{sale.sale_id}/refunds", asked, SaleView, line)

    async def _post(
        self,
        path: str,
        body: msgspec.Struct | None,
        view: type[View],
        line: CityLine,
        due_ns: int = 0,
    ) -> View | None:
        return await self._asked("POST", path, body, view, line, due_ns)

    async def _asked(
        self,
        method: str,
        path: str,
        body: msgspec.Struct | None,
        view: type[View],
        line: CityLine,
        due_ns: int = 0,
    ) -> View | None:
        begun_ns = due_ns or time.monotonic_ns()
        self._number += 1
        headers = {"idempotency-key": f"{self._run}-{self._number}"}
        content = None
        if body is not None:
            content = msgspec.json.encode(body)
            headers["content-type"] = "application/json"
        answered: httpx.Response | None
        try:
            answered = await self._client.request(method, path, content=content, headers=headers)
        except httpx.HTTPError:
            answered = None
        shown = None
        code = ""
        if answered is not None:
            shown, code = _read(answered, view)
        self._tally.over(_ended(line, shown, code, begun_ns))
        return shown

    def _line(self, venue: str, kind: str, citizen: Citizen, amount_minor: int) -> CityLine:
        return CityLine(venue, kind, "", citizen.index, amount_minor, time.time_ns() // 1_000_000)


def _read(answered: httpx.Response, view: type[View]) -> tuple[View | None, str]:
    """The view, or DE39 of the problem, or else the status."""
    try:
        if answered.is_success:
            return msgspec.json.decode(answered.content, type=view), "00"
        problem = msgspec.json.decode(answered.content, type=Problem)
    except msgspec.MsgspecError:
        return None, f"http {answered.status_code}"
    return None, problem.response_code or f"http {answered.status_code}"


def _ended(line: CityLine, shown: msgspec.Struct | None, code: str, begun_ns: int) -> CityLine:
    key, rrn, approved_minor = "", "", 0
    match shown:
        case SaleView():
            key, rrn, approved_minor = f"sale-{shown.sale_id}", shown.rrn, shown.amount_minor
        case PaymentView():
            key, rrn, approved_minor = f"bill-{shown.payment_id}", shown.rrn, shown.amount_minor
        case PaidView(payment=payment):
            paid = payment.state == "paid"
            key, rrn = f"bill-{payment.payment_id}", payment.rrn
            approved_minor = payment.amount_minor if paid else 0
            code = code if paid else "09"
    return msgspec.structs.replace(
        line,
        key=key,
        rrn=rrn,
        approved_minor=approved_minor,
        code=code,
        latency_us=max(1, (time.monotonic_ns() - begun_ns) // 1000),
    )
