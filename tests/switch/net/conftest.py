"""A link served on loopback, peers that may misbehave, and one bystander who must not notice."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from loadtest.wire import ASCII_FRAMING, HEADER, TPDU, UNIONPAY_FRAMING
from protocols.card_number import CardNumber, numbered_card
from protocols.framing import Framer, frame
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.client import Dialect, Sale, echo_message, network_message, sale_message
from protocols.iso8583.dialect import NetworkFunction
from protocols.iso8583.link import LinkTerms
from protocols.message import Outcome, Reply, Request, Segment
from switch import logs
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.metrics import Metrics
from switch.net.iso import Conduct, Connection, Link, LinkLimits, Submit, sweep

NAME = "retail-1"
ACQUIRER = "48021000"
BUDGET_MS = 800
CARD = numbered_card("621234", 3)
PATIENCE_SECONDS = 10.0
HASH_KEY = b"a key of the tests"
SILENT = Conduct(sign_on_required=True, echo_idle_seconds=0)
"""Sign-on as shipped, and no echoes between the lines of a test."""


def terms_of(dialect: Dialect) -> LinkTerms:
    return LinkTerms(
        name=NAME,
        dialect=dialect,
        framing=UNIONPAY_FRAMING if dialect == "unionpay_pos" else ASCII_FRAMING,
        acquirer=ACQUIRER,
        segment=Segment.RETAIL,
        budget_ms=BUDGET_MS,
        currencies=("156",),
        default_mcc="5411",
    )


class ShiftedClock(SystemClock):
    """The machine's clock, which a test may put forward instead of waiting."""

    def __init__(self) -> None:
        self.shift_ns = 0
        self.shift_us = 0

    def advance(self, seconds: float) -> None:
        self.shift_ns += int(seconds * 1e9)

    def now_us(self) -> int:
        return super().now_us() + self.shift_us

    def monotonic_ns(self) -> int:
        return super().monotonic_ns() + self.shift_ns


class Approver:
    """A submit that approves at once, or holds what comes until it is told to go on."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.holding = False
        self._held: list[Callable[[Reply], None]] = []

    def submit(self, request: Request, respond: Callable[[Reply], None]) -> None:
        self.requests.append(request)
        if self.holding:
            self._held.append(respond)
        else:
            respond(Reply(Outcome.APPROVED, request.amount.amount_minor, 7, "ABC234", ""))

    def release(self) -> None:
        self.holding, held, self._held = False, self._held, []
        for respond, request in zip(held, self.requests[-len(held) :], strict=True):
            respond(Reply(Outcome.APPROVED, request.amount.amount_minor, 7, "ABC234", ""))


class Peer:
    """One connection of an acquirer that says whatever the test wants."""

    def __init__(self, stream: SocketStream, terms: LinkTerms) -> None:
        self.stream = stream
        self.terms = terms
        self._framer = Framer(terms.framing)
        self._answers: list[Message] = []
        self.raw = b""
        self.was_reset = False
        self.signed_on_bytes = 0

    def sale(self, stan: int = 1, changes: dict[int, Any] | None = None, **more: Any) -> Message:
        """A sale; `changes` replaces fields, or takes away those that are None."""
        said: dict[str, Any] = {
            "card": CARD, "amount_minor": 1840, "stan": stan, "terminal": "T0000042",
            "merchant": "SHOP42", "local_at": datetime.now(UTC), "mcc": "5411",
            "acquirer": ACQUIRER,
        }  # fmt: skip
        message = sale_message(self.terms.dialect, Sale(**(said | more)))
        fields = message.fields | (changes or {})
        kept = {number: fields[number] for number in sorted(fields) if fields[number] is not None}
        return Message(message.mti, kept)

    def echo(self, stan: int = 1) -> Message:
        return echo_message(self.terms.dialect, stan=stan, local_at=datetime.now(UTC))

    def management(self, function: NetworkFunction, stan: int = 1, **more: Any) -> Message:
        """A network management message."""
        return network_message(
            self.terms.dialect, function, stan=stan, local_at=datetime.now(UTC), **more
        )

    async def sign_on(self) -> None:
        sign_on = self.framed(self.management(NetworkFunction.SIGN_ON))
        self.signed_on_bytes = len(sign_on)
        await self.write(sign_on)
        (answer,) = await self.receive()
        assert (answer.mti, answer.text(39)) == ("0810", "00")
        self.raw = b""

    def framed(self, message: Message | bytes) -> bytes:
        """The frame of a message, or of bytes that stand in its place."""
        payload = message if isinstance(message, bytes) else self.encoded(message)
        framing = self.terms.framing
        tpdu = TPDU if framing.tpdu else b""
        return frame(framing, payload, tpdu, HEADER[: framing.header_bytes])

    def encoded(self, message: Message) -> bytes:
        return encode(self.terms.dialect, message)

    async def write(self, octets: bytes) -> None:
        await self.stream.send(octets)

    async def send(self, *messages: Message | bytes) -> None:
        """All of them in one write."""
        await self.write(b"".join(self.framed(message) for message in messages))

    async def receive(self, count: int = 1) -> list[Message]:
        """So many answers, in order. Fails when the link closes before."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(self._answers) < count:
                await self._read()
        answers, self._answers = self._answers[:count], self._answers[count:]
        return answers

    async def codes(self, count: int = 1) -> list[str]:
        return [answer.text(39) for answer in await self.receive(count)]

    async def ended(self) -> list[str]:
        """The codes of what still comes until the switch closes the link."""
        with anyio.fail_after(PATIENCE_SECONDS):
            try:
                while True:
                    await self._read()
            except (anyio.EndOfStream, anyio.BrokenResourceError) as end:
                self.was_reset = isinstance(end, anyio.BrokenResourceError)
                codes = [answer.text(39) for answer in self._answers]
                self._answers = []
                return codes

    async def _read(self) -> None:
        chunk = await self.stream.receive()
        self.raw += chunk
        for one in self._framer.feed(chunk):
            self._answers.append(decode(self.terms.dialect, one.payload))

    def reset(self) -> None:
        """End the connection the hard way: the switch sees a reset."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.stream.extra(SocketAttribute.raw_socket).setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )


class Log:
    """The JSON lines that were logged since the test began."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def lines(self, event: str = "") -> list[dict[str, Any]]:
        written = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        return [line for line in written if not event or line["event"] == event]

    def closed(self) -> list[dict[str, Any]]:
        return self.lines("link closed")


class Edge:
    """A served link with everything a test may look at."""

    def __init__(self, link: Link, port: int, clock: ShiftedClock, log: Log) -> None:
        self.link, self.port, self.clock, self.log = link, port, clock, log
        self.metrics = link.metrics
        self._streams: list[SocketStream] = []

    async def peer(self, *, signed_on: bool = True) -> Peer:
        stream = await anyio.connect_tcp("127.0.0.1", self.port)
        self._streams.append(stream)
        peer = Peer(stream, self.link.terms)
        if signed_on and self.link.conduct.sign_on_required:
            await peer.sign_on()
        return peer

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    async def until(
        self, condition: Callable[[], object], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """Wait for something observable, and fail when it does not come."""
        with anyio.fail_after(patience_seconds):
            while not condition():  # noqa: ASYNC110 - many conditions, none of them an event
                await anyio.sleep(0.005)

    async def closed(self) -> dict[str, Any]:
        """The one line about a closed link."""
        await self.until(self.log.closed)
        (line,) = self.log.closed()
        return line

    @asynccontextmanager
    async def bystander(self) -> AsyncIterator[None]:
        """Another link that pays, one sale after the other, for as long as the body runs."""
        peer = await self.peer()
        took_ms: list[float] = []
        done = anyio.Event()

        async def pay() -> None:
            stan = 900_000
            while not done.is_set() or not took_ms:
                stan += 1
                begun = time.monotonic()
                await peer.send(peer.sale(stan, terminal="T0000099"))
                (answer,) = await peer.receive()
                assert (answer.text(39), answer.text(11)) == ("00", f"{stan:06}")
                took_ms.append((time.monotonic() - begun) * 1000)
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pay)
            yield
            done.set()
        assert max(took_ms) < BUDGET_MS, "the bystander noticed"

    async def close(self) -> None:
        for stream in self._streams:
            await anyio.aclose_forcefully(stream)


Serve = Callable[..., Any]


@pytest.fixture(params=["unionpay_pos", "iso87_ascii"])
def dialect(request: pytest.FixtureRequest) -> str:
    named: str = request.param
    return named


@pytest.fixture
def approver() -> Approver:
    return Approver()


@pytest.fixture
def log(process_as_before: None) -> Iterator[Log]:
    captured = Log()
    logs.configure("json", "info", captured.stream)
    yield captured
    assert not any(line["level"] == "critical" for line in captured.lines())


@asynccontextmanager
async def _serving(
    terms: LinkTerms,
    submit: Submit,
    log: Log,
    sweep_seconds: float = 0.02,
    conduct: Conduct = SILENT,
    link: dict[str, Any] | None = None,
    **limits: int,
) -> AsyncIterator[Edge]:
    clock = ShiftedClock()
    taken = {
        "connections_max": 12_000, "idle_seconds": 600, "first_frame_seconds": 15,
        "unanswered_bytes_max": 1_048_576,
    } | limits  # fmt: skip
    link_limits = LinkLimits(**taken)
    connections: set[Connection] = set()
    served = Link(
        terms,
        link_limits,
        submit,
        BusinessCalendar("Asia/Shanghai", "00:00"),
        clock,
        Metrics([terms.name]),
        connections,
        HASH_KEY,
        conduct=conduct,
        **(link or {}),
    )
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=4_096)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, served.handle, tasks)
        tasks.start_soon(sweep, connections, link_limits, clock, sweep_seconds)
        edge = Edge(served, listener.extra(SocketAttribute.local_port), clock, log)
        try:
            yield edge
        finally:
            await edge.close()
            tasks.cancel_scope.cancel()


@pytest.fixture
def serving(log: Log) -> Serve:
    """`async with serving(terms, submit, **limits) as edge`."""

    def serve(terms: LinkTerms, submit: Submit, **limits: Any) -> Any:
        return _serving(terms, submit, log, **limits)

    return serve


@pytest.fixture
async def edge(
    ledger_loop: None, serving: Serve, approver: Approver, dialect: Dialect
) -> AsyncIterator[Edge]:
    """A link of each dialect before an approver."""
    async with serving(terms_of(dialect), approver.submit) as served:
        yield served


@pytest.fixture
def link_terms() -> Callable[[Dialect], LinkTerms]:
    return terms_of


@pytest.fixture
def card() -> CardNumber:
    return CARD


Check = Callable[[Edge], Awaitable[None]]
