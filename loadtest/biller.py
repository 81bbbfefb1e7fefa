"""A biller's host as a process, for tests, drills and the demonstration: HTTP over a book.

Faults come by the number of the bill (`biller_book.PREFIXES`), so that whoever pays chooses
them, or by chance (`--fault slow=0.1,500=0.05`). `GET /book` shows what it has posted, and
`--book FILE` writes the same at the end: that is what the ledger is reconciled with.
"""

from __future__ import annotations

import argparse
import random
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import anyio
import hypercorn
import msgspec
import sniffio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from loadtest.biller_book import PREFIXES, Book, Conflict, Fault, Kind, fault_of
from protocols.bills.biller import (
    ANSWER_BYTES_MAX,
    Absent,
    Bill,
    BillQuestion,
    PaymentAnswer,
    PaymentOrder,
    TokenAnswer,
)

REQUEST_BYTES_MAX = 16_384
GRACEFUL_SECONDS = 0.5
CHANCE_FAULTS = ("slow", "500", "timeout_after", "wrong_amount", "double_answer")

Answer = Bill | PaymentAnswer | TokenAnswer | Absent | Conflict


class Plan(msgspec.Struct, frozen=True):
    """How a biller behaves. `chances` are of payments that go wrong, by fault.

    `api_key` is asked for where there is one. `slow_seconds` is how long a slow answer takes.
    """

    kind: Kind = "postpaid"
    slow_seconds: float = 1.0
    chances: Mapping[Fault, float] = {}
    seed: int = 0
    api_key: str = ""


class BillerHost:
    """One biller: an ASGI application over its book."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.book = Book(plan.kind)
        self.calls = 0
        self._dice = random.Random(plan.seed)

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """One request, or the life of the server."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            return
        self.calls += 1
        octets = await _request_body(receive)
        if not self._is_let_in(scope["headers"]):
            await _say(send, 401, b"")
            return
        try:
            answer, fault = self._asked(scope["method"], scope["path"], octets)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            await _say(send, 400, b"")
            return
        await self._say_or_not(answer, fault, receive, send)

    def _is_let_in(self, headers: Any) -> bool:
        expected = f"Bearer {self.plan.api_key}".encode()
        return not self.plan.api_key or (b"authorization", expected) in [tuple(h) for h in headers]

    def _asked(self, method: str, path: str, octets: bytes) -> tuple[Answer | bytes | None, Fault]:
        """The book's answer and what shall go wrong with it; None is no such path."""
        match method, path.strip("/").split("/"):
            case "GET", ["book"]:
                return msgspec.json.encode(self.book.written()), Fault.NONE
            case "POST", ["bills", "inquiry"]:
                bill_no = msgspec.json.decode(octets, type=BillQuestion).bill_no
                return self.book.inquire(bill_no), fault_of(bill_no, paying=False)
            case "POST", ["bills", "payments"]:
                order = msgspec.json.decode(octets, type=PaymentOrder)
                fault = fault_of(order.bill_no, paying=True)
                if fault is Fault.NONE:
                    fault = self._by_chance()
                answer = None if fault is Fault.ERROR else self.book.pay(order)
                return answer, fault
            case "GET", ["bills", "payments", serial]:
                return self.book.query(serial), self._fault_about(serial)
            case "POST", ["bills", "payments", serial, "reverse"]:
                return self.book.reverse(serial), self._fault_about(serial)
            case "GET", ["bills", "payments", serial, "token"]:
                return self.book.token(serial), self._fault_about(serial)
        return None, Fault.NONE

    def _by_chance(self) -> Fault:
        throw = self._dice.random()
        for fault, chance in self.plan.chances.items():
            throw -= chance
            if throw < 0:
                return fault
        return Fault.NONE

    def _fault_about(self, serial: str) -> Fault:
        known = self.book.payments.get(serial)
        return Fault.NONE if known is None else fault_of(known.bill_no, paying=False)

    async def _say_or_not(
        self,
        answer: Answer | bytes | None,
        fault: Fault,
        receive: ASGIReceiveCallable,
        send: ASGISendCallable,
    ) -> None:
        octets = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        match fault:
            case Fault.ERROR:
                await _say(send, 500, b"")
                return
            case Fault.PROXY_404:
                await _say(send, 404, b"<html>not here</html>")
                return
            case Fault.LOST:
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            case Fault.SLOW:
                await anyio.sleep(self.plan.slow_seconds)
            case Fault.WRONG_AMOUNT if isinstance(answer, PaymentAnswer):
                wrong = msgspec.structs.replace(answer, amount_minor=answer.amount_minor + 1)
                octets = msgspec.json.encode(wrong)
            case Fault.OTHER_SERIAL if isinstance(answer, PaymentAnswer):
                octets = msgspec.json.encode(msgspec.structs.replace(answer, serial="0" * 32))
            case Fault.DOUBLE_ANSWER:
                octets = octets + octets
            case Fault.HUGE:
                octets = octets[:-1] + b" " * ANSWER_BYTES_MAX + octets[-1:]
            case _:
                pass
        await _say(send, _status(answer), octets)


async def _live(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def _status(answer: Answer | bytes | None) -> int:
    match answer:
        case None | Absent():
            return 404
        case Conflict():
            return 409
        case _:
            return 200


async def _request_body(receive: ASGIReceiveCallable) -> bytes:
    octets = b""
    while len(octets) <= REQUEST_BYTES_MAX:
        message = await receive()
        if message["type"] != "http.request":
            break
        octets += message["body"]
        if not message["more_body"]:
            break
    return octets[:REQUEST_BYTES_MAX]


async def _say(send: ASGISendCallable, status: int, octets: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(octets))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": octets, "more_body": False})


def bound(address: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A socket to serve on; port 0 is any free one."""
    opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    opened.bind((address, port))
    return opened


async def serve(
    app: BillerHost, listener: socket.socket, stopped: Callable[[], Awaitable[Any]]
) -> None:
    """Serve on a bound socket, which is closed in the end, until `stopped` returns."""
    config = hypercorn.Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    config.graceful_timeout = GRACEFUL_SECONDS
    config.keep_alive_timeout = 60
    if sniffio.current_async_library() == "trio":
        from hypercorn.trio import serve as serve_on_trio

        await serve_on_trio(app, config, shutdown_trigger=stopped, mode="asgi")
        return
    from hypercorn.asyncio import serve as serve_on_asyncio

    await serve_on_asyncio(app, config, shutdown_trigger=stopped, mode="asgi")


async def _until_signalled() -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return


async def run(app: BillerHost, address: str, port: int, ready_file: Path | None) -> None:
    """Serve until signalled; says in one JSON line, and in the file, where it listens."""
    listener = bound(address, port)
    listener.listen(128)  # whoever reads the line may connect at once
    line = msgspec.json.encode({"port": listener.getsockname()[1]}) + b"\n"
    if ready_file is not None:
        beside = ready_file.with_suffix(".new")
        beside.write_bytes(line)
        beside.rename(ready_file)
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    await serve(app, listener, _until_signalled)


def chances_of(text: str) -> dict[Fault, float]:
    """`slow=0.1,500=0.05` as chances by fault. Raises ValueError with what to write instead."""
    chances: dict[Fault, float] = {}
    for part in filter(None, text.split(",")):
        name, _, chance = part.partition("=")
        try:
            chances[Fault(name)] = float(chance)
        except ValueError:
            name = ""
        if name not in CHANCE_FAULTS or not 0 <= chances[Fault(name)] <= 1:
            raise ValueError(f"write NAME=CHANCE with a name of {', '.join(CHANCE_FAULTS)}")
    if sum(chances.values()) > 1:
        raise ValueError("the chances are more than 1 together; make them smaller")
    return chances


def main(argv: list[str] | None = None) -> int:
    """Serve one biller until interrupted."""
    prefixes = "; ".join(f"{prefix}: {words}" for prefix, words in PREFIXES.items())
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.biller", description=f"A biller's host. Bills: {prefixes}."
    )
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 is any free one")
    parser.add_argument("--ready-file", type=Path, help="gets the port when it listens")
    parser.add_argument("--kind", choices=get_args(Kind), default="postpaid")
    parser.add_argument("--slow-seconds", type=float, default=1.0, help="of slow answers")
    parser.add_argument("--fault", type=chances_of, default={}, help="NAME=CHANCE,… of payments")
    parser.add_argument("--seed", type=int, default=0, help="of the chances")
    parser.add_argument("--book", type=Path, help="where the book is written at the end")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio")
    given = parser.parse_args(argv)
    app = BillerHost(Plan(given.kind, given.slow_seconds, given.fault, given.seed))
    with suppress(KeyboardInterrupt):
        anyio.run(run, app, given.address, given.port, given.ready_file, backend=given.backend)
    if given.book is not None:
        given.book.write_bytes(msgspec.json.encode(app.book.written()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
