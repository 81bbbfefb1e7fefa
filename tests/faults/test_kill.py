"""kill -9 of a worker and of Postgres in the middle of traffic: no approval is lost or doubled."""

from __future__ import annotations

import os
import signal

import pytest

from switch.ledger import embedded

BACKENDS = ["asyncio", "trio"]
TRAFFIC = (
    *("--rate", "200", "--links", "6", "--resend", "3", "--timeout-seconds", "1.5"),
    *("--seconds", "600", "--mix", "repeat=0.1,unknown=0.01,burst=0.001"),
)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_worker_loses_no_approval(
    setting, database, acquirer, reckoning, patiently, faults, backend
):
    staged = setting(database)
    kills = 2 * faults
    with staged.serving(workers=2, backend=backend) as ready:
        traffic = acquirer(staged, ready.links["retail-1"], *TRAFFIC)
        killed = 0
        for progress in traffic:
            if progress.outcomes.get("00", 0) and killed < kills:
                workers = staged.ready().workers
                os.kill(workers[killed % 2], signal.SIGKILL)
                killed += 1
                patiently(lambda before=workers: staged.ready().workers != before)
            elif progress.outcomes.get("00", 0):
                traffic.stop()
        summary = traffic.summary()
    assert killed == kills
    assert summary.duplicates_mismatched == 0
    wrong = reckoning(traffic.entries(), staged.rows(), unknown_may_stand=True)
    assert not wrong, wrong[:10]
    report = staged.audit()
    assert report.clean, report


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_ledger_loses_no_approval(
    own_ledger, setting, acquirer, reckoning, faults, backend
):
    """While it is away everything is answered 91; when it is back, it goes on by itself."""
    kills = 2 * faults
    with embedded.running(own_ledger) as server:
        staged = setting(server.url)
        with staged.serving(workers=2, backend=backend) as ready:
            traffic = acquirer(staged, ready.links["retail-1"], *TRAFFIC)
            pid, killed = server.pid, 0
            for progress in traffic:
                if progress.outcomes.get("00", 0) and killed < kills:
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                    with embedded.running(own_ledger) as again:
                        pid = again.pid
                elif progress.outcomes.get("00", 0):
                    traffic.stop()
            summary = traffic.summary()
        wrong = reckoning(traffic.entries(), staged.rows(), unknown_may_stand=False)
        report = staged.audit()
    assert killed == kills
    assert summary.duplicates_mismatched == 0
    assert summary.unanswered == 0, "every message is answered, if only by 91"
    assert not wrong, wrong[:10]
    assert report.clean, report
