"""The host of another issuer, for tests and drills: it answers by the amount it is asked for.

The last two digits of DE4 say what it does (`BEHAVIOURS`), so that whoever sends a message
chooses the fault. It keeps a book of what it approved and what was reversed, by STAN and
transmission time, which is what a reconciliation compares with the switch's ledger. Card
numbers are neither kept nor printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, get_args

import anyio
import msgspec
from anyio.abc import ByteStream, SocketAttribute, SocketStream, TaskGroup

from loadtest.wire import ASCII_FRAMING, UNIONPAY_FRAMING
from protocols.errors import DecodeError, FramingError
from protocols.framing import Frame, Framer, answer_tpdu, frame
from protocols.iso8583 import FieldValue, Message, decode, encode, spec_named
from protocols.iso8583.client import Dialect
from protocols.iso8583.elements import original_from

CHUNK_BYTES = 16_384
RECEIVED_MAX = 100_000
"""Messages a host remembers; a drill of hours forgets the first ones."""
ECHOED = (2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70, 90)


class Behaviour(StrEnum):
    """What a host does with a request."""

    APPROVE = "approve"
    DECLINE = "decline"
    PARTIAL = "partial"
    SILENT = "silent"
    LATE = "late"
    TWICE = "twice"
    HANG_UP = "hang_up"


BEHAVIOURS: Mapping[int, tuple[Behaviour, str]] = {
    5: (Behaviour.DECLINE, "05"),
    10: (Behaviour.PARTIAL, "10"),
    51: (Behaviour.DECLINE, "51"),
    70: (Behaviour.SILENT, ""),
    71: (Behaviour.LATE, "00"),
    72: (Behaviour.TWICE, "00"),
    73: (Behaviour.HANG_UP, ""),
    91: (Behaviour.DECLINE, "91"),
}
"""By the amount modulo 100; everything else is approved. A silent host and one that hangs up
have approved as well: only their answer is lost."""


class Heard(NamedTuple):
    """A message as the host remembers it."""

    mti: str
    stan: str
    transmitted_at: str
    terminal: str
    amount_minor: int
    replacement: str
    about: tuple[str, str]
    """STAN and transmission time of the original that a reversal names."""


class HostPlan(msgspec.Struct, frozen=True):
    """How a host behaves beyond the amounts.

    The first `reversals_ignored` reversals get no answer, the next `reversals_refused` the
    code `refusal_code`. `late_seconds` is how long a late answer takes.
    """

    dialect: Dialect = "iso87_ascii"
    late_seconds: float = 1.0
    reversals_ignored: int = 0
    reversals_refused: int = 0
    refusal_code: str = "96"
    sign_on_code: str = "00"


class IssuerHost:
    """One host, with its book."""

    def __init__(self, plan: HostPlan) -> None:
        self.plan = plan
        self.spec = spec_named(plan.dialect)
        self.framing = UNIONPAY_FRAMING if plan.dialect == "unionpay_pos" else ASCII_FRAMING
        self.received: list[Heard] = []
        self.approved: dict[tuple[str, str], int] = {}
        self.reversed: dict[tuple[str, str], int] = {}
        self.heard_something = anyio.Event()
        self._ignored = plan.reversals_ignored
        self._refused = plan.reversals_refused
        self._streams: set[ByteStream] = set()
        self._stan = 900_000

    @property
    def connections(self) -> int:
        return len(self._streams)

    @property
    def standing_minor(self) -> int:
        """What the host approved and has not been told to take back."""
        standing = (
            approved_minor - self.reversed.get(key, 0)
            for key, approved_minor in self.approved.items()
        )
        return sum(standing)

    def heard(self, *mtis: str) -> list[Heard]:
        """The messages of these types, in the order in which they came."""
        return [one for one in self.received if one.mti in mtis]

    async def serve(self, stream: SocketStream, tasks: TaskGroup) -> None:
        """Answer one connection to its end."""
        self._streams.add(stream)
        framer = Framer(self.framing)
        try:
            while True:
                for received in framer.feed(await stream.receive(CHUNK_BYTES)):
                    await self._take(stream, received, tasks)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        except FramingError as error:
            print(f"host: {error}", file=sys.stderr)
        finally:
            self._streams.discard(stream)
            await anyio.aclose_forcefully(stream)

    async def hang_up(self) -> None:
        """End all connections."""
        for stream in list(self._streams):
            await anyio.aclose_forcefully(stream)

    async def say(self, code: str) -> None:
        """Send a network management message of the host's own on all connections."""
        self._stan += 1
        fields: dict[int, FieldValue] = {
            7: f"{datetime.now(UTC):%m%d%H%M%S}", 11: f"{self._stan:06}", 70: code,
        }  # fmt: skip
        for stream in list(self._streams):
            await self._send(stream, Frame(b""), Message("0800", fields))

    async def send_raw(self, octets: bytes) -> None:
        """Send whatever a test wants on all connections."""
        for stream in list(self._streams):
            await stream.send(octets)

    def framed(self, message: Message) -> bytes:
        """The frame of a message that nobody asked for."""
        return frame(self.framing, encode(self.spec, message))

    async def _take(self, stream: ByteStream, received: Frame, tasks: TaskGroup) -> None:
        try:
            message = decode(self.spec, received.payload)
        except DecodeError as error:
            print(f"host: {error}", file=sys.stderr)
            return
        self._remember(message)
        if message.mti[:2] == "08":
            if message.mti[2] == "0":
                await self._answer(stream, received, message, self.plan.sign_on_code)
        elif message.mti[:2] == "04":
            await self._take_reversal(stream, received, message)
        else:
            await self._take_request(stream, received, message, tasks)

    def _remember(self, message: Message) -> None:
        text = message.text
        original = original_from(text(90))
        about = (original.stan, original.local_at) if original else ("", "")
        if len(self.received) < RECEIVED_MAX:
            self.received.append(
                Heard(
                    message.mti, text(11), text(7), text(41).rstrip(), int(text(4) or 0),
                    text(95)[:12], about,
                )
            )  # fmt: skip
        self.heard_something.set()
        self.heard_something = anyio.Event()

    async def _take_request(
        self, stream: ByteStream, received: Frame, message: Message, tasks: TaskGroup
    ) -> None:
        amount_minor = int(message.text(4) or 0)
        behaviour, code = BEHAVIOURS.get(amount_minor % 100, (Behaviour.APPROVE, "00"))
        if behaviour is Behaviour.DECLINE:
            await self._answer(stream, received, message, code)
            return
        approved_minor = amount_minor // 2 if behaviour is Behaviour.PARTIAL else amount_minor
        if message.text(3)[:2] == "00":
            self.approved[message.text(11), message.text(7)] = approved_minor
        match behaviour:
            case Behaviour.SILENT:
                return
            case Behaviour.HANG_UP:
                await anyio.aclose_forcefully(stream)
                return
            case Behaviour.LATE:
                tasks.start_soon(self._answer_late, stream, received, message)
                return
            case _:
                await self._answer(stream, received, message, code, approved_minor)
        if behaviour is Behaviour.TWICE:
            await self._answer(stream, received, message, code, approved_minor)

    async def _answer_late(self, stream: ByteStream, received: Frame, message: Message) -> None:
        await anyio.sleep(self.plan.late_seconds)
        await self._answer(stream, received, message, "00", int(message.text(4)))

    async def _take_reversal(self, stream: ByteStream, received: Frame, message: Message) -> None:
        if self._ignored:
            self._ignored -= 1
            return
        if self._refused:
            self._refused -= 1
            await self._answer(stream, received, message, self.plan.refusal_code)
            return
        original = original_from(message.text(90))
        key = (original.stan, original.local_at) if original else ("", "")
        approved_minor = self.approved.get(key)
        if approved_minor is None:
            await self._answer(stream, received, message, "25")
            return
        kept = message.text(95)[:12]
        self.reversed[key] = approved_minor - (int(kept) if kept else 0)
        await self._answer(stream, received, message, "00")

    async def _answer(
        self,
        stream: ByteStream,
        received: Frame,
        message: Message,
        code: str,
        approved_minor: int | None = None,
    ) -> None:
        asked = message.fields
        fields = {number: asked[number] for number in ECHOED if number in asked}
        fields[39] = code
        if approved_minor is not None:
            fields[4] = f"{approved_minor:012}"
            fields[38] = f"H{message.text(11)[-5:]}"
        mti = f"{message.mti[:2]}{int(message.mti[2]) + 1}0"
        answer = Message(mti, {number: fields[number] for number in sorted(fields)})
        await self._send(stream, received, answer)

    async def _send(self, stream: ByteStream, asked: Frame, message: Message) -> None:
        payload = encode(self.spec, message)
        octets = frame(self.framing, payload, answer_tpdu(asked.tpdu), asked.header)
        try:
            await stream.send(octets)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._streams.discard(stream)


async def run(host: IssuerHost, address: str, port: int) -> None:
    """Serve until cancelled; says in one JSON line where it listens."""
    listener = await anyio.create_tcp_listener(local_host=address, local_port=port)
    bound = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's, not Django's
    sys.stdout.buffer.write(msgspec.json.encode({"port": bound}) + b"\n")
    sys.stdout.buffer.flush()
    async with listener, anyio.create_task_group() as tasks:
        await listener.serve(lambda stream: host.serve(stream, tasks), tasks)


def main(argv: list[str] | None = None) -> int:
    """Serve one host until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.host", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 is any free one")
    parser.add_argument("--dialect", choices=get_args(Dialect), default="iso87_ascii")
    parser.add_argument("--late-seconds", type=float, default=1.0, help="of late answers")
    parser.add_argument("--reversals-ignored", type=int, default=0, help="unanswered at first")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    given = parser.parse_args(argv)
    plan = HostPlan(
        dialect=given.dialect,
        late_seconds=given.late_seconds,
        reversals_ignored=given.reversals_ignored,
    )
    try:
        anyio.run(_main, plan, given.address, given.port, backend=given.backend)
    except KeyboardInterrupt:
        pass
    return 0


async def _main(plan: HostPlan, address: str, port: int) -> None:
    await run(IssuerHost(plan), address, port)


if __name__ == "__main__":
    sys.exit(main())
