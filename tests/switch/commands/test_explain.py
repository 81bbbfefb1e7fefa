"""`explain` as a person meets it, on a ledger of its own."""

from __future__ import annotations

import io
import json
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocols.card_number import numbered_card
from switch.cli import main
from switch.commands.exits import Exit
from switch.commands.explain import COLUMNS

pytestmark = pytest.mark.usefixtures("process_as_before")
CARD = numbered_card("621299", 1)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return ran


def test_a_load_is_explained_to_whoever_asks(run: Any, empty_database: str) -> None:
    assert run("init", "--database", empty_database).code == Exit.OK
    issued = json.loads(run("card", "issue", "--number", CARD.reveal(), "--json").out)
    loaded = json.loads(run("card", "load", str(issued["card_id"]), "12.30", "--json").out)
    declined = run("card", "load", str(issued["card_id"]), "5000.00")
    assert declined.code == Exit.FINDINGS

    told = run("explain", str(loaded["authorization_id"]))
    assert told.code == Exit.OK
    assert max(len(line) for line in told.out.splitlines()) <= COLUMNS
    for words in (
        "load of 12.30, card", "00 approved, 12.30 approved, GEN", "now live",
        "with the same result:", f"••{CARD.last4}", "tier anonymous",
    ):  # fmt: skip
        assert words in told.out
    assert CARD.reveal() not in told.out

    (whole,) = json.loads(run("explain", str(loaded["authorization_id"]), "--json").out)
    assert whole["trace"]["agrees"] is True
    about = whole["explained"]
    key, rrn = about["key"], about["answered"]["rrn"]
    assert json.loads(run("explain", key, "--json").out) == [whole]
    by_card = run("explain", rrn, "--card", "-", "--json", stdin=CARD.reveal())
    assert whole["explained"] in [each["explained"] for each in json.loads(by_card.out)]
    assert CARD.reveal() not in by_card.out

    nowhere = (Exit.FINDINGS, "no authorization has this reference")
    before = date.fromisoformat(about["business_date"]) - timedelta(days=30)
    for arguments in (("77777777",), (key, "--day", f"{before}")):
        ran = run("explain", *arguments)
        assert (ran.code, ran.out, nowhere[1] in ran.err) == (nowhere[0], "", True)
    for arguments, says in (
        (("what",), "no reference"),
        ((key, "--day", "soon"), "YYYY-MM-DD"),
        ((key, "--card", CARD.reveal()), "no card id"),
    ):
        ran = run("explain", *arguments)
        assert (ran.code, ran.err.count("\n"), says in ran.err) == (Exit.USAGE, 1, True)
        assert CARD.reveal() not in ran.err
