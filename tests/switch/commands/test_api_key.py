"""`api-key` as the operator meets it: made, shown once, listed, revoked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from switch.cli import main
from switch.commands.exits import Exit
from switch.ledger import api_keys

pytestmark = pytest.mark.usefixtures("process_as_before")


def test_a_key_is_shown_once_listed_without_it_and_revoked(
    database: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    where = ["--database", database]
    assert main(["api-key", "new", "48051000", "--name", "a bank", "--json", *where]) == Exit.OK
    made = json.loads(capsys.readouterr().out)
    assert api_keys.key_id_of(made["key"]) == made["key_id"]
    assert main(["api-key", "list", "--json", *where]) == Exit.OK
    shown = capsys.readouterr().out
    (listed,) = json.loads(shown)
    assert (listed["name"], listed["last_used_on"], listed["revoked_at"]) == ("a bank", None, None)
    secret = made["key"].split(made["key_id"], 1)[1]
    assert len(secret) > 40
    assert secret not in shown
    for _ in range(2):
        assert main(["api-key", "revoke", made["key_id"], *where]) == Exit.OK
    capsys.readouterr()
    assert main(["api-key", "list", *where]) == Exit.OK
    assert made["key_id"] in capsys.readouterr().out
    assert main(["api-key", "revoke", "0" * 12, *where]) == Exit.FINDINGS
    assert main(["api-key", "revoke", "mine", *where]) == Exit.USAGE
    assert main(["api-key", "new", "bank", "--name", "x", *where]) == Exit.USAGE
    assert main(["api-key", "new", "48051000", "--name", "", *where]) == Exit.USAGE
    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 4
    assert all(line.startswith("citycard: ") and ";" in line for line in sentences)
