"""`citycard serve` as a user runs it: real processes, real sockets, a real Postgres."""

from __future__ import annotations

import os
import signal
import subprocess
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.parser import text_string_to_metric_families

BACKENDS = ["asyncio", "trio"]
LINKS = ["retail-1", "hosts"]
UNKNOWN_CARD = 900_000_000


def scraped(ports: list[int], name: str) -> Counter[str]:
    """One metric of all workers by outcome."""
    found: Counter[str] = Counter()
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            text = response.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    found[sample.labels.get("outcome", "")] += int(sample.value)
    return found


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_dialects_are_answered_and_counted(staged, serve, terminal, rows, backend):
    switch = serve(staged, "--backend", backend, "--workers", "2")
    ready = switch.ready()
    assert len(ready.workers) == len(ready.metrics) == 2
    for number, link in enumerate(LINKS):
        till = terminal(ready.links[link], link)
        card = 4 + number
        approved = till.pay(1, card, 500)
        assert (approved.code, approved.approved_minor) == ("00", 500)
        assert approved.auth_code
        assert till.pay(1, card, 500) == approved, "a repeat is answered with the stored answer"
        assert till.pay(1, card, 501).code == "94"
        assert till.pay(2, 0).code == "62"
        assert till.pay(3, 1, 301).code == "51"
        assert till.pay(4, UNKNOWN_CARD + number).code == "14"
        till.close()
    assert scraped(ready.metrics, "citycard_requests_total") == Counter(
        approved=4, key_reused=2, card_blocked=2, insufficient_funds=2, unknown_card=2
    )
    moved = rows(staged.url, "select amount_minor from ledger.transfer where kind = 'purchase'")
    assert [row["amount_minor"] for row in moved] == [500, 500]
    assert switch.end() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stop_in_the_middle_of_traffic_loses_no_answer(staged, serve, terminal, rows, backend):
    """What the ledger approved was told before the link closed, to the last one."""
    switch = serve(staged, "--backend", backend, "--workers", "2")
    ready = switch.ready()

    def hammer(number: int) -> dict[str, str]:
        """Sales one after the other without waiting, until the link is closed."""
        told: dict[str, str] = {}
        till = terminal(ready.links["retail-1"])
        stan = number * 100_000
        try:
            while True:
                for _ in range(5):
                    stan += 1
                    till.sell(stan, 2 + stan % 10, 1)
                for _ in range(3):
                    heard, answer = till.hear()
                    told[heard] = answer.code
                if number == 0 and len(told) == 60:
                    # twice, as a service manager that signals the whole group does
                    for pid in (ready.pid, *ready.workers):
                        os.kill(pid, signal.SIGTERM)
        except (EOFError, OSError):
            return told
        finally:
            till.close()

    with ThreadPoolExecutor(4) as threads:
        all_told = list(threads.map(hammer, range(4)))
    assert switch.process.wait(30) == 0, switch.log()
    told = {stan: code for one in all_told for stan, code in one.items()}
    written = rows(
        staged.url, "select stan, outcome from ledger.authorization where kind <> 'load'"
    )
    assert len(written) >= 60
    untold = [row["stan"] for row in written if row["stan"] not in told]
    assert not untold, f"{len(untold)} of {len(written)} were never told"
    approved = {row["stan"] for row in written if row["outcome"] == "approved"}
    assert approved == {stan for stan, code in told.items() if code == "00"}
    assert "drain gave up" not in switch.log()


def test_a_worker_that_dies_is_replaced_and_its_port_goes_on(staged, serve, terminal, eventually):
    switch = serve(staged, "--workers", "1")
    ready = switch.ready()
    os.kill(ready.workers[0], signal.SIGKILL)
    eventually(lambda: switch.ready().workers != ready.workers)
    assert terminal(ready.links["retail-1"]).pay(7, 5).code == "00"
    assert switch.end() == 0


def test_a_supervisor_that_is_killed_takes_its_workers_with_it(staged, serve, eventually):
    ready = serve(staged, "--workers", "2").ready()
    os.kill(ready.pid, signal.SIGKILL)

    def gone(pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                return file.read().rpartition(")")[2].split()[0] == "Z"
        except FileNotFoundError:
            return True

    eventually(lambda: all(gone(pid) for pid in ready.workers))


def test_a_ledger_that_is_not_there_is_said_in_one_sentence(home, environment):
    nowhere = home("switch", "postgresql://someone:secret@127.0.0.1:9/ledger")
    done = subprocess.run(
        nowhere.command("serve", "--log-format", "json"),
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "127.0.0.1:9/ledger can't be reached" in line
    assert "--database" in line
    assert "secret" not in line


def test_two_switches_run_side_by_side(home, serve, terminal):
    """Each with an embedded ledger of its own, on any free ports."""
    homes = [home("one"), home("two")]
    inits = [
        subprocess.Popen(each.command("init"), stdout=subprocess.PIPE, text=True) for each in homes
    ]
    for init in inits:
        said, _ = init.communicate(timeout=120)
        assert init.returncode == 0, said
    switches = [serve(each) for each in homes]
    ready = [switch.ready() for switch in switches]
    ports = {port for one in ready for port in (*one.links.values(), *one.metrics)}
    assert len(ports) == 6
    for one in ready:
        assert terminal(one.links["retail-1"]).pay(1, UNKNOWN_CARD).code == "14"
    assert [switch.end() for switch in switches] == [0, 0]


def test_a_worker_that_does_not_end_is_killed(staged, serve):
    text = staged.config_file.read_text("utf-8")
    staged.config_file.write_text(text.replace("drain_seconds = 5", "drain_seconds = 1"), "utf-8")
    switch = serve(staged, "--workers", "2")
    stuck = switch.ready().workers[0]
    os.kill(stuck, signal.SIGSTOP)
    assert switch.end() == 1
    assert "worker does not end; killing it" in switch.log()


@pytest.mark.parametrize("text", ["[settings]\ntime_zone = 1\n", None])
def test_a_ruleset_that_cannot_be_used_is_said_before_anything_starts(home, environment, text):
    spoilt = home("switch", "postgresql://127.0.0.1:9/ledger")
    rules = spoilt.path / "rules.toml"
    if text is not None:
        rules.write_text(text, "utf-8")
    with spoilt.config_file.open("a", encoding="utf-8") as file:
        file.write(f'[rules]\nfile = "{rules}"\n')
    done = subprocess.run(
        spoilt.command("serve"),
        capture_output=True, text=True, timeout=60, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "rules.toml" in done.stderr
    assert "Traceback" not in done.stderr
