"""A rolling restart under load: every message is answered, and few are refused for load."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter

import msgspec
import pytest

from loadtest.journal import read_journal
from loadtest.tally import Summary

SECONDS_MAX = 120
"""The load is ended when the restarts are done; this only bounds it."""
RATE = 150
RESTARTS = 2
CARDS = 12


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_two_restarts_of_two_workers_under_load(staged, serve, rows, eventually, tmp_path, backend):
    switch = serve(staged, "--backend", backend, "--workers", "2")
    ready = switch.ready()
    journal, figures = tmp_path / "journal.jsonl", tmp_path / "summary.json"
    acquirer = subprocess.Popen(
        [
            *(sys.executable, "-m", "loadtest.acquirer", "--port", str(ready.links["retail-1"])),
            *("--rate", str(RATE), "--seconds", str(SECONDS_MAX), "--links", "6"),
            *("--cards", str(CARDS), "--blocked-cards", "1", "--poor-cards", "1"),
            *("--mix", "repeat=0.05", "--journal", str(journal), "--json", str(figures)),
        ],
        stdout=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: journal.exists() and journal.stat().st_size > 20_000)
        pids = [set(ready.workers)]
        for restart in range(1, RESTARTS + 1):
            os.kill(ready.pid, signal.SIGHUP)
            eventually(lambda: switch.log().count("all workers restarted") == restart)  # noqa: B023
            pids.append(set(switch.ready().workers))
        assert acquirer.poll() is None, "the load ended before the restarts did"
        acquirer.terminate()
        assert acquirer.wait(60) == 0, figures.read_text() if figures.exists() else "no summary"
    finally:
        acquirer.kill()
        acquirer.wait()
    assert len(set.union(*pids)) == 2 * (RESTARTS + 1), "each worker was another process each time"
    summary = msgspec.json.decode(figures.read_bytes(), type=Summary)
    assert summary.sent == summary.answered > 2 * RATE
    assert (summary.drops, summary.not_sent, summary.unmatched) == (0, 0, 0)
    assert summary.connects > summary.links, "connections were signed off and made anew"
    entries = read_journal(journal)
    assert not [entry for entry in entries if entry.unanswered or entry.late]
    codes = Counter(entry.code for entry in entries)
    assert set(codes) <= {"00", "14", "51", "61", "62", "65", "34", "91"}
    assert codes["91"] <= len(entries) / 20, "a busy machine may refuse a few for load, no more"
    told = {(entry.terminal, entry.stan) for entry in entries if entry.code == "00"}
    approved = rows(
        staged.url,
        "select terminal, stan from ledger.authorization"
        " where kind = 'purchase' and outcome = 'approved'",
    )
    assert {(row["terminal"], row["stan"]) for row in approved} == told
    assert not rows(staged.url, "select 1 from ledger.authorization where kind = 'reversal'")
    assert switch.end() == 0
    for bad in ("killing it", "drain gave up", "peers went on sending", "could not start"):
        assert bad not in switch.log()


def test_a_worker_that_cannot_start_leaves_the_old_ones_in_place(
    staged, serve, terminal, eventually
):
    switch = serve(staged, "--workers", "2")
    ready = switch.ready()
    key_file = staged.path / "card_number.key"
    moved = key_file.rename(staged.path / "moved.key")
    os.kill(ready.pid, signal.SIGHUP)
    eventually(lambda: "a new worker could not start; the old ones go on" in switch.log())
    assert terminal(ready.links["retail-1"]).pay(1, 5).code == "00"
    assert switch.ready().workers == ready.workers
    moved.rename(key_file)
    os.kill(ready.pid, signal.SIGHUP)
    eventually(lambda: "all workers restarted" in switch.log())
    assert not set(switch.ready().workers) & set(ready.workers)
    assert terminal(ready.links["retail-1"]).pay(2, 5).code == "00"
    assert switch.end() == 0


def test_the_metrics_port_goes_from_hand_to_hand(staged, serve, eventually, free_port, scrape):
    text = staged.config_file.read_text("utf-8")
    staged.config_file.write_text(
        text.replace("metrics_port = 0", f"metrics_port = {free_port}"), "utf-8"
    )
    switch = serve(staged, "--workers", "1")
    ready = switch.ready()
    assert ready.metrics == [free_port]
    os.kill(ready.pid, signal.SIGHUP)
    eventually(lambda: "all workers restarted" in switch.log())
    assert switch.ready().metrics == [free_port]
    eventually(lambda: "citycard_ready 1.0" in scrape(free_port))
    assert switch.end() == 0


def test_a_stopped_switch_has_no_ready_file(staged, serve):
    switch = serve(staged, "--workers", "1")
    switch.ready()
    assert switch.end() == 0
    assert not (staged.path / "ready.json").exists()
