"""One TCP connection of a link: bytes in, requests to the pipeline, answers to the outbox.

One task reads the connection and cuts its chunks into frames; the outbox has the one that
writes. Nothing here is per message but plain function calls. Every way in which a peer can
misbehave ends in an answer or in a closed connection with a logged reason, and is felt by
that connection alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec
from anyio.abc import ByteStream

from protocols.errors import DecodeError, FramingError
from protocols.framing import Frame, Framer
from protocols.iso8583 import Message, decode
from protocols.iso8583.dialect import (
    NetworkAnswer,
    NetworkFunction,
    NetworkRequest,
    ReconciliationRequest,
    Totals,
    is_plain_sale,
    read,
    reconciliation_reply,
    write,
    write_malformed,
)
from protocols.message import Kind, Outcome, Refusal, Reply, Request
from switch.net.conversation import RECEIVE_BYTES, Conversation
from switch.net.guard import PinBlockRefused, Seal
from switch.net.limits import NANOSECONDS
from switch.net.link_state import takes_requests
from switch.net.management import Management
from switch.net.outbox import Outbox
from switch.net.writer import Writer

if TYPE_CHECKING:
    from switch.net.iso import Link

BEHIND_BYTES = RECEIVE_BYTES // 4
"""A chunk of some 20 messages: more came meanwhile than one reads where nothing waits."""


class Connection(Conversation):
    """One TCP connection of a link."""

    def __init__(self, link: Link, stream: ByteStream, number: int) -> None:
        super().__init__(link, stream, number)
        self.link = link
        self.management = Management(link)
        self._framer = Framer(link.terms.framing)
        self._outbox = Outbox(self)
        self._unanswerable: DecodeError | None = None

    @property
    def writer(self) -> Writer:
        return self._outbox

    def over(self) -> None:
        self.management.end()

    def take_leave(self) -> None:
        """Tell the peer that we are going; what it has under way is still read and answered."""
        sign_off = self.management.drain()
        # Quiet counts from now: what was sent before the peer can know may be under way.
        self.last_byte_ns = self.link.clock.monotonic_ns()
        if sign_off is not None:
            self._outbox.say(sign_off)

    def attend(self, now_ns: int, now_us: int) -> None:
        """Ask what is due: echo on a silent connection, cut-over on a new business day."""
        link, management = self.link, self.management
        for function in management.overdue(now_ns, self.last_byte_ns):
            link.unanswered(self, function)
            if function is NetworkFunction.ECHO:
                self.cut("no_echo")
                return
        if not management.told:
            return
        # Only forwards: a clock that was put back does not bring a day back.
        if link.calendar.business_date(now_us) > management.day:
            self.ask(NetworkFunction.CUT_OVER)
        silent_ns = now_ns - self.last_byte_ns
        echo_idle_ns = link.conduct.echo_idle_seconds * NANOSECONDS
        if echo_idle_ns and silent_ns > echo_idle_ns and not management.asks(NetworkFunction.ECHO):
            self.ask(NetworkFunction.ECHO)

    def ask(self, function: NetworkFunction) -> None:
        """Send a network message of ours."""
        self._outbox.say(self.management.ask(function))

    # ---- reading

    def take_last(self, error: FramingError) -> None:
        self._take(list(error.frames), self.last_byte_ns)

    async def read(self) -> None:
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
                shed = self.link.shedding(behind=len(chunk) >= BEHIND_BYTES)
                self._take(frames[:1], begun_ns, shed)
                self._take(frames[1:], now_ns, shed)
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

    def _take(self, frames: list[Frame], received_ns: int, shed: Outcome | None = None) -> None:
        unread = 0
        for one in frames:
            try:
                message = decode(self.link.spec, one.payload)
            except DecodeError as error:
                self._answer_malformed(one, error)
                continue
            if shed is not None and self._is_shed(message):
                # Unread: what it costs to refuse is what is left for those accepted.
                self._reply(one, message, Reply(shed))
                unread += 1
                continue
            self._dispatch(one, message, received_ns)
        if shed is not None and unread:
            self.link.metrics.refused_unread(self.link.terms.segment, shed, unread)

    def _is_shed(self, message: Message) -> bool:
        """Whether a message may be refused for load by its first fields alone.

        With a MAC it is read: an answer is sealed under the key of its request.
        """
        known = self.link.guard is None and takes_requests(self.management.state)
        return known and is_plain_sale(message)

    def _dispatch(self, one: Frame, message: Message, received_ns: int) -> None:
        link = self.link
        asked = read(link.terms, message, received_ns, hash_key=link.hash_key)
        match asked:
            case Request():
                self._take_request(one, message, asked)
            case NetworkRequest():
                say = functools.partial(self._outbox.answer_network, one)
                if not self.management.answer(asked, message, say):
                    self.drain()
            case NetworkAnswer():
                self.management.heard(asked)
            case ReconciliationRequest():
                self._take_reconciliation(one, message, asked)
            case Refusal():
                link.faulty(self, asked)
                self._refuse(one, message, asked.outcome, received_ns)
            case _:
                assert_never(asked)

    def _take_request(self, one: Frame, message: Message, request: Request) -> None:
        link = self.link
        if not takes_requests(self.management.state):
            self._refuse(one, message, Outcome.LINK_SIGNED_OFF, request.received_ns, request.kind)
            return
        seal: Seal | None = None
        if link.guard is not None:
            seal = link.guard.verify(link.spec, one.payload, message)
            if seal is None:
                self._refuse_mac(one, message, request.received_ns, request.kind)
                return
            if request.card is not None:
                try:
                    pin = link.guard.pin_of(message, request.card)
                except PinBlockRefused as refused:
                    link.faulty(self, Refusal(Outcome.PIN_WRONG, "DE52", str(refused)))
                    self._refuse(
                        one, message, Outcome.PIN_WRONG, request.received_ns, request.kind, seal
                    )
                    return
                if pin:
                    request = msgspec.structs.replace(request, pin=pin)
        self._outstanding += 1
        link.submit(request, self._responder(one, message, request, seal))

    def _take_reconciliation(
        self, one: Frame, message: Message, request: ReconciliationRequest
    ) -> None:
        link = self.link
        seal: Seal | None = None
        if not takes_requests(self.management.state):
            self._refuse(one, message, Outcome.LINK_SIGNED_OFF, request.received_ns)
            return
        if link.guard is not None:
            seal = link.guard.verify(link.spec, one.payload, message)
            if seal is None:
                self._refuse_mac(one, message, request.received_ns, None)
                return
        self._outstanding += 1

        def told(ours: Totals | None) -> None:
            self._outstanding -= 1
            if ours is None:
                self._refuse(one, message, Outcome.LEDGER_DOWN, request.received_ns, under=seal)
                return
            now_local, settlement_mmdd = link.dates()
            answer = reconciliation_reply(link.terms, message, ours, now_local, settlement_mmdd)
            self._outbox.answer(one, answer, seal)

        link.reconcile(request, message, told)

    # ---- answering

    def _responder(
        self, one: Frame, message: Message, request: Request, seal: Seal | None
    ) -> Callable[[Reply], None]:
        def respond(reply: Reply) -> None:
            self._outstanding -= 1
            self._reply(one, message, reply, seal)
            self._count(request.kind, reply.outcome, request.received_ns)
            if request.venue:
                took_ns = link.clock.monotonic_ns() - request.received_ns
                link.metrics.at_venue(request.venue, took_ns / NANOSECONDS)

        link = self.link
        return respond

    def _refuse(
        self,
        one: Frame,
        message: Message,
        outcome: Outcome,
        received_ns: int,
        kind: Kind | None = None,
        under: Seal | None = None,
    ) -> None:
        """Answer that the message itself is refused; a response of another host is not answered."""
        if self._reply(one, message, Reply(outcome), under):
            refused = kind or _kind_refused(message.mti)
            if refused is not None:
                self._count(refused, outcome, received_ns)

    def _refuse_mac(
        self, one: Frame, message: Message, received_ns: int, kind: Kind | None
    ) -> None:
        link = self.link
        link.metrics.mac_failure(link.terms.name)
        link.faulty(
            self,
            Refusal(Outcome.MAC_WRONG, "MAC", "the MAC is missing or wrong; exchange keys anew"),
        )
        self._refuse(one, message, Outcome.MAC_WRONG, received_ns, kind)

    def _reply(self, one: Frame, message: Message, reply: Reply, under: Seal | None = None) -> bool:
        """Write the answer; False where the message is one that must not be answered."""
        link = self.link
        now_local, settlement_mmdd = link.dates()
        answer = write(link.terms, message, reply, now_local, settlement_mmdd)
        if answer is None:
            return False
        self._outbox.answer(one, answer, under)
        return True

    def _answer_malformed(self, one: Frame, error: DecodeError) -> None:
        self.link.faulty(self, error)
        answer = write_malformed(self.link.terms, error.partial)
        if answer is None:
            self._unanswerable = error
            return
        kind = _kind_refused(answer.mti)
        if kind is not None:
            self._count(kind, Outcome.MALFORMED, self.last_byte_ns)
        self._outbox.answer(one, answer)

    def _count(self, kind: Kind, outcome: Outcome, received_ns: int) -> None:
        link = self.link
        seconds = (link.clock.monotonic_ns() - received_ns) / NANOSECONDS
        link.metrics.answered(link.terms.segment, kind, outcome, seconds)
        if outcome in _BUDGET_NOT_KEPT:
            link.metrics.late(link.terms.segment)


_BUDGET_NOT_KEPT = (Outcome.NO_BUDGET, Outcome.OUTCOME_UNKNOWN, Outcome.ANSWERED_LATE)


def _kind_refused(mti: str) -> Kind | None:
    """What a message that was never understood is counted as; None for what moves no money."""
    match mti[1:2]:
        case "4":
            return Kind.REVERSAL
        case "5" | "8":
            return None
        case _:
            return Kind.PURCHASE
