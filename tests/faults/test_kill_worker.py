"""kill -9 of workers and of their supervisor: nobody is told what is not so afterwards."""

from __future__ import annotations

import os
import signal
from random import Random

import pytest

BACKENDS = ["asyncio", "trio"]
WORKERS = 3
ALIVE_MIN = 2
"""So many answer before the next one is killed."""


def alive(pids: list[int]) -> list[int]:
    living = []
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        living.append(pid)
    return living


@pytest.mark.parametrize("backend", BACKENDS)
def test_killed_workers(database, life_setting, life, judged, patiently, faults, backend):
    """Whichever is alive, at a random moment; the others go on and a new one takes its slot."""
    staged, dice, kills = life_setting(database), Random(f"kills {backend}"), 2 * faults
    with staged.serving(workers=WORKERS, backend=backend) as ready:
        tills = life(staged, ready.links["retail-1"], "--rate", "60", "--links", "9")
        tills.approved(50)
        for _ in range(kills):
            living = patiently(
                lambda: len(found := alive(staged.ready().workers)) >= ALIVE_MIN and found
            )
            os.kill(dice.choice(living), signal.SIGKILL)
            tills.approved(1 + dice.randrange(60))
        summary = tills.stop()
    assert not summary.mismatched
    assert summary.reversals > 0, "what was in flight had to be taken back"
    judged(tills, "kill -9 of a worker", kills)


def test_killed_supervisor(database, life_setting, life, judged, patiently, faults, free_port):
    """Its workers notice and end in order, while the next one already answers on their port."""
    staged, kills, orphans = life_setting(database, port=free_port), max(1, faults // 2), []
    tills = life(staged, free_port, "--rate", "60")
    for _ in range(kills):
        with staged.serving(workers=2) as ready:
            tills.approved(60)
            os.kill(ready.pid, signal.SIGKILL)
            orphans += ready.workers
    with staged.serving(workers=2):
        patiently(lambda: not alive(orphans))
        tills.approved(60)
        summary = tills.stop()
    assert not summary.mismatched
    assert summary.asked.get("sign_off", 0) > 0, "orphans take their leave of their peers"
    judged(tills, "kill -9 of the supervisor", kills)
