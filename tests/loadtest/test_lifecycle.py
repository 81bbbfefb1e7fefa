"""The tills: what they send in which order, and what they do when an answer does not come."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import anyio
import pytest

from loadtest.life_lines import LifeLine, read_lines
from loadtest.lifecycle import EXIT_USAGE, LifePlan, live, main
from protocols.iso8583 import Message
from protocols.iso8583.client import Dialect


def plan(port: int, journal: Path, dialect: Dialect = "unionpay_pos", **more: float) -> LifePlan:
    chosen = {"rate": 60.0, "seconds": 1.0, "timeout_seconds": 0.3, "patience_seconds": 5.0} | more
    return LifePlan(port=port, journal=journal, dialect=dialect, tills=12, links=3, **chosen)


def by_class(messages: list[Message]) -> Counter[str]:
    return Counter(message.mti for message in messages)


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
async def test_a_whole_life_is_told_and_written_down(responder, tmp_path, dialect):
    journal = tmp_path / "life.jsonl"
    async with responder(dialect=dialect).listening() as switch:
        summary = await live(plan(switch.port, journal, dialect, seconds=2.0))
    lines = read_lines(journal)
    assert summary.messages == len(lines) > 30
    assert not summary.unresolved
    assert not summary.mismatched
    assert {message.mti for message in switch.management} == {"0800"}, "links signed on"
    kinds = Counter(line.kind for line in lines)
    assert kinds["purchase"] > kinds["void"] > 0
    assert kinds["completion"] > 0
    keys = Counter(line.key for line in lines)
    assert max(keys.values()) == 1, "no key is used twice"
    purchases = {line.key for line in lines if line.kind == "purchase"}
    assert all(line.about in purchases for line in lines if line.kind == "refund")


def of_kind(lines: list[LifeLine], kind: str) -> dict[str, LifeLine]:
    return {line.key: line for line in lines if line.kind == kind}


async def test_what_is_not_answered_is_reversed_until_that_is(responder, tmp_path):
    """The first time nothing of a message is answered, of its reversal neither."""
    journal = tmp_path / "life.jsonl"
    sent: Counter[tuple[str, str, str]] = Counter()

    async with responder().listening() as switch:

        def stalls(_n: int) -> bool:
            message = switch.messages[-1]
            key = message.text(41), message.text(11), message.mti[:2]
            sent[key] += 1
            return sent[key] == 1 and (message.mti[:2] == "04" or int(message.text(11)) % 3 == 0)

        switch.stall_at = stalls
        summary = await live(plan(switch.port, journal))
    lines = read_lines(journal)
    assert not summary.unresolved
    reversals = [line for line in lines if line.kind == "reversal"]
    reversed_keys = {line.about for line in reversals}
    given_up = [line for line in lines if line.indefinite]
    assert given_up
    assert all(line.key in reversed_keys for line in given_up if line.kind != "inquiry")
    assert all(line.sends == 2 and line.code == "00" for line in reversals)
    told = by_class(switch.messages)
    assert told["0400"] == told["0401"] == len(reversals), "the repeat bit is set from the second"


async def test_an_advice_is_repeated_and_never_reversed(responder, tmp_path):
    journal = tmp_path / "life.jsonl"
    async with responder().listening() as switch:
        switch.stall_at = lambda _n: switch.messages[-1].mti == "0220"
        summary = await live(plan(switch.port, journal))
    lines = read_lines(journal)
    refunds = of_kind(lines, "refund")
    assert refunds
    assert all(line.sends == 2 for line in refunds.values())
    assert not {line.about for line in lines if line.kind == "reversal"} & set(refunds)
    assert not summary.unresolved


async def test_a_lost_connection_is_made_again_and_what_was_under_way_reversed(responder, tmp_path):
    journal = tmp_path / "life.jsonl"
    async with responder(drop_at=lambda n: n % 20 == 10).listening() as switch:
        summary = await live(plan(switch.port, journal))
    assert summary.connects > 3
    assert summary.reversals > 0
    assert not summary.unresolved


async def test_what_can_never_be_resolved_ends_with_the_patience(responder, tmp_path):
    journal = tmp_path / "life.jsonl"
    async with responder(stall_at=lambda _n: True).listening() as switch:
        with anyio.fail_after(10):
            summary = await live(plan(switch.port, journal, seconds=0.3, patience_seconds=0.5))
    assert summary.unresolved > 0
    assert summary.codes["reversal none"] == summary.unresolved


@pytest.mark.parametrize(
    "arguments", [["--links", "0"], ["--tills", "2"], ["--rate", "0"], ["--cards", "3"]]
)
def test_a_plan_that_cannot_be_is_refused_in_a_sentence(arguments, capsys):
    assert main(["--port", "1", *arguments]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith("lifecycle: ")
