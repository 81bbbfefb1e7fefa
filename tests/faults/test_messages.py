"""Messages that are doubled, late, out of order, lost or cut off between acquirer and switch."""

from __future__ import annotations

import pytest

from tests.faults.proxy import FaultProxy, Shares, proxied

TIMEOUT_SECONDS = 1.0
"""Below the longest delay, so that reversals overtake what they take back."""
INJECTED_MIN = 12
FAULTS = {
    "message doubled": Shares(double=0.15),
    "message late, out of order": Shares(delay=0.12, delay_seconds_max=1.6),
    "message dropped": Shares(drop=0.06),
    "message cut off": Shares(truncate=0.02, cut=0.02),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_messages(database, life_setting, life, judged, patiently, faults, fault):
    staged, wanted = life_setting(database), INJECTED_MIN * faults
    with staged.serving(workers=2) as ready:
        proxy = FaultProxy("127.0.0.1", ready.links["retail-1"], FAULTS[fault], seed=7)
        with proxied(proxy):
            tills = life(
                staged, proxy.port, "--rate", "70", "--links", "8",
                "--timeout-seconds", str(TIMEOUT_SECONDS),
            )  # fmt: skip
            patiently(lambda: proxy.done.total() >= wanted, 60 + faults)
            proxy.trouble = False
            summary = tills.stop()
    assert not summary.mismatched
    judged(tills, fault, proxy.done.total())
