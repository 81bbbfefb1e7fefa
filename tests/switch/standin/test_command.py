"""`citycard standin`: what the operator sees and switches, and the drill as a person runs it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from switch.cli import main
from switch.demo.stage import CITY_CARD_BIN
from switch.standin.rows import Settled, State
from switch.standin.spool import Spool


@pytest.fixture
def standin(tmp_path, capsys, monkeypatch, process_as_before):
    """`standin("status")` in a folder of its own; exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main(["standin", *arguments, "--directory", str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_a_switch_that_never_stood_in(standin, tmp_path):
    code, out, _ = standin("status")
    assert code == 0
    assert "stand-in  on" in out
    assert "unposted  0 of at most 100,000 rows" in out
    assert not (tmp_path / "standin.sqlite").exists(), "a look makes no file"


def test_off_and_on_are_kept_in_the_spool(standin, spool_file):
    assert standin("off")[0] == 0
    assert "stand-in  off" in standin("status")[1]
    with closing(Spool(spool_file, slot=1, rows_max=9)) as worker:
        assert not worker.look(complete=True).switched_on
        assert standin("on")[0] == 0
        assert worker.look(complete=True).switched_on
    assert json.loads(standin("status", "--json")[1])["switched_on"] is True


def test_what_is_unposted_in_suspense_and_refused_is_shown(standin, spool, offer):
    spool.take([offer(number, card=number) for number in range(1, 5)])
    first, second, *_ = spool.page(9)
    spool.settle([
        Settled(first.id, State.SUSPENSE, "approved", 5),
        Settled(second.id, State.REFUSED, "unknown_card", 0),
    ])  # fmt: skip
    code, out, _ = standin("status")
    assert code == 1, "a refused row is a finding"
    assert "unposted  2 of at most" in out
    assert re.search(r"transit +suspense +1 +2\.00", out)
    assert re.search(r"2 .* transit +purchase +2\.00 +unknown_card", out)
    assert re.search(r"transit +4 +8\.00 +500,000\.00", out)
    found = json.loads(standin("--json")[1])
    assert found["summary"]["open_rows"] == 2
    assert found["oldest_seconds"] > 0
    assert found["summary"]["refused"][0]["result"] == "unknown_card"


def test_a_spool_that_cannot_be_read_is_a_sentence(standin, spool_file):
    spool_file.write_bytes(b"this is not a database at all. " * 500)
    spool_file.chmod(0o600)
    for command in ("status", "on", "off"):
        code, _, err = standin(command)
        assert code == 1
        assert "SQLITE_NOTADB" in err


def test_off_without_a_switch_says_where_to_look(tmp_path, capsys, process_as_before):
    assert main(["standin", "off", "--directory", str(tmp_path / "nowhere")]) == 2
    assert "citycard init" in capsys.readouterr().err


def test_the_drill_proves_itself():
    with tempfile.TemporaryDirectory(prefix="citycard-drill-") as directory:
        command = [sys.executable, "-m", "switch.cli", "standin", "drill", "--json"]
        command += ["--directory", directory]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        log = (Path(directory) / "switch.log").read_text(errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert report["spool"]["open_rows"] == 0
    assert report["agreement"]["disagreements"] == 0 < report["agreement"]["answers"]
    assert all(check["findings"] == 0 for check in report["audit"]["checks"])
    assert {step["when"] for step in report["steps"]} == {
        "before", "away", "killed", "back", "afterwards",
    }  # fmt: skip
    assert "stand-in posted" in log
    for text in (done.stdout, done.stderr, log):
        assert not re.search(f"{CITY_CARD_BIN}[0-9]{{10}}", text)
