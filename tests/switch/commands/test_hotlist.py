"""`hotlist` as a person meets it, on a ledger of its own."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocols.card_number import numbered_card
from switch.cli import main
from switch.commands.exits import Exit
from switch.ledger import bridge

pytestmark = pytest.mark.usefixtures("process_as_before")
LOST, STOLEN = numbered_card("621299", 1), numbered_card("621299", 2)
LONG_RUN = re.compile(r"\d{13}")
WHY = ("--reason", "lost", "--author", "desk")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Run:
    """Runs a command in an empty folder; no card number comes out."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        assert not LONG_RUN.search(out + err)
        return Ran(code, out, err)

    return ran


@pytest.fixture
def ledger(run: Run, empty_database: str) -> Run:
    """Runs a command in a folder that `init` prepared, on a ledger of its own."""
    assert run("init", "--database", empty_database).code == Exit.OK
    return run


@pytest.fixture
def cards(ledger: Run, capsys: pytest.CaptureFixture[str]) -> list[int]:
    ids = []
    for card in (LOST, STOLEN):
        assert main(["card", "issue", "--number", card.reveal(), "--json"]) == Exit.OK
        ids.append(json.loads(capsys.readouterr().out)["card_id"])
    return ids


def test_from_the_counter_to_the_readers_and_back(
    ledger: Run, cards: list[int], empty_database: str
) -> None:
    run = ledger
    lost, stolen = cards
    assert run("hotlist", "check").code == Exit.FINDINGS
    added = run("hotlist", "add", "-", *WHY, "--json", stdin=f"{LOST.reveal()}\n\n{stolen}\n")
    assert added.json == {"added": [lost, stolen]}
    declined = run("card", "load", str(lost), "10.00")
    assert (declined.code, "hotlisted" in declined.err) == (Exit.FINDINGS, True)
    assert "0 of 1 put on the hotlist" in run("hotlist", "add", str(lost), *WHY).out
    listed = run("hotlist", "list")
    assert f"••{LOST.last4}" in listed.out
    assert "2 on the list; the next version adds 2 and takes away 0" in listed.out

    published = run("hotlist", "publish", "--author", "desk", "--json").json
    assert (published["version"], published["entries"], published["added"]) == (1, 2, 2)
    assert "nothing to publish" in run("hotlist", "publish").out
    removed = run("hotlist", "remove", str(stolen), "--reason", "found", "--json")
    assert removed.json == {"removed": [stolen]}
    assert run("card", "load", str(stolen), "10.00").code == Exit.OK
    assert run("hotlist", "remove", str(stolen), "--reason", "found").code == Exit.FINDINGS
    assert "version 2 published: 1 entries, 0 added, 1 taken away" in run("hotlist", "publish").out

    versions = run("hotlist", "versions", "--json").json
    assert [each["version"] for each in versions] == [2, 1]
    assert versions[1]["digest"] == published["digest"]
    assert published["digest"][:16] in run("hotlist", "versions").out
    assert run("hotlist", "check").out == "the newest version is what its entries make\n"

    acknowledge(empty_database)
    (view,) = run("hotlist", "acknowledged", "--json").json
    assert (view["acquirer"], view["version"], view["behind"]) == ("metro", 1, 1)
    assert "metro" in run("hotlist", "acknowledged").out
    assert run("audit").code == Exit.OK


def acknowledge(database: str) -> None:
    async def written() -> None:
        connection = await bridge.connect(database)
        await connection.execute(
            "insert into ledger.hotlist_acknowledged (acquirer, version, digest) "
            "select 'metro', version, digest from ledger.hotlist_version where version = 1"
        )
        await connection.close()

    bridge.run("asyncio", written)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "1"], "--reason"),
        (["add", *WHY], "no card was named"),
        (["add", "1", "--reason", " "], "1 to 120 characters"),
        (["add", "1", *WHY, "--until", "soon"], "YYYY-MM-DD"),
        (["add", "1", *WHY, "--until", "2026-02-30"], "YYYY-MM-DD"),
        (["publish", "--share-percent-max", "101"], "0 to 100"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: list[str], says: str) -> None:
    ran = run("hotlist", *arguments)
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert ran.err.count("\n") == 1
    assert says in ran.err


def test_an_unknown_card_puts_nobody_on_the_list(ledger: Run, cards: list[int]) -> None:
    ran = ledger("hotlist", "add", str(cards[0]), "77", *WHY)
    assert ran.code == Exit.FINDINGS
    assert "no card of this ledger" in ran.err
    assert ledger("hotlist", "list", "--json").json["counts"]["standing"] == 0
