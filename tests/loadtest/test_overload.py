"""A flood is sent as it was drawn and counted as it was answered; the curve says what was kept."""

from __future__ import annotations

import json
import sys

import anyio
import pytest

from loadtest.crowd import Cards
from loadtest.flood import Stream, flooded, frames_of
from loadtest.overload import Overload, OverloadRung, overload_table
from loadtest.staged import Ended
from loadtest.wire import Wire


@pytest.fixture
def wire() -> Wire:
    return Wire(dialect="unionpay_pos", acquirer="48021000", time_zone="Asia/Shanghai")


def test_frames_are_drawn_from_the_seed_at_the_rate(wire):
    def drawn(seed):
        return frames_of(wire, rate=500, seconds=2, cards=Cards(100, 0, 0), links=2, seed=seed)

    frames = drawn(1)
    assert len(frames) == 2
    assert 800 < sum(map(len, frames)) < 1_200
    keys = [key for link in frames for _, key, _ in link]
    assert len(set(keys)) == len(keys), "each answer belongs to one message"
    assert all([due for due, _, _ in link] == sorted(due for due, _, _ in link) for link in frames)
    again = [key for link in drawn(1) for _, key, _ in link]
    other = [key for link in drawn(2) for _, key, _ in link]
    assert again == keys != other


async def test_a_flood_is_answered_and_counted(responder, wire, anyio_backend):
    peer = responder()
    frames = frames_of(wire, rate=400, seconds=0.5, cards=Cards(50, 0, 0), links=2, seed=3)
    async with peer.listening():
        streams = [Stream(wire, link) for link in frames]
        begun_ns = 0
        async with anyio.create_task_group() as tasks:
            for stream in streams:
                tasks.start_soon(stream.run, "127.0.0.1", peer.port, begun_ns)
    sent = sum(map(len, frames))
    assert [len(stream.answers) for stream in streams] == [len(link) for link in frames]
    assert sum(peer.answers.values()) == sent
    assert all(stream.waiting == 0 for stream in streams)


def test_goodput_leaves_out_what_was_refused_and_the_warm_up(wire):
    stream = Stream(wire, [])
    stream.sent = 4
    ms = 1_000_000
    stream.answers = [
        (500 * ms, 510 * ms, "00"),
        (1_100 * ms, 1_120 * ms, "00"),
        (1_200 * ms, 1_240 * ms, "51"),
        (1_300 * ms, 1_301 * ms, "91"),
    ]
    figures = flooded([stream], 0, 0.004, rate=4, seconds=2.0, warm_up_seconds=1.0)
    assert (figures.answered, figures.refused, figures.goodput) == (3, 1, 2.0)
    assert (figures.accepted_p50_ms, figures.accepted_p99_ms) == (20.0, 40.0)
    assert (figures.refused_p99_ms, figures.cpu_us) == (1.0, 1_000.0)


def test_the_curve_says_what_is_kept():
    rungs = [
        OverloadRung(1.0, 2_000, 2_000.0, 9.0, 40.0, 0.0, 0.0, 0, 60.0),
        OverloadRung(3.0, 6_000, 1_900.0, 50.0, 90.0, 0.683, 12.0, 0, 20.0),
    ]
    said = overload_table(Overload(2_000, rungs, 0.95, Ended(True, 17, {})))
    assert "68.3%" in said.splitlines()[2]
    assert said.splitlines()[-1] == (
        "sustainable 2,000/s; goodput at 3x is 95% of the best; audit clean"
    )


def test_the_command_writes_its_figures(tmp_path, responder):
    async def served() -> int:
        peer = responder()
        async with peer.listening():
            arguments = ["--port", str(peer.port), "--rate", "200", "--seconds", "0.5"]
            arguments += ["--warm-up-seconds", "0", "--json", str(tmp_path / "figures.json")]
            command = [sys.executable, "-m", "loadtest.flood", *arguments]
            return (await anyio.run_process(command, check=False)).returncode

    assert anyio.run(served) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["sent"] == figures["answered"] > 50
    assert figures["unanswered"] == 0
