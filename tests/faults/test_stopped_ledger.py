"""Postgres stands still for three seconds: everything is answered in its budget all the same."""

from __future__ import annotations

import pytest

from switch.ledger import embedded

STOPPED_SECONDS = 3
TOLERANCE_MS = 600
"""For two crowded processors; the switch itself answers some milliseconds after the deadline."""


@pytest.mark.parametrize(("backend", "budget_ms"), [("asyncio", 150), ("trio", 800)])
def test_a_ledger_that_stands_still_costs_answers_but_no_money(
    own_ledger, setting, acquirer, reckoning, processes, backend, budget_ms
):
    with embedded.running(own_ledger) as server:
        staged = setting(server.url, budget_ms=budget_ms)
        with staged.serving(workers=1, backend=backend) as ready:
            traffic = acquirer(
                staged, ready.links["retail-1"], "--rate", "250", "--seconds", "8",
                "--timeout-seconds", "4", "--mix", "repeat=0.05",
            )  # fmt: skip
            stopped_at, during, after = 0, 0, 0
            for progress in traffic:
                if not stopped_at and progress.outcomes.get("00", 0) > 100:
                    processes.stop(server.pid)
                    stopped_at = progress.second
                elif stopped_at and progress.second == stopped_at + STOPPED_SECONDS:
                    processes.go_on()
                elif stopped_at and progress.second < stopped_at + STOPPED_SECONDS:
                    during += progress.outcomes.get("91", 0)
                elif stopped_at:
                    after += progress.outcomes.get("00", 0)
            summary = traffic.summary()
        entries = traffic.entries()
        wrong = reckoning(entries, staged.rows(), unknown_may_stand=False)
        report = staged.audit()
    assert summary.unanswered == 0
    assert during > 200, "what cannot be decided in time is answered 91"
    assert after > 100, "afterwards it approves again"
    slowest_ms = max(entry.answered_at_ms - entry.sent_at_ms for entry in entries)
    assert slowest_ms < budget_ms + TOLERANCE_MS
    assert not wrong, wrong[:10]
    assert report.clean, report
