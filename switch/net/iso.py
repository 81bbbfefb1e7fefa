"""Acquirers' links over TCP: bytes in, requests to the pipeline, joined answers out.

One task reads a connection and cuts its chunks into frames; a second one, begun with the
first answer, writes whatever answers have gathered. Nothing here is per message but plain
function calls. Every way in which a peer can misbehave ends in an answer or in a closed
link with a logged reason, and is felt by that link alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import anyio
import msgspec
from anyio.abc import SocketStream, TaskGroup

from protocols.errors import DecodeError, EncodeError, FramingError
from protocols.framing import Frame, Framer, answer_tpdu, frame
from protocols.iso8583 import Message, decode, encode, spec_named
from protocols.iso8583.dialect import (
    NetworkRequest,
    network_reply,
    read,
    write,
    write_malformed,
)
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind, Outcome, Refusal, Reply, Request
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.logs import Throttle
from switch.logs import get as get_log
from switch.metrics import Metrics

NANOSECONDS = 1_000_000_000
RECEIVE_BYTES = 16_384
"""The largest chunk taken at once: some 80 messages, so that no link holds the process long."""
SWEEP_SECONDS = 1.0
LINGER_SECONDS = 0.5
"""How long a closing link waits for the peer to close too, so that it reads its last answers."""

Submit = Callable[[Request, Callable[[Reply], None]], None]

_log = get_log("links")


class LinkLimits(msgspec.Struct, frozen=True):
    """What one connection may take; see the configuration's [limits]."""

    connections_max: int
    idle_seconds: int
    first_frame_seconds: int
    unanswered_bytes_max: int


class Link:
    """All connections of one configured link in this process."""

    def __init__(
        self,
        terms: LinkTerms,
        limits: LinkLimits,
        submit: Submit,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        open_connections: set[Connection],
        hash_key: bytes,
    ) -> None:
        self.terms = terms
        self.limits = limits
        self.spec = spec_named(terms.dialect)
        self.submit = submit
        self.calendar = calendar
        self.hash_key = hash_key
        self.clock = clock
        self.metrics = metrics
        self.open_connections = open_connections
        self._throttle = Throttle()
        self._numbered = 0
        self._open = 0

    async def handle(self, stream: SocketStream) -> None:
        """Serve one accepted connection to its end; never raises for what a peer does."""
        self._numbered += 1
        connection = Connection(self, stream, self._numbered)
        if len(self.open_connections) >= self.limits.connections_max:
            connection.reason = "connections_max"
            await anyio.aclose_forcefully(stream)
            self.closed(connection, "the process has as many connections as it may")
            return
        self.open_connections.add(connection)
        self._open += 1
        self.metrics.link_connections(self.terms.name, 1)
        self.metrics.link_state(self.terms.name, "up")
        try:
            await connection.serve()
        finally:
            self.open_connections.discard(connection)
            self.metrics.link_connections(self.terms.name, -1)
            self._open -= 1
            if not self._open:
                self.metrics.link_state(self.terms.name, "down")

    def closed(self, connection: Connection, why: str, **where: object) -> None:
        """Log and count the end of a connection."""
        name = self.terms.name
        self.metrics.link_closed(name, connection.reason)
        if connection.reason == "peer":
            return
        suppressed = self._throttle.admit(connection.reason, self.clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(
                "link closed",
                link=name,
                connection=connection.number,
                reason=connection.reason,
                why=why,
                suppressed=suppressed,
                **where,
            )

    def faulty(self, connection: Connection, error: DecodeError | EncodeError | Refusal) -> None:
        """Log and count a message at fault: where, never what."""
        path = error.field_path
        offset = error.offset if not isinstance(error, Refusal) else None
        self.metrics.malformed(self.terms.name, path)
        suppressed = self._throttle.admit(f"fault {path}", self.clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(
                "message at fault",
                link=self.terms.name,
                connection=connection.number,
                field=path,
                offset=offset,
                why=error.reason,
                suppressed=suppressed,
            )


class Connection:
    """One TCP connection of a link."""

    def __init__(self, link: Link, stream: SocketStream, number: int) -> None:
        self.link = link
        self.number = number
        self.reason = "peer"
        self.last_byte_ns = link.clock.monotonic_ns()
        self.frame_begun_ns = 0
        self.scope = anyio.CancelScope()
        self.stream = stream
        self._framer = Framer(link.terms.framing)
        self._answers: list[bytes] = []
        self._answer_bytes = 0
        self._answered = anyio.Event()
        self._writing = False
        self._outstanding = 0
        self._unanswerable: DecodeError | None = None
        self._reading = anyio.CancelScope()
        self._tasks: TaskGroup | None = None
        """Only while it is served: an answer that comes later goes nowhere."""

    async def serve(self) -> None:
        """Read until the peer ends, the link is lost or it is cut; then finish what is owed."""
        why: str = ""
        where: dict[str, object] = {}
        try:
            with self.scope:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    try:
                        with self._reading:
                            await self._read()
                    except FramingError as error:
                        self.reason = "framing"
                        why = error.reason
                        where = {"field": error.field_path, "offset": error.offset}
                        self._take(list(error.frames), self.last_byte_ns)
                    await self._finish()
                    if not self.owes:
                        await self._part()
                    tasks.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # the peer is gone: nobody is left to read what is still owed
        except* Exception as faults:  # noqa: BLE001 - one link's fault must not end the others
            self.reason = "fault"
            where = {"exc_info": faults}
        finally:
            self._tasks = None
            self._answers.clear()
            await anyio.aclose_forcefully(self.stream)
            self.link.closed(self, why or _WHY[self.reason], **where)

    @property
    def unwritten_bytes(self) -> int:
        """Answers that the peer has not taken yet."""
        return self._answer_bytes

    @property
    def owes(self) -> bool:
        """Whether answers are still to be given or written."""
        return bool(self._outstanding or self._answer_bytes)

    def drain(self) -> None:
        """Read no more; what was read is answered, then the connection closes."""
        self.reason = "drain"
        self._reading.cancel()

    def cut(self, reason: str) -> None:
        """Close the connection now, for a reason of the catalogue."""
        self.reason = reason
        self.scope.cancel()

    async def _read(self) -> None:
        clock, framer = self.link.clock, self._framer
        while self._unanswerable is None:
            try:
                chunk = await self.stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return
            now_ns = clock.monotonic_ns()
            self.last_byte_ns = now_ns
            # A frame's budget starts with its first byte, which may have come earlier.
            begun_ns = self.frame_begun_ns or now_ns
            frames = framer.feed(chunk)
            if frames:
                self._take(frames[:1], begun_ns)
                self._take(frames[1:], now_ns)
                self.link.metrics.stage("read", (clock.monotonic_ns() - now_ns) / NANOSECONDS)
                self.frame_begun_ns = now_ns if framer.buffered_bytes else 0
            else:
                self.frame_begun_ns = begun_ns if framer.buffered_bytes else 0
        # Its sender would wait for an answer that nobody can address: it hears at once.
        fault = self._unanswerable
        raise FramingError(
            f"{fault.reason}; nothing names the terminal to answer",
            field_path=fault.field_path,
            offset=fault.offset,
        )

    def _take(self, frames: list[Frame], received_ns: int) -> None:
        for one in frames:
            try:
                message = decode(self.link.spec, one.payload)
            except DecodeError as error:
                self._answer_malformed(one, error)
                continue
            self._dispatch(one, message, received_ns)

    def _dispatch(self, one: Frame, message: Message, received_ns: int) -> None:
        link = self.link
        request = read(link.terms, message, received_ns, hash_key=link.hash_key)
        match request:
            case Request():
                self._outstanding += 1
                link.submit(request, self._responder(one, message, request))
            case NetworkRequest():
                now_local = link.calendar.local(link.clock.now_us())
                self._send(one, network_reply(link.terms, message, now_local))
            case Refusal():
                link.faulty(self, request)
                # A response of another host is at fault too, and never answered.
                if self._reply(one, message, Reply(request.outcome)):
                    self._count(Kind.PURCHASE, request.outcome, received_ns)
            case _:
                assert_never(request)

    def _responder(self, one: Frame, message: Message, request: Request) -> Callable[[Reply], None]:
        def respond(reply: Reply) -> None:
            self._outstanding -= 1
            self._reply(one, message, reply)
            self._count(request.kind, reply.outcome, request.received_ns)

        return respond

    def _reply(self, one: Frame, message: Message, reply: Reply) -> bool:
        """Write the answer; False where the message is one that must not be answered."""
        link = self.link
        now_us = link.clock.now_us()
        business_date = link.calendar.business_date(now_us)
        answer = write(
            link.terms, message, reply, link.calendar.local(now_us), f"{business_date:%m%d}"
        )
        if answer is None:
            return False
        self._send(one, answer)
        return True

    def _answer_malformed(self, one: Frame, error: DecodeError) -> None:
        self.link.faulty(self, error)
        answer = write_malformed(self.link.terms, error.partial)
        if answer is None:
            self._unanswerable = error
            return
        self._count(Kind.PURCHASE, Outcome.MALFORMED, self.last_byte_ns)
        self._send(one, answer)

    def _count(self, kind: Kind, outcome: Outcome, received_ns: int) -> None:
        link = self.link
        seconds = (link.clock.monotonic_ns() - received_ns) / NANOSECONDS
        link.metrics.answered(link.terms.segment, kind, outcome, seconds)
        if outcome in _BUDGET_NOT_KEPT:
            link.metrics.late(link.terms.segment)

    def _send(self, one: Frame, answer: Message) -> None:
        terms = self.link.terms
        try:
            payload = encode(self.link.spec, answer)
            octets = frame(terms.framing, payload, answer_tpdu(one.tpdu), one.header)
        except EncodeError as error:
            # Ours to mend: no request that decoded may lead here.
            self.link.faulty(self, error)
            return
        if self.scope.cancel_called or self._tasks is None:
            return
        self._answers.append(octets)
        self._answer_bytes += len(octets)
        if self._answer_bytes > self.link.limits.unanswered_bytes_max:
            self.cut("unread_answers")
            return
        if not self._writing:
            self._writing = True
            self._tasks.start_soon(self._write)
        self._answered.set()

    async def _write(self) -> None:
        clock = self.link.clock
        while True:
            if not self._answers:
                self._answered = anyio.Event()
                await self._answered.wait()
            octets = b"".join(self._answers)
            self._answers.clear()
            started_ns = clock.monotonic_ns()
            await self.stream.send(octets)
            self._answer_bytes -= len(octets)
            self.link.metrics.stage("write", (clock.monotonic_ns() - started_ns) / NANOSECONDS)

    async def _finish(self) -> None:
        """After the peer's last byte: every request it sent still gets its answer."""
        patience_seconds = self.link.terms.budget_ms / 1000 + 1
        with anyio.move_on_after(patience_seconds):
            while self.owes:  # noqa: ASYNC110 - once per connection
                await anyio.sleep(0.01)

    async def _part(self) -> None:
        """Close our side first: closing on unread bytes resets a link, and loses its answers."""
        with anyio.move_on_after(LINGER_SECONDS):
            try:
                await self.stream.send_eof()
                while True:
                    await self.stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return


_BUDGET_NOT_KEPT = (Outcome.NO_BUDGET, Outcome.OUTCOME_UNKNOWN, Outcome.ANSWERED_LATE)
_WHY = {
    "peer": "the peer closed it",
    "framing": "frames cannot be told apart or read any more; check framing and dialect",
    "idle": "nothing came for as long as a link may be idle; send echoes (0800)",
    "slow_frame": "a frame was begun and not finished in time; send frames whole",
    "unread_answers": "answers are not being read; read them or open more links",
    "connections_max": "the process has as many connections as it may",
    "drain": "the switch is stopping; connect again",
    "fault": "the switch met a fault of its own on this link",
}


async def sweep(
    open_connections: set[Connection],
    limits: LinkLimits,
    clock: Clock,
    interval_seconds: float = SWEEP_SECONDS,
) -> None:
    """Cut idle and dawdling connections, until cancelled: one look a second for all of them."""
    while True:
        await anyio.sleep(interval_seconds)
        now_ns = clock.monotonic_ns()
        for connection in list(open_connections):
            begun_ns = connection.frame_begun_ns
            if begun_ns and now_ns - begun_ns > limits.first_frame_seconds * NANOSECONDS:
                connection.cut("slow_frame")
            elif now_ns - connection.last_byte_ns > limits.idle_seconds * NANOSECONDS:
                connection.cut("idle")
