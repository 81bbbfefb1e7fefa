"""One concentrator's connection: many devices' frames in, answers out in any order.

A frame is proven before it is read, and answered under the key of the device that sent it. A
frame that cannot be taken is refused with a reason; only lost framing ends the connection.
After HELLO, taps and loads go to the pipeline, batches to the upload desk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import anyio
import msgspec
from anyio.abc import ByteStream, TaskGroup

from protocols.errors import EncodeError, FramingError
from protocols.message import Outcome, Reply, Request, Tap
from protocols.tap.frame import (
    Frame,
    TapError,
    TapFramer,
    open_frame,
    read_said,
    sealed,
    write_answer,
)
from protocols.tap.record import RECORD_BYTES
from protocols.tap.words import (
    Answered,
    BatchClose,
    BatchOpen,
    BatchRecords,
    BatchResults,
    ChipLoad,
    ChipLoadConfirm,
    Echo,
    Head,
    Hello,
    HelloAnswer,
    ListAcknowledge,
    ListAcknowledged,
    ListAsk,
    ListChunk,
    Refused,
    RefusedReason,
    Said,
    TapSaid,
)
from switch.net.conversation import RECEIVE_BYTES, Conversation
from switch.net.limits import NANOSECONDS
from switch.net.tap import lists
from switch.net.tap.dialect import (
    When,
    differs,
    load_answer,
    read_confirm,
    read_load,
    read_tap,
    tap_answer,
)
from switch.net.tap.uploads import Uploads
from switch.net.writer import Writer

if TYPE_CHECKING:
    from switch.net.tap.link import TapLink

OUTSTANDING_MAX = 4_096
"""Frames of one connection that are not answered yet; the pipeline has its own bound too."""
PAGE_NS_MAX = 1_000_000_000
"""A page of results that is not whole is answered as it is after so long."""
_FINDINGS = {
    RefusedReason.MAC_WRONG: "mac_wrong",
    RefusedReason.UNKNOWN_KEY: "unknown_key",
}


class AwaitedPage(msgspec.Struct, frozen=True):
    """A page of results that was asked for, and when it is answered whatever is known."""

    frame: Frame
    said: BatchResults
    due_ns: int


class TapConnection(Conversation):
    """One TCP connection of a tap link."""

    def __init__(self, link: TapLink, stream: ByteStream, number: int) -> None:
        super().__init__(link, stream, number)
        self.link = link
        self.terms = link.terms
        self.uploads = Uploads(
            link.terms.acquirer,
            records_per_batch_max=link.uploads.records_per_batch_max,
            open_batches_max=link.uploads.open_batches_max,
            room=link.room,
        )
        self._framer = TapFramer()
        self._writer = Writer(self)
        self._pages: dict[tuple[str, int], AwaitedPage] = {}
        self._greeted = False
        self._leaving = False
        self._acknowledging = False
        self._tasks: TaskGroup | None = None

    @property
    def writer(self) -> Writer:
        return self._writer

    def begun(self, tasks: TaskGroup) -> None:
        self._tasks = tasks
        self.link.desk.enter(self)

    def over(self) -> None:
        self.link.desk.leave(self)
        self.uploads.forget()
        if self._greeted:
            self._greeted = False
            self.link.greeted(-1)

    def take_leave(self) -> None:
        """Take no frame any more; records that wait are sent again to whoever follows us."""
        self._leaving = True
        self.last_byte_ns = self.link.clock.monotonic_ns()
        self.link.desk.leave(self)
        self._answer_pages_now(list(self._pages))

    def attend(self, now_ns: int, now_us: int) -> None:
        """Nothing is due: concentrators say a sign of life themselves (ECHO)."""

    # ---- reading

    async def read(self) -> None:
        clock, framer = self.link.clock, self._framer
        while True:
            try:
                chunk = await self.stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return
            now_ns = clock.monotonic_ns()
            self.last_byte_ns = now_ns
            # A frame's budget starts with its first byte, which may have come earlier.
            received_ns = self.frame_begun_ns or now_ns
            payloads = framer.feed(chunk)
            for payload in payloads:
                self._take(payload, received_ns)
                received_ns = now_ns
            self.frame_begun_ns = received_ns if framer.buffered_bytes else 0
            if payloads:
                self.link.metrics.stage("read", (clock.monotonic_ns() - now_ns) / NANOSECONDS)

    def take_last(self, error: FramingError) -> None:
        for payload in self._framer.whole:
            self._take(payload, self.last_byte_ns)

    def _take(self, payload: bytes, received_ns: int) -> None:
        link = self.link
        frame: Frame | None = None
        try:
            frame = open_frame(payload)
            reason = link.keys.refused(frame)
            if reason is not None:
                link.metrics.device_finding(link.name, _FINDINGS[reason])
                self._refuse(frame.head, reason)
                return
            said = read_said(frame)
        except TapError as error:
            link.faulty(self, error)
            if error.head is not None:
                self._refuse(error.head, error.refused, error.offset)
            return
        if self._leaving:
            self._refuse(frame.head, RefusedReason.LEAVING)
        elif isinstance(said, Hello):
            self._greet(frame, said)
        elif not self._greeted:
            self._refuse(frame.head, RefusedReason.NOT_SIGNED_ON)
        elif self._outstanding >= OUTSTANDING_MAX:
            self._refuse(frame.head, RefusedReason.OVERLOADED)
        else:
            self._dispatch(frame, said, received_ns)

    def _greet(self, frame: Frame, said: Hello) -> None:
        link = self.link
        if said.acquirer != link.terms.acquirer:
            self._refuse(frame.head, RefusedReason.NOT_PERMITTED)
            return
        if not self._greeted:
            self._greeted = True
            link.greeted(1)
        at_ms = link.clock.now_us() // 1000
        records_max = link.uploads.records_per_batch_max
        self._answer(frame, HelloAnswer(True, at_ms, lists.version_of(link.lists), records_max))

    def _dispatch(self, frame: Frame, said: Said, received_ns: int) -> None:
        device = frame.head.device
        match said:
            case TapSaid():
                self._take_tap(frame, said, received_ns)
            case ChipLoad() | ChipLoadConfirm():
                self._take_load(frame, said, received_ns)
            case BatchOpen():
                if said.mode in self.terms.venues:
                    self._answer(frame, self.uploads.open(device, said))
                else:
                    self._refuse(frame.head, RefusedReason.NOT_PERMITTED)
            case BatchRecords():
                octets = frame.body[len(frame.body) - RECORD_BYTES * len(said.records) :]
                self._answer(frame, self.uploads.records(device, said, octets))
            case BatchClose():
                self._answer(frame, self.uploads.close(device, said))
                self.link.desk.stir()
            case BatchResults():
                self._take_results(frame, said)
            case ListAsk():
                self._answer(frame, lists.answer_ask(self.link.lists, said))
            case ListChunk():
                self._answer(frame, lists.answer_chunk(self.link.lists, said))
            case ListAcknowledge():
                self._take_acknowledgement(frame, said)
            case Echo():
                self._answer(frame, Echo())
            case Hello():
                self._greet(frame, said)
            case _:
                assert_never(said)

    # ---- taps and loads

    def _take_tap(self, frame: Frame, said: TapSaid, received_ns: int) -> None:
        link = self.link
        when = When(received_ns, link.clock.now_us())
        request = read_tap(self.terms, frame.head, said, frame.body, when)
        if request is None or request.tap is None:
            self._refuse(frame.head, RefusedReason.NOT_PERMITTED)
            return
        taken, tap = request, request.tap
        self._find(tap)

        def respond(reply: Reply) -> None:
            self._outstanding -= 1
            version = lists.version_of(link.lists)
            self._answer(frame, tap_answer(said, tap, reply, version))
            self._tell(taken, reply)
            if differs(said, reply):
                link.metrics.device_finding(link.name, "fare_differs")

        self._outstanding += 1
        link.submit(request, respond)

    def _take_load(self, frame: Frame, said: ChipLoad | ChipLoadConfirm, received_ns: int) -> None:
        link = self.link
        when = When(received_ns, link.clock.now_us())
        if isinstance(said, ChipLoad):
            request = read_load(self.terms, frame.head, said, frame.body, when)
        else:
            request = read_confirm(self.terms, frame.head, said, frame.body, when)
        if request is None:
            self._refuse(frame.head, RefusedReason.NOT_PERMITTED)
            return
        taken = request
        if taken.tap is not None:
            self._find(taken.tap)

        def respond(reply: Reply) -> None:
            self._outstanding -= 1
            self._answer(frame, load_answer(said, reply))
            self._tell(taken, reply)

        self._outstanding += 1
        link.submit(request, respond)

    def _find(self, tap: Tap) -> None:
        if tap.clock_ahead:
            self.link.metrics.device_finding(self.link.name, "clock_ahead")

    def _tell(self, request: Request, reply: Reply) -> None:
        self.link.count(request, reply.outcome)
        if reply.replayed or reply.outcome is Outcome.KEY_REUSED:
            self.link.metrics.device_finding(self.link.name, "replayed")

    # ---- uploads

    @property
    def awaits_pages(self) -> bool:
        """Whether a page of results is asked for and not answered yet."""
        return bool(self._pages)

    def answer_pages(self, now_ns: int) -> None:
        """Answer the pages that are whole, or have been waited for long enough."""
        self._answer_pages_now(
            [
                key
                for key, page in self._pages.items()
                if now_ns >= page.due_ns or self.uploads.page_is_whole(key[0], page.said)
            ]
        )

    def _take_results(self, frame: Frame, said: BatchResults) -> None:
        device = frame.head.device
        key = (device, said.batch)
        if key in self._pages:
            self._answer_pages_now([key])
        due_ns = self.link.clock.monotonic_ns() + PAGE_NS_MAX
        self._pages[key] = AwaitedPage(frame, said, due_ns)
        self._outstanding += 1
        if self.uploads.page_is_whole(device, said):
            self._answer_pages_now([key])
        else:
            self.link.desk.stir()

    def _answer_pages_now(self, keys: list[tuple[str, int]]) -> None:
        for key in keys:
            page = self._pages.pop(key)
            self._outstanding -= 1
            answer = self.uploads.results(key[0], page.said)
            if answer is None:
                self._refuse(page.frame.head, RefusedReason.NOT_PERMITTED)
            else:
                self._answer(page.frame, answer)

    # ---- hotlists

    def _take_acknowledgement(self, frame: Frame, said: ListAcknowledge) -> None:
        if self._acknowledging or self._tasks is None:
            self._refuse(frame.head, RefusedReason.OVERLOADED)
            return
        self._acknowledging = True
        self._outstanding += 1
        self._tasks.start_soon(self._acknowledge, frame, said)

    async def _acknowledge(self, frame: Frame, said: ListAcknowledge) -> None:
        acknowledge = None if self.link.lists is None else self.link.lists.acknowledge
        accepted = acknowledge is not None and await acknowledge(
            self.terms.acquirer, said.version, said.digest
        )
        self._acknowledging = False
        self._outstanding -= 1
        self._answer(frame, ListAcknowledged(accepted))

    # ---- answering

    def _refuse(self, head: Head, reason: RefusedReason, offset: int = 0) -> None:
        self._put(head, 0, Refused(reason, offset))

    def _answer(self, frame: Frame, answered: Answered) -> None:
        self._put(frame.head, frame.type, answered)

    def _put(self, head: Head, asked: int, answered: Answered) -> None:
        try:
            signed = write_answer(head, asked, answered)
            octets = sealed(signed, self.link.keys.mac(head, signed))
        except EncodeError as error:
            # Ours to mend: no request that was read may lead here.
            self.link.faulty(self, error)
            return
        self._writer.put(octets)
