"""Locust's terminals against a real switch for some seconds, ending with the audit."""

import json
import subprocess
import sys

SECONDS = 8


def test_a_headless_run_is_answered_and_audited(tmp_path):
    figures = tmp_path / "load.json"
    command = [sys.executable, "-m", "loadtest.load", "--seconds", str(SECONDS)]
    command += ["--users", "20", "--cards", "1000", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(figures.read_text())
    assert report["requests"] > SECONDS * 20
    assert report["failures"] == 0
    assert report["audit"]["clean"] is True
    assert report["audit"]["checks"] > 10
    names = {row["name"] for row in report["rows"]}
    assert {"sale 00", "repeat 00", "sale 51"} <= names
    assert "no findings" in done.stdout
