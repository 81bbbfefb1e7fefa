"""Tokens: good, wrong, revoked, and too many wrong ones; what every answer carries."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from switch.clock import SystemClock
from switch.console.access import Gate
from switch.console.edge import AT_ONCE_MAX
from switch.console.ledger import console_ledger
from switch.console.problems import Fault, Refused
from switch.ledger import bridge, operators
from tests.switch.console.conftest import PATIENCE_SECONDS, in_thread

if TYPE_CHECKING:
    from tests.switch.console.conftest import Served

WRONG = f"cco_{'0' * 12}_{'A' * 43}"


def test_a_token_tells_who_asks(served: Served) -> None:
    with served.client("both") as client:
        answer = client.get("/v1/me")
    assert answer.json() == {"name": "both.one", "roles": ["author", "approver"]}
    for name in ("cache-control", "content-security-policy", "x-content-type-options"):
        assert name in answer.headers
    assert "server" not in answer.headers


def test_what_is_no_token_is_refused_alike(served: Served) -> None:
    good = served.tokens["viewer"]
    told = set()
    for said in ("", good, f"Basic {good}", f"Bearer {good[:-1]}", f"Bearer {good}x", "Bearer"):
        with served.client() as client:
            answer = client.get("/v1/me", headers={"authorization": said} if said else {})
        assert answer.status_code == 401
        told.add(answer.text)
    with served.client("viewer") as client:
        twice = [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")]
        assert client.get("/v1/me", headers=twice).status_code == 401
        # one in the address is none, and no path
        assert client.get("/v1/rulesets", params={"token": WRONG}).status_code == 422
    assert len(told) == 1, "nothing says why"


def test_a_revoked_token_is_refused_at_once(served: Served) -> None:
    async def made() -> str:
        connection = await bridge.connect(served.database)
        token = await operators.add(connection, "short.lived", ("viewer",), "test", os.urandom)
        await connection.close()
        return token

    async def revoked() -> bool:
        connection = await bridge.connect(served.database)
        done = await operators.revoke(connection, "short.lived", "test")
        await connection.close()
        return done

    headers = {"authorization": f"Bearer {in_thread(made)}"}
    with served.client() as client:
        assert client.get("/v1/me", headers=headers).status_code == 200
        assert in_thread(revoked)
        assert client.get("/v1/me", headers=headers).status_code == 401


class Still:
    """A clock that stands."""

    def monotonic_ns(self) -> int:
        return 0

    def now_us(self) -> int:
        return SystemClock().now_us()


async def test_wrong_tokens_are_bounded_and_good_ones_are_not(served: Served) -> None:
    gate = Gate(console_ledger(served.database, PATIENCE_SECONDS), Still())  # type: ignore[arg-type]

    async def told(token: str, address: str = "192.0.2.1") -> Fault | str:
        try:
            header = (b"Authorization", f"Bearer {token}".encode())
            return (await gate.who([header], address)).name
        except Refused as refused:
            return next(each for each in Fault if each.status == refused.problem.status)

    assert await told(served.tokens["viewer"]) == "viewer.one"
    answers = [await told(WRONG) for _ in range(30)]
    assert answers[:10] == [Fault.UNAUTHORIZED] * 10
    assert answers[-1] is Fault.TOO_MANY
    assert await told(served.tokens["viewer"]) == "viewer.one", "it was good before"
    assert await told(served.tokens["author"]) is Fault.TOO_MANY, "it is not known here yet"
    assert await told(served.tokens["author"], "192.0.2.2") == "author.one"


def test_strangers_who_send_no_body_take_nobodys_place(served: Served) -> None:
    head = "POST /v1/rulesets/check HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(AT_ONCE_MAX + 1):
            stranger = socket.create_connection(("127.0.0.1", served.port), PATIENCE_SECONDS)
            stack.enter_context(stranger)
            stranger.sendall(head.encode("ascii"))
            assert b" 401 " in stranger.recv(4096)
        with served.client("viewer") as client:
            assert client.get("/v1/me").status_code == 200, "while all of them are heard out"
