"""A debit file as settlement staff handle it, and the worker killed while it is worked off."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from datetime import date

import pytest

from switch.cli import main
from switch.demo.stage import new_card
from switch.ledger.debits import DebitRow
from switch.net.debits.file_format import debit_lines

WATER = "48041000"
PAYING = range(2, 12)
ROWS = 1_200
BILLERS = f"""
[[apis]]
name = "bills-1"
port = 0

[[billers]]
name = "water"
url = "http://127.0.0.1:9"
venue = "water"
acquirer = "{WATER}"
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_file_outlives_the_worker_that_works_it_off(
    staged, serve, eventually, rows, capsys, tmp_path, backend
):
    staged.config_file.write_text(staged.config_file.read_text() + BILLERS)
    where = ("--config", str(staged.config_file), "--directory", str(staged.path))
    ledger = (*where, "--database", staged.url)

    def said(*words: str) -> str:
        code = main(words)
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    key = json.loads(said("api-key", "new", WATER, "--name", "night", *ledger, "--json"))["key"]
    (tmp_path / "api.key").write_text(key)
    (tmp_path / "api.key").chmod(0o600)
    for card in PAYING:
        number = new_card(card).card.reveal()
        said("debit", "mandate", "add", "water", f"C{card}", number, *ledger)
    assert f"C{PAYING[0]}" in said("debit", "mandate", "list", "water", *ledger)
    switch = serve(staged, "--backend", backend, "--workers", "1")
    ready = switch.ready()
    api = f"http://127.0.0.1:{ready.links['bills-1']}"
    asked = ("--api", api, "--key-file", str(tmp_path / "api.key"), "--biller", "water")
    made = [
        DebitRow(date(2026, 11, 5), f"W{n}", f"C{PAYING[n % len(PAYING)]}", 1 + n % 7, "01", "M")
        for n in range(ROWS)
    ]
    total_minor = sum(row.amount_minor for row in made)
    (tmp_path / "2026-11.txt").write_bytes(b"".join(debit_lines(made, ROWS, total_minor)))

    def status() -> dict[str, object]:
        shown: dict[str, object] = json.loads(said("debit", "status", "2026-11", *asked, "--json"))
        return shown

    said("debit", "send", str(tmp_path / "2026-11.txt"), *asked)
    eventually(lambda: rows(staged.url, "select 1 from ledger.debit_result limit 1"))
    os.kill(ready.workers[0], signal.SIGKILL)
    eventually(lambda: switch.ready().workers != ready.workers)
    ended = eventually(lambda: (shown := status())["ended_at"] and shown)
    assert (ended["state"], ended["answered_count"]) == ("done", ROWS)
    assert (ended["collected_count"], ended["collected_minor"]) == (ROWS, total_minor)
    said("debit", "result", "2026-11", *asked, "--output", str(tmp_path / "result.txt"))
    result = (tmp_path / "result.txt").read_bytes()
    body, _, trailer = result.rpartition(b"sha256|")
    assert trailer.strip().decode() == hashlib.sha256(body).hexdigest()
    assert body.count(b"|00|") == ROWS
    posted = rows(
        staged.url,
        "select count(*), sum(approved_minor)::bigint as minor from ledger.authorization "
        "where kind = 'bill' and outcome = 'approved'",
    )
    assert tuple(posted[0]) == (ROWS, total_minor)
