"""Rights to fare classes and chips as a person at the counter meets them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from switch.cli import main
from switch.commands.exits import Exit

pytestmark = pytest.mark.usefixtures("process_as_before")
CLASS_2 = ("--class", "2", "--author", "desk")


def test_a_right_is_granted_shown_and_ended(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_database: str,
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = Exit.OK) -> str:
        capsys.readouterr()
        assert main(arguments) == code
        out, err = capsys.readouterr()
        return out if code == Exit.OK else err

    def told(*arguments: str) -> Any:
        return json.loads(run(*arguments, "--json"))

    run("init", "--database", empty_database)
    card = str(told("card", "issue", "--chip")["card_id"])
    assert [purse["purse"] for purse in told("card", "show", card)["purses"]] == [1, 2, 3]
    span = ("--from", "2026-03-01", "--until", "2026-08-31")
    granted = told("card", "entitle", card, *CLASS_2, *span)
    assert len(granted["entitlements"]) == 1
    run("card", "entitle", card, *CLASS_2, "--from", "2036-01-01", "--until", "2036-01-01")
    first, later = told("card", "show", card)["entitlements"]
    assert (first["fare_class"], first["granted_by"], first["revoked_at"]) == (2, "desk", None)
    assert first["valid_from"].startswith("2026-02-28T16:00:00"), "midnight in Shanghai"
    assert later["valid_until"].startswith("2036-01-01T16:00:00"), "the last day is whole"
    shown = run("card", "show", card)
    assert "Rights to fare classes" in shown
    assert "CHIP" in shown
    ended = told("card", "entitle", card, *CLASS_2, "--revoke")
    assert later["entitlement_id"] in ended["entitlements"]
    for arguments, code, words in (
        ((*CLASS_2, "--revoke"), Exit.FINDINGS, "no right to this class"),
        (CLASS_2, Exit.USAGE, "either --until"),
        (("--class", "0", "--revoke"), Exit.USAGE, "1 to 32767"),
        ((*CLASS_2, "--until", "tomorrow"), Exit.USAGE, "YYYY-MM-DD"),
        ((*CLASS_2, "--from", "2036-01-02", "--until", "2036-01-01"), Exit.USAGE, "later one"),
    ):
        assert words in run("card", "entitle", card, *arguments, code=code)
