"""kill -9 of Postgres under traffic: it is started again, and the switch goes on by itself."""

from __future__ import annotations

from random import Random

import pytest

from switch.ledger import embedded
from tests.faults.life_reckoning import read_ledger
from tests.faults.outage import RESOLVED_MS_MAX, compared, crash_and_restart, late_resolutions

BACKENDS = ["asyncio", "trio"]
BARE_RESTARTS_MIN, BARE_RESTARTS_MAX = 3, 20
QUIET_EVERY = 5
"""After so many kills the ledger is left alone, so that what may take its time shows."""
RATIO_MAX = 1.5
"""Asserted where there are enough kills for a median to mean something.

What is promised is 1.2 on a machine that does nothing else; this one may be running the rest.
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_ledger(own_ledger, life_setting, life, judged, faults, backend):
    kills, dice = 2 * faults, Random(f"kills {backend}")
    with embedded.running(own_ledger) as server:
        staged = life_setting(server.url)
        outages, bare, pid = [], [], server.pid
        with staged.serving(workers=2, backend=backend) as ready:
            tills = life(staged, ready.links["retail-1"], "--rate", "120", "--links", "6")
            for number in range(kills):
                tills.approved(20 + dice.randrange(40))
                outages.append(crash_and_restart(own_ledger, server.url, pid))
                pid = outages[-1].pid
                if number % QUIET_EVERY == QUIET_EVERY - 1:
                    tills.lives_for(RESOLVED_MS_MAX / 1000 + 0.5)
            tills.approved(20)
            summary = tills.stop()
        for _ in range(max(BARE_RESTARTS_MIN, min(kills, BARE_RESTARTS_MAX))):
            bare.append(crash_and_restart(own_ledger, server.url, pid))
            pid = bare[-1].pid
        rows = read_ledger(server.url).rows
        late, slowest_ms = late_resolutions(outages, tills.lines(), rows)
        ratio, words = compared(outages, bare, tills.lines(), slowest_ms)
        print(words)
        assert not summary.mismatched
        judged(tills, "kill -9 of Postgres", kills, f"{backend}: {words}", late)
    if faults > 1:
        assert ratio <= RATIO_MAX, words
