"""`citycard console` as a user starts it: a rule's whole life over HTTP, by three people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from switch.ledger import bridge, operators
from tests.whole.conftest import CHECKOUT, PATIENCE_SECONDS, Home, until

SHIPPED = CHECKOUT / "risk" / "first_ruleset.toml"
PEOPLE = {"zhang.min": "approver", "wu.fang": "auditor"}


def run(home: Home, *arguments: str) -> str:
    _, _, _, _, *where = home.command("")
    command = [sys.executable, "-m", "switch.cli", *arguments, *where]
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def hired(database: str) -> dict[str, str]:
    """The tokens of PEOPLE."""
    connection = await bridge.connect(database)
    try:
        return {
            name: await operators.add(connection, name, [role], "test", os.urandom)
            for name, role in PEOPLE.items()
        }
    finally:
        await connection.close()


class Officers:
    """Clients of three people at one console."""

    def __init__(self, port: int, tokens: dict[str, str]) -> None:
        self.port, self.tokens = port, tokens

    def ask(self, who: str, method: str, path: str, asked: Any = None) -> tuple[int, Any]:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/v1", trust_env=False, timeout=PATIENCE_SECONDS
        ) as client:
            headers = {"authorization": f"Bearer {self.tokens[who]}"}
            answer = client.request(method, path, json=asked, headers=headers)
        return answer.status_code, answer.json()

    def act(self, who: str, hash_: str, act: str, **asked: Any) -> tuple[int, Any]:
        return self.ask(who, "POST", f"/rulesets/{hash_}/{act}", asked)


@contextmanager
def consoled(home: Home, backend: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    ready, log = home.path / "console.json", home.path / "console.log"
    command = home.command("console", "--backend", backend, "--ready-file", str(ready))
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=CHECKOUT)
    try:
        until(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, log.read_text("utf-8")
        yield process, json.loads(ready.read_bytes())["port"], log
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_whole_life_by_three_people(
    home: Callable[..., Home], empty_database: str, backend: str
) -> None:
    made = home("switch", empty_database)
    text = made.config_file.read_text("utf-8")
    made.config_file.write_text(f"{text}\n[console]\nport = 0\n", "utf-8")
    run(made, "init")
    tokens = bridge.run("asyncio", hired, empty_database)
    tokens["li.wei"] = json.loads(
        run(made, "operator", "add", "li.wei", "--roles", "author,analyst", "--json")
    )["token"]
    with consoled(made, backend) as (process, port, log):
        desk = Officers(port, tokens)
        _, live = desk.ask("li.wei", "GET", "/rulesets/live")
        toml = SHIPPED.read_text("utf-8").replace(
            'id = "tap_burst"\nversion = 1', 'id = "tap_burst"\nversion = 2', 1
        )
        status, draft = desk.ask(
            "li.wei", "POST", "/rulesets", {"title": "tap_burst v2", "toml": toml}
        )
        assert (status, draft["state"], draft["parent"]) == (201, "draft", live["hash"])
        hash_ = draft["hash"]
        assert desk.act("li.wei", hash_, "shadow")[1]["state"] == "shadow"
        status, told = desk.act("li.wei", hash_, "submit", reason="two quiet days")
        assert (status, told["state"]) == (200, "submitted"), told
        assert desk.act("li.wei", hash_, "approve")[0] == 403
        assert desk.act("zhang.min", hash_, "approve", reason="read")[1]["state"] == "approved"
        assert desk.act("zhang.min", hash_, "canary", percent=10)[1]["canary_percent"] == 10
        assert desk.act("zhang.min", hash_, "promote")[1]["state"] == "live"
        assert desk.act("zhang.min", live["hash"], "rollback", reason="too many")[0] == 200
        assert desk.ask("li.wei", "GET", "/rulesets/live")[1]["hash"] == live["hash"]
        status, trail = desk.ask("wu.fang", "GET", f"/trail?subject={hash_}")
        assert status == 200
        assert [(each["act"], each["actor"]) for each in reversed(trail["events"])] == [
            ("write", "li.wei"),
            ("shadow", "li.wei"),
            ("submit", "li.wei"),
            ("approve", "zhang.min"),
            ("canary", "zhang.min"),
            ("promote", "zhang.min"),
            ("retire", "zhang.min"),
        ]
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, log.read_text("utf-8")
        said = log.read_text("utf-8")
        assert not any(token in said or token[17:] in said for token in tokens.values())
        assert "error" not in said
        assert not (made.path / "console.json").exists()


def test_a_certificate_that_is_not_there_is_told(
    home: Callable[..., Home], database: str, free_port: int
) -> None:
    made = home("switch", database)
    text = made.config_file.read_text("utf-8")
    made.config_file.write_text(
        f'{text}\n[console]\nport = {free_port}\n[console.tls]\ncertificate_file = "none.pem"\n',
        "utf-8",
    )
    command = made.command("console")
    done = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 2
    assert "console.tls" in done.stderr
