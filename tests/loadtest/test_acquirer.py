"""An acquirer against a responder: every answer matched, every silence and drop admitted."""

import json
import subprocess
import sys

import anyio
import pytest

from loadtest.acquirer import Plan, arguments, offer, plan_of
from loadtest.crowd import Cards, Mix
from loadtest.journal import read_journal
from loadtest.population import population_card

CARDS = Cards(cards=1_000, blocked=10, poor=20)


def plan(responder, **changes):
    chosen = {"host": "127.0.0.1", "port": responder.port, "rate": 300.0, "seconds": 1.0}
    return Plan(**{**chosen, "cards": CARDS, "timeout_seconds": 1.0, **changes})


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
async def test_every_message_is_answered_once(responder, dialect):
    async with responder(dialect=dialect).listening() as peer:
        summary = await offer(plan(peer, dialect=dialect))
    assert summary.sound
    assert summary.sent == summary.answered == len(peer.messages) > 200
    assert summary.outcomes == dict(peer.answers)
    assert summary.latency.count == summary.sent
    assert 0 < summary.latency.p50_ms <= summary.latency.p99_ms <= summary.latency.max_ms
    assert summary.connects == summary.links == 4
    assert (summary.unmatched, summary.undecodable, summary.drops) == (0, 0, 0)


async def test_repeats_are_the_same_bytes_and_agree(responder):
    async with responder().listening() as peer:
        summary = await offer(plan(peer, mix=Mix(repeat=0.3)))
    assert summary.repeats_sent > 30
    assert summary.repeats_matched == summary.repeats_sent
    assert len(peer.messages) - len(peer.stored) == summary.repeats_sent
    assert summary.duplicates_mismatched == 0


async def test_another_answer_to_the_same_bytes_is_noticed(responder):
    async with responder(forgetful=True).listening() as peer:
        summary = await offer(plan(peer, mix=Mix(repeat=0.3)))
    assert summary.duplicates_mismatched == summary.repeats_sent > 30
    assert not summary.sound


async def test_the_journal_holds_each_answer_and_no_card_number(responder, tmp_path):
    path = tmp_path / "journal.jsonl"
    async with responder().listening() as peer:
        summary = await offer(plan(peer, journal=path))
    entries = read_journal(path)
    assert len(entries) == summary.answered
    approved = [entry for entry in entries if entry.code == "00" and not entry.repeat]
    assert sum(entry.approved_minor for entry in approved) == summary.approved_minor > 0
    for entry in entries:
        rrn, code = peer.stored[entry.terminal, entry.stan]
        assert (entry.rrn, entry.code) == (rrn, code)
        assert entry.due_at_ms <= entry.sent_at_ms <= entry.answered_at_ms
    text = path.read_text()
    assert not any(population_card(entry.card).reveal() in text for entry in entries)


async def test_silence_is_unanswered_and_measured(responder):
    async with responder(stall_at=lambda n: n % 10 == 0).listening() as peer:
        summary = await offer(plan(peer, timeout_seconds=0.3, mix=Mix(repeat=0)))
    assert summary.unanswered == pytest.approx(summary.sent / 10, abs=1)
    assert summary.sent == summary.answered + summary.unanswered
    assert summary.latency.p99_ms >= 300
    assert not summary.sound


async def test_silence_is_broken_by_sending_again(responder):
    async with responder(stall_at=lambda n: n % 10 == 0).listening() as peer:
        chosen = plan(peer, timeout_seconds=0.2, resends=6, mix=Mix(repeat=0))
        summary = await offer(chosen)
    assert summary.sound
    assert len(peer.messages) > summary.sent == summary.answered == len(peer.stored)


async def test_a_dropped_link_comes_back_and_admits_what_it_lost(responder, tmp_path):
    path = tmp_path / "journal.jsonl"
    async with responder(drop_at=lambda n: n == 100).listening() as peer:
        summary = await offer(plan(peer, links=1, journal=path))
    assert (summary.drops, summary.connects) == (1, 2)
    assert 1 <= summary.unanswered < 50
    assert summary.sent == summary.answered + summary.unanswered
    lost = [entry for entry in read_journal(path) if entry.unanswered]
    assert len(lost) == summary.unanswered
    assert {(entry.code, entry.answered_at_ms) for entry in lost} == {("", 0)}


async def test_nobody_there_is_not_sent(responder):
    async with responder().listening() as peer:
        pass
    summary = await offer(plan(peer, seconds=0.3, timeout_seconds=0.2))
    assert (summary.sent, summary.connects) == (0, 0)
    assert summary.not_sent > 50
    assert not summary.sound


async def test_an_idle_link_sends_echoes(responder):
    async with responder().listening() as peer:
        summary = await offer(plan(peer, rate=0.0, links=2, echo_seconds=0.2))
    assert summary.echoes_sent >= 4
    assert not peer.messages
    # each link signs on, and then only asks whether anybody is there
    assert len(peer.management) == summary.echoes_sent + 2
    assert summary.echoes_answered >= summary.echoes_sent - 2


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
async def test_what_the_switch_asks_is_answered(responder, dialect):
    asking = {10: "301", 20: "201"}
    async with responder(dialect=dialect, say_at=lambda n: asking.get(n, "")).listening() as peer:
        summary = await offer(plan(peer, dialect=dialect, links=1))
    assert summary.sound
    assert summary.connects == 1
    assert [(answer.text(11), answer.text(39)) for answer in peer.heard] == [("000077", "00")] * 2


async def test_a_sign_off_is_followed_by_a_new_connection_and_loses_nothing(responder):
    async with responder(say_at=lambda n: "002" if n in (30, 90) else "").listening() as peer:
        summary = await offer(plan(peer, links=1))
    assert summary.sound
    assert (summary.connects, summary.drops, summary.unanswered) == (3, 0, 0)
    assert len(peer.heard) == 2
    assert len(peer.management) == 3, "each connection signed on"


async def test_a_sign_on_that_is_refused_is_tried_again(responder):
    peer = responder(management_codes=["91", "91"])
    async with peer.listening():
        summary = await offer(plan(peer, links=1, timeout_seconds=2.0))
    assert summary.sound
    assert summary.connects == 3
    assert summary.sent == len(peer.messages) > 100


async def test_a_link_without_sign_on_sells_at_once(responder):
    async with responder().listening() as peer:
        summary = await offer(plan(peer, sign_on=False))
    assert summary.sound
    assert not peer.management


async def test_latency_counts_from_when_a_message_was_due(responder):
    """The peer comes up late: what was due before shows the wait (no coordinated omission)."""
    peer = responder()
    async with peer.listening():
        pass
    summaries = []
    done = anyio.Event()

    async def run():
        summaries.append(await offer(plan(peer, rate=100.0, links=1, mix=Mix(repeat=0))))
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.sleep(0.6)
        async with peer.listening():
            with anyio.fail_after(5):
                await done.wait()
            tasks.cancel_scope.cancel()
    assert summaries[0].sent == summaries[0].answered > 50
    assert summaries[0].latency.max_ms > 200


async def test_progress_comes_each_second(responder):
    seen = []
    async with responder().listening() as peer:
        summary = await offer(plan(peer, seconds=1.3), seen.append)
    assert [progress.second for progress in seen] == [1]
    assert 200 < seen[0].answered < summary.answered
    assert seen[0].p50_ms <= seen[0].p99_ms


async def test_the_command_prints_json_lines_and_a_summary(responder, tmp_path):
    async with responder().listening() as peer:
        command = [sys.executable, "-m", "loadtest.acquirer", "--port", str(peer.port)]
        command += ["--seconds", "1.2", "--rate", "100", "--progress", "--cards", "100"]
        done = await anyio.run_process([*command, "--json", str(tmp_path / "summary.json")])
    progress, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert progress["second"] == 1
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert summary["answered"] == len(peer.messages)


@pytest.mark.parametrize(
    "wrong", [["--links", "0"], ["--mix", "rich=1"], ["--cards", "3", "--poor-cards", "3"]]
)
def test_a_wrong_command_line_is_one_sentence(wrong):
    command = [sys.executable, "-m", "loadtest.acquirer", "--port", "1", *wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("acquirer: ")
    assert done.stderr.count("\n") == 1


def test_the_command_line_is_the_plan():
    given = arguments().parse_args(["--port", "9", "--rate", "7", "--mix", "burst=0", "--links=2"])
    assert plan_of(given).mix.burst == 0
    assert (plan_of(given).port, plan_of(given).rate, plan_of(given).links) == (9, 7.0, 2)
