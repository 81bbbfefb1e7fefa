"""`citycard demo` as a person runs it: exit code, JSON, fifteen venues, no card number anywhere."""

import json
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from loadtest.population import population_card

SECONDS = 3
CARDS = 600


def demo(directory, *more):
    return [
        *(sys.executable, "-m", "switch.cli", "demo", "--seconds", str(SECONDS)),
        *("--cards", str(CARDS), "--directory", str(directory), *more),
    ]


@pytest.fixture
def home():
    """Not under pytest's folder, which each session closes to the server's system user."""
    with tempfile.TemporaryDirectory(prefix="citycard-demo-") as directory:
        yield Path(directory) / "demo"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_demonstration_proves_itself(home, tmp_path, backend):
    summary = tmp_path / "summary.json"
    command = demo(home, "--backend", backend, "--workers", "2")
    done = subprocess.run(
        [*command, "--json", str(summary)], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(summary.read_text())
    acquirer, city = report["acquirer"], report["city"]
    assert report["ok"] is True
    assert acquirer["sent"] == acquirer["answered"] > SECONDS * 100
    assert city["sent"] == city["answered"] > SECONDS * 100
    assert acquirer["duplicates_mismatched"] == 0 < acquirer["repeats_matched"]
    # Who comes is drawn anew each time: that some are declined is sure, for what is not.
    outcomes = set(acquirer["outcomes"]) | set(city["outcomes"])
    assert "00" in outcomes
    assert len(outcomes) >= 3
    assert report["proof"]["agreement"]["disagreements"] == 0
    assert report["proof"]["agreement"]["answers"] > acquirer["answered"]
    bills = report["proof"]["bills"]
    assert bills["disagreements"] == 0 < bills["paid"] <= bills["payments"]
    venues = report["proof"]["venues"]
    assert [venue["number"] for venue in venues] == list(range(1, 16))
    # a rare venue may have met only cards that are declined; test_venues.py has each one's own flow
    assert all(venue["line"]["messages"] > 0 for venue in venues), venues
    assert sum(venue["line"]["approved"] > 0 for venue in venues) >= 12, venues
    assert all(venue["name"] in done.stdout and venue["name_zh"] in done.stdout for venue in venues)
    segments = {each["segment"]: each["line"]["messages"] for each in report["proof"]["segments"]}
    assert set(segments) == {"transit", "utility", "retail"}
    assert sum(segments.values()) == sum(venue["line"]["messages"] for venue in venues)
    assert len(report["proof"]["audit"]["checks"]) > 10
    assert all(check["findings"] == 0 for check in report["proof"]["audit"]["checks"])
    # of a bill only its postings are counted, and of a batch none
    assert report["metrics"]["values"]["citycard_requests_total"] > acquirer["answered"]
    assert len(report["metrics"]["urls"]) == 2
    assert "One declined payment" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 100
    written = [path for path in home.glob("*.*") if path.is_file()]
    texts = [done.stdout, done.stderr, *(path.read_text(errors="replace") for path in written)]
    cards = re.compile(f"{population_card(0).reveal()[:6]}[0-9]{{10}}")
    assert not any(cards.search(text) for text in texts)


def test_an_interrupted_demonstration_ends_in_order(home, tmp_path):
    summary = tmp_path / "summary.json"
    command = demo(home, "--json", str(summary))
    command[command.index("--seconds") + 1] = "120"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if " p99 " in line:
            process.send_signal(signal.SIGINT)
            break
    said += process.stdout.read()
    assert process.wait(60) == 0, said
    assert json.loads(summary.read_text())["ok"] is True
    assert "stopping" in said
