"""`lists`, `snooze` and `review` as people meet them, on a ledger of its own."""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocols.card_number import numbered_card
from risk.check import first_ruleset
from risk.rules import Stage
from switch.cli import main
from switch.commands.acting import TOKEN_VARIABLE
from switch.commands.exits import Exit
from switch.ledger import bridge

pytestmark = pytest.mark.usefixtures("process_as_before")
CARD, OTHER, UNKNOWN = (numbered_card("621299", number) for number in (1, 2, 99))
LONG_RUN = re.compile(r"\d{13}")
WHY = ("--reason", "seen twice")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Prepared(NamedTuple):
    """A folder that `init` prepared, a ledger with two cards, and the operators' tokens."""

    folder: Path
    database: str
    cards: list[int]
    tokens: dict[str, str]


class Desk(NamedTuple):
    """What a test may do there."""

    run: Callable[..., Ran]
    cards: list[int]
    tokens: dict[str, str]
    database: str


@pytest.fixture(scope="module")
def prepared(databases: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """One ledger for this file; each test has lists of its own."""
    folder = tmp_path_factory.mktemp("desk")
    with databases.fresh("template0") as database, contextlib.chdir(folder):
        assert printed("init", "--database", database)
        issued = [
            printed("card", "issue", "--number", card.reveal(), "--json") for card in (CARD, OTHER)
        ]
        tokens = {
            role: json.loads(printed("operator", "add", f"{role}-1", "--roles", role, "--json"))
            for role in ("author", "analyst", "viewer")
        }
        yield Prepared(
            folder,
            database,
            [json.loads(each)["card_id"] for each in issued],
            {role: each["token"] for role, each in tokens.items()},
        )


def printed(*arguments: str) -> str:
    """What a command prints; it leaves the logging of the whole process as it was."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr("switch.logs.configure", lambda *_: None)
        assert main(arguments) == Exit.OK
    return out.getvalue()


@pytest.fixture
def desk(
    prepared: Prepared, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """Runs commands there as somebody; no card number comes out."""
    monkeypatch.chdir(prepared.folder)

    def ran(*arguments: str, stdin: str = "", token: str = "") -> Ran:
        monkeypatch.setenv(TOKEN_VARIABLE, token)
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        assert not LONG_RUN.search(err)
        # instants in JSON are long numbers too
        assert not LONG_RUN.search(out) or "--json" in arguments
        assert not any(card.reveal() in out for card in (CARD, OTHER, UNKNOWN))
        return Ran(code, out, err)

    return Desk(ran, prepared.cards, prepared.tokens, prepared.database)


def test_a_list_from_its_making_to_its_export(desk: Desk, tmp_path: Path) -> None:
    def run(*arguments: str, stdin: str = "") -> Ran:
        return desk.run(*arguments, stdin=stdin, token=desk.tokens["author"])

    one, two = desk.cards
    assert run("lists", "new", "groups", "--field", "card_id", "--title", "classes").code == 0
    added = run("lists", "add", "groups", "-", *WHY, "--json", stdin=f"{CARD.reveal()}\n{two}\n")
    assert added.json == {"list": "groups", "added": 2}
    assert "0 put on list" in run("lists", "add", "groups", str(one), *WHY).out
    shown = run("lists", "show", "groups")
    assert (shown.code, str(one) in shown.out, "author-1" in shown.out) == (0, True, True)
    assert "1 taken off" in run("lists", "remove", "groups", str(two), *WHY).out
    assert run("lists", "remove", "groups", "77777", *WHY).code == Exit.FINDINGS
    assert [each["value"] for each in run("lists", "show", "groups", "--json").json] == [str(one)]
    assert len(run("lists", "show", "groups", "--all", "--json").json) == 2

    assert run("lists", "new", "lost_media", "--field", "medium").code == Exit.OK
    file = tmp_path / "lost.csv"
    file.write_text(
        f"value,reason,from,until\n{CARD.reveal()},lost,,2999-01-01\n{two},lost,2030-01-01,\n"
    )
    assert "2 of 2 put" in run("lists", "import", "lost_media", str(file)).out
    exported = run("lists", "export", "groups")
    assert exported.out.startswith(f"value,reason,from,until\n{one},seen twice,")
    file.write_text(exported.out)
    assert "0 of 1 put" in run("lists", "import", "groups", str(file)).out
    listed = {each["name"]: each for each in run("lists", "list", "--json").json}
    assert (listed["groups"]["title"], listed["lost_media"]["field"]) == ("classes", "medium")
    assert "lost_media" in run("lists", "list").out


def test_a_file_with_bad_lines_names_each_and_takes_nothing(desk: Desk, tmp_path: Path) -> None:
    token = desk.tokens["author"]
    assert desk.run("lists", "new", "bad_file", "--field", "card_id", token=token).code == 0
    file = tmp_path / "bad.csv"
    number = UNKNOWN.reveal()
    file.write_text(f"value,reason\n{desk.cards[0]},ok\n{number},ok\n{desk.cards[1]},\n")
    ran = desk.run("lists", "import", "bad_file", str(file), token=token)
    assert (ran.code, ran.out) == (Exit.FINDINGS, "")
    assert "line 4: " in ran.err
    file.write_text(f"value,reason\n{desk.cards[0]},ok\n{number},ok\nXX,ok\n")
    ran = desk.run("lists", "import", "bad_file", str(file), token=token)
    assert ["line 3: " in ran.err, "line 4: " in ran.err, "line 2: " in ran.err] == [
        True,
        True,
        False,
    ]
    assert desk.run("lists", "show", "bad_file", "--all", "--json").json == []


def test_who_acts_is_asked_and_may_not_do_everything(desk: Desk, tmp_path: Path) -> None:
    run = desk.run
    nobody = run("lists", "new", "classes", "--field", "card_id")
    assert (nobody.code, TOKEN_VARIABLE in nobody.err) == (Exit.USAGE, True)
    viewer = run("lists", "new", "classes", "--field", "card_id", token=desk.tokens["viewer"])
    assert (viewer.code, "takes the role author" in viewer.err) == (Exit.FINDINGS, True)
    wrong = run("lists", "new", "classes", "--field", "card_id", token="cco_" + "0" * 56)
    assert (wrong.code, "no operator holds" in wrong.err) == (Exit.FINDINGS, True)

    file = tmp_path / "token"
    file.write_text(desk.tokens["author"] + "\n")
    file.chmod(0o644)
    arguments = ("lists", "new", "classes", "--field", "card_id", "--token-file", str(file))
    open_to_all = run(*arguments)
    assert (open_to_all.code, "chmod 600" in open_to_all.err) == (Exit.USAGE, True)
    file.chmod(0o600)
    assert run(*arguments).code == Exit.OK
    assert "cannot be read" in run(*arguments[:-1], str(tmp_path / "none")).err


def test_a_card_is_spared_and_not_from_law(desk: Desk) -> None:
    def run(*arguments: str, stdin: str = "") -> Ran:
        return desk.run(*arguments, stdin=stdin, token=desk.tokens["author"])

    rules = first_ruleset().rules
    amber = next(rule.id for rule in rules if rule.stage is Stage.AMBER)
    red = next(rule.id for rule in rules if rule.stage is Stage.RED)
    until = ("--until", f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%dT%H:%M}", *WHY)
    added = run("snooze", "add", amber, "-", *until, "--json", stdin=CARD.reveal())
    assert added.json["card_id"] == desk.cards[0]
    assert amber in run("snooze", "list").out
    refused = run("snooze", "add", red, str(desk.cards[0]), *until)
    assert (refused.code, "red rule" in refused.err) == (Exit.FINDINGS, True)
    assert run("snooze", "add", amber, CARD.reveal(), *until).code == Exit.USAGE
    assert "again in two seconds" in run("snooze", "lift", amber, str(desk.cards[0]), *WHY).out


def put(database: str, statement: str) -> None:
    async def written() -> None:
        connection = await bridge.connect(database)
        await connection.execute(statement)
        await connection.close()

    bridge.run("asyncio", written)


def test_a_review_is_closed_by_who_may(desk: Desk) -> None:
    put(
        desk.database,
        "insert into ledger.review values (1, 55, '2026-03-31', 'desk', 'load_ladder', 1000000, 1)",
    )
    waiting = desk.run("review", "list")
    assert ("55" in waiting.out, "desk: 1 waiting" in waiting.out) == (True, True)
    close = ("review", "close", "55", "--verdict", "fraud", "--note", "two cities")
    assert desk.run(*close, token=desk.tokens["author"]).code == Exit.FINDINGS
    assert "desk: 55 closed as fraud" in desk.run(*close, token=desk.tokens["analyst"]).out
    again = desk.run(*close, token=desk.tokens["analyst"])
    assert (again.code, "closed as fraud before" in again.err) == (Exit.FINDINGS, True)
    assert desk.run("review", "list", "desk", "--json").json == {"queues": [], "reviews": []}
