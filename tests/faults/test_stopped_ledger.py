"""Postgres stands still: everything is answered in its budget all the same, and nothing is lost."""

from __future__ import annotations

import pytest

from switch.ledger import embedded
from tests.faults.outage import now_ms

STOPPED_SECONDS, STOPPED_SECONDS_LONG = 3, 10
TOLERANCE_MS = 600
"""For two crowded processors; the switch itself answers some milliseconds after the deadline."""


@pytest.mark.parametrize(("backend", "budget_ms"), [("asyncio", 150), ("trio", 800)])
def test_a_ledger_that_stands_still_costs_answers_but_no_money(
    own_ledger, life_setting, life, judged, processes, faults, backend, budget_ms
):
    seconds = STOPPED_SECONDS if faults == 1 else STOPPED_SECONDS_LONG
    with embedded.running(own_ledger) as server:
        staged = life_setting(server.url, budget_ms=budget_ms)
        with staged.serving(workers=2, backend=backend) as ready:
            tills = life(staged, ready.links["retail-1"], "--rate", "60", "--timeout-seconds", "4")
            tills.approved(25)
            processes.stop(server.pid)
            stopped_at_ms = now_ms()
            tills.lives_for(seconds)
            processes.go_on()
            went_on_at_ms = now_ms()
            tills.approved(25)
            summary = tills.stop()
        lines = tills.lines()
        during = [line for line in lines if stopped_at_ms < line.sent_at_ms < went_on_at_ms - 1_000]
        answered_91 = sum(line.code == "91" for line in during)
        once = [line for line in lines if line.sends == 1 and line.code]
        slowest_ms = max(line.ended_at_ms - line.sent_at_ms for line in once)
        assert not summary.mismatched
        judged(tills, f"Postgres stopped for {seconds} s", 1)
    assert answered_91 > 20, "what cannot be decided in time is answered 91"
    assert slowest_ms < budget_ms + TOLERANCE_MS
