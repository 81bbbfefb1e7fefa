"""Calls to the hosts of billers: each ends by its deadline, as a value of a closed list.

What a biller said is believed only where it is about what was asked: another serial, bill or
amount in an answer is a fault. Questions are asked once more while there is time; a payment
and its reversal are sent once, for whoever sends them has to look first what became of them.
Neither addresses nor bodies stand in anything that is logged or raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

import anyio
import httpx
import msgspec

from protocols.bills.biller import (
    ANSWER_BYTES_MAX,
    Absent,
    AbsentWhat,
    Bill,
    BillQuestion,
    PaymentAnswer,
    PaymentOrder,
    PaymentState,
    TokenAnswer,
)
from switch.clock import Clock
from switch.config_city import Biller
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.billers.circuit import Circuit

NANOSECONDS = 1_000_000_000
CONNECTIONS_MAX = 32
"""To one biller; more calls wait for one of them, within their own deadline."""
IDLE_CONNECTIONS_MAX = 8
IDLE_SECONDS = 30.0
QUESTION_TRIES = 2
LEFT_NS_MIN = 1_000_000
"""With less than a millisecond left no call is begun."""

Said = TypeVar("Said", Bill, PaymentAnswer, TokenAnswer)

_log = get_log("billers")


class BillerAnswer(StrEnum):
    """How a call ended; the metrics' word for it. The methods return the last four."""

    DONE = "done"
    REFUSED = "refused"
    """The biller took it in and said no: a `PaymentAnswer` that says why."""
    UNKNOWN = "unknown"
    """The biller says of itself that it knows no such bill, or no such serial."""
    TIMEOUT = "timeout"
    """No answer in time. The work may be done."""
    FAULT = "fault"
    """No answer, or none that is about what was asked. The work may be done."""
    CIRCUIT_OPEN = "circuit_open"
    """Nothing was sent: the host has failed too often just now, or no time was left."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Said]):
    """One thing to say: the answer's type, whether an answer can be one to this, and what a
    biller may say that it does not have."""

    method: str
    path: str
    type: type[Said]
    fits: Callable[[Said], bool]
    absent: AbsentWhat
    body: bytes = b""


class Host:
    """One biller's host: its client with its pool, and its circuit."""

    def __init__(self, terms: Biller, api_key: str) -> None:
        self.terms = terms
        self.circuit = Circuit(terms.circuit_failures, terms.circuit_seconds * NANOSECONDS)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        self.client = httpx.AsyncClient(
            base_url=terms.url,
            headers=headers,
            timeout=terms.timeout_ms / 1000,
            limits=httpx.Limits(
                max_connections=CONNECTIONS_MAX,
                max_keepalive_connections=IDLE_CONNECTIONS_MAX,
                keepalive_expiry=IDLE_SECONDS,
            ),
            follow_redirects=False,
            trust_env=False,
        )


class Billers:
    """All configured billers. `deadline_ns` is monotonic, and never later than is waited.

    `api_keys` are shown to the billers, by their names. Every method raises KeyError for a
    biller that is not configured, and nothing else.
    """

    def __init__(
        self,
        billers: tuple[Biller, ...],
        api_keys: Mapping[str, str],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        # It would write a line with the address of every call.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._hosts = {each.name: Host(each, api_keys.get(each.name, "")) for each in billers}
        self._clock = clock
        self._metrics = metrics

    async def close(self) -> None:
        """Close all connections; calls that are under way end as faults."""
        for host in self._hosts.values():
            await host.client.aclose()

    async def inquire(self, biller: str, bill_no: str, deadline_ns: int) -> Bill | BillerAnswer:
        """What there is to pay; UNKNOWN: the biller has no such bill."""

        def fits(bill: Bill) -> bool:
            return bill.bill_no == bill_no

        body = msgspec.json.encode(BillQuestion(bill_no))
        call = Call("POST", "/bills/inquiry", Bill, fits, AbsentWhat.BILL, body)
        return await self._ask(biller, call, deadline_ns)

    async def pay(
        self, biller: str, serial: str, bill_no: str, amount_minor: int, deadline_ns: int
    ) -> PaymentAnswer | BillerAnswer:
        """Post a payment. Sent once; after TIMEOUT or FAULT ask `query` before anything else."""
        body = msgspec.json.encode(PaymentOrder(serial, bill_no, amount_minor))
        fits = _about(serial, bill_no, amount_minor)
        call = Call("POST", "/bills/payments", PaymentAnswer, fits, AbsentWhat.BILL, body)
        return await self._call(self._hosts[biller], call, deadline_ns)

    async def query(
        self, biller: str, serial: str, bill_no: str, amount_minor: int, deadline_ns: int
    ) -> PaymentAnswer | BillerAnswer:
        """What became of a payment; UNKNOWN is the biller's word that it never came."""
        path = f"/bills/payments/{serial}"
        fits = _about(serial, bill_no, amount_minor)
        call = Call("GET", path, PaymentAnswer, fits, AbsentWhat.TRANSACTION)
        return await self._ask(biller, call, deadline_ns)

    async def reverse(
        self, biller: str, serial: str, bill_no: str, amount_minor: int, deadline_ns: int
    ) -> PaymentAnswer | BillerAnswer:
        """Take a payment back, once. It is `reversed`, or `refused`: then it stands."""
        about = _about(serial, bill_no, amount_minor)

        def fits(answer: PaymentAnswer) -> bool:
            return about(answer) and answer.state is not PaymentState.PAID

        path = f"/bills/payments/{serial}/reverse"
        call = Call("POST", path, PaymentAnswer, fits, AbsentWhat.TRANSACTION)
        return await self._call(self._hosts[biller], call, deadline_ns)

    async def token(self, biller: str, serial: str, deadline_ns: int) -> TokenAnswer | BillerAnswer:
        """The last response for a prepaid payment: the token that it has, never a new one."""

        def fits(answer: TokenAnswer) -> bool:
            return answer.serial == serial

        path = f"/bills/payments/{serial}/token"
        call = Call("GET", path, TokenAnswer, fits, AbsentWhat.TRANSACTION)
        return await self._ask(biller, call, deadline_ns)

    async def _ask(self, biller: str, call: Call[Said], deadline_ns: int) -> Said | BillerAnswer:
        """A question changes nothing, so it is asked once more where it brought no answer."""
        host = self._hosts[biller]
        first = await self._call(host, call, deadline_ns)
        if first not in (BillerAnswer.TIMEOUT, BillerAnswer.FAULT):
            return first
        second = await self._call(host, call, deadline_ns)
        return first if second is BillerAnswer.CIRCUIT_OPEN else second

    async def _call(self, host: Host, call: Call[Said], deadline_ns: int) -> Said | BillerAnswer:
        begun_ns = self._clock.monotonic_ns()
        whole_ns = host.terms.timeout_ms * 1_000_000
        left_ns = min(deadline_ns - begun_ns, whole_ns)
        number = host.circuit.let_out(begun_ns) if left_ns >= LEFT_NS_MIN else None
        if number is None:
            self._metrics.biller_called(host.terms.name, BillerAnswer.CIRCUIT_OPEN, None)
            return BillerAnswer.CIRCUIT_OPEN
        try:
            answer = await _sent(host.client, call, left_ns / NANOSECONDS)
        except anyio.get_cancelled_exc_class():
            host.circuit.given_up(number, self._clock.monotonic_ns())
            raise
        ended_ns = self._clock.monotonic_ns()
        if answer not in (BillerAnswer.TIMEOUT, BillerAnswer.FAULT):
            host.circuit.succeeded(number, ended_ns)
            seconds = (ended_ns - begun_ns) / NANOSECONDS
            self._metrics.biller_called(host.terms.name, _ending(answer), seconds)
            return answer
        if answer is BillerAnswer.TIMEOUT and left_ns < whole_ns:
            # It had less time than it is entitled to, which is no failure of the host's.
            host.circuit.given_up(number, ended_ns)
        else:
            host.circuit.failed(number, ended_ns)
        ending = _ending(answer)
        self._metrics.biller_called(host.terms.name, ending, None)
        _log.warning("a biller's host failed a call", biller=host.terms.name, how=ending.value)
        return answer


def _about(serial: str, bill_no: str, amount_minor: int) -> Callable[[PaymentAnswer], bool]:
    """Whether an answer is about this payment."""

    def fits(answer: PaymentAnswer) -> bool:
        said = (answer.serial, answer.bill_no, answer.amount_minor)
        return said == (serial, bill_no, amount_minor)

    return fits


def _ending(answer: Bill | PaymentAnswer | TokenAnswer | BillerAnswer) -> BillerAnswer:
    if isinstance(answer, BillerAnswer):
        return answer
    refused = isinstance(answer, PaymentAnswer) and answer.state is PaymentState.REFUSED
    return BillerAnswer.REFUSED if refused else BillerAnswer.DONE


async def _sent(client: httpx.AsyncClient, call: Call[Said], seconds: float) -> Said | BillerAnswer:
    """One exchange; nothing of httpx comes out of here but a value."""
    headers = {"content-type": "application/json"} if call.body else {}
    answer: Said | BillerAnswer = BillerAnswer.TIMEOUT
    with anyio.move_on_after(seconds):
        try:
            async with client.stream(
                call.method, call.path, content=call.body, headers=headers
            ) as response:
                octets = await _body(response)
            answer = _understood(response.status_code, octets, call)
        except httpx.TimeoutException:
            answer = BillerAnswer.TIMEOUT
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            answer = BillerAnswer.FAULT
    return answer


async def _body(response: httpx.Response) -> bytes | None:
    """The body; None where it is larger than any answer may be, and is read no further."""
    octets = b""
    async for chunk in response.aiter_raw():
        octets += chunk
        if len(octets) > ANSWER_BYTES_MAX:
            return None
    return octets


def _understood(status: int, octets: bytes | None, call: Call[Said]) -> Said | BillerAnswer:
    if octets is None or status not in (httpx.codes.OK, httpx.codes.NOT_FOUND):
        return BillerAnswer.FAULT
    try:
        if status == httpx.codes.NOT_FOUND:
            absent = msgspec.json.decode(octets, type=Absent).absent
            return BillerAnswer.UNKNOWN if absent is call.absent else BillerAnswer.FAULT
        said = msgspec.json.decode(octets, type=call.type)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BillerAnswer.FAULT
    return said if call.fits(said) else BillerAnswer.FAULT
