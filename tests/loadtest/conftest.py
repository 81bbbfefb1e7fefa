"""A responder: the smallest peer that answers ISO 8583, to test acquirers without a ledger.

It remembers answers by terminal and STAN, so repeats get the same one, as a switch does.
What it does wrong is asked for by the test.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from loadtest.wire import ASCII_FRAMING, UNIONPAY_FRAMING
from protocols.framing import Frame, Framer, answer_tpdu, frame
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.dialect.codes import response_mti

ECHOED = (3, 4, 11, 12, 13, 41, 42, 49)


@dataclass
class Responder:
    """`stall_at(n)` true: message n gets no answer; `drop_at(n)`: its link is closed.

    Messages are counted without the network management (0800), which is always answered.
    """

    dialect: str = "unionpay_pos"
    stall_at: Callable[[int], bool] = lambda n: False
    drop_at: Callable[[int], bool] = lambda n: False
    say_at: Callable[[int], str] = lambda n: ""
    """A network function (DE70, DE60.3) that we ask the peer right before message n's answer."""
    forgetful: bool = False
    """Repeats get a new answer: what a switch without idempotency does."""
    port: int = 0
    messages: list[Message] = field(default_factory=list)
    management: list[Message] = field(default_factory=list)
    heard: list[Message] = field(default_factory=list)
    management_codes: list[str] = field(default_factory=list)
    """What the first network messages are answered; then 00."""
    answers: Counter[str] = field(default_factory=Counter)
    stored: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Responder]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=self.port)
        self.port = listener.extra(SocketAttribute.local_port)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._serve)
            yield self
            tasks.cancel_scope.cancel()

    async def _serve(self, stream: ByteStream) -> None:
        framing = UNIONPAY_FRAMING if self.dialect == "unionpay_pos" else ASCII_FRAMING
        framer = Framer(framing)
        async with stream:
            try:
                while True:
                    for received in framer.feed(await stream.receive()):
                        reply = self._answer(decode(self.dialect, received.payload))
                        if reply is None:
                            return
                        function = self.say_at(len(self.messages) - 1)
                        if function and reply.mti == "0210":
                            await stream.send(self._asking(function, received))
                        if reply.mti != "":
                            payload = encode(self.dialect, reply)
                            tpdu = answer_tpdu(received.tpdu)
                            await stream.send(frame(framing, payload, tpdu, received.header))
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return

    def _asking(self, function: str, received: Frame) -> bytes:
        unionpay = self.dialect == "unionpay_pos"
        code = {60: f"00000001{function}"} if unionpay else {70: function}
        asking = encode(self.dialect, Message("0800", {11: "000077", **code}))
        framing = UNIONPAY_FRAMING if unionpay else ASCII_FRAMING
        return frame(framing, asking, answer_tpdu(received.tpdu), received.header)

    def sign_on_code(self, _message: Message) -> str:
        """DE39 of a network management answer."""
        return self.management_codes.pop(0) if self.management_codes else "00"

    def _answer(self, message: Message) -> Message | None:
        """The answer; None closes the link, an empty MTI says nothing."""
        if message.mti == "0810":
            self.heard.append(message)
            return Message("", {})
        if message.mti == "0800":
            self.management.append(message)
            return Message("0810", {11: message.text(11), 39: self.sign_on_code(message)})
        number = len(self.messages)
        self.messages.append(message)
        if self.drop_at(number):
            return None
        if self.stall_at(number):
            return Message("", {})
        # A reversal may have its original's STAN; sales are looked up by theirs alone.
        apart = "" if message.mti[:2] == "02" else message.mti[:2]
        key = message.text(41), message.text(11) + apart
        if key not in self.stored or self.forgetful:
            amount_minor = int(message.text(4) or 0)
            self.stored[key] = f"{number:012}", "51" if amount_minor > 5000 else "00"
        rrn, code = self.stored[key]
        self.answers[code] += 1
        echoed = {n: message.fields[n] for n in ECHOED if n in message.fields}
        return Message(response_mti(message.mti), {**echoed, 37: rrn, 39: code})


@pytest.fixture
def responder() -> Callable[..., Responder]:
    return Responder
