"""The ledger's benchmark runs every way, posts the same work in each, and leaves no finding."""

import tempfile
from pathlib import Path

import msgspec

from switch.ledger.bench import BATCHES, Figures, Measured, measure, summarise, table


def test_every_way_is_measured_and_the_ledger_stays_clean():
    said = []
    # Not under pytest's folder, which each session closes to the server's system user.
    with tempfile.TemporaryDirectory(prefix="citycard-bench-") as directory:
        figures = measure(
            Path(directory), seconds=0.3, rounds=1, cards=800, say=said.append, scale=1
        )
    assert said[-1] == "auditing"
    ways = {one.way: one for one in figures.figures}
    assert figures.audit_clean
    assert {f"batches of {size}" for size in BATCHES} < set(ways)
    assert all(one.per_second > 0 for one in ways.values())
    assert max(one.ratio for way, one in ways.items() if way.startswith("interactive")) == 1.0
    assert any(way.startswith("pgbench") for way in ways)
    assert "audit clean" in table(figures)
    assert msgspec.json.decode(msgspec.json.encode(figures), type=Figures) == figures


def test_figures_are_medians_of_the_rounds():
    rounds = [
        [Measured("batches of 8", rate, 1.0, 2.0), Measured("interactive, 4", 100.0, 1.0, 2.0)]
        for rate in (900.0, 100.0, 400.0)
    ]
    batches, interactive = summarise(rounds)
    assert (batches.per_second, batches.ratio) == (400.0, 4.0)
    assert batches.rounds == [900.0, 100.0, 400.0]
    assert interactive.ratio == 1.0
